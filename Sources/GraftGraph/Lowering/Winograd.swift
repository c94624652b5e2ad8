import CKernels
import GraftDevice

/// When a 3×3 convolution is worth transforming, and into which tiles (Kernels/cpu/winograd.cl).
///
/// The choice depends on one image alone, never on the batch: a row of features must not change with its neighbours.
package struct Winograd {
  /// Outputs of a tile in each direction: 4 or 2.
  package let outputs: Int
  var inputs: Int { outputs + 2 }
  var positions: Int { inputs * inputs }

  /// The tile with the least estimated time, or `nil` if the direct way is faster.
  ///
  /// Times are in multiply-adds a core could have done meanwhile: what a transform costs a tile and channel is mostly its
  /// traffic with the cache.
  /// `directRate`: products the direct way makes while a float32 one takes place; the transformed ones are float32 in any format.
  package static func choice(_ conv: Conv2D, weights: [Int], output: [Int], directRate: Double = 1) -> Winograd? {
    guard weights[2] == 3, weights[3] == 3, conv.stride == Pair(1), conv.dilation == Pair(1), conv.groups == 1 else { return nil }
    let (c, oc, oh, ow) = (Double(weights[1]), Double(weights[0]), output[1], output[2])
    var best: (time: Double, choice: Winograd?) = (9 * c * oc * Double(oh * ow) / directRate, nil)
    for candidate in [Winograd(outputs: 4), Winograd(outputs: 2)] {
      let tiles = Double(divideUp(oh, candidate.outputs) * divideUp(ow, candidate.outputs)), positions = Double(candidate.positions)
      // Its products have shorter sums than the direct ones and no cache to themselves, and its weights are larger.
      let time = 1.1 * tiles * (positions * c * oc * 1.1 + 14 * positions * (c + oc))
      if time < best.time { best = (time, candidate) }
    }
    return best.choice
  }

  /// Bytes of the weights when transformed.
  func weightByteCount(_ weights: [Int]) -> Int { 4 * positions * weights[0] * weights[1] }

  /// Tiles whose products are computed at a time: as many as keep both sides of the products in the cache, and enough that
  /// reading the weights is little.
  func tilesAtOnce(_ weights: [Int], _ traits: DeviceTraits) -> Int {
    max(Winograd.leastTiles, Winograd.cacheByteCount(traits) / 3 / (4 * positions * (weights[0] + weights[1])) / 24 * 24)
  }

  /// Whether weights are transformed once, when the plan is made, rather than in every run.
  ///
  /// Transformed ones are 4 times as large (F(4 × 4)). Where few tiles use them, reading them from memory takes longer than
  /// the products: transforming them in the cache, block by block, costs no more, and the plan's weights are as large as the
  /// file's. Both ways give the same bits, so that this, unlike the choice of the tile, may depend on the batch.
  func keepsWeights(_ weights: [Int], output: [Int], _ traits: DeviceTraits) -> Bool {
    let tiles = output[0] * divideUp(output[1], outputs) * divideUp(output[2], outputs)
    return tiles > Winograd.leastTiles || weightByteCount(weights) < Winograd.cacheByteCount(traits) / 16
  }

  private static let leastTiles = 96

  fileprivate static func cacheByteCount(_ traits: DeviceTraits) -> Int { max(traits.lastCacheByteCount, 8 << 20) }
}

