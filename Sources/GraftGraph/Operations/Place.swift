/// Tensors placed into one of zeros: y[start + step i …] = x[i …]. What a slice undoes, and the gradient of one.
///
/// Inputs: one tensor a placement. Any two are kept apart by one dimension: there they interleave, or lie beside each other.
public struct Place: Operation {
  public static let kind = "place"
  /// Where one input goes: the place of its first element, and the distance between neighbours, in each dimension.
  public struct Placement: Sendable, Hashable {
    public var starts, steps: [Int]
    public init(starts: [Int], steps: [Int]) { (self.starts, self.steps) = (starts, steps) }
  }

  public var shape: [Int]
  public var placements: [Placement]
  public init(_ shape: [Int], _ placements: [Placement]) { (self.shape, self.placements) = (shape, placements) }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(inputs.count == placements.count, Self.kind, "\(inputs.count) inputs were given for \(placements.count) places")
    for (input, placement) in zip(inputs, placements) {
      try ShapeError.expect(
        input.rank == shape.count && placement.starts.count == shape.count && placement.steps.count == shape.count, Self.kind,
        "\(input.shape) does not fit \(shape)")
      for d in shape.indices where input.shape[d] > 0 {
        let last = placement.starts[d] + (input.shape[d] - 1) * placement.steps[d]
        try ShapeError.expect(
          placement.steps[d] != 0 && placement.starts[d] >= 0 && placement.starts[d] < shape[d] && last >= 0 && last < shape[d], Self.kind,
          "\(input.shape[d]) elements from \(placement.starts[d]) in steps of \(placement.steps[d]) lie outside dimension \(d) of \(shape)")
      }
    }
    try ShapeError.expect(isDisjoint(inputs.map(\.shape)), Self.kind, "inputs of \(inputs.map(\.shape)) at \(placements) overlap in \(shape)")
    return TensorType(shape)
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    var y = ReferenceTensor(zeros: shape)
    let strides = y.strides
    for (x, placement) in zip(inputs, placements) {
      var index = [Int](repeating: 0, count: shape.count)
      for value in x.values {
        y.values[index.indices.reduce(0) { $0 + (placement.starts[$1] + index[$1] * placement.steps[$1]) * strides[$1] }] = value
        for d in shape.indices.reversed() {
          index[d] += 1
          if index[d] < x.shape[d] { break }
          index[d] = 0
        }
      }
    }
    return y
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { 0 }
  public func acceptsRowStride(input: Int) -> Bool { true }

  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool {
    !hasImages.contains(false) && placements.allSatisfy { $0.starts[0] == 0 && $0.steps[0] == 1 } && inputs.allSatisfy { $0.shape[0] == shape[0] }
  }

  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] {
    var gradients: [ValueID?] = []
    for (input, placement) in zip(context.inputs, placements) {
      let slice = Slice(starts: placement.starts, sizes: context.shape(input), steps: placement.steps)
      gradients.append(context.needs(input) ? try context.add(slice, [context.upstream]) : nil)
    }
    return gradients
  }

  public func lower(_ context: inout LoweringContext) throws {
    let y = context.output, to = context.strides(of: y)
    // Nothing is left of the zeros where the inputs fill the whole.
    if context.inputs.reduce(0, { $0 + context.type($1).elementCount }) < context.type(y).elementCount {
      context.fill(.value(y), elementCount: context.type(y).elementCount, value: 0)
    }
    for (input, placement) in zip(context.inputs, placements) {
      try context.copy(
        dims: context.shape(input), from: .value(input), fromStrides: context.strides(of: input), to: .value(y),
        toStrides: zip(to, placement.steps).map { $0 * $1 }, toOffset: zip(to, placement.starts).reduce(0) { $0 + $1.0 * $1.1 })
    }
  }

  /// Our own invariant: extents and placements were checked. An empty tensor overlaps nothing.
  private func isDisjoint(_ shapes: [[Int]]) -> Bool {
    for i in placements.indices where !shapes[i].contains(0) {
      for j in placements.indices.dropFirst(i + 1) where !shapes[j].contains(0) {
        let (a, b) = (placements[i], placements[j])
        let apart = shape.indices.contains { d in
          let interleaved = abs(a.steps[d]) == abs(b.steps[d]) && (a.starts[d] - b.starts[d]) % a.steps[d] != 0
          let lastA = a.starts[d] + (shapes[i][d] - 1) * a.steps[d], lastB = b.starts[d] + (shapes[j][d] - 1) * b.steps[d]
          return interleaved || max(a.starts[d], lastA) < min(b.starts[d], lastB) || max(b.starts[d], lastB) < min(a.starts[d], lastA)
        }
        if !apart { return false }
      }
    }
    return true
  }
}
