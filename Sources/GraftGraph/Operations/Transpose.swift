/// y[i…] = x[i at the permuted places]: y's dimension d is x's dimension permutation[d], as NumPy's transpose.
public struct Transpose: Operation {
  public static let kind = "transpose"
  public var permutation: [Int]
  public init(_ permutation: [Int]) { self.permutation = permutation }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(
      inputs.count == 1 && permutation.sorted() == Array(0..<inputs[0].rank), Self.kind,
      "permutation \(permutation) does not fit \(inputs.map(\.shape))")
    return TensorType(permutation.map { inputs[0].shape[$0] }, inputs[0].elementType)
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let strides = inputs[0].strides, values = inputs[0].values
    return ReferenceTensor(permutation.map { inputs[0].shape[$0] }, (0, permutation.map { strides[$0] })) { place, _ in values[place] }
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { 0 }
  public func acceptsRowStride(input: Int) -> Bool { true }
  public var producesRowStride: Bool { true }

  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] {
    var inverse = permutation
    for (d, p) in permutation.enumerated() { inverse[p] = d }
    return [try context.add(Transpose(inverse), [context.upstream])]
  }

  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool { permutation[0] == 0 }

  public func lower(_ context: inout LoweringContext) throws {
    let from = context.strides(of: context.inputs[0]), to = context.strides(of: context.output)
    // In the source's order, so that its last dimension stays the contiguous one.
    var toStrides = to
    for (d, p) in permutation.enumerated() { toStrides[p] = to[d] }
    try context.copy(
      dims: context.shape(context.inputs[0]), from: .value(context.inputs[0]), fromStrides: from, to: .value(context.output), toStrides: toStrides)
  }
}
