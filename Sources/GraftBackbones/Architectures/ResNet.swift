import GraftGraph

/// Residual networks in torchvision's names and layout: ResNet, ResNeXt and wide ones, and small ones for small images.
///
/// Source: He et al., "Deep Residual Learning for Image Recognition" (2016), with the stride at the 3 × 3 convolution of a bottleneck as
/// in torchvision. Small images (a 3 × 3 stem without stride or pooling) are treated as in the paper's part on CIFAR-10.
public struct ResNet: Sendable, Hashable {
  /// Height and width of the first convolution: 7 (stride 2, then pooling) or 3 (neither).
  public let stemKernel: Int
  public let stemChannels: Int
  /// Whether blocks are 1 × 1, 3 × 3, 1 × 1 rather than two 3 × 3.
  public let isBottleneck: Bool
  public let stages: [Stage]
  public let classes: Int?

  public struct Stage: Sendable, Hashable {
    public let blocks: Int
    /// Channels inside a block, and of its result.
    public let width, outChannels: Int
    /// Groups of the 3 × 3 convolutions.
    public let groups: Int
    /// Stride of the first block.
    public let stride: Int
  }

  /// Names that `pretrain` takes.
  public static let known = ["resnet_tiny", "resnet_small", "resnet18", "resnet34", "resnet50"]

  /// A network by name, for that many classes; `nil` for one that is not known.
  public init?(name: String, classes: Int) {
    func basic(_ blocks: [Int], _ widths: [Int]) -> [Stage] {
      zip(blocks, widths).enumerated().map { Stage(blocks: $1.0, width: $1.1, outChannels: $1.1, groups: 1, stride: $0 == 0 ? 1 : 2) }
    }
    switch name {
    case "resnet_tiny": self.init(stemKernel: 3, stemChannels: 16, isBottleneck: false, stages: basic([1, 1, 1], [16, 32, 64]), classes: classes)
    case "resnet_small": self.init(stemKernel: 3, stemChannels: 32, isBottleneck: false, stages: basic([1, 1, 1], [32, 64, 128]), classes: classes)
    case "resnet18":
      self.init(stemKernel: 7, stemChannels: 64, isBottleneck: false, stages: basic([2, 2, 2, 2], [64, 128, 256, 512]), classes: classes)
    case "resnet34":
      self.init(stemKernel: 7, stemChannels: 64, isBottleneck: false, stages: basic([3, 4, 6, 3], [64, 128, 256, 512]), classes: classes)
    case "resnet50":
      let stages = zip([3, 4, 6, 3], [64, 128, 256, 512]).enumerated().map {
        Stage(blocks: $1.0, width: $1.1, outChannels: 4 * $1.1, groups: 1, stride: $0 == 0 ? 1 : 2)
      }
      self.init(stemKernel: 7, stemChannels: 64, isBottleneck: true, stages: stages, classes: classes)
    default: return nil
    }
  }

  init(stemKernel: Int, stemChannels: Int, isBottleneck: Bool, stages: [Stage], classes: Int?) {
    (self.stemKernel, self.stemChannels, self.isBottleneck) = (stemKernel, stemChannels, isBottleneck)
    (self.stages, self.classes) = (stages, classes)
  }

  /// "resnet50"; others by their stages: "resnet_3x3_32x1_64x1_128x1".
  public var name: String {
    if let known = ResNet.known.first(where: { name in ResNet(name: name, classes: classes ?? 0)?.hasShape(of: self) ?? false }) { return known }
    return "resnet_\(stemKernel)x\(stemKernel)" + stages.map { "_\($0.outChannels)x\($0.blocks)\($0.groups > 1 ? "g\($0.groups)" : "")" }.joined()
  }

  private func hasShape(of other: ResNet) -> Bool {
    stemKernel == other.stemKernel && stemChannels == other.stemChannels && isBottleneck == other.isBottleneck && stages == other.stages
  }

  /// What torchvision's weights expect; small networks take small images.
  public var preprocessing: PretrainedConfiguration {
    let side = stemKernel == 7 ? 224 : 32
    return PretrainedConfiguration(
      height: side, width: side, interpolation: .bilinear, cropFraction: stemKernel == 7 ? 0.875 : 1, mean: [0.485, 0.456, 0.406],
      standardDeviation: [0.229, 0.224, 0.225])
  }

