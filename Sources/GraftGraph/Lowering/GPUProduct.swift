import CKernels
import GraftDevice

/// Operands of a product or a convolution.
struct ProductOperands {
  var a, b: Operand
  var bias, residual: Operand?
  var y: Operand
}

extension LoweringContext {
  /// Appends a product on the GPU family: y[b] = epilogue(op(a[b]) op(b[b])).
  ///
  /// `packedB`: b's rows are padded with zeros to a multiple of 4 columns (`Kernels/gpu/pack.cl`).
  mutating func productForGPU(_ p: GraftGemmParams, _ operands: ProductOperands, _ activation: Activation, packedB: Bool = false) {
    let (m, n, k, batch) = (Int(p.m), Int(p.n), Int(p.k), Int(p.batch))
    guard m > 0, n > 0, batch > 0 else { return }
    let (transposeA, transposeB) = (p.transposeA != 0, p.transposeB != 0)
    let hasWeights =
      switch operands.b {
      case .value(let b): graph.constant(b) != nil
      case .prepared: true
      case .scratch: packedB
      }
    let shape = productShape(
      m: m, n: n, k: k, count: batch, transposeA: transposeA, transposeB: transposeB, kind: packedB ? .packed : .product, hasWeights: hasWeights)
    if !packedB, productOnMatrixUnit(p, shape, operands, activation) { return }
    // Along k, whole vectors of k; across it, whole vectors of rows or columns.
    let vectors = GEMMVectors(
      a: vector([transposeA ? m : k, Int(p.lda), Int(p.strideA)], [operands.a], atMost: 4),
      b: vector([transposeB ? k : packedB ? 0 : n, Int(p.ldb), Int(p.strideB)], [operands.b], atMost: 4),
      y: vector(
        [n, Int(p.ldy), Int(p.strideY)] + (operands.residual == nil ? [] : [Int(p.ldr), Int(p.strideR)]),
        [operands.bias, operands.residual, operands.y], atMost: 4))
    let transposes: [KernelReference.Option] = [.init("TRANSPOSE_A", transposeA ? 1 : 0), .init("TRANSPOSE_B", transposeB ? 1 : 0)]
    switch chooseProduct(shape, vectors: vectors, mayBeSkinny: true) {
    case .naive, .matrix, .winograd:
      launchItems(
        "naive", "gemm_naive", [operands.a, operands.b, operands.bias, operands.residual, operands.y], p, count: batch * m * n,
        options: transposes + activation.gpuOptions)
    case .tiled(let tile, let splits):
      split(splits, p, operands, activation, vectors) { context, p, operands, activation, vectors, sums in
        context.launchGroups(
          "gemm", "gemm", [operands.a, operands.b, operands.bias, operands.residual, operands.y], p,
          count: tile.blockCount(m: m, n: n) * batch * splits, size: tile.itemCount,
          options: tile.options(vectors: vectors) + transposes + sums + activation.gpuOptions)
      }
    case .skinny(let splits):
      // The larger operand is read once, and the smaller side's results stay in registers.
      // Rows of images are the wide side however few they are: the order of a sum must not depend on them.
      let rowsWide = shape.images == .rows ? n <= ProductKernel.narrowLimit : m > n
      let (wideAlongK, narrowAlongK) = rowsWide ? (!transposeA, transposeB) : (transposeB, !transposeA)
      let width = wideAlongK && narrowAlongK ? min(vectors.a, vectors.b) : 1
      let narrow = [1, 2, 4, 8].first { $0 >= (rowsWide ? n : m) } ?? ProductKernel.narrowLimit
      let lanesK = wideAlongK ? 32 : 8
      let options: [KernelReference.Option] = [
        .init("NARROW", narrow), .init("ROWS_WIDE", rowsWide ? 1 : 0), .init("WIDE_ALONG_K", wideAlongK ? 1 : 0),
        .init("NARROW_ALONG_K", narrowAlongK ? 1 : 0), .init("VECTOR", width), .init("GROUP", groupSize),
      ]
      split(splits, p, operands, activation, vectors) { context, p, operands, activation, _, sums in
        context.launchGroups(
          "skinny", "gemm_skinny", [operands.a, operands.b, operands.bias, operands.residual, operands.y], p,
          count: divideUp(rowsWide ? m : n, context.groupSize / lanesK) * batch * splits, size: context.groupSize,
          options: options + sums + activation.gpuOptions)
      }
    }
  }

