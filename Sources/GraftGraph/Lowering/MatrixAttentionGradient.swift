import CKernels
import GraftDevice

/// How a work-group of a gradient of attention on matrix units is cut: the tunables of `Kernels/gpu/matrix_attention_gradient.h`.
///
/// A work-group computes `width` elements of the results of `warps` × `warpRows` rows of a head, which are queries or keys, a block
/// of `columns` of the other side after the other. Where sums begin and end is the same for every batch, and so are a row's bits.
package struct MatrixAttentionGradientTile: Sendable, Hashable {
  /// What a kernel computes.
  package enum Result: String, Sendable, CaseIterable {
    /// dq, and what the others need of each query.
    case queries
    case keys, values

    package var kernel: String { "matrix_attention_gradient_\(rawValue)" }
    /// Products that weights come of: scores, and slopes where the result needs them.
    fileprivate var sides: Int { self == .values ? 1 : 2 }
    /// Numbers of each query that the kernel reads.
    fileprivate var statistics: Int { self == .queries ? 0 : sides }
  }

  package let result: Result
  /// A head's size in whole steps of 16, and the elements of it that a work-group sums; the others are other work-groups', which
  /// compute the same scores.
  package let head, width: Int
  /// KEYS of the kernels: what is in local memory of the side that passes by.
  package let columns = 32
  package let warps, warpRows: Int
  /// Work-items of a warp.
  package let lanes: Int
  /// Blocks of columns in local memory.
  package let stages: Int
  /// Steps of 16 columns whose scores are in registers.
  package let stepsAtOnce: Int
  /// Whether rows stay in registers, or are read from local memory with every block.
  package let keepsRows: Bool

  /// Local memory that every GPU with a matrix unit has for a work-group.
  private static let leastLocalByteCount = 47 << 10

  /// - Returns: `nil` for heads that are too long.
  package init?(_ kind: MatrixUnit.Kind, _ result: Result, size: Int, hasMask: Bool) {
    guard (1...MatrixAttentionTile.largestHeadSize).contains(size) else { return nil }
    (self.result, head, lanes) = (result, divideUp(size, 16) * 16, kind.lanes)
    // What a lane has registers for: sums of some elements only on WMMA, whose fragments are large, and on XMX in sub-groups of 8. Rows of
    // both products in registers are too many beside a long head's sums.
    let most: Int, keeps: Bool
    switch kind {
    // Both sides of a long head for 64 rows are more local memory than NVIDIA's have.
    case .nvidia, .hopper, .turing:
      (most, warps, warpRows, stepsAtOnce, keeps) = (128, result.sides == 2 && head > 96 ? 2 : 4, 16, 2, result.sides * head <= 128)
    case .mfma: (most, warps, warpRows, stepsAtOnce, keeps) = (128, 4, 16, 2, result.sides * head <= 128)
    case .wmma: (most, warps, warpRows, stepsAtOnce, keeps) = (result == .keys && hasMask ? 48 : 64, 4, 16, 1, false)
    case .xmx8: (most, warps, warpRows, stepsAtOnce, keeps) = (32, 8, 8, 1, false)
    case .xmx16: (most, warps, warpRows, stepsAtOnce, keeps) = (128, 8, 8, 1, false)
    }
    (width, keepsRows) = (divideUp(head / 16, divideUp(head, most)) * 16, keeps)
    // A second block's copies run behind the program's back on one of the units.
    let (rows, block) = Self.byteCounts(kind, result, head: head, width: width, rows: warps * warpRows, columns: columns)
    stages = kind.isAmpere && rows + 2 * block <= Self.leastLocalByteCount ? 2 : 1
  }

  package var rows: Int { warps * warpRows }
  package var itemCount: Int { warps * lanes }
  /// Work-groups that compute the same scores.
  package var parts: Int { divideUp(head, width) }

  /// Of the work-group's rows and of a block of columns: slices of 32 elements along the head, and so or as columns across it.
  private static func byteCounts(
    _ kind: MatrixUnit.Kind, _ result: Result, head: Int, width: Int, rows: Int, columns: Int
  ) -> (rows: Int, block: Int) {
    let isTransposedByLoads = kind.isAmpere || kind == .turing, side = divideUp(head, 32) * 64
    let sharesAcross = isTransposedByLoads && result.sides == 2 && width == head
    let across = sharesAcross ? 0 : isTransposedByLoads ? divideUp(width, 32) * 64 * columns : divideUp(columns, 32) * 64 * width
    // AMD's lanes have sums of many columns, whose statistics lie in local memory; XMX's of many rows, whose deltas do.
    let isAMD = kind == .wmma || kind == .mfma, isIntel = kind == .xmx8 || kind == .xmx16
    return (
      result.sides * side * rows + (isIntel && result == .queries ? 4 * rows : 0),
      result.sides * side * columns + across + (isAMD ? 4 * result.statistics * columns : 0)
    )
  }

  package func localByteCount(_ kind: MatrixUnit.Kind) -> Int {
    let (rows, block) = Self.byteCounts(kind, result, head: head, width: width, rows: rows, columns: columns)
    return rows + stages * block
  }

  package func fits(_ traits: DeviceTraits, _ unit: MatrixUnit) -> Bool {
    itemCount <= traits.maximumWorkGroupSize
      && localByteCount(unit.kind) + unit.exchangeByteCount(warps: warps, warpRows: warpRows) <= traits.localMemoryByteCount
  }

  func groupCount(_ p: GraftAttentionParams) -> Int {
    divideUp(Int(result == .queries ? p.queries : p.keys), rows) * divideUp(Int(p.size), width) * Int(p.heads) * Int(p.batch)
  }

  /// The `-D` options of a program.
  ///
  /// - Parameters:
  ///   - vector: elements a copy of an operand takes.
  ///   - stored: elements a store of the result takes.
  package func options(vector: Int, stored: Int, hasMask: Bool) -> [KernelReference.Option] {
    [
      .init("HEAD", head), .init("WIDTH", width), .init("KEYS", columns), .init("WARPS", warps), .init("WARP_ROWS", warpRows),
      .init("STAGES", stages), .init("AT_ONCE", stepsAtOnce), .init("KEEPS_ROWS", keepsRows ? 1 : 0), .init("HAS_MASK", hasMask ? 1 : 0),
      .init("VECTOR", vector), .init("VECTOR_Y", stored),
    ]
  }
}

