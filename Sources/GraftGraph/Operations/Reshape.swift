/// The same elements under another shape.
public struct Reshape: Operation {
  public static let kind = "reshape"
  public var shape: [Int]
  public init(_ shape: [Int]) { self.shape = shape }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(inputs.count == 1, Self.kind, "\(inputs.count) inputs were given")
    guard let count = try? TensorError.byteCount(shape: shape, elementType: .uint8) else {
      throw ShapeError(Self.kind, "\(shape) is not a shape")
    }
    try ShapeError.expect(
      count == inputs[0].elementCount, Self.kind, "\(inputs[0].shape) has \(inputs[0].elementCount) elements, \(shape) has \(count)")
    return TensorType(shape, inputs[0].elementType)
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor { ReferenceTensor(shape, inputs[0].values) }
  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { 0 }
  public func acceptsRowStride(input: Int) -> Bool { true }
  public var isView: Bool { true }

  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] {
    [try context.add(Reshape(context.shape(context.inputs[0])), [context.upstream])]
  }

  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool { shape.first == inputs[0].shape[0] }

  /// A copy, where memory could not be shared (the planner says by giving the result memory of its own).
  public func lower(_ context: inout LoweringContext) throws {
    let x = context.inputs[0], channels = context.shape(x).last ?? 1
    try context.copy(
      dims: [context.type(x).elementCount / max(1, channels), channels], from: .value(x), fromStrides: [context.rowStride(x), 1],
      to: .value(context.output), toStrides: [channels, 1])
  }
}
