import CKernels
import GraftDevice

/// How much of a chip's limits a launch can reach: a model of what kernels do besides their arithmetic, and of chips that a
/// launch does not fill.
struct LaunchModel {
  let chip: Chip

  /// Of the bandwidth that a data sheet promises.
  static let memoryEfficiency = 0.85
  /// Of the rate at which multiply-adds are issued, after what the instructions around them take.
  static let arithmeticEfficiency = 0.9
  /// Work-items a multiprocessor needs to have enough requests to memory under way, one of 16 bytes each.
  static let itemsToFill = 512.0

  /// Seconds without the launch itself, for arithmetic and for memory; each at least what the chip's limits allow.
  func seconds(_ launch: LaunchOutline) -> (arithmetic: Double, memory: Double) {
    let rate = 1e9 * instructionRate(launch), items = launch.kernel.family == .gpu ? launch.grid.globalSize.x : .max
    guard let tile = TileUse(launch) else {
      return (launch.flops / (rate * Self.arithmeticEfficiency * filled(items)), memorySeconds(launch.bytes, items: items))
    }
    let memory = memorySeconds(launch.bytes, items: max(items, tile.blocks * tile.requestCount))
    return (max(arithmeticSeconds(tile, rate: rate), launch.flops / rate), memory)
  }

  /// The share of the memory's speed that so many work-items reach.
  private func filled(_ items: Int) -> Double { max(min(1, Double(items) / (Self.itemsToFill * Double(chip.multiprocessors))), 1e-3) }

  /// Seconds it takes so many work-items to move so many bytes.
  func memorySeconds(_ byteCount: Double, items: Int) -> Double {
    byteCount / (1e9 * chip.gigabytesPerSecond(byteCount: byteCount) * Self.memoryEfficiency * filled(items))
  }

  /// Blocks run in waves, one or more a multiprocessor; what lies outside the result is computed too.
  func arithmeticSeconds(_ tile: TileUse, rate: Double) -> Double {
    let waves = ProductKernel.waves(tile.blocks, units: chip.multiprocessors)
    let products = tile.executedFlops / (rate * tile.share), beside = tile.besideFlops / (1e9 * chip.gigaflopsPerSecond)
    return waves * (products + beside) / Double(tile.blocks) * Double(chip.multiprocessors) / Self.arithmeticEfficiency
  }

  /// What the chip can do at most.
  func peakRate(_ launch: LaunchOutline) -> Double {
    guard launch.kernel.options.contains(where: { $0.name == "MATRIX_UNIT" }) else { return chip.gigaflopsPerSecond }
    return launch.kernel.precision == .float32 ? chip.tf32GigaflopsPerSecond : chip.matrixGigaflopsPerSecond
  }

  /// What the launch's instructions can: single warps reach 62 % of the rate of those groups of them have (Luo et al., "Benchmarking and
  /// Dissecting the Nvidia Hopper GPU Architecture", 2024, table of mma and wgmma).
  private func instructionRate(_ launch: LaunchOutline) -> Double {
    let isBySingleWarps = chip.traits.matrixUnit?.kind == .hopper && launch.kernel.options.contains(MatrixUnit.Kind.nvidia.option())
    return (isBySingleWarps ? 0.62 : 1) * peakRate(launch)
  }
}

/// What a launch of the GPU family's tiled products, convolutions and attention executes.
struct TileUse {
  let blocks: Int
  /// With rows, columns and steps of k that lie beyond the result.
  let executedFlops: Double
  /// Requests to memory of 16 bytes that a block has under way; 0 where each work-item has its own.
  var requestCount = 0
  /// The multiply-adds among the instructions of the inner loop: a work-item's sums to its loads from local memory.
  let share: Double
  /// What is done on the plain units in between, in operations of their multiply-adds.
  private(set) var besideFlops = 0.0

  /// The softmax of one score beside the products on a matrix unit: an exponential takes as long as eight multiply-adds do, and five
  /// more instructions scale it, compare, subtract, add and round.
  static let softmaxFlops = 26.0
  /// In gradients a difference and a product more.
  static let slopeFlops = 4.0

  init(_ tile: GEMMTile, blocks: Int, flops: Double) {
    (self.blocks, executedFlops, share) = (blocks, flops, Self.share(tile.perItemM, tile.perItemN))
  }

  private static func share(_ itemM: Int, _ itemN: Int) -> Double {
    let (sums, loads) = (Double(itemM * itemN), Double(itemM + itemN) / 4)
    return sums / (sums + loads + 1)
  }

