/// Tensors joined along one axis. Where it can, the planner lets the inputs be computed in place, as slices of the result.
public struct Concat: Operation {
  public static let kind = "concat"
  public var axis: Int
  public init(axis: Int) { self.axis = axis }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    guard var shape = inputs.first?.shape, axis >= 0, axis < shape.count else {
      throw ShapeError(Self.kind, "axis \(axis) does not fit \(inputs.map(\.shape))")
    }
    shape[axis] = 0
    for input in inputs {
      var other = input.shape
      try ShapeError.expect(other.count == shape.count, Self.kind, "ranks differ: \(inputs.map(\.shape))")
      shape[axis] += other[axis]
      other[axis] = shape[axis]
      try ShapeError.expect(other == shape, Self.kind, "shapes differ beyond axis \(axis): \(inputs.map(\.shape))")
    }
    return TensorType(shape)
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let shape = try! outputType(inputs.map { TensorType($0.shape) }).shape
    return ReferenceTensor(shape) { i in
      var i = i
      for x in inputs {
        if i[axis] < x.shape[axis] { return x[i] }
        i[axis] -= x.shape[axis]
      }
      return 0
    }
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { 0 }
  public func acceptsRowStride(input: Int) -> Bool { true }
  public var producesRowStride: Bool { true }

  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool { axis != 0 && !hasImages.contains(false) }

  public func lower(_ context: inout LoweringContext) throws {
    let to = context.strides(of: context.output)
    var (position, placed) = (0, Set<ValueID>())
    for input in context.inputs {
      let extent = context.shape(input)[axis]
      defer { position += extent }
      // Already in place: the planner made it a slice of the result, where it comes first.
      if context.sharesMemory(input, context.output), placed.insert(input).inserted { continue }
      try context.copy(
        dims: context.shape(input), from: .value(input), fromStrides: context.strides(of: input), to: .value(context.output), toStrides: to,
        toOffset: position * to[axis])
    }
  }
}