extension LoweringContext {
  /// Appends one of attention's gradients on the device's matrix unit, if it has one for the plan's format, of 16 bits, and the
  /// operands lie so that it can read them.
  ///
  /// - Parameters:
  ///   - reads: what is copied in the plan's format, and how it lies.
  ///   - writes: how the result lies.
  /// - Returns: whether it did.
  mutating func attentionGradientOnMatrixUnit(
    _ result: MatrixAttentionGradientTile.Result, _ buffers: [Operand?], reads: [(operand: Operand?, lies: GraftHeads)], writes: GraftHeads,
    _ p: GraftAttentionGradientParams, flops: Double
  ) -> Bool {
    let forward = p.forward, hasMask = forward.hasMask != 0
    guard let unit = traits.matrixUnit, unit.attentionGradientFormats.contains(format),
      let tile = MatrixAttentionGradientTile(unit.kind, result, size: Int(forward.size), hasMask: hasMask), tile.fits(traits, unit)
    else { return false }
    func extents(_ lies: GraftHeads) -> [Int] { [forward.size, lies.image, lies.head, lies.token, lies.offset].map(Int.init) }
    var vector = Int.max
    for (operand, lies) in reads {
      guard let operand, let width = copyWidth(extents(lies), operand) else { return false }
      vector = min(vector, width)
    }
    let options = tile.options(vector: vector, stored: storeWidth(extents(writes), [.value(output)]), hasMask: hasMask)
    launchGroups(
      result.kernel, result.kernel, buffers, p, count: tile.groupCount(forward), size: tile.itemCount, options: unit.options() + options, flops: flops
    )
    return true
  }
}
