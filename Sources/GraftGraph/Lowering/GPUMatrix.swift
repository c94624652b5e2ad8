import CKernels
import GraftDevice

// Products, convolutions and their gradients on matrix units (Kernels/gpu/matrix_gemm.cl, matrix_conv.cl, matrix_weights.cl).

extension LoweringContext {
  /// Elements of 16, 8 and 4 bytes.
  private var copyWidths: [Int] { [16, 8, 4].map { $0 / precision.byteCount } }

  /// Elements one copy of an operand takes: the most whose number divides its extents and strides and where it begins.
  func copyWidth(_ extents: [Int], _ operand: Operand) -> Int? {
    copyWidths.first { width in start(of: operand) % width == 0 && extents.allSatisfy { $0 % width == 0 } }
  }

  /// Elements of a store of the result: a chunk of 8, a pair or one.
  func storeWidth(_ extents: [Int], _ operands: [Operand?]) -> Int {
    [copyWidths[0], 2].first { width in operands.allSatisfy { start(of: $0) % width == 0 } && extents.allSatisfy { $0 % width == 0 } } ?? 1
  }

  /// Appends a product on the device's matrix unit, if it has one for the plan's format and the operands lie so that it can
  /// read them.
  ///
  /// - Returns: whether it did.
  mutating func productOnMatrixUnit(_ p: GraftGemmParams, _ shape: ProductShape, _ operands: ProductOperands, _ activation: Activation) -> Bool {
    let (m, n, k, batch) = (Int(p.m), Int(p.n), Int(p.k), Int(p.batch))
    let (alongA, alongB) = (p.transposeA == 0, p.transposeB != 0)
    guard traits.matrixUnit != nil, ProductKernel.forced != nil || !shape.isSkinny(imageCount, traits),
      let widthA = copyWidth([alongA ? k : m, Int(p.lda), Int(p.strideA)], operands.a),
      let widthB = copyWidth([alongB ? k : n, Int(p.ldb), Int(p.strideB)], operands.b)
    else { return false }
    let vectors = MatrixVectors(
      a: widthA, b: widthB,
      y: storeWidth(
        [n, Int(p.ldy), Int(p.strideY)] + (operands.residual == nil ? [] : [Int(p.ldr), Int(p.strideR)]), [operands.residual, operands.y]),
      alongA: alongA, alongB: alongB)
    guard let unit = traits.matrixUnit,
      let (tile, splits) = chooseOnMatrixUnit(shape, vectors: vectors, gathers: false)
    else { return false }
    split(splits, p, operands, activation, sumVectors(p, operands)) { context, p, operands, activation, _, sums in
      var vectors = vectors
      if !sums.isEmpty { vectors.y = n % 2 == 0 ? 2 : 1 }
      context.launchGroups(
        "matrix_gemm", "matrix_gemm", [operands.a, operands.b, operands.bias, operands.residual, operands.y], p,
        count: tile.blockCount(m: m, n: n) * batch * splits, size: tile.itemCount,
        options: unit.options(byGroups: tile.isByGroups) + tile.options(vectors) + sums + activation.gpuOptions)
    }
    return true
  }

  private func sumVectors(_ p: GraftGemmParams, _ operands: ProductOperands) -> GEMMVectors {
    let extents = [Int(p.n), Int(p.ldy), Int(p.strideY)] + (operands.residual == nil ? [] : [Int(p.ldr), Int(p.strideR)])
    return GEMMVectors(a: 1, b: 1, y: vector(extents, [operands.bias, operands.residual, operands.y], atMost: 4))
  }

