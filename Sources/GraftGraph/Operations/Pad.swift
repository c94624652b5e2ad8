/// A tensor with a border of one value.
public struct Pad: Operation {
  public static let kind = "pad"
  public var before, after: [Int]
  public var value: Float
  public init(before: [Int], after: [Int], value: Float = 0) { (self.before, self.after, self.value) = (before, after, value) }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(
      inputs.count == 1 && before.count == inputs[0].rank && after.count == inputs[0].rank, Self.kind, "does not fit \(inputs.map(\.shape))")
    try ShapeError.expect((before + after).allSatisfy { $0 >= 0 }, Self.kind, "negative padding; use a slice")
    return TensorType(inputs[0].shape.indices.map { inputs[0].shape[$0] + before[$0] + after[$0] })
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let x = inputs[0]
    return ReferenceTensor(x.shape.indices.map { x.shape[$0] + before[$0] + after[$0] }) { i in
      let at = i.indices.map { i[$0] - before[$0] }
      return at.indices.allSatisfy { at[$0] >= 0 && at[$0] < x.shape[$0] } ? x[at] : Double(value)
    }
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { 0 }
  public func acceptsRowStride(input: Int) -> Bool { true }

  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool { before[0] == 0 && after[0] == 0 }

  public func lower(_ context: inout LoweringContext) throws {
    let to = context.strides(of: context.output)
    context.fill(.value(context.output), elementCount: context.type(context.output).elementCount, value: value)
    try context.copy(
      dims: context.shape(context.inputs[0]), from: .value(context.inputs[0]), fromStrides: context.strides(of: context.inputs[0]),
      to: .value(context.output), toStrides: to, toOffset: zip(to, before).reduce(0) { $0 + $1.0 * $1.1 })
  }
}
