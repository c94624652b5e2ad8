import CKernels
import GraftDevice

/// How the CPU family's GEMM and convolution are cut into work-items, and how their weights are packed.
struct CPUTiling {
  let rowsPerItem: Int
  let panelsPerItem: Int
  let grid: (x: Int, y: Int)

  /// Rows of `m` in blocks whose inputs stay in a core's own cache (taken as 256 KiB) while the panels of weights pass by;
  /// panels split only as far as it takes to give every thread several work-items.
  ///
  /// `m` rows, `n` channels (a group), `rowElements` distinct input elements a row, roughly.
  init(m: Int, n: Int, rowElements: Int, items other: Int, context: LoweringContext) {
    let panel = context.traits.panelVectors * context.traits.vectorWidth
    let panels = max(1, divideUp(n, panel))
    // 24 is a multiple of every tile's rows (6, 8, 12).
    let wanted = 4 * context.workerCount
    var rows = min(max(262_144 / context.precision.byteCount / max(1, rowElements) / 24, 1), 10) * 24
    while rows > 24, divideUp(m, rows) * panels * other < wanted { rows -= 24 }
    let blocks = max(1, divideUp(m, rows))
    let splits = min(panels, divideUp(wanted, blocks * other))
    panelsPerItem = divideUp(panels, splits)
    rowsPerItem = rows
    grid = (blocks, divideUp(panels, panelsPerItem))
  }

  /// Rows of packed weights that `channels` inputs of a tap take: `TAP_ROWS` of Kernels/cpu/tile.h.
  static func packedRows(_ channels: Int, _ precision: Precision) -> Int { precision == .float32 ? channels : divideUp(channels, 2) * 2 }

  /// Output channels of a group as packed: whole vectors.
  static func packedChannels(_ channels: Int, _ traits: DeviceTraits) -> Int { divideUp(channels, traits.vectorWidth) * traits.vectorWidth }
}

/// How a product of matrices as they lie (Kernels/cpu/product.cl) is cut: each work-item computes some rows of one panel.
struct ProductTiling {
  let rowsPerItem: Int
  let grid: (x: Int, y: Int)

  /// The rows a work-item takes: those by which the slowest thread is done first.
  ///
  /// Bringing a panel of b into the cache costs every work-item about as much as eight rows do. Half a work-item is added to
  /// each thread's share, so that of two ways as fast the one with smaller work-items is taken: threads are disturbed.
  init(m: Int, n: Int, items other: Int, context: LoweringContext) {
    let panels = divideUp(n, context.traits.panelVectors * context.traits.vectorWidth)
    let workers = context.workerCount, fewest = max(1, divideUp(m, Self.mostRows))
    func cost(_ blocks: Int) -> Double {
      let rows = max(1, divideUp(m, blocks)), items = divideUp(m, rows) * panels * other
      return (Double(divideUp(items, workers)) + 0.5) * Double(rows + 8)
    }
    let candidates = fewest...max(fewest, min(m, fewest + 4 * workers))
    rowsPerItem = max(1, divideUp(m, candidates.min { cost($0) < cost($1) } ?? fewest))
    grid = (divideUp(m, rowsPerItem), panels)
  }

  /// Rows whose sums in y stay in a core's own cache with a block of b.
  private static let mostRows = 240
}

extension LoweringContext {
  /// Weights [O, C/groups, kh, kw] in the CPU family's panels, a group after the other; in the plan's precision unless another is
  /// given.
  mutating func packedConvolution(_ w: ValueID, groups: Int, precision: Precision? = nil) -> Operand {
    let precision = precision ?? self.precision
    let ws = shape(w), taps = ws[2] * ws[3], outputs = ws[0] / groups
    let count = groups * taps * CPUTiling.packedRows(ws[1], precision) * CPUTiling.packedChannels(outputs, traits)
    return derived(from: w, key: "conv \(groups) \(precision)", elementCount: count, precision: precision) { context, target in
      let pack = GraftPackParams(
        strideBatch: 0, batch: 1, groups: Int32(groups), oc: Int32(outputs), c: Int32(ws[1]), taps: Int32(taps), strideO: Int32(ws[1] * taps),
        strideC: Int32(taps), strideTap: 1, strideGroup: Int32(outputs * ws[1] * taps))
      context.packForCPU(context.parameter(w), into: target, pack, precision: precision)
    }
  }

  /// Depthwise weights [C, 1, kh, kw] as [taps, C rounded up to whole vectors] in float32.
  mutating func packedDepthwise(_ w: ValueID) -> Operand {
    let ws = shape(w), taps = ws[2] * ws[3]
    return derived(from: w, key: "depthwise", elementCount: taps * CPUTiling.packedChannels(ws[0], traits), precision: .float32) { context, target in
      let pack = GraftPackParams(
        strideBatch: 0, batch: 1, groups: 1, oc: Int32(ws[0]), c: 1, taps: Int32(taps), strideO: Int32(taps), strideC: Int32(taps), strideTap: 1,
        strideGroup: Int32(ws[0] * taps))
      context.launch("pack", "pack_depthwise", [context.parameter(w), target], pack, grid: Grid(taps), flops: 0)
    }
  }

  /// Packs weights, or a matrix, into the CPU family's panels, in the plan's precision unless another is given.
  mutating func packForCPU(_ source: Operand, into target: Operand, _ p: GraftPackParams, precision: Precision? = nil) {
    let precision = precision ?? self.precision
    let panels = divideUp(Int(p.oc), traits.panelVectors * traits.vectorWidth)
    let byteCount = Double(p.batch) * Double(p.groups) * Double(p.oc) * Double(p.c) * Double(p.taps) * Double(4 + precision.byteCount)
    launch("pack", "pack", [source, target], p, grid: Grid(panels, Int(p.groups), Int(p.batch)), flops: 0, bytes: byteCount, precision: precision)
  }
}
