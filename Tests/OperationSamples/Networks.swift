import Foundation
import GraftGraph

/// Networks that everybody knows, as a plan sees them once normalisation is folded and epilogues are fused: what their launches
/// are, and what they cost, needs no weights.
package enum Network: String, Sendable, CaseIterable {
  case resNet50 = "ResNet-50"
  case vgg16 = "VGG-16"
  case mobileNetV2 = "MobileNetV2"
  case viTB16 = "ViT-B/16"

  package static let operand = "operand"

  /// From bytes [batch, 224, 224, 3] to 1000 logits. All weights are zero.
  package func graph(batch: Int) throws -> Graph {
    var builder = Builder(batch: batch)
    switch self {
    case .resNet50: try builder.resNet50()
    case .vgg16: try builder.vgg16()
    case .mobileNetV2: try builder.mobileNetV2()
    case .viTB16: try builder.viTB16()
    }
    builder.graph.outputs = [builder.x]
    return builder.graph
  }

  /// The gradients with respect to the weights of every convolution and product, one after the other, from what such a layer has
  /// seen and what comes back to it, which nodes called `operand` bring.
  package func weightGradients(batch: Int) throws -> Graph {
    let network = try graph(batch: batch)
    var graph = Graph()
    for node in network.nodes {
      let layer: any GraftGraph.Operation
      switch node.operation {
      case var conv as Conv2D:
        (conv.hasBias, conv.hasResidual, conv.activation) = (false, false, .none)
        layer = conv
      case let product as MatMul: layer = MatMul(transposeB: product.transposeB)
      default: continue
      }
      let types = node.inputs.prefix(2).map { network.type(of: $0) }
      let operands = try (types + [network.type(of: node.output)]).map { type in
        try graph.add(Unary(.relu), [graph.addInput(TensorType(type.shape), name: "input")], name: Network.operand)
      }
      let y = try graph.add(any: layer, Array(operands.prefix(2)), name: "layer")
      graph.outputs += try graph.addGradients(of: y, seed: operands[2], withRespectTo: [operands[1]]).compactMap { $0 }
    }
    return try graph.removingDeadNodes()
  }
}

/// Builds a network layer by layer; `x` is what the last one gave.
private struct Builder {
  var graph = Graph()
  var x: ValueID
  private let batch: Int
  private var counts: [String: Int] = [:]

  /// Zeros that nothing has to be written for, shared by all weights.
  private static let zeros: HostBytes = {
    let count = 512 << 20
    guard let start = mmap(nil, count, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), start != MAP_FAILED else {
      fatalError("no address space for \(count) bytes")
    }
    return HostBytes(adopting: start, count: count) { munmap(UnsafeMutableRawPointer(mutating: $0), $1) }
  }()

  init(batch: Int) {
    self.batch = batch
    x = graph.addInput(TensorType([batch, 224, 224, 3], .uint8), name: "image")
  }

  private var shape: [Int] { graph.type(of: x).shape }

  private mutating func weight(_ shape: [Int]) throws -> ValueID {
    graph.addConstant(try HostTensor(shape: shape, elementType: .float32, storage: Self.zeros))
  }

  private mutating func name(_ kind: String) -> String {
    counts[kind, default: 0] += 1
    return "\(kind)\(counts[kind, default: 0])"
  }

  private mutating func normalize() throws {
    x = try graph.add(NormalizeImage(), [x, try weight([3]), try weight([3])], name: "normalize")
  }

  private mutating func conv(
    _ outputs: Int, _ size: Int, stride: Int = 1, padding: Int? = nil, groups: Int = 1, residual: ValueID? = nil, _ activation: Activation
  ) throws {
    let channels = shape[3]
    var conv = Conv2D(stride: Pair(stride), padding: Padding2D(padding ?? size / 2), groups: groups, hasBias: true)
    (conv.activation, conv.hasResidual) = (activation, residual != nil)
    let inputs = [x, try weight([outputs, channels / groups, size, size]), try weight([outputs])] + (residual.map { [$0] } ?? [])
    x = try graph.add(conv, inputs, name: name("conv"))
  }

