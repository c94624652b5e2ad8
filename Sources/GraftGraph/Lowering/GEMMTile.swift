import GraftDevice

/// How a work-group of the GPU family's GEMM and convolution is cut: the tunables of `Kernels/gpu/tile.h`.
///
/// A work-group of `itemCount` work-items computes `tileM` × `tileN` sums, `perItemM` × `perItemN` each, `tileK` terms between
/// two barriers.
package struct GEMMTile: Sendable, Hashable {
  package var tileM, tileN, tileK: Int
  package var perItemM, perItemN: Int
  /// Floats after each row of local memory: spreads the stores of a transposed block over the banks.
  package var pad: Int
  /// Steps of k that are unrolled; registers run out beyond.
  package var unroll: Int

  package init(_ tileM: Int, _ tileN: Int, _ tileK: Int, perItem: (m: Int, n: Int), pad: Int = 4, unroll: Int = 2) {
    (self.tileM, self.tileN, self.tileK) = (tileM, tileN, tileK)
    (perItemM, perItemN) = perItem
    (self.pad, self.unroll) = (pad, unroll)
  }

  /// Large to small. Registers a work-item, as ptxas counts them with whole vectors: about 125, 100, and 60 to 95 beyond, so
  /// that two groups or more share a multiprocessor; none spills on NVIDIA (sm_70 to sm_120) or AMD (gfx90a, gfx1100).
  package static let candidates = [
    GEMMTile(128, 128, 8, perItem: (8, 8), unroll: 1), GEMMTile(128, 64, 16, perItem: (8, 4), unroll: 1), GEMMTile(64, 64, 16, perItem: (4, 4)),
    GEMMTile(64, 32, 16, perItem: (4, 4)), GEMMTile(32, 64, 16, perItem: (4, 4)), GEMMTile(64, 16, 16, perItem: (4, 4)),
    GEMMTile(32, 32, 16, perItem: (4, 2)),
  ]

  package var itemCount: Int { tileM / perItemM * (tileN / perItemN) }
  /// Two buffers of both operands.
  package var localByteCount: Int { 2 * tileK * (tileM + tileN + 2 * pad) * 4 }

  package func fits(_ traits: DeviceTraits) -> Bool {
    itemCount <= traits.maximumWorkGroupSize && localByteCount <= traits.localMemoryByteCount
  }

  /// Whether a work-item has few enough loads of each operand under way to keep what they bring, and where from, in registers.
  package func suits(_ vectors: GEMMVectors) -> Bool {
    tileM * tileK <= 8 * itemCount * vectors.a && tileN * tileK <= 8 * itemCount * vectors.b
  }

  package func blockCount(m: Int, n: Int) -> Int { divideUp(m, tileM) * divideUp(n, tileN) }

  /// The `-D` options of a program: these tunables, and how wide the loads of A and B and the stores of y are.
  package func options(vectors: GEMMVectors) -> [KernelReference.Option] {
    [
      .init("TILE_M", tileM), .init("TILE_N", tileN), .init("TILE_K", tileK), .init("ITEM_M", perItemM), .init("ITEM_N", perItemN),
      .init("PAD", pad), .init("UNROLL", unroll), .init("VECTOR_A", vectors.a), .init("VECTOR_B", vectors.b),
      .init("VECTOR_Y", perItemN % 4 == 0 ? vectors.y : 1),
    ]
  }

  /// Time of one step of k for one work-group alone on a multiprocessor, in multiply-adds: the multiply-adds themselves, the
  /// reads of local memory they need, and the block's share of global memory.
  func stepCost(vectors: GEMMVectors) -> Double {
    let arithmetic = Double(tileM * tileN) * (1 + 2 * (1 / Double(perItemM) + 1 / Double(perItemN)))
    // A load of one float takes as long to issue as one of four.
    let loads = Double(tileM) * (vectors.a == 4 ? 1 : 2) + Double(tileN) * (vectors.b == 4 ? 1 : 2)
    return arithmetic + 8 * loads
  }

  /// What a launch costs beyond its work, in multiply-adds of a multiprocessor.
  static let launchCost = 500_000.0

  /// Time of `count` products of m × n × k with k cut into `splits`, in multiply-adds of a multiprocessor.
  func cost(m: Int, n: Int, k: Int, count: Int, splits: Int, vectors: GEMMVectors, units: Int) -> Double {
    let blocks = blockCount(m: m, n: n) * count
    let steps = divideUp(divideUp(k, tileK), splits) * tileK
    let cost = ProductKernel.waves(blocks * splits, units: units) * Double(steps) * stepCost(vectors: vectors)
    guard splits > 1 else { return cost }
    // A float moved costs a multiprocessor about 32 multiply-adds; and the second pass is a launch.
    return cost + GEMMTile.launchCost + 32 * Double(2 * splits + 1) * Double(m) * Double(n) * Double(count) / Double(units)
  }
}