  /// `nil` for other kernels.
  init?(_ launch: LaunchOutline) {
    let options = Dictionary(launch.kernel.options.map { ($0.name, $0.value) }) { a, _ in a }
    if let rowLanes = options["ROW_LANES"], let rows = Self.attentionRows(launch), rows > 0, launch.flops > 0 {
      // Rows beyond the last are computed too; 64 multiply-adds to 8 loads of four numbers.
      blocks = launch.grid.globalSize.x / max(1, launch.grid.workGroupSize.x)
      executedFlops = launch.flops * Double(divideUp(rows, 4 * rowLanes) * 4 * rowLanes) / Double(rows)
      share = 0.8
      return
    }
    if let warpRows = options["WARP_ROWS"], let width = options["WIDTH"] {
      guard let use = AttentionUse(launch), use.p.queries > 0, use.p.keys > 0, use.p.size > 0 else { return nil }
      blocks = launch.grid.globalSize.x / max(1, launch.grid.workGroupSize.x)
      // Whole fragments of rows and two steps of columns, whichever lie beyond the last; each part of a head has scores of its own.
      let p = use.p, rows = divideUp(use.rows, warpRows) * warpRows, columns = divideUp(use.columns, 32) * 32, parts = divideUp(Int(p.size), width)
      let scores = Double(rows) * Double(columns) * Double(parts) * Double(p.heads) * Double(p.batch)
      executedFlops = scores * 2 * Double(use.products * divideUp(Int(p.size), 16) * 16 + width)
      besideFlops = scores * (Self.softmaxFlops + (use.products > 1 ? Self.slopeFlops : 0))
      share = 0.8
      return
    }
    guard let tileM = options["TILE_M"], let tileN = options["TILE_N"], let tileK = options["TILE_K"], let product = Self.product(launch) else {
      return nil
    }
    blocks = launch.grid.globalSize.x / max(1, launch.grid.workGroupSize.x)
    guard blocks > 0, launch.flops > 0 else { return nil }
    // Each block has its split's share of k, in whole steps.
    let whole = divideUp(product.m, tileM) * divideUp(product.n, tileN) * product.count
    let splits = max(1, Double(blocks) / Double(max(1, whole)))
    let steps = (Double(product.k) / splits / Double(tileK)).rounded(.up)
    executedFlops = max(launch.flops, 2 * Double(blocks) * Double(tileM * tileN) * steps * Double(tileK))
    if let itemM = options["ITEM_M"], let itemN = options["ITEM_N"] {
      share = Self.share(itemM, itemN)
    } else if launch.kernel.options.contains(MatrixUnit.Kind.hopper.option(byGroups: true)) {
      share = MatrixTile.shareByGroups(tileM, tileN)
    } else {
      share = 0.8
    }
    // Of all stages but the one that is multiplied.
    if let stages = options["STAGES"] { requestCount = (stages - 1) * (tileM + tileN) * tileK * launch.kernel.precision.byteCount / 16 }
  }

  /// The product that a launch computes, and how many of them (matrices of a batch, or groups).
  private static func product(_ launch: LaunchOutline) -> (m: Int, n: Int, k: Int, count: Int)? {
    if let p: GraftGemmParams = launch.loadParameters() { return (Int(p.m), Int(p.n), Int(p.k), Int(p.batch)) }
    guard let p: GraftConvParams = launch.loadParameters(), p.groups > 0 else { return nil }
    let pixels = Int(p.n) * Int(p.oh) * Int(p.ow), outputs = Int(p.oc / p.groups), window = Int(p.kh) * Int(p.kw) * Int(p.c / p.groups)
    switch launch.kernel.function {
    case "conv_weights", "matrix_weights": return (outputs, window, pixels, Int(p.groups))
    default: return (pixels, outputs, window, Int(p.groups))
    }
  }

  /// The rows that an attention's work-groups share out.
  private static func attentionRows(_ launch: LaunchOutline) -> Int? { AttentionUse(launch)?.rows }
}

/// What work-groups of an attention, or of one of its gradients, share out, and what passes by.
private struct AttentionUse {
  let p: GraftAttentionParams
  let rows, columns: Int
  /// Products along the head, scores and slopes, beside the one across it.
  let products: Int

  init?(_ launch: LaunchOutline) {
    let function = launch.kernel.function, gradient: GraftAttentionGradientParams? = launch.loadParameters()
    guard let p = gradient?.forward ?? launch.loadParameters() else { return nil }
    let rowsAreKeys = gradient != nil && !function.hasSuffix("_queries")
    (self.p, rows, columns) = (p, Int(rowsAreKeys ? p.keys : p.queries), Int(rowsAreKeys ? p.queries : p.keys))
    products = gradient == nil || function.hasSuffix("_values") ? 1 : 2
  }
}

extension LaunchOutline {
  /// The parameters, if they are of that type: structures of different operations have different sizes.
  func loadParameters<Parameters: BitwiseCopyable>() -> Parameters? {
    guard parameters.count == MemoryLayout<Parameters>.size else { return nil }
    return parameters.withUnsafeBytes { $0.loadUnaligned(as: Parameters.self) }
  }
}
