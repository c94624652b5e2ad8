import CKernels
import GraftDevice

// What the operations that move elements and compute nothing (reshape, transpose, slice, pad, concat, expand) share.

extension LoweringContext {
  /// Appends the CPU family's transposition (Kernels/cpu/copy.cl) of `dims[0]` matrices of `dims[1]` rows and `dims[2]` columns.
  mutating func launchTransposition(from source: Operand, to target: Operand, _ p: GraftCopyParams, elementCount: Int) {
    let extents = [p.dims.0, p.dims.1, p.dims.2].map { Int($0) }
    launchMove(
      "transpose", from: source, to: target, p, grid: Grid(divideUp(extents[2], 256), divideUp(extents[1], 64), extents[0]),
      elementCount: elementCount)
  }

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
        launchTransposition(from: source, to: target, p, elementCount: Int(elements))
        return
      case .gpu:
        // Thinner than a quarter of a block, a plain copy wastes less.
        if extents[1] >= 8, extents[2] >= 8, groupSize >= 32 {
          let (variant, bytes, format) = move("transpose", from: source, to: target, elementCount: Int(elements))
          launchGroups(
            "copy", variant, [source, target], p, count: extents[0] * divideUp(extents[1], 32) * divideUp(extents[2], 32), size: groupSize,
            options: [.init("GROUP", groupSize)], flops: 0, bytes: bytes, precision: format)
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
      let (variant, bytes, format) = move("copy", from: source, to: target, elementCount: Int(elements))
      launchItems(
        "copy", variant, [source, target], p, count: extents.reduce(1, *) / width,
        options: LoweringContext.vectorOption(width) + [.init("RANK", extents.count)], flops: 0, bytes: bytes, precision: format)
    }
  }

  /// Strides of a value as it lies in memory.
  func strides(of id: ValueID) -> [Int] {
    broadcastStrides(shape(id), to: shape(id), rowStride: rowStride(id)).enumerated().map { $1 == 0 && shape(id)[$0] == 1 ? 1 : $1 }
  }
}