  /// The network as a list of layers.
  public var layers: [LayerSpec] {
    var layers: [LayerSpec] = []
    func convolution(
      _ name: String, _ normalization: String, from: Int, to: Int, kernel: Int, stride: Int = 1, groups: Int = 1,
      _ activation: LayerActivation = .relu,
      residual: Int? = nil, input: Int? = nil
    ) {
      let norm = BatchNormSpec(
        scale: normalization + ".weight", bias: normalization + ".bias", mean: normalization + ".running_mean",
        variance: normalization + ".running_var", epsilon: 1e-5)
      let spec = ConvolutionSpec(
        weight: name + ".weight", inChannels: from, outChannels: to, kernel: kernel, stride: stride, padding: .symmetric(kernel / 2), groups: groups,
        normalization: norm, activation: activation, residual: residual)
      layers.append(LayerSpec(name: name, operation: .convolution(spec), input: input))
    }
    convolution("conv1", "bn1", from: 3, to: stemChannels, kernel: stemKernel, stride: stemKernel == 7 ? 2 : 1)
    if stemKernel == 7 { layers.append(LayerSpec(name: "maxpool", operation: .maximumPool)) }
    var channels = stemChannels
    for (number, stage) in stages.enumerated() {
      for block in 0..<stage.blocks {
        let prefix = "layer\(number + 1).\(block).", stride = block == 0 ? stage.stride : 1
        let start = layers.count - 1
        var residual = start
        if stride != 1 || channels != stage.outChannels {
          convolution(prefix + "downsample.0", prefix + "downsample.1", from: channels, to: stage.outChannels, kernel: 1, stride: stride, .identity)
          residual = layers.count - 1
        }
        if isBottleneck {
          convolution(prefix + "conv1", prefix + "bn1", from: channels, to: stage.width, kernel: 1, input: start)
          convolution(prefix + "conv2", prefix + "bn2", from: stage.width, to: stage.width, kernel: 3, stride: stride, groups: stage.groups)
          convolution(prefix + "conv3", prefix + "bn3", from: stage.width, to: stage.outChannels, kernel: 1, residual: residual)
        } else {
          convolution(prefix + "conv1", prefix + "bn1", from: channels, to: stage.width, kernel: 3, stride: stride, input: start)
          convolution(prefix + "conv2", prefix + "bn2", from: stage.width, to: stage.outChannels, kernel: 3, residual: residual)
        }
        channels = stage.outChannels
      }
    }
    layers.append(LayerSpec(name: "avgpool", operation: .globalAveragePool))
    if let classes {
      layers.append(
        LayerSpec(name: "fc", operation: .linear(LinearSpec(weight: "fc.weight", bias: "fc.bias", inChannels: channels, outChannels: classes))))
    }
    return layers
  }

  /// Weights that training starts from: convolutions by He et al., "Delving Deep into Rectifiers" (2015), fan out; normalisations the
  /// identity; the classifier uniform within ±1/√(features), as torchvision's.
  public func initialState(seed: UInt64) -> StateDictionary {
    var generator = SplitMix(seed)
    func normal() -> Float {
      // The sum of twelve uniform numbers, less 6: variance 1.
      (0..<12).reduce(Float(0)) { sum, _ in sum + Float.random(in: 0..<1, using: &generator) } - 6
    }
    var tensors: [(name: String, tensor: HostTensor)] = []
    for layer in layers {
      switch layer.operation {
      case .convolution(let spec):
        let deviation = (2 / Float(spec.outChannels * spec.kernel * spec.kernel / spec.groups)).squareRoot()
        let count = spec.weightShape.reduce(1, *)
        tensors.append((spec.weight, HostTensor(spec.weightShape, (0..<count).map { _ in normal() * deviation })))
        let norm = spec.normalization
        for (name, value) in [(norm.scale, Float(1)), (norm.bias, 0), (norm.mean, 0), (norm.variance, 1)] {
          tensors.append((name, HostTensor([spec.outChannels], Array(repeating: value, count: spec.outChannels))))
        }
      case .linear(let spec):
        let bound = 1 / Float(spec.inChannels).squareRoot()
        tensors.append(
          (
            spec.weight,
            HostTensor(
              [spec.outChannels, spec.inChannels],
              (0..<spec.outChannels * spec.inChannels).map { _ in Float.random(in: -bound...bound, using: &generator) })
          ))
        tensors.append((spec.bias, HostTensor([spec.outChannels], Array(repeating: 0, count: spec.outChannels))))
      case .globalAveragePool, .maximumPool: break
      }
    }
    return StateDictionary(file: name, tensors: tensors)
  }

