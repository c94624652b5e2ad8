/// A tensor repeated to a larger shape, as NumPy's broadcast_to.
public struct Expand: Operation {
  public static let kind = "expand"
  public var shape: [Int]
  public init(_ shape: [Int]) { self.shape = shape }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(
      inputs.count == 1 && broadcastShape(inputs[0].shape, shape) == shape, Self.kind, "\(inputs.map(\.shape)) does not expand to \(shape)")
    return TensorType(shape)
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let values = inputs[0].values
    return ReferenceTensor(shape, (0, broadcastStrides(inputs[0].shape, to: shape))) { place, _ in values[place] }
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { 0 }
  public func acceptsRowStride(input: Int) -> Bool { true }

  public func lower(_ context: inout LoweringContext) throws {
    let x = context.inputs[0]
    try context.copy(
      dims: shape, from: .value(x), fromStrides: broadcastStrides(context.shape(x), to: shape, rowStride: context.rowStride(x)),
      to: .value(context.output), toStrides: rowMajorStrides(shape))
  }
}
