import CKernels
import GraftDevice

// 3×3 convolutions of the GPU family by Winograd's transforms (Kernels/gpu/winograd.cl), in float32.

extension Winograd {
  /// Bytes that the transformed inputs and their products take at most, unless one tile's are more: tiles of a batch are computed
  /// in pieces of that size. Large enough that a piece keeps a large GPU busy for longer than its three launches take.
  package static let scratchByteLimit = 256 << 20

  /// Channels from which on engines have found them to pay.
  static let leastChannels = 64

  /// Channels with the zeros that round them up to whole vectors.
  static func padded(_ channels: Int) -> Int { divideUp(channels, 4) * 4 }

  /// Channels a work-item transforms: as many as registers hold the tiles of (128 of them on AMD's RDNA, in clang's hands).
  var vector: Int { outputs == 4 ? 2 : 4 }

  /// Tiles of one image.
  func tiles(_ output: Pair) -> Int { divideUp(output.h, outputs) * divideUp(output.w, outputs) }

  /// Tiles whose products are computed at a time, of so many: pieces of about the same size.
  func tilesAtOnce(of tiles: Int, channels: Int, outputChannels: Int, byteLimit: Int) -> Int {
    let byteCount = 4 * positions * (Winograd.padded(channels) + Winograd.padded(outputChannels))
    return divideUp(tiles, divideUp(tiles, max(1, byteLimit / byteCount)))
  }

  /// Whether a convolution is one that the transforms are made for.
  static func takes(_ p: GraftConvParams) -> Bool {
    p.kh == 3 && p.kw == 3 && p.strideH == 1 && p.strideW == 1 && p.dilationH == 1 && p.dilationW == 1 && p.groups == 1
  }

  /// A convolution as far as its time goes.
  struct Layer {
    var images: Int
    var input, output: Pair
    var channels, outputChannels: Int
    /// Whether its weights are constants, transformed when the plan is made.
    var hasConstantWeights: Bool
  }

  /// The tile that takes the least time by the model of time, or `nil` where the direct way is about as fast: the transforms gain
  /// arithmetic and lose memory traffic and launches, of which chips have more or less.
  static func choiceForGPU(_ layer: Layer, vectors: GEMMVectors, traits: DeviceTraits) -> Winograd? {
    guard min(layer.channels, layer.outputChannels) >= leastChannels else { return nil }
    let model = LaunchModel(chip: Chip.like(traits)), (c, oc) = (padded(layer.channels), padded(layer.outputChannels))
    let inputCount = layer.images * layer.input.h * layer.input.w * layer.channels
    let outputCount = layer.images * layer.output.h * layer.output.w * layer.outputChannels
    let direct = model.productSeconds(
      m: outputCount / layer.outputChannels, n: layer.outputChannels, k: 9 * layer.channels, count: 1,
      floatCount: inputCount + 9 * layer.channels * layer.outputChannels + outputCount, mayBeSplit: true, endSteps: 0, vectors: vectors,
      traits: traits)
    let candidates = [Winograd(outputs: 4), Winograd(outputs: 2)].map { winograd -> (seconds: Double, choice: Winograd) in
      let (tiles, positions) = (layer.images * winograd.tiles(layer.output), winograd.positions)
      let atOnce = winograd.tilesAtOnce(of: tiles, channels: c, outputChannels: oc, byteLimit: scratchByteLimit),
        share = Double(atOnce) / Double(tiles)
      let (before, after) = (positions * atOnce * c, positions * atOnce * oc)
      func moving(_ floatCount: Double, items: Int) -> Double { model.movingSeconds(4 * floatCount, items: items) }
      var seconds = moving(share * Double(inputCount) + Double(before), items: atOnce * c / winograd.vector)
      seconds += moving(share * Double(outputCount) + Double(after), items: atOnce * oc / winograd.vector)
      seconds += model.productSeconds(
        m: atOnce, n: oc, k: c, count: positions, floatCount: before + positions * c * oc + after, mayBeSplit: false, endSteps: 2,
        vectors: GEMMVectors(a: 4, b: 4, y: 4), traits: traits)
      seconds /= share
      if !layer.hasConstantWeights { seconds += moving(Double((9 + positions) * c * oc), items: c * oc / winograd.vector) }
      return (seconds, winograd)
    }
    guard let best = candidates.min(by: { $0.seconds < $1.seconds }), 1.1 * best.seconds < direct else { return nil }
    return best.choice
  }

  /// Arithmetic of the transforms of one tile and channel.
  var inputFlops: Double { outputs == 4 ? 12 * 20 : 8 * 4 }
  var outputFlops: Double { outputs == 4 ? 10 * 16 : 6 * 4 }
}