  /// Appends a convolution on the GPU family; `operands.b` holds packed weights.
  mutating func convolutionForGPU(_ p: GraftConvParams, _ operands: ProductOperands, _ activation: Activation) {
    let (rows, groups, channels) = (Int(p.n) * Int(p.oh) * Int(p.ow), Int(p.groups), Int(p.oc))
    let outputs = channels / groups, perGroup = Int(p.c) / groups, k = perGroup * Int(p.kh) * Int(p.kw)
    guard rows > 0 else { return }
    let vectors = GEMMVectors(
      a: vector([perGroup, Int(p.ldx)], [operands.a], atMost: 4), b: 4,
      y: vector(
        [outputs, Int(p.ldy)] + (operands.residual == nil ? [] : [Int(p.ldr)]), [operands.bias, operands.residual, operands.y], atMost: 4))
    switch chooseProduct(convolutionShape(p, k: k), vectors: vectors, mayBeSkinny: false) {
    case .naive, .skinny, .matrix, .winograd:
      launchItems(
        "naive", "conv_naive", [operands.a, operands.b, operands.bias, operands.residual, operands.y], p, count: rows * channels,
        options: activation.gpuOptions)
    case .tiled(let tile, let splits):
      // The partial sums of a split are one matrix [rows, channels], whatever the groups.
      let product = GraftGemmParams(
        strideA: 0, strideB: 0, strideY: 0, strideR: 0, batch: 1, m: Int32(rows), n: p.oc, k: Int32(k), lda: 0, ldb: 0, ldy: p.ldy, ldr: p.ldr,
        transposeA: 0, transposeB: 0, rowsPerItem: 0, panelsPerItem: 0, epilogue: p.epilogue)
      split(splits, product, operands, activation, vectors) { context, product, operands, activation, vectors, sums in
        var (p, vectors) = (p, vectors)
        (p.ldy, p.epilogue) = (product.ldy, product.epilogue)
        if outputs % 4 != 0 { vectors.y = 1 }
        context.launchGroups(
          "conv", "conv", [operands.a, operands.b, operands.bias, operands.residual, operands.y], p,
          count: tile.blockCount(m: rows, n: outputs) * groups * splits, size: tile.itemCount,
          options: tile.options(vectors: vectors) + sums + activation.gpuOptions)
      }
    }
  }

  /// The shape of a convolution, whose rows are images'.
  func convolutionShape(_ p: GraftConvParams, k: Int) -> ProductShape {
    let images = imageCount, areRows = images > 0 && Int(p.n) % images == 0
    var shape = ProductShape(
      .convolution, p, m: (areRows ? Int(p.n) / images : Int(p.n)) * Int(p.oh) * Int(p.ow), n: Int(p.oc / p.groups), k: k,
      images: areRows ? .rows : .none)
    shape.weightsVary = inputs.count > 1 && graph.constant(inputs[1]) == nil
    return shape
  }

  /// The shape of a convolution's gradient with respect to its weights, of so many columns: taps and channels.
  func weightGradientShape(_ p: GraftConvParams, columns: Int) -> ProductShape {
    ProductShape(.weights, p, m: Int(p.oc / p.groups), n: columns, k: Int(p.n) * Int(p.oh) * Int(p.ow), images: .none)
  }

  /// Emits a product whole, or as `count` sums over parts of k, each a dense float32 matrix of scratch, and a second pass that
  /// adds them in order and applies the epilogue. `emit` gets the options that say which of the two it is.
  mutating func split(
    _ count: Int, _ p: GraftGemmParams, _ operands: ProductOperands, _ activation: Activation, _ vectors: GEMMVectors,
    _ emit: (inout LoweringContext, GraftGemmParams, ProductOperands, Activation, GEMMVectors, [KernelReference.Option]) -> Void
  ) {
    guard count > 1 else { return emit(&self, p, operands, activation, vectors, []) }
    let (m, n, batch) = (Int(p.m), Int(p.n), Int(p.batch))
    var (partial, partialOperands, partialVectors) = (p, operands, vectors)
    partial.epilogue = epilogue(.none)
    (partial.ldy, partial.strideY) = (p.n, Int64(m * n))
    partialOperands.y = scratch(elementCount: count * batch * m * n, precision: .float32)
    (partialOperands.bias, partialOperands.residual) = (nil, nil)
    partialVectors.y = n % 4 == 0 ? 4 : 1
    emit(&self, partial, partialOperands, .none, partialVectors, precision == .float32 ? [] : [.init("PARTIAL", 1)])
    var sum = p
    sum.k = Int32(count)
    // Few results are summed by as many work-items as there can be.
    let width = batch * m * n / vectors.y < 512 * traits.multiprocessors ? 1 : vectors.y
    launchItems(
      "split_sum", "split_sum", [partialOperands.y, operands.bias, operands.residual, operands.y], sum, count: batch * m * n / width,
      options: LoweringContext.vectorOption(width) + activation.gpuOptions, flops: 0,
      bytes: Double(4 * count + precision.byteCount) * Double(batch * m * n))
  }
}

extension ProductShape {
  /// One whose operand is gathered as a convolution does it, a product a group.
  fileprivate init(_ kind: Kind, _ p: GraftConvParams, m: Int, n: Int, k: Int, images: Images) {
    self.init(kind: kind, m: m, n: n, k: k, count: Int(p.groups), images: images)
    (kernel, stride) = (Pair(Int(p.kh), Int(p.kw)), Pair(Int(p.strideH), Int(p.strideW)))
    dilation = Pair(Int(p.dilationH), Int(p.dilationW))
  }
}
