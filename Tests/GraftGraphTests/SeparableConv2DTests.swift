import GraftDevice
import GraftGraph
import Testing

/// Depthwise convolutions computed together with the pointwise ones around them: the same bits as one after another.
@Suite struct SeparableConv2DTests {
  struct Sample: Sendable, CustomStringConvertible {
    var batch = 1
    var size: Pair
    var channels: Int
    /// `nil`: the depthwise convolution acts on the image.
    var expanded: Int?
    var extent = 3
    var stride = 1
    var padding: Padding2D
    var outputs: Int
    var hasBias = true
    var hasResidual = false
    var activation = Activation.clip(0, 6)
    var description: String {
      "\(batch)×\(size.h)×\(size.w)×\(channels)→\(expanded ?? channels)→\(outputs), \(extent)×\(extent) by \(stride), \(activation)"
    }

    var operation: SeparableConv2D {
      var expansion = expanded.map { _ in Conv2D(hasBias: hasBias) }
      expansion?.activation = activation
      var depthwise = Conv2D(stride: Pair(stride), padding: padding, groups: expanded ?? channels, hasBias: hasBias)
      depthwise.activation = activation
      var projection = Conv2D(hasBias: hasBias)
      projection.hasResidual = hasResidual
      return SeparableConv2D(expansion: expansion, depthwise: depthwise, projection: projection)
    }

    /// The image, the parameters, and the residual.
    func draw(_ precision: Precision) throws -> [HostTensor] {
      var generator = Generator(11)
      func tensor(_ shape: [Int], isParameter: Bool = false) -> HostTensor {
        let values = HostTensor(shape, &generator).floats()
        return HostTensor(shape, isParameter ? values : values.map(precision.rounded))
      }
      func bias(_ count: Int) -> [HostTensor] { hasBias ? [tensor([count], isParameter: true)] : [] }
      let middle = expanded ?? channels
      var all = [tensor([batch, size.h, size.w, channels])]
      if let expanded { all += [tensor([expanded, channels, 1, 1])] + bias(expanded) }
      all += [tensor([middle, 1, extent, extent], isParameter: true)] + bias(middle) + [tensor([outputs, middle, 1, 1])] + bias(outputs)
      guard hasResidual else { return all }
      var plain = operation
      plain.projection.hasResidual = false
      return all + [tensor(try plain.outputType(all.map { TensorType($0.shape) }).shape)]
    }
  }

  /// Every kernel; rows and pixels that steps, tiles and vectors fit and do not fit; images of one pixel; uneven padding.
  static let samples = [
    Sample(batch: 2, size: Pair(9, 13), channels: 16, expanded: 48, padding: Padding2D(1), outputs: 16, hasResidual: true),
    Sample(batch: 3, size: Pair(7, 7), channels: 5, expanded: 33, padding: Padding2D(1), outputs: 9, activation: .silu),
    Sample(size: Pair(12, 11), channels: 24, expanded: 70, stride: 2, padding: Padding2D(top: 0, left: 0, bottom: 1, right: 1), outputs: 40),
    Sample(batch: 5, size: Pair(14, 14), channels: 17, expanded: 64, extent: 5, padding: Padding2D(2), outputs: 65, activation: .relu),
    Sample(size: Pair(15, 10), channels: 8, expanded: 31, extent: 5, stride: 2, padding: Padding2D(top: 1, left: 2, bottom: 2, right: 1), outputs: 7),
    Sample(
      batch: 2, size: Pair(10, 30), channels: 12, expanded: 20, extent: 7, padding: Padding2D(3), outputs: 12, hasBias: false, hasResidual: true),
    Sample(size: Pair(21, 16), channels: 6, expanded: 18, extent: 7, stride: 2, padding: Padding2D(3), outputs: 10, activation: .hardSwish),
    Sample(batch: 2, size: Pair(20, 8), channels: 32, padding: Padding2D(1), outputs: 16),
    Sample(batch: 4, size: Pair(5, 6), channels: 19, stride: 2, padding: Padding2D(1), outputs: 21, activation: .none),
    Sample(size: Pair(1, 1), channels: 3, expanded: 4, padding: Padding2D(1), outputs: 2),
    Sample(batch: 2, size: Pair(3, 3), channels: 40, expanded: 50, padding: Padding2D(0), outputs: 1),
    // Padding beyond the kernel: whole rows and columns of nothing.
    Sample(size: Pair(4, 3), channels: 4, expanded: 9, padding: Padding2D(4), outputs: 5),
  ]

  private func run(_ graph: Graph, _ tensors: [HostTensor], on device: TestDevice, _ options: PlanOptions) throws -> [Float] {
    let plan = try Plan(graph, device: device.make(), options: options)
    for (input, tensor) in zip(plan.graph.inputs, tensors) { try plan.write(tensor.floats(), to: input) }
    try plan.run()
    let first = try plan.read(plan.graph.outputs[0])
    try plan.run()
    let isTheSame = try plan.read(plan.graph.outputs[0]) == first
    #expect(isTheSame, "another run gave other numbers")
    return first
  }