extension Conv2D {
  func lowerByWinograd(_ context: inout LoweringContext, _ winograd: Winograd, _ conv: GraftConvParams, _ operands: ConvolutionOperands) {
    let (m, w) = (winograd.outputs, context.inputs[1])
    let (c, oc, ws) = (Int(conv.c), Int(conv.oc), context.shape(w)), panel = context.traits.panelVectors * context.traits.vectorWidth
    var p = GraftWinogradParams(
      n: conv.n, h: conv.h, w: conv.w, c: conv.c, oh: conv.oh, ow: conv.ow, oc: conv.oc, padH: conv.padH, padW: conv.padW, ldx: conv.ldx,
      ldy: conv.ldy, ldr: conv.ldr, tilesH: Int32(divideUp(Int(conv.oh), m)), tilesW: Int32(divideUp(Int(conv.ow), m)), firstTile: 0, tileCount: 0,
      firstOutput: 0, outputCount: conv.oc, weightStep: 0, epilogue: conv.epilogue)
    let zeros = context.zeros(elementCount: c)

    // The whole batch's tiles decide, so that all the tiles of a batch do alike.
    let keepsWeights = winograd.keepsWeights(ws, output: context.graph.type(of: context.output).shape, context.traits)
    // Outputs at a time: all of them, or as many as leave room in the cache beside their transformed weights.
    let most = Winograd.cacheByteCount(context.traits) / 6 / (4 * winograd.positions * c * panel) * panel
    let outputs = keepsWeights ? oc : min(oc, max(panel, most))
    // An odd number of cache lines more than a power of two would be: the matrices are written side by side, and what is written
    // together must not fall into the same few places of the cache.
    let weightStep = c * CPUTiling.packedChannels(outputs, context.traits) + panel + context.traits.vectorWidth
    p.weightStep = Int32(weightStep)
    let source: Operand, packed: Operand
    if keepsWeights {
      let weights = p
      packed = context.derived(from: w, key: "winograd \(m)", elementCount: winograd.positions * weightStep, precision: .float32) { context, target in
        context.launch(
          "winograd", "winograd_weights_\(m)", [context.parameter(w), target], weights, grid: Grid(divideUp(oc, panel), divideUp(c, 16)), flops: 0)
      }
      source = packed
    } else {
      source = context.packedConvolution(w, groups: 1, precision: .float32)
      packed = context.scratch(elementCount: winograd.positions * weightStep, precision: .float32)
    }

    let tiles = Int(p.n) * Int(p.tilesH) * Int(p.tilesW), count = divideUp(tiles, divideUp(tiles, winograd.tilesAtOnce(ws, context.traits)))
    let v = context.scratch(elementCount: winograd.positions * count * c, precision: .float32)
    let product = context.scratch(elementCount: winograd.positions * count * outputs, precision: .float32)
    for first in Swift.stride(from: 0, to: tiles, by: count) {
      p.firstTile = Int32(first)
      p.tileCount = Int32(min(count, tiles - first))
      let size = Int(p.tileCount), grid = Grid(divideUp(size, 4))
      let outsideByteCount = context.precision.byteCount
      let moved = { (channels: Int, outside: Int) in Double(size * channels * (4 * winograd.positions + outsideByteCount * outside)) }
      context.launch(
        "winograd", "winograd_input_\(m)", [operands.x, zeros, v], p, grid: grid, flops: 0, bytes: moved(c, m * m))
      for firstOutput in Swift.stride(from: 0, to: oc, by: outputs) {
        p.firstOutput = Int32(firstOutput)
        p.outputCount = Int32(min(outputs, oc - firstOutput))
        let block = Int(p.outputCount), weightByteCount = Double(winograd.weightByteCount([block, c]))
        if !keepsWeights {
          context.launch(
            "winograd", "winograd_panels_\(m)", [source, packed], p, grid: Grid(divideUp(block, panel), divideUp(c, 16)), flops: 0,
            bytes: weightByteCount + Double(36 * c * block))
        }
        let tiling = CPUTiling(m: size, n: block, rowElements: c, items: winograd.positions, context: context)
        let matrix = GraftGemmParams(
          strideA: Int64(size * c), strideB: Int64(weightStep), strideY: Int64(size * block), strideR: 0, batch: Int32(winograd.positions),
          m: Int32(size), n: p.outputCount, k: p.c, lda: p.c, ldb: 0, ldy: p.outputCount, ldr: 0, transposeA: 0, transposeB: 0,
          rowsPerItem: Int32(tiling.rowsPerItem), panelsPerItem: Int32(tiling.panelsPerItem), epilogue: epilogue(.none))
        context.launch(
          "gemm", "gemm", [v, packed, nil, nil, product], matrix, grid: Grid(tiling.grid.x, tiling.grid.y, winograd.positions),
          flops: 2 * Double(winograd.positions * size) * Double(c * block), bytes: moved(c + block, 0) + weightByteCount, precision: .float32)
        context.launch(
          "winograd", "winograd_output_\(m)", [product, operands.bias, operands.residual, operands.y], p, grid: grid, flops: 0,
          bytes: moved(block, m * m))
      }
    }
  }
}
