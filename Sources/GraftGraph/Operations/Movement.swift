import CKernels
import GraftDevice

// The operations that move elements and compute nothing: reshape, transpose, slice, pad, concatenate, expand.

extension LoweringContext {
  /// Appends a strided copy; dimensions of extent 1 and neighbours without a gap are merged first.
  mutating func copy(
    dims: [Int], from source: Operand, fromStrides: [Int], to target: Operand, toStrides: [Int], fromOffset: Int = 0, toOffset: Int = 0
  ) throws {
    guard !dims.contains(0) else { return }
    var (extents, strides) = collapse(dims, [fromStrides, toStrides])
    let elements = Double(extents.reduce(1, *))
    // Where the source is contiguous in one dimension and the target in another, those two are a transposition.
    if extents.count >= 2, extents.count <= 3, strides[0].last == 1, strides[1][extents.count - 2] == 1 {
      if extents.count == 2 {
        extents.insert(1, at: 0)
        strides[0].insert(0, at: 0)
        strides[1].insert(0, at: 0)
      }
      let p = copyParameters(dims: extents, from: strides[0], to: strides[1], offsetX: fromOffset, offsetY: toOffset)
      switch traits.family {
      case .cpu:
        launchMove("transpose", from: source, to: target, p, grid: Grid(divideUp(extents[1], 16), extents[0]), elementCount: Int(elements))
        return
      case .gpu:
        // Thinner than a quarter of a block, a plain copy wastes less.
        if extents[1] >= 8, extents[2] >= 8, groupSize >= 32 {
          launchGroups(
            "copy", "transpose", [source, target], p, count: extents[0] * divideUp(extents[1], 32) * divideUp(extents[2], 32), size: groupSize,
            options: [.init("GROUP", groupSize)], flops: 0, bytes: 8 * elements)
          return
        }
      }
    }
    guard extents.count <= Int(GRAFT_MAX_RANK) else { throw LoweringError(self, "moves more than \(GRAFT_MAX_RANK) dimensions") }
    let p = copyParameters(dims: extents, from: strides[0], to: strides[1], offsetX: fromOffset, offsetY: toOffset)
    switch traits.family {
    case .cpu:
      var cut = p
      if extents.count == 1, extents[0] % 1024 == 0, extents[0] > 1024 {
        cut.rank = 2
        (cut.dims.0, cut.dims.1) = (Int32(extents[0] / 1024), 1024)
        (cut.stridesX.0, cut.stridesX.1, cut.stridesY.0, cut.stridesY.1) = (p.stridesX.0 * 1024, p.stridesX.0, p.stridesY.0 * 1024, p.stridesY.0)
      }
      let rows = cut.rank == p.rank ? extents.dropLast().reduce(1, *) : Int(cut.dims.0)
      launchMove("copy", from: source, to: target, cut, grid: Grid(divideUp(rows, 16)), elementCount: Int(elements))
    case .gpu:
      let inRuns = strides.allSatisfy { $0.last == 1 }
      let steps = strides.flatMap { $0.dropLast() } + [extents[extents.count - 1], fromOffset, toOffset]
      let width = inRuns ? vector(steps, [source, target]) : 1
      launchItems(
        "copy", "copy", [source, target], p, count: extents.reduce(1, *) / width,
        options: LoweringContext.vectorOption(width) + [.init("RANK", extents.count)], flops: 0, bytes: 8 * elements)
    }
  }

  /// Strides of a value as it lies in memory.
  func strides(of id: ValueID) -> [Int] {
    broadcastStrides(shape(id), to: shape(id), rowStride: rowStride(id)).enumerated().map { $1 == 0 && shape(id)[$0] == 1 ? 1 : $1 }
  }
}

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
    let strides = inputs[0].strides
    return ReferenceTensor(permutation.map { inputs[0].shape[$0] }) { i in
      inputs[0].values[zip(i, permutation).reduce(0) { $0 + $1.0 * strides[$1.1] }]
    }
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
    ReferenceTensor(sizes) { i in inputs[0][i.indices.map { starts[$0] + i[$0] * steps[$0] }] }
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
    var position = 0
    for input in context.inputs {
      let extent = context.shape(input)[axis]
      defer { position += extent }
      // Already in place: the planner made it a slice of the result.
      if context.sharesMemory(input, context.output) { continue }
      try context.copy(
        dims: context.shape(input), from: .value(input), fromStrides: context.strides(of: input), to: .value(context.output), toStrides: to,
        toOffset: position * to[axis])
    }
  }
}

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
    let strides = broadcastStrides(inputs[0].shape, to: shape)
    return ReferenceTensor(shape) { i in inputs[0].values[zip(i, strides).reduce(0) { $0 + $1.0 * $1.1 }] }
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