/// How many floats each load of an operand and each store of the result takes: 4 where alignment and extents allow, else 1.
package struct GEMMVectors: Sendable, Hashable {
  package var a, b, y: Int
  package init(a: Int, b: Int, y: Int) { (self.a, self.b, self.y) = (a, b, y) }
}

/// A kernel for a product or a convolution, and into how many sums k is cut.
package enum ProductKernel: Sendable, Hashable {
  /// One result a work-item: the definition.
  case naive
  case tiled(GEMMTile, splits: Int)
  /// Few rows or few columns (at most 8).
  case skinny(splits: Int)
  /// On the device's matrix unit, in the shorter formats.
  case matrix(MatrixTile, splits: Int)
  /// A 3×3 convolution by Winograd's transforms with tiles of so many outputs squared, and the products' own tile.
  case winograd(outputs: Int, GEMMTile)

  /// What to run instead of what `choose` would: for tests, and for a tuner.
  @TaskLocal package static var forced: ProductKernel?

  /// Results a skinny product has at most along its short side.
  static let narrowLimit = 8

  /// The kernel for `count` products (matrices of a batch, or groups) of m × n × k on this device.
  ///
  /// Every tile and power of two of splits is judged by a model: multiprocessors take blocks in waves, a wave of one block
  /// each hides little latency, and a second pass over the partial sums costs memory traffic and a launch.
  ///
  /// - Parameter splits: how many sums k is cut into, where that is settled; `nil`: whatever is fastest.
  package static func choose(
    m: Int, n: Int, k: Int, count: Int, vectors: GEMMVectors, mayBeSkinny: Bool, splits fixed: Int? = nil, traits: DeviceTraits
  ) -> ProductKernel {
    if let forced {
      // Where the matrix unit cannot read the operands, the definition is run: a test that forces it sees to it that it can.
      // Nor can what is no 3×3 convolution be transformed.
      if case .matrix = forced { return .naive }
      if case .winograd = forced { return .naive }
      if case .tiled(let tile, _) = forced, !tile.suits(vectors) { return .naive }
      return forced
    }
    let units = traits.multiprocessors
    if mayBeSkinny, isSkinny(m: m, n: n, k: k, traits) {
      let groups = divideUp(max(m, n), 8) * count
      return .skinny(splits: fixed ?? min(divideUp(4 * units, groups), max(1, k / 512), 32))
    }
    var best: (cost: Double, kernel: ProductKernel) = (.infinity, .naive)
    for tile in GEMMTile.candidates where tile.fits(traits) && tile.suits(vectors) {
      for splits in fixed.map({ [$0] }) ?? splitCounts(k: k, tileK: tile.tileK) {
        let cost = tile.cost(m: m, n: n, k: k, count: count, splits: splits, vectors: vectors, units: units)
        if cost < best.cost { best = (cost, .tiled(tile, splits: splits)) }
      }
    }
    return best.kernel
  }

  /// The time of so many blocks on so many multiprocessors, where one block each in turn takes 1: a wave of one block each hides
  /// little latency.
  static func waves(_ blocks: Int, units: Int) -> Double {
    let waves = divideUp(blocks, units)
    return Double(waves) * (waves == 1 ? 1.5 : 1)
  }

  /// Whether reading the longer operand once is all that matters, and the device runs the kernel that does.
  static func isSkinny(m: Int, n: Int, k: Int, _ traits: DeviceTraits) -> Bool {
    let group = groupSize(traits)
    return min(m, n) <= narrowLimit && k >= 32 && group >= 32 && narrowLimit * group * 4 <= traits.localMemoryByteCount
  }

  /// Powers of two, as long as a share has some blocks of k: many for gradients with respect to few weights, whose k is all pixels of
  /// a batch.
  static func splitCounts(k: Int, tileK: Int) -> [Int] { [1] + [2, 4, 8, 16, 32, 64, mostSplits].filter { k / $0 >= 8 * tileK } }
  static let mostSplits = 128

  /// Work-items of a group of kernels whose groups may have any size: 256, or the largest power of two below that the device runs.
  static func groupSize(_ traits: DeviceTraits) -> Int {
    var size = 256
    while size > 1, size > traits.maximumWorkGroupSize { size /= 2 }
    return size
  }
}