  /// Appends a convolution on the device's matrix unit, if it has one for the plan's format.
  ///
  /// A copy takes some channels of one pixel. Where there are fewer, or pixels lie so that no copy can begin at them, the pixels
  /// are moved apart first, with zeros between (a first layer's 3 channels become 4), which costs little beside the product.
  ///
  /// - Parameter operands: `b` is not read; `weights` are packed here.
  /// - Returns: whether it did.
  mutating func convolutionOnMatrixUnit(_ parameters: GraftConvParams, _ operands: ProductOperands, weights: ValueID, _ activation: Activation)
    -> Bool
  {
    var (p, operands) = (parameters, operands)
    let (groups, taps) = (Int(p.groups), Int(p.kh) * Int(p.kw))
    let rows = Int(p.n) * Int(p.oh) * Int(p.ow), outputs = Int(p.oc) / groups
    guard let unit = traits.matrixUnit, unit.formats.contains(format), rows > 0, fitsSixteenBits(p),
      let (channels, width, isPadded) = channelCopies(p, operands.a)
    else { return false }
    let k = taps * channels
    guard let widthB = copyWidths.first(where: { k % $0 == 0 }) else { return false }
    let vectors = MatrixVectors(
      a: width, b: widthB,
      y: storeWidth([outputs, Int(p.ldy)] + (operands.residual == nil ? [] : [Int(p.ldr)]), [operands.residual, operands.y]))
    // 1 × 1: a product of pixels and weights.
    let isProduct = taps == 1 && groups == 1 && p.strideH == 1 && p.strideW == 1 && p.padH == 0 && p.padW == 0 && p.oh == p.h && p.ow == p.w
    guard let (tile, splits) = chooseOnMatrixUnit(convolutionShape(p, k: k), vectors: vectors, gathers: !isProduct) else { return false }

    if isPadded { operands.a = padded(operands.a, &p, channels: channels, width: width) }
    operands.b = packedRows(weights, groups: groups, part: isPadded ? width : 1, channels: channels)
    // The partial sums of a split are one matrix [rows, channels], whatever the groups.
    let product = GraftGemmParams(
      strideA: 0, strideB: 0, strideY: 0, strideR: 0, batch: 1, m: Int32(rows), n: p.oc, k: Int32(k), lda: 0, ldb: 0, ldy: p.ldy, ldr: p.ldr,
      transposeA: 0, transposeB: 0, rowsPerItem: 0, panelsPerItem: 0, epilogue: p.epilogue)
    split(splits, product, operands, activation, sumVectors(product, operands)) { context, product, operands, activation, _, sums in
      var (p, product, vectors) = (p, product, vectors)
      if !sums.isEmpty { vectors.y = outputs % 2 == 0 ? 2 : 1 }
      (p.ldy, p.epilogue) = (product.ldy, product.epilogue)
      (product.lda, product.ldb, product.transposeB) = (p.ldx, Int32(k), 1)
      let options = unit.options(byGroups: tile.isByGroups) + tile.options(vectors) + sums + activation.gpuOptions
      let (count, buffers) = (
        tile.blockCount(m: rows, n: outputs) * groups * splits, [operands.a, operands.b, operands.bias, operands.residual, operands.y]
      )
      if isProduct {
        context.launchGroups("matrix_gemm", "matrix_gemm", buffers, product, count: count, size: tile.itemCount, options: options)
      } else {
        context.launchGroups("matrix_conv", "matrix_conv", buffers, p, count: count, size: tile.itemCount, options: options)
      }
    }
    return true
  }

  /// Appends the sums over shares of the pixels of a gradient with respect to a convolution's weights on the device's matrix unit,
  /// if it has one for the plan's format and the operands lie so that it can read them.
  ///
  /// - Returns: the sums in float32, [shares, O, taps, channels], how many shares there are, and channels a group: those of the
  ///   image, or more where pixels were moved apart.
  mutating func weightGradientOnMatrixUnit(_ parameters: GraftConvParams, x: Operand, dy: Operand) -> (
    partial: Operand, shares: Int, channels: Int
  )? {
    var p = parameters
    let (groups, outputs) = (Int(p.groups), Int(p.oc) / Int(p.groups)), pixels = Int(p.n) * Int(p.oh) * Int(p.ow)
    guard let unit = traits.matrixUnit, unit.formats.contains(format), let (channels, width, isPadded) = channelCopies(p, x),
      let widthA = copyWidth([outputs, Int(p.ldy)], dy)
    else { return nil }
    let columns = Int(p.kh) * Int(p.kw) * channels
    let vectors = MatrixVectors(a: widthA, b: width, y: columns % 2 == 0 ? 2 : 1, alongA: false, alongB: false)
    guard let (tile, shares) = chooseOnMatrixUnit(weightGradientShape(p, columns: columns), vectors: vectors, gathers: true) else { return nil }
    let source = isPadded ? padded(x, &p, channels: channels, width: width) : x
    let count = shares * Int(p.oc) * columns, partial = scratch(elementCount: count, precision: .float32)
    launchGroups(
      "matrix_weights", "matrix_weights", [source, dy, partial], p, count: tile.blockCount(m: outputs, n: columns) * groups * shares,
      size: tile.itemCount, options: unit.options(byGroups: tile.isByGroups) + tile.options(vectors),
      bytes: Double(precision.byteCount * (Int(p.n) * Int(p.h) * Int(p.w) * Int(p.c) + pixels * Int(p.oc)) + 4 * count))
    return (partial, shares, channels)
  }

