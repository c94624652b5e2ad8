import CKernels
import GraftDevice

/// How a work-group of attention on matrix units is cut: the tunables of `Kernels/gpu/matrix_attention.h`.
///
/// A work-group computes `width` elements of the results of `warps` × `warpRows` queries of a head, a block of `keys` keys after the
/// other. What decides where sums begin and end, `keys`, follows from the unit and the head's size alone: a row's bits depend neither
/// on the other rows nor on the batch.
package struct MatrixAttentionTile: Sendable, Hashable {
  /// A head's size in whole steps of 16, and the elements of it that a work-group sums; the others are other work-groups', which
  /// compute the same scores.
  package let head, width: Int
  package let keys: Int
  package let warps, warpRows: Int
  /// Work-items of a warp.
  package let lanes: Int
  /// Whether queries stay in registers, or are read from local memory with every block.
  package let keepsQueries: Bool

  /// The largest head that has kernels on matrix units.
  package static let largestHeadSize = 128

  /// - Returns: `nil` for heads that are too long.
  package init?(_ kind: MatrixUnit.Kind, size: Int) {
    guard (1...Self.largestHeadSize).contains(size) else { return nil }
    head = divideUp(size, 16) * 16
    lanes = kind.lanes
    // What a lane has registers for. On WMMA, whose fragments are large, and on XMX the sums of some elements.
    let most: Int
    switch kind {
    // Two blocks of 64 keys of a long head are more local memory than NVIDIA's have.
    case .nvidia, .hopper, .turing: (most, keys, warps, warpRows, keepsQueries) = (128, head > 96 ? 32 : 64, 4, 16, true)
    case .mfma: (most, keys, warps, warpRows, keepsQueries) = (128, 64, 4, 16, true)
    case .wmma: (most, keys, warps, warpRows, keepsQueries) = (64, 32, 4, 16, false)
    case .xmx8: (most, keys, warps, warpRows, keepsQueries) = (32, 32, 8, 8, false)
    case .xmx16: (most, keys, warps, warpRows, keepsQueries) = (128, 32, 8, 8, false)
    }
    width = divideUp(head / 16, divideUp(head, most)) * 16
  }

  package var rows: Int { warps * warpRows }
  package var itemCount: Int { warps * lanes }
  /// Work-groups that compute the same scores.
  package var parts: Int { divideUp(head, width) }

  /// Rows of queries and keys in slices of 32 elements; the values so or as columns, whichever the unit reads.
  package func localByteCount(_ kind: MatrixUnit.Kind) -> Int {
    let isTransposedByLoads = kind.isAmpere || kind == .turing
    let values = isTransposedByLoads ? divideUp(width, 32) * 32 * keys : divideUp(keys, 32) * 32 * width
    return 2 * (divideUp(head, 32) * 32 * (rows + keys) + values)
  }

  package func fits(_ traits: DeviceTraits, _ unit: MatrixUnit, hasMask: Bool) -> Bool {
    // Where a mask's numbers come from takes more registers than WMMA's large fragments leave, but for short heads.
    guard unit.kind != .wmma || !hasMask || head <= 32 else { return false }
    return itemCount <= traits.maximumWorkGroupSize
      && localByteCount(unit.kind) + unit.exchangeByteCount(warps: warps, warpRows: warpRows) <= traits.localMemoryByteCount
  }

  func groupCount(_ p: GraftAttentionParams) -> Int {
    divideUp(Int(p.queries), rows) * divideUp(Int(p.size), width) * Int(p.heads) * Int(p.batch)
  }

  /// The `-D` options of a program.
  ///
  /// - Parameters:
  ///   - vector: elements a copy of q, k and v takes.
  ///   - stored: elements a store of the result takes.
  package func options(vector: Int, stored: Int, hasMask: Bool) -> [KernelReference.Option] {
    [
      .init("HEAD", head), .init("WIDTH", width), .init("KEYS", keys), .init("WARPS", warps), .init("WARP_ROWS", warpRows),
      .init("KEEPS_QUERIES", keepsQueries ? 1 : 0), .init("HAS_MASK", hasMask ? 1 : 0), .init("VECTOR", vector), .init("VECTOR_Y", stored),
    ]
  }
}

extension MatrixUnit {
  /// What an emulated multiplication hands around: warps' rows and 16 columns of a step; in WMMA every number is in two lanes.
  func exchangeByteCount(warps: Int, warpRows: Int) -> Int { isEmulated ? warps * (warpRows + 16) * 32 * (kind == .wmma ? 2 : 1) : 0 }
}

extension LoweringContext {
  /// Appends attention on the device's matrix unit, if it has one for the plan's format, of 16 bits, and the operands lie so that it
  /// can read them.
  ///
  /// - Returns: whether it did.
  mutating func attentionOnMatrixUnit(_ operands: [Operand?], mask: Operand?, _ p: GraftAttentionParams) -> Bool {
    guard let unit = traits.matrixUnit, unit.attentionFormats.contains(format),
      let tile = MatrixAttentionTile(unit.kind, size: Int(p.size)), tile.fits(traits, unit, hasMask: p.hasMask != 0)
    else { return false }
    func extents(_ lies: GraftHeads) -> [Int] { [p.size, lies.image, lies.head, lies.token, lies.offset].map(Int.init) }
    var vector = Int.max
    for (operand, lies) in zip(operands, [p.q, p.k, p.v]) {
      guard let operand, let width = copyWidth(extents(lies), operand) else { return false }
      vector = min(vector, width)
    }
    launchGroups(
      "matrix_attention", "matrix_attention", operands + [mask, .value(output)], p, count: tile.groupCount(p), size: tile.itemCount,
      options: unit.options() + tile.options(vector: vector, stored: storeWidth(extents(p.y), [.value(output)]), hasMask: p.hasMask != 0))
    return true
  }
}
