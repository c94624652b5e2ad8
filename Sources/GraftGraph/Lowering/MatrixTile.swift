import GraftDevice

/// How a work-group of a product on matrix units is cut: the tunables of `Kernels/gpu/matrix_tile.h`.
///
/// A work-group computes `tileM` × `tileN` sums, `tileK` terms between two barriers, in `warpsM` × `warpsN` warps; `stages`
/// blocks of both operands lie in local memory.
package struct MatrixTile: Sendable, Hashable {
  package var tileM, tileN, tileK: Int
  package var warpsM, warpsN: Int
  package var stages: Int
  /// Work-items of a warp.
  package var lanes: Int
  /// Bytes an element: 2, or 4 where float32 is multiplied as tf32.
  package var elementByteCount: Int
  /// Whether four warps multiply together, 64 rows of A by all columns of the block (`Kernels/gpu/matrix_group.h`).
  package private(set) var isByGroups = false

  package init(
    _ tileM: Int, _ tileN: Int, _ tileK: Int = 32, warps: (m: Int, n: Int) = (2, 2), stages: Int = 3, lanes: Int = 32, elementByteCount: Int = 2
  ) {
    (self.tileM, self.tileN, self.tileK, self.stages, self.lanes) = (tileM, tileN, tileK, stages, lanes)
    (warpsM, warpsN) = warps
    self.elementByteCount = elementByteCount
  }

  /// A block that groups of warps multiply, each warp 16 whole rows of it.
  package static func byGroups(_ tileM: Int, _ tileN: Int, stages: Int) -> MatrixTile {
    var tile = MatrixTile(tileM, tileN, warps: (tileM / 16, 1), stages: stages)
    tile.isByGroups = true
    return tile
  }

  /// The same bytes of float32: half the terms.
  package var inFloat32: MatrixTile {
    var tile = self
    (tile.tileK, tile.elementByteCount) = (tileK / 2, 4)
    return tile
  }

  package static func candidates(_ kind: MatrixUnit.Kind, _ format: ComputeFormat) -> [MatrixTile] {
    format.storage == .float32 ? candidates(kind).filter { !$0.isByGroups }.map(\.inFloat32) : candidates(kind)
  }

  /// Of every unit, in every format.
  package static let all: [MatrixTile] = MatrixUnit.Kind.allCases.flatMap { kind in
    candidates(kind) + (kind.formats.contains(.tf32) ? candidates(kind, .tf32) : [])
  }

  /// Large to small, for numbers of 16 bits; matrix_tile.h has what limits each.
  package static func candidates(_ kind: MatrixUnit.Kind) -> [MatrixTile] {
    switch kind {
    case .nvidia:
      [
        MatrixTile(128, 128, stages: 2), MatrixTile(128, 128, warps: (2, 4), stages: 2), MatrixTile(128, 64), MatrixTile(64, 128), MatrixTile(64, 64),
        MatrixTile(32, 64), MatrixTile(64, 32),
        MatrixTile(32, 32),
      ]
    case .hopper:
      // Results leave by way of the stages' memory, which has to hold a whole block of them.
      [
        .byGroups(128, 128, stages: 2), .byGroups(128, 64, stages: 3), .byGroups(64, 128, stages: 3), .byGroups(64, 64, stages: 4),
      ] + candidates(.nvidia)
    case .wmma:
      // A lane holds both halves of a fragment's row: warps of more than 32 × 32 have no registers left, and in work-groups of four
      // those of 32 × 32 do not always either. Copies go by way of registers, so two stages are enough.
      [
        MatrixTile(128, 64, warps: (4, 2), stages: 2), MatrixTile(64, 64, warps: (4, 2), stages: 2), MatrixTile(64, 32, stages: 2),
        MatrixTile(32, 64, stages: 2), MatrixTile(32, 32, warps: (2, 1), stages: 2),
      ]
    case .mfma:
      [
        MatrixTile(128, 128, stages: 2, lanes: 64), MatrixTile(128, 64, stages: 2, lanes: 64), MatrixTile(64, 128, stages: 2, lanes: 64),
        MatrixTile(64, 64, stages: 2, lanes: 64), MatrixTile(32, 32, warps: (2, 1), stages: 2, lanes: 64),
      ]
    case .turing:
      // Copies wait in registers beside the sums, of which 64 × 32 are enough then.
      [
        MatrixTile(128, 128, warps: (2, 4), stages: 2), MatrixTile(128, 64, stages: 2), MatrixTile(64, 64, stages: 2), MatrixTile(64, 32, stages: 2),
        MatrixTile(32, 64, stages: 2), MatrixTile(32, 32, stages: 2),
      ]
    case .xmx8:
      // A lane has 128 registers: warps of at most 16 × 32, whose sums take half of them.
      [
        MatrixTile(64, 128, warps: (4, 4), stages: 2, lanes: 8), MatrixTile(64, 64, warps: (4, 4), stages: 2, lanes: 8),
        MatrixTile(64, 64, warps: (4, 2), stages: 2, lanes: 8), MatrixTile(32, 32, stages: 2, lanes: 8),
      ]
    case .xmx16:
      // The same with twice the lanes: at most 32 × 32.
      [
        MatrixTile(128, 128, warps: (4, 4), stages: 2, lanes: 16), MatrixTile(128, 64, warps: (4, 2), stages: 2, lanes: 16),
        MatrixTile(64, 64, stages: 2, lanes: 16), MatrixTile(32, 32, stages: 2, lanes: 16),
      ]
    }
  }

  var warpM: Int { tileM / warpsM }
  var warpN: Int { tileN / warpsN }
  package var itemCount: Int { warpsM * warpsN * lanes }
  package var localByteCount: Int { elementByteCount * stages * (tileM + tileN) * tileK }
  /// Registers a work-item: its sums, two steps of fragments, and about 60 for everything else; of groups of warps, which have no
  /// fragments, what is added to the sums of each column when they leave.
  var registerCount: Int { warpM * warpN / lanes + (isByGroups ? warpN / 4 + 32 : (warpM + warpN) / 2 + 60) }
  /// Work-groups that a multiprocessor's 65,536 registers hold at once.
  var groupsAtOnce: Int { max(1, 65536 / (itemCount * min(255, registerCount))) }

  package func blockCount(m: Int, n: Int) -> Int { divideUp(m, tileM) * divideUp(n, tileN) }

  package func fits(_ traits: DeviceTraits, vectors: MatrixVectors) -> Bool {
    // An emulated multiplication hands both operands' registers around; in WMMA every number is in two lanes.
    let unit = traits.matrixUnit, copyCount = unit?.kind == .wmma ? 2 : 1
    let exchange = unit?.isEmulated == true && !isByGroups ? itemCount * (warpM + warpN) * 32 / lanes * copyCount : 0
    guard itemCount <= traits.maximumWorkGroupSize, localByteCount + exchange <= traits.localMemoryByteCount else { return false }
    guard !isByGroups || unit?.kind == .hopper else { return false }
    // Words that are read one by one across k take more registers than a matrix of them: beside 64 × 64 sums they are not there,
    // and beside half of those only with few copies.
    guard elementByteCount == 2 || warpM * warpN < 4096 || vectors.alongA && vectors.alongB else { return false }
    // What a lane of WMMA exchanges with its neighbour neither, beside 32 × 32.
    guard unit?.kind != .wmma || warpM * warpN < 1024 || vectors.alongA && vectors.alongB else { return false }
    // Columns across k lie in panels of 64.
    guard !isByGroups || vectors.alongB || tileN % 64 == 0 else { return false }
    let copyLimit = elementByteCount == 2 ? Int.max : 8
    let copies = [(tileM, vectors.a, vectors.alongA), (tileN, vectors.b, vectors.alongB)]
    return copies.allSatisfy { extent, width, alongK in
      let parts = (alongK ? tileK : extent) / width
      // Narrow copies are many; beside the sums of 64 × 64, where they come from takes more registers than there are.
      guard alongK || extent * tileK / (width * itemCount) <= copyLimit else { return false }
      return itemCount % parts == 0 && extent * tileK % (width * itemCount) == 0 && (width * elementByteCount == 16 || warpM * warpN < 4096)
    }
  }

  /// Whether a convolution's windows (which pixels a work-item copies from) find registers beside the sums: on NVIDIA in warps of
  /// 64 × 64 only with as few copies a work-item as eight warps have; on WMMA, whose fragments are large, not in those of 32 × 32.
  package func hasRoomForWindows(on kind: MatrixUnit.Kind) -> Bool {
    switch kind {
    case .nvidia, .hopper, .turing: warpM * warpN < 4096 || itemCount > 128
    case .wmma: warpM * warpN < 1024
    case .mfma, .xmx8, .xmx16: true
    }
  }

  /// The `-D` options of a program.
  package func options(_ vectors: MatrixVectors) -> [KernelReference.Option] {
    [
      .init("TILE_M", tileM), .init("TILE_N", tileN), .init("TILE_K", tileK), .init("WARPS_M", warpsM), .init("WARPS_N", warpsN),
      .init("STAGES", stages), .init("A_ALONG_K", vectors.alongA ? 1 : 0), .init("B_ALONG_K", vectors.alongB ? 1 : 0),
      .init("VECTOR_A", vectors.a), .init("VECTOR_B", vectors.b), .init("VECTOR_Y", vectors.y),
    ]
  }

  /// Cycles a multiprocessor takes for one group's block of k: its multiply-adds, its local memory or its share of the second
  /// cache, whichever is longest (the rates of matrix_tile.h).
  ///
  /// Where groups of warps can multiply, single warps are counted with the fifth of their rate that goes to fragments and barriers,
  /// and the second cache with 5,120 bytes a cycle for all 132 multiprocessors.
  func stepCost(on kind: MatrixUnit.Kind) -> Double {
    let isHopper = kind == .hopper, rowByteCount = elementByteCount * tileK
    let cache = Double(rowByteCount * (tileM + tileN)) / (isHopper ? 39 : 32)
    guard !isByGroups else { return max(groupArithmeticCost, groupLocalCost, cache) }
    let arithmetic = Double(tileM * tileN * tileK * elementByteCount) / (isHopper ? 2048 : 2560)
    let rowsRead = warpsM * warpsN * (warpM + warpN)
    let local = Double(rowByteCount * (rowsRead + tileM + tileN)) / 128
    return max(arithmetic, local, cache)
  }

  private var groupArithmeticCost: Double { Double(tileM * tileN * tileK * elementByteCount) / 4096 }
  /// Each group of warps reads its 64 rows and all columns.
  private var groupLocalCost: Double {
    let rowsRead = tileM / 64 * (64 + tileN)
    return Double(elementByteCount * tileK * (rowsRead + tileM + tileN)) / 128
  }

  /// The part of the unit's rate that a block of groups of warps can reach.
  static func shareByGroups(_ tileM: Int, _ tileN: Int) -> Double {
    let tile = byGroups(tileM, tileN, stages: 2)
    return tile.groupArithmeticCost / tile.stepCost(on: .hopper)
  }

  /// Cycles for the whole of `count` products of m × n × k with k cut into `splits`.
  func cost(m: Int, n: Int, k: Int, count: Int, splits: Int, units: Int, on kind: MatrixUnit.Kind) -> Double {
    let groups = divideUp(blockCount(m: m, n: n) * count * splits, units), steps = divideUp(divideUp(k, tileK), splits)
    // Before the first block and after the last the arithmetic waits, unless another group is there to run.
    let ends = 1500 + Double(2 * tileM * tileN) / 20
    let alone = Double(min(groups, groupsAtOnce))
    var cost = Double(groups) * (Double(steps) * stepCost(on: kind) * (itemCount == 128 && groups == 1 ? 1.5 : 1) + ends / alone)
    // Partial sums are written and read at memory's speed, and the second pass is a launch that waits for them one after the other.
    if splits > 1 { cost += 5000 + 100 * Double(splits) + Double(4 * (2 * splits + 1)) * Double(m) * Double(n) * Double(count) / Double(units) / 20 }
    return cost
  }
}

