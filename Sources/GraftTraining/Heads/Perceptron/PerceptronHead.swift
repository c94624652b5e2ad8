import GraftGraph

/// A head of several layers: y = Wₙ·relu(… relu(W₁·x + b₁) …) + bₙ.
///
/// Its file holds `layers.i.weight` `[out, in]` and `layers.i.bias` `[out]`, as PyTorch's Linear lays them out. Standardised features
/// are part of the first layer.
public struct PerceptronHead: FeatureClassifier {
  public struct Layer: Sendable, Equatable {
    /// `[out, in]`, row-major.
    public let weight: [Float]
    /// `[out]`
    public let bias: [Float]
    public var outputs: Int { bias.count }
    public var inputs: Int { weight.count / max(1, bias.count) }

    public init(weight: [Float], bias: [Float]) { (self.weight, self.bias) = (weight, bias) }
  }

  public let metadata: HeadMetadata
  public let layers: [Layer]
  public let dimension: Int

  /// - Throws: `HeadError` if shapes, classes and metadata don't belong together or a number isn't finite.
  public init(layers: [Layer], metadata: HeadMetadata, file: String? = nil) throws(HeadError) {
    let name = file ?? "a new head"
    try metadata.validate(file: name)
    guard let first = layers.first, let last = layers.last else { throw HeadError(file: name, problem: "it has no layers") }
    guard last.outputs == metadata.classes.count else {
      throw HeadError(file: name, problem: "its last layer has \(last.outputs) outputs for \(metadata.classes.count) classes")
    }
    for (index, layer) in layers.enumerated() {
      guard layer.outputs > 0, layer.inputs > 0, layer.inputs * layer.outputs == layer.weight.count else {
        throw HeadError(file: name, problem: "layer \(index) has \(layer.weight.count) weights and \(layer.bias.count) biases")
      }
      if index > 0, layer.inputs != layers[index - 1].outputs {
        throw HeadError(file: name, problem: "layer \(index) takes \(layer.inputs) numbers, and the one before gives \(layers[index - 1].outputs)")
      }
      guard layer.weight.allSatisfy(\.isFinite), layer.bias.allSatisfy(\.isFinite) else {
        throw HeadError(file: name, problem: "layer \(index) contains NaN or infinity")
      }
    }
    (self.layers, self.metadata, dimension) = (layers, metadata, first.inputs)
  }

  public func forEachLogits(
    of features: any FeatureSource, file: String, backend: any LinearBackend, _ body: (_ firstRow: Int, _ logits: [Float]) throws -> Void
  ) throws {
    try check(dimension: features.dimension, file: file)
    let seen = NormalisedFeatures(base: features, transform: metadata.featureNormalisation == .l2 ? .l2 : .none)
    try seen.forEachChunk { chunk in
      var values: [Float] = []
      try backend.logits(chunk, weight: layers[0].weight, bias: layers[0].bias, into: &values)
      for layer in layers.dropFirst() {
        for index in values.indices where values[index] < 0 { values[index] = 0 }
        var next: [Float] = []
        try values.withUnsafeBufferPointer {
          let hidden = FeatureChunk(firstRow: chunk.firstRow, rowCount: chunk.rowCount, dimension: layer.inputs, values: $0)
          try backend.logits(hidden, weight: layer.weight, bias: layer.bias, into: &next)
        }
        values = next
      }
      try body(chunk.firstRow, values)
    }
  }

  public func replacing(metadata: HeadMetadata) throws(HeadError) -> PerceptronHead { try PerceptronHead(layers: layers, metadata: metadata) }

  // MARK: The file

  public func encoded() throws(HeadError) -> (tensors: [(String, HostTensor)], metadata: [String: String]) {
    let tensors = layers.enumerated().flatMap { index, layer in
      [
        (Self.name(index, "weight"), HostTensor([layer.outputs, layer.inputs], layer.weight)),
        (Self.name(index, "bias"), HostTensor([layer.outputs], layer.bias)),
      ]
    }
    return (tensors, try metadata.encoded())
  }

  /// Reads a head from what a `.safetensors` file holds.
  ///
  /// - Throws: `HeadError` that says what is missing or damaged.
  public init(tensors: [String: HostTensor], metadata strings: [String: String], file: String) throws(HeadError) {
    let metadata = try HeadMetadata(decoding: strings, file: file)
    guard metadata.kind == .mlp else { throw HeadError(file: file, problem: "it is a head of the kind \(metadata.kind.rawValue), not mlp") }
    func tensor(_ index: Int, _ part: String, rank: Int) throws(HeadError) -> HostTensor {
      let name = Self.name(index, part)
      guard let tensor = tensors[name], tensor.elementType.isFloatingPoint, tensor.shape.count == rank else {
        throw HeadError(file: file, problem: "it has no tensor \(name) of floating-point numbers and rank \(rank)")
      }
      return tensor
    }
    var layers: [Layer] = []
    while tensors[Self.name(layers.count, "weight")] != nil {
      let (weight, bias) = (try tensor(layers.count, "weight", rank: 2), try tensor(layers.count, "bias", rank: 1))
      guard weight.shape[0] == bias.shape[0] else {
        throw HeadError(file: file, problem: "layer \(layers.count) has weights \(weight.shape) and biases \(bias.shape)")
      }
      layers.append(Layer(weight: weight.floats(), bias: bias.floats()))
    }
    try self.init(layers: layers, metadata: metadata, file: file)
  }

  static func name(_ layer: Int, _ part: String) -> String { "layers.\(layer).\(part)" }
}