  private mutating func linear(_ outputs: Int, residual: ValueID? = nil, _ activation: Activation = .none) throws {
    let product = MatMul(transposeB: true, hasBias: true, hasResidual: residual != nil, activation: activation)
    let inputs = [x, try weight([outputs, shape.last ?? 1]), try weight([outputs])] + (residual.map { [$0] } ?? [])
    x = try graph.add(product, inputs, name: name("linear"))
  }

  private mutating func pool(_ size: Int, stride: Int, padding: Int = 0) throws {
    x = try graph.add(
      Pool2D(.maximum, size: Pair(size), stride: Pair(stride), padding: Padding2D(padding)), [x], name: name("pool"))
  }

  private mutating func meanOfPixels() throws {
    x = try graph.add(Reduce(.mean, axes: [1, 2], keepsDimensions: false), [x], name: "mean")
  }

  /// He et al., "Deep Residual Learning" (2016), with the stride at the 3 × 3 convolutions as in torchvision.
  mutating func resNet50() throws {
    try normalize()
    try conv(64, 7, stride: 2, .relu)
    try pool(3, stride: 2, padding: 1)
    for (stage, blocks) in [3, 4, 6, 3].enumerated() {
      let width = 64 << stage
      for block in 0..<blocks {
        let stride = block == 0 && stage > 0 ? 2 : 1
        let start = x
        if block == 0 { try conv(4 * width, 1, stride: stride, .none) }
        let shortcut = x
        x = start
        try conv(width, 1, .relu)
        try conv(width, 3, stride: stride, .relu)
        try conv(4 * width, 1, residual: shortcut, .relu)
      }
    }
    try meanOfPixels()
    try linear(1000)
  }

  /// Simonyan and Zisserman, "Very Deep Convolutional Networks" (2015), configuration D.
  mutating func vgg16() throws {
    try normalize()
    for (width, count) in [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)] {
      for _ in 0..<count { try conv(width, 3, .relu) }
      try pool(2, stride: 2)
    }
    x = try graph.add(Reshape([batch, 25088]), [x])
    for outputs in [4096, 4096] { try linear(outputs, .relu) }
    try linear(1000)
  }

  /// Sandler et al., "MobileNetV2" (2018).
  mutating func mobileNetV2() throws {
    try normalize()
    try conv(32, 3, stride: 2, .clip(0, 6))
    for (factor, outputs, count, stride) in [
      (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ] {
      for block in 0..<count {
        let (start, width) = (x, shape[3] * factor)
        if factor > 1 { try conv(width, 1, .clip(0, 6)) }
        try conv(width, 3, stride: block == 0 ? stride : 1, groups: width, .clip(0, 6))
        try conv(outputs, 1, residual: block > 0 ? start : nil, .none)
      }
    }
    try conv(1280, 1, .clip(0, 6))
    try meanOfPixels()
    try linear(1000)
  }

  /// Dosovitskiy et al., "An Image is Worth 16×16 Words" (2021).
  mutating func viTB16() throws {
    let (width, heads, tokens) = (768, 12, 197)
    try normalize()
    try conv(width, 16, stride: 16, padding: 0, .none)
    x = try graph.add(Reshape([batch, tokens - 1, width]), [x])
    x = try graph.add(Concat(axis: 1), [try weight([batch, 1, width]), x], name: "tokens")
    x = try graph.add(Binary(.add), [x, try weight([1, tokens, width])], name: "position")
    for _ in 0..<12 {
      let start = x
      try layerNorm()
      try attention(heads: heads, width: width, residual: start)
      let middle = x
      try layerNorm()
      try linear(4 * width, .gelu)
      try linear(width, residual: middle)
    }
    try layerNorm()
    x = try graph.add(Slice(starts: [0, 0, 0], sizes: [batch, 1, width], steps: [1, 1, 1]), [x], name: "class")
    x = try graph.add(Reshape([batch, width]), [x])
    try linear(1000)
  }

  private mutating func layerNorm() throws {
    let width = shape.last ?? 1
    x = try graph.add(
      LayerNorm(epsilon: 1e-6, hasScale: true, hasShift: true), [x, try weight([width]), try weight([width])], name: name("norm"))
  }

  private mutating func attention(heads: Int, width: Int, residual: ValueID) throws {
    try linear(3 * width)
    let scale = 1 / Float(width / heads).squareRoot()
    x = try graph.add(Attention(heads: heads, scale: scale, layout: .packed), [x], name: name("attention"))
    try linear(width, residual: residual)
  }
}