extension LoweringContext {
  /// Appends a convolution by Winograd's transforms, if that is faster: by what tuning found, else by the model of costs.
  ///
  /// The choice is made for a nominal batch, and k is never cut, so that a row does not depend on how many images are computed
  /// with it; where a piece ends changes no bit.
  ///
  /// - Parameter operands: `b` is not read; `weights` are transformed here.
  /// - Returns: whether it did.
  mutating func convolutionByWinograd(_ p: GraftConvParams, _ operands: ProductOperands, weights: ValueID, _ activation: Activation) -> Bool {
    guard options.usesWinograd, precision == .float32, Winograd.takes(p), p.n > 0, p.oh > 0, p.ow > 0 else { return false }
    let byteLimit = options.winogradByteLimit ?? Winograd.scratchByteLimit
    let shape = convolutionShape(p, k: 9 * Int(p.c)), images = imageCount
    let chosen: Winograd
    var known: GEMMTile?
    switch (ProductKernel.forced, options.tuning?[shape, .float32, unit: nil]) {
    case (.winograd(let outputs, let tile)?, _): (chosen, known) = (Winograd(outputs: outputs), tile)
    case (.some, _): return false
    case (nil, let tuned?):
      guard case .winograd(let outputs, let tile) = tuned.kernel else { return false }
      chosen = Winograd(outputs: outputs)
      if tuned.imageCount == images, tile.fits(traits) { known = tile }
    case (nil, nil):
      let layer = Winograd.Layer(
        images: shape.images == .rows ? ProductShape.nominalImageCount : Int(p.n), input: Pair(Int(p.h), Int(p.w)),
        output: Pair(Int(p.oh), Int(p.ow)),
        channels: Int(p.c), outputChannels: Int(p.oc), hasConstantWeights: graph.constant(weights) != nil)
      let vectors = GEMMVectors(a: vector([Int(p.c), Int(p.ldx)], [operands.a], atMost: 4), b: 4, y: 4)
      guard let choice = Winograd.choiceForGPU(layer, vectors: vectors, traits: traits) else { return false }
      chosen = choice
    }
    let tiles = Int(p.n) * chosen.tiles(Pair(Int(p.oh), Int(p.ow)))
    let atOnce = chosen.tilesAtOnce(of: tiles, channels: Int(p.c), outputChannels: Int(p.oc), byteLimit: byteLimit)
    func fastestTile() -> GEMMTile? {
      let kernel = ProductKernel.choose(
        m: atOnce, n: Winograd.padded(Int(p.oc)), k: Winograd.padded(Int(p.c)), count: chosen.positions, vectors: GEMMVectors(a: 4, b: 4, y: 4),
        mayBeSkinny: false, splits: 1, traits: traits)
      return if case .tiled(let tile, _) = kernel { tile } else { nil }
    }
    // A device that takes no tile computes the definition.
    guard let tile = known ?? fastestTile() else { return false }
    choices.append(ProductChoice(shape: shape, imageCount: images, kernel: .winograd(outputs: chosen.outputs, tile), time: time))
    emit(chosen, tile, p, operands, weights: weights, activation, tiles: tiles, atOnce: atOnce)
    return true
  }