  @Test(arguments: samples, TestDevices.allFormats.filter { $0.device.traits.family == .cpu })
  func isItsConvolutionsOneAfterAnother(_ sample: Sample, _ device: TestDevice) throws {
    let operation = sample.operation, tensors = try sample.draw(device.precision)
    func graph(_ add: (inout Graph, ValueID, [ValueID]) throws -> ValueID) throws -> Graph {
      var graph = Graph()
      let image = graph.addInput(TensorType(tensors[0].shape), name: "image")
      let parameters = tensors.dropFirst().dropLast(sample.hasResidual ? 1 : 0).map { graph.addConstant($0) }
      let residual = sample.hasResidual ? [graph.addInput(TensorType(tensors.last!.shape), name: "residual")] : []
      graph.outputs = [try add(&graph, image, parameters + residual)]
      return graph
    }
    let inputs = sample.hasResidual ? [tensors[0], tensors.last!] : [tensors[0]]
    let fused = try run(try graph { try $0.add(operation, [$1] + $2) }, inputs, on: device, .asWritten(in: device.precision))
    let each = try graph { graph, image, rest in
      var (value, rest) = (image, rest[...])
      for conv in [operation.expansion, operation.depthwise, operation.projection].compactMap({ $0 }) {
        let count = 1 + (conv.hasBias ? 1 : 0) + (conv.hasResidual ? 1 : 0)
        value = try graph.add(conv, [value] + rest.prefix(count))
        rest = rest.dropFirst(count)
      }
      return value
    }
    let isTheSame = fused == (try run(each, inputs, on: device, .asWritten(in: device.precision)))
    #expect(isTheSame)

    guard device.precision == .float32 else { return }
    let expected = operation.reference(tensors.map(ReferenceTensor.init)).values
    let scale = expected.reduce(1) { max($0, abs($1)) }
    let error = zip(fused, expected).reduce(0) { max($0, abs(Double($1.0) - $1.1)) } / scale
    #expect(error < 4e-6, "largest error \(error) of the largest value")
  }

  /// A MobileNet in small, with all that must not be fused in it.
  private func network() throws -> (graph: Graph, image: HostTensor) {
    var graph = Graph(), generator = Generator(3)
    let image = HostTensor([4, 28, 28, 16], &generator)
    func conv(_ x: ValueID, _ outputs: Int, extent: Int = 1, stride: Int = 1, depthwise: Bool = false, dilation: Int = 1) throws -> ValueID {
      let channels = graph.type(of: x).shape[3]
      let operation = Conv2D(
        stride: Pair(stride), padding: Padding2D(extent / 2 * dilation), dilation: Pair(dilation), groups: depthwise ? channels : 1, hasBias: true)
      let values = HostTensor([outputs, depthwise ? 1 : channels, extent, extent], &generator).floats().map { $0 / 2 }
      let w = HostTensor([outputs, depthwise ? 1 : channels, extent, extent], values)
      return try graph.add(operation, [x, graph.addConstant(w), graph.addConstant(HostTensor([outputs], &generator))])
    }
    func relu(_ x: ValueID) throws -> ValueID { try graph.add(Unary(.relu), [x]) }
    let x = graph.addInput(TensorType(image.shape), name: "image")
    // An inverted residual.
    let a = try graph.add(Binary(.add), [x, conv(relu(conv(relu(conv(x, 96)), 96, extent: 3, depthwise: true)), 16)])
    // A separable convolution, and two blocks whose results lie side by side.
    let b = try relu(conv(relu(conv(a, 16, extent: 5, stride: 2, depthwise: true)), 32))
    let left = try conv(relu(conv(relu(conv(b, 64)), 64, extent: 3, depthwise: true)), 16)
    let right = try conv(relu(conv(relu(conv(b, 64)), 64, extent: 5, depthwise: true)), 32)
    let both = try graph.add(Concat(axis: 3), [left, right])
    // What a depthwise convolution makes is used twice; a dilated one has no kernel.
    let shared = try conv(both, 48, extent: 3, depthwise: true)
    let c = try graph.add(Binary(.add), [conv(shared, 48), shared])
    let d = try conv(conv(c, 48, extent: 3, depthwise: true, dilation: 2), 24)
    graph.outputs = [d]
    return (graph, image)
  }

  @Test(arguments: TestDevices.allFormats)
  func networksGiveTheSameBits(_ device: TestDevice) throws {
    let (graph, image) = try network()
    var options = PlanOptions(precision: device.precision)
    let fused = try run(graph, [image], on: device, options)
    // In tiles of a few images as well.
    options.lastCacheByteCount = 1 << 20
    let isTheSameInTiles = fused == (try run(graph, [image], on: device, options))
    #expect(isTheSameInTiles)
    options.fusesSeparable = false
    let isTheSame = fused == (try run(graph, [image], on: device, options))
    #expect(isTheSame)
  }

  @Test func fusesWhatItMayAndNothingElse() throws {
    let device = try CPUDevice(threadCount: 2)
    let graph = try network().graph.optimized()
    let kinds = try graph.fusingSeparable(traits: device.traits, options: PlanOptions()).nodes.map(\.operation.kind)
    // The first block, the separable convolution, both branches; then a depthwise convolution with its two users, and a dilated one.
    #expect(kinds.count { $0 == SeparableConv2D.kind } == 4, "\(kinds)")
    #expect(kinds.count { $0 == Conv2D.kind } == 4, "\(kinds)")

    // A value that is asked for stays.
    var asked = graph
    let middle = try #require(graph.nodes.first { ($0.operation as? Conv2D)?.groups == 96 })
    asked.outputs.append(middle.output)
    let fused = try asked.fusingSeparable(traits: device.traits, options: PlanOptions())
    #expect(fused.nodes.count { $0.operation.kind == SeparableConv2D.kind } == 3)

    for gpu in TestDevices.all where gpu.device.traits.family == .gpu {
      #expect(try graph.fusingSeparable(traits: gpu.device.traits, options: PlanOptions()).nodes.count == graph.nodes.count)
    }
  }
}
