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

extension LoweringContext {
  /// Packs weights, or a matrix, into the CPU family's panels.
  mutating func packForCPU(_ source: Operand, into target: Operand, _ p: GraftPackParams) {
    let panels = divideUp(Int(p.oc), traits.panelVectors * traits.vectorWidth)
    let byteCount = Double(p.batch) * Double(p.groups) * Double(p.oc) * Double(p.c) * Double(p.taps) * Double(4 + precision.byteCount)
    launch("pack", "pack", [source, target], p, grid: Grid(panels, Int(p.groups), Int(p.batch)), flops: 0, bytes: byteCount)
  }
}