  private mutating func emit(
    _ winograd: Winograd, _ tile: GEMMTile, _ conv: GraftConvParams, _ operands: ProductOperands, weights: ValueID, _ activation: Activation,
    tiles: Int, atOnce: Int
  ) {
    let m = winograd.outputs, positions = winograd.positions
    let (c, oc) = (Winograd.padded(Int(conv.c)), Winograd.padded(Int(conv.oc)))
    let most = winograd.vector
    func width(_ extents: [Int], _ operands: [Operand?]) -> Int { vector(extents, operands, atMost: 4) == 4 ? most : 1 }
    func options(_ width: Int) -> [KernelReference.Option] { [.init("OUTPUTS", m)] + LoweringContext.vectorOption(width) }
    var p = GraftWinogradParams(
      n: conv.n, h: conv.h, w: conv.w, c: conv.c, oh: conv.oh, ow: conv.ow, oc: conv.oc, padH: conv.padH, padW: conv.padW, ldx: conv.ldx,
      ldy: conv.ldy, ldr: conv.ldr, tilesH: Int32(divideUp(Int(conv.oh), m)), tilesW: Int32(divideUp(Int(conv.ow), m)), firstTile: 0,
      tileCount: 0, firstOutput: 0, outputCount: conv.oc, weightStep: 0, epilogue: conv.epilogue)

    let (plain, source) = (p, parameter(weights))
    let u = derived(from: weights, key: "gpu winograd \(m)", elementCount: positions * c * oc) { context, target in
      context.launchItems(
        "winograd", "winograd_weights", [source, target], plain, count: c * oc / most, options: options(most), flops: 0,
        bytes: Double(4 * (9 + positions) * c * oc))
    }
    let v = scratch(elementCount: positions * atOnce * c), product = scratch(elementCount: positions * atOnce * oc)
    let inputWidth = width([Int(p.c), Int(p.ldx)], [operands.a])
    let outputWidth = width(
      [Int(p.oc), Int(p.ldy)] + (operands.residual == nil ? [] : [Int(p.ldr)]), [operands.bias, operands.residual, operands.y])
    let vectors = GEMMVectors(a: 4, b: 4, y: 4)
    for first in Swift.stride(from: 0, to: tiles, by: atOnce) {
      let count = min(atOnce, tiles - first), share = Double(count) / Double(tiles)
      (p.firstTile, p.tileCount) = (Int32(first), Int32(count))
      let (inputs, results) = (Double(p.n * p.h * p.w) * Double(p.c) * share, Double(p.n * p.oh * p.ow) * Double(p.oc) * share)
      launchItems(
        "winograd", "winograd_input", [operands.a, v], p, count: count * c / inputWidth, options: options(inputWidth),
        flops: winograd.inputFlops * Double(count * Int(p.c)), bytes: 4 * (inputs + Double(positions * count * c)))
      let matrix = GraftGemmParams(
        strideA: Int64(count * c), strideB: Int64(c * oc), strideY: Int64(count * oc), strideR: 0, batch: Int32(positions), m: p.tileCount,
        n: Int32(oc), k: Int32(c), lda: Int32(c), ldb: Int32(oc), ldy: Int32(oc), ldr: 0, transposeA: 0, transposeB: 0, rowsPerItem: 0,
        panelsPerItem: 0, epilogue: epilogue(.none))
      launchGroups(
        "gemm", "gemm", [v, u, nil, nil, product], matrix, count: tile.blockCount(m: count, n: oc) * positions, size: tile.itemCount,
        options: tile.options(vectors: vectors) + [.init("TRANSPOSE_A", 0), .init("TRANSPOSE_B", 0)],
        flops: 2 * Double(positions * count) * Double(c * oc), bytes: 4 * Double(positions) * Double(count * (c + oc) + c * oc))
      launchItems(
        "winograd", "winograd_output", [product, operands.bias, operands.residual, operands.y], p, count: count * Int(p.oc) / outputWidth,
        options: options(outputWidth) + activation.gpuOptions, flops: winograd.outputFlops * Double(count * Int(p.oc)),
        bytes: 4 * (Double(positions * count * oc) + results * (operands.residual == nil ? 1 : 2)))
    }
  }
}

extension LaunchModel {
  /// Seconds of a launch that only moves bytes, the launch included.
  fileprivate func movingSeconds(_ byteCount: Double, items: Int) -> Double { memorySeconds(byteCount, items: items) + chip.launchSeconds }

  /// Seconds of a product with the tile it would be given.
  ///
  /// - Parameter endSteps: what filling local memory before the first step of k, and storing the sums, takes, in such steps: much
  ///   of a short sum.
  fileprivate func productSeconds(
    m: Int, n: Int, k: Int, count: Int, floatCount: Int, mayBeSplit: Bool, endSteps: Int, vectors: GEMMVectors, traits: DeviceTraits
  ) -> Double {
    let kernel = ProductKernel.choose(
      m: m, n: n, k: k, count: count, vectors: vectors, mayBeSkinny: false, splits: mayBeSplit ? nil : 1, traits: traits)
    guard case .tiled(let tile, let splits) = kernel else { return .infinity }
    let blocks = tile.blockCount(m: m, n: n) * count * splits, steps = divideUp(divideUp(k, tile.tileK), splits) + endSteps
    let use = TileUse(tile, blocks: blocks, flops: 2 * Double(blocks * tile.tileM * tile.tileN) * Double(steps * tile.tileK))
    let sums = splits > 1 ? 4 * Double(splits * m) * Double(n * count) : 0
    let first = max(
      arithmeticSeconds(use, rate: 1e9 * chip.gigaflopsPerSecond), memorySeconds(4 * Double(floatCount), items: blocks * tile.itemCount))
    return first + chip.launchSeconds + (splits > 1 ? movingSeconds(sums + 4 * Double(m * n * count), items: m * n * count) : 0)
  }
}
