/// Batch normalisation with its inference statistics: y = (x − mean[c]) / √(variance[c] + ε) scale[c] + shift[c].
///
/// x: [..., C]; inputs: x, scale, shift, mean, variance (each [C]). A plan never runs it: `foldNormalization` turns it into
/// weights of the convolution before it, or into a `Unary` with scale and shift.
public struct BatchNorm: Operation {
  public static let kind = "batchNorm"
  public var epsilon: Double

  public init(epsilon: Double) { self.epsilon = epsilon }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(inputs.count == 5, Self.kind, "\(inputs.count) inputs were given")
    for vector in inputs.dropFirst() {
      try ShapeError.expect(
        vector.shape == [inputs[0].shape.last ?? 1], Self.kind, "vectors of \(inputs[0].shape.last ?? 1) are expected, \(vector.shape) was found")
    }
    return TensorType(inputs[0].shape)
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let channels = max(1, inputs[0].shape.last ?? 1)
    return ReferenceTensor(
      inputs[0].shape,
      inputs[0].values.enumerated().map { i, x in
        let c = i % channels
        return (x - inputs[3].values[c]) / (inputs[4].values[c] + epsilon).squareRoot() * inputs[1].values[c] + inputs[2].values[c]
      })
  }

  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool { hasImages[0] && !hasImages.dropFirst().contains(true) }

  public func lower(_ context: inout LoweringContext) throws {
    throw LoweringError(context, "its statistics are not constants of the model: only inference statistics are supported")
  }
}