  /// The network whose weights these are, by names and shapes; `nil` if they are not a residual network's.
  ///
  /// - Throws: `ImportError` for one with a tensor that is missing, has another shape, or has no place, and where the name is one of a
  ///   network with the same weights that computes something else.
  static func recognise(_ weights: StateDictionary, name told: String?) throws -> Architecture? {
    guard let stem = weights["conv1.weight"], weights["layer1.0.conv1.weight"] != nil, weights["layer1.0.conv2.weight"] != nil else { return nil }
    func refuse(_ what: String) -> ImportError { ImportError(file: weights.file, what: what, remedy: "Export the model as ONNX.") }
    if let told, isVariant(told) {
      throw refuse("\(quoted(told)) has the weights of a residual network and pools in another way")
    }
    guard stem.shape.count == 4, stem.shape[1] == 3, [3, 7].contains(stem.shape[2]), stem.shape[2] == stem.shape[3], stem.shape[0] > 0 else {
      throw refuse("its first convolution has shape \(stem.shape), and a residual network's is [C, 3, 7, 7] or [C, 3, 3, 3]")
    }
    let isBottleneck = weights["layer1.0.conv3.weight"] != nil
    var stages: [Stage] = []
    while let first = weights["layer\(stages.count + 1).0.conv1.weight"], stages.count < 16 {
      let prefix = "layer\(stages.count + 1)."
      var blocks = 0
      while weights["\(prefix)\(blocks).conv1.weight"] != nil, blocks < 1000 { blocks += 1 }
      guard let second = weights["\(prefix)0.conv2.weight"], let last = weights["\(prefix)0.conv\(isBottleneck ? 3 : 2).weight"],
        [first, second, last].allSatisfy({ $0.shape.count == 4 && !$0.shape.contains(0) }), second.shape[0] % second.shape[1] == 0 || !isBottleneck
      else { throw refuse("the convolutions of its \(prefix)0 have shapes that no residual block has") }
      let width = first.shape[0]
      stages.append(
        Stage(
          blocks: blocks, width: width, outChannels: last.shape[0], groups: isBottleneck ? max(1, width / second.shape[1]) : 1,
          stride: stages.isEmpty ? 1 : 2))
    }
    let classes = weights["fc.weight"].flatMap { $0.shape.count == 2 && $0.shape[0] > 0 ? $0.shape[0] : nil }
    let network = ResNet(stemKernel: stem.shape[2], stemChannels: stem.shape[0], isBottleneck: isBottleneck, stages: stages, classes: classes)
    let layers = network.layers
    for layer in layers { for weight in layer.weights { _ = try weights.tensor(weight.name, shape: weight.shape) } }
    let used = Set(layers.flatMap { $0.weights.map(\.name) })
    if let extra = weights.names.first(where: { !used.contains($0) && !$0.hasSuffix(".num_batches_tracked") }) {
      throw ImportError(
        file: weights.file, node: "tensor \(quoted(extra))", what: "\(network.name), the nearest architecture, has no place for it",
        remedy: "Export the model as ONNX.")
    }
    var assumptions: [String] = []
    if told == nil {
      assumptions.append(
        "The weights do not tell \(network.name) from networks that pool in another way (timm's resnetblur and resnetaa); torchvision's "
          + "\(network.name) is assumed. If they are another's, export it as ONNX.")
    }
    return Architecture(name: network.name, layers: layers, preprocessing: network.preprocessing, assumptions: assumptions)
  }

  /// Whether a name is that of a variant of timm's: "resnetblur50.bt_in1k", "resnetaa50", where a plain network's has the depth at that place.
  private static func isVariant(_ name: String) -> Bool {
    let name = name.lowercased()
    for stem in ["resnet", "resnext"] {
      guard let place = name.firstRange(of: stem)?.upperBound, place < name.endIndex else { continue }
      return ["aa", "blur"].contains { name[place...].hasPrefix($0) }
    }
    return false
  }
}

extension Architecture {
  /// A residual network's, before it has a file.
  public init(_ network: ResNet) {
    self.init(name: network.name, layers: network.layers, preprocessing: network.preprocessing, assumptions: [])
  }

  /// The network over these weights, from images `[N, 3, H, W]` to logits.
  ///
  /// - Throws: `ImportError` for weights that are missing.
  public func classifierGraph(_ weights: StateDictionary, inputShape: [Int]) throws -> Graph {
    var graph = try graph(weights, inputShape: inputShape)
    graph.outputs = Array(graph.outputs.prefix(1))
    return graph
  }
}