/// How many elements each copy of an operand and each store of the result takes, and which way the operands lie.
package struct MatrixVectors: Sendable, Hashable {
  package var a, b, y: Int
  package var alongA, alongB: Bool
  package init(a: Int, b: Int, y: Int, alongA: Bool = true, alongB: Bool = true) {
    (self.a, self.b, self.y, self.alongA, self.alongB) = (a, b, y, alongA, alongB)
  }
}

extension ProductKernel {
  /// The tile and the splits for `count` products on the device's matrix unit, or, if it `gathers`, convolutions; `nil` if it has
  /// none for the format, none of the tiles fits, or another kernel is forced.
  ///
  /// - Parameters:
  ///   - splits: how many sums k is cut into, where that is settled; `nil`: whatever is fastest.
  ///   - byGroups: whether groups of warps multiply, where that is settled: their sums may have other last bits than a warp's.
  ///   - fills: whether k may be cut into any number of sums, so that blocks fill the device, and not powers of two alone.
  package static func chooseMatrix(
    m: Int, n: Int, k: Int, count: Int, vectors: MatrixVectors, gathers: Bool = false, splits fixed: Int? = nil, byGroups: Bool? = nil,
    fills: Bool = false, format: ComputeFormat, traits: DeviceTraits
  ) -> (tile: MatrixTile, splits: Int)? {
    guard let unit = traits.matrixUnit, unit.formats.contains(format), k > 0 else { return nil }
    if let forced {
      guard case .matrix(let tile, let splits) = forced, tile.lanes == unit.kind.lanes,
        tile.elementByteCount == format.storage.byteCount, tile.fits(traits, vectors: vectors)
      else { return nil }
      return (tile, splits)
    }
    let units = traits.multiprocessors
    var best: (cost: Double, tile: MatrixTile, splits: Int)?
    for tile in MatrixTile.candidates(unit.kind, format)
    where tile.fits(traits, vectors: vectors) && (!gathers || tile.hasRoomForWindows(on: unit.kind)) && byGroups ?? tile.isByGroups == tile.isByGroups
    {
      let filling = fills ? fillingSplits(blocks: tile.blockCount(m: m, n: n) * count, units: units, k: k, tileK: tile.tileK) : []
      for splits in fixed.map({ [$0] }) ?? splitCounts(k: k, tileK: tile.tileK) + filling {
        let cost = tile.cost(m: m, n: n, k: k, count: count, splits: splits, units: units, on: unit.kind)
        if cost < best?.cost ?? .infinity { best = (cost, tile, splits) }
      }
    }
    return best.map { ($0.tile, $0.splits) }
  }

  /// Cuts of k with which blocks fill the device one to four times.
  static func fillingSplits(blocks: Int, units: Int, k: Int, tileK: Int) -> [Int] {
    (1...4).map { $0 * units / max(1, blocks) }.filter { mayFill($0, k: k, tileK: tileK) }
  }

  /// Whether k may be cut into so many sums, where any number will do: a share has some blocks of k.
  static func mayFill(_ splits: Int, k: Int, tileK: Int) -> Bool { splits > 1 && splits <= mostSplits && k / splits >= 8 * tileK }
}