  /// Channels a group, and how many of them a copy takes. Where no copy can begin at a pixel, or only the narrowest, pixels are to be
  /// moved apart first (`padded`); `nil` where groups lie so.
  private func channelCopies(_ p: GraftConvParams, _ x: Operand) -> (channels: Int, width: Int, isPadded: Bool)? {
    let channels = Int(p.c / p.groups), (widest, narrowest) = (copyWidths[0], copyWidths[2])
    if let width = copyWidth([channels, Int(p.ldx)], x), width != narrowest || channels <= narrowest { return (channels, width, false) }
    guard p.groups == 1 else { return nil }
    let padded = copyWidths.last { channels <= $0 } ?? divideUp(channels, widest) * widest
    return (padded, min(widest, padded), true)
  }

  /// Appends what moves pixels apart, to `channels` each, with zeros between; the parameters become those of its result.
  private mutating func padded(_ x: Operand, _ p: inout GraftConvParams, channels: Int, width: Int) -> Operand {
    let pixels = Int(p.n) * Int(p.h) * Int(p.w), padded = scratch(elementCount: pixels * channels)
    let move = GraftUnaryParams(
      rows: Int64(pixels), channels: p.c, ldx: p.ldx, ldy: Int32(channels), hasScale: 0, hasShift: 0, epilogue: epilogue(.none))
    launchItems(
      "pack", "pad_rows", [x, padded], move, count: pixels * channels / width, options: [.init("PART", width)], flops: 0,
      bytes: Double(precision.byteCount * pixels * (Int(p.c) + channels)))
    (p.c, p.ldx) = (Int32(channels), Int32(channels))
    return padded
  }

  /// Whether rows and columns of the padded image, and a kernel's reach, are numbers of 16 bits.
  private func fitsSixteenBits(_ p: GraftConvParams) -> Bool {
    let height = Int(p.h) + 2 * Int(p.padH) + Int(p.kh) * Int(p.dilationH)
    let width = Int(p.w) + 2 * Int(p.padW) + Int(p.kw) * Int(p.dilationW)
    return max(height, width) <= Int(Int16.max)
  }

  /// The weights as rows along k, [groups, outputs, taps, channels] (Kernels/gpu/pack.cl, `pack_rows`).
  private mutating func packedRows(_ w: ValueID, groups: Int, part: Int, channels: Int) -> Operand {
    let ws = shape(w), taps = ws[2] * ws[3], outputs = ws[0] / groups, count = ws[0] * taps * channels
    let source = parameter(w)
    return derived(from: w, key: "rows \(groups) \(channels)", elementCount: count) { context, target in
      let pack = GraftPackParams(
        strideBatch: 0, batch: 1, groups: Int32(groups), oc: Int32(outputs), c: Int32(ws[1]), taps: Int32(taps), strideO: Int32(ws[1] * taps),
        strideC: Int32(taps), strideTap: 1, strideGroup: Int32(outputs * ws[1] * taps))
      context.launchItems(
        "pack", "pack_rows", [source, target], pack, count: count, options: [.init("PART", part)], flops: 0,
        bytes: Double((4 + context.precision.byteCount) * count))
    }
  }
}
