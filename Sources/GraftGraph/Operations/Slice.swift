/// Part of a tensor: y[i…] = x[start + step i …].
public struct Slice: Operation {
  public static let kind = "slice"
  public var starts, sizes, steps: [Int]
  public init(starts: [Int], sizes: [Int], steps: [Int]) { (self.starts, self.sizes, self.steps) = (starts, sizes, steps) }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(inputs.count == 1, Self.kind, "\(inputs.count) inputs were given")
    let shape = inputs[0].shape
    try ShapeError.expect(starts.count == shape.count && sizes.count == shape.count && steps.count == shape.count, Self.kind, "does not fit \(shape)")
    for d in shape.indices where sizes[d] != 0 {
      let last = starts[d] + (sizes[d] - 1) * steps[d]
      try ShapeError.expect(
        sizes[d] > 0 && steps[d] != 0 && starts[d] >= 0 && starts[d] < shape[d] && last >= 0 && last < shape[d], Self.kind,
        "\(sizes[d]) elements from \(starts[d]) in steps of \(steps[d]) lie outside dimension \(d) of \(shape)")
    }
    return TensorType(sizes, inputs[0].elementType)
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let strides = inputs[0].strides, values = inputs[0].values
    let start = zip(starts, strides).reduce(0) { $0 + $1.0 * $1.1 }
    return ReferenceTensor(sizes, (start, zip(steps, strides).map { $0 * $1 })) { place, _ in values[place] }
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { 0 }
  public func acceptsRowStride(input: Int) -> Bool { true }
  public var producesRowStride: Bool { true }

  public func lower(_ context: inout LoweringContext) throws {
    let from = context.strides(of: context.inputs[0])
    try context.copy(
      dims: sizes, from: .value(context.inputs[0]), fromStrides: zip(from, steps).map { $0 * $1 }, to: .value(context.output),
      toStrides: context.strides(of: context.output), fromOffset: zip(from, starts).reduce(0) { $0 + $1.0 * $1.1 })
  }
}
