import CKernels
import GraftDevice

/// Matrix product: y[…, i, j] = activation(Σ a[…, i, k] b[…, k, j] + bias[j] + residual[…, i, j]).
///
/// a: [batch…, M, K] (or [batch…, K, M] with `transposeA`), b: [batch…, K, N] (or [batch…, N, K] with `transposeB`),
/// bias: [N], y: [batch…, M, N]. Batches broadcast as NumPy's; a matrix b with a batched a is one product of all rows.
/// Inputs: a, b, then bias and residual where the attributes say so. A linear layer is `transposeB` with PyTorch's weight.
public struct MatMul: Operation {
  public static let kind = "matMul"
  public var transposeA = false
  public var transposeB = false
  public var hasBias = false
  public var hasResidual = false
  public var activation = Activation.none

  public init(transposeA: Bool = false, transposeB: Bool = false, hasBias: Bool = false, hasResidual: Bool = false, activation: Activation = .none) {
    (self.transposeA, self.transposeB, self.hasBias) = (transposeA, transposeB, hasBias)
    (self.hasResidual, self.activation) = (hasResidual, activation)
  }

  private func sizes(_ a: [Int], _ b: [Int]) -> (m: Int, n: Int, ka: Int, kb: Int) {
    let (ra, rb) = (a.count, b.count)
    return (
      a[transposeA ? ra - 1 : ra - 2], b[transposeB ? rb - 2 : rb - 1], a[transposeA ? ra - 2 : ra - 1], b[transposeB ? rb - 1 : rb - 2]
    )
  }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    let kind = Self.kind
    try ShapeError.expect(inputs.count == 2 + (hasBias ? 1 : 0) + (hasResidual ? 1 : 0), kind, "\(inputs.count) inputs were given")
    let (a, b) = (inputs[0].shape, inputs[1].shape)
    try ShapeError.expect(a.count >= 2 && b.count >= 2, kind, "matrices are expected, \(a) and \(b) were found")
    let (m, n, ka, kb) = sizes(a, b)
    try ShapeError.expect(ka == kb, kind, "the inner extents of \(a) and \(b) differ: \(ka) and \(kb)")
    guard let batch = broadcastShape(Array(a.dropLast(2)), Array(b.dropLast(2))) else {
      throw ShapeError(kind, "the batches of \(a) and \(b) do not broadcast")
    }
    let y = batch + [m, n]
    if hasBias { try ShapeError.expect(inputs[2].shape == [n], kind, "a bias of \([n]) is expected, \(inputs[2].shape) was found") }
    if hasResidual { try ShapeError.expect(inputs.last!.shape == y, kind, "a residual of \(y) is expected, \(inputs.last!.shape) was found") }
    return TensorType(y)
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let (a, b) = (inputs[0], inputs[1])
    let k = sizes(a.shape, b.shape).ka
    let type = try! outputType(inputs.map { TensorType($0.shape) })
    // Where the matrix of a batch begins that belongs to this element.
    func start(_ t: ReferenceTensor, _ strides: [Int], _ index: [Int]) -> Int {
      let batch = t.shape.count - 2
      return (0..<batch).reduce(0) { $0 + (t.shape[$1] == 1 ? 0 : index[index.count - 2 - batch + $1]) * strides[$1] }
    }
    func steps(_ t: ReferenceTensor, _ isTransposed: Bool) -> (outer: Int, inner: Int) {
      let width = t.shape[t.shape.count - 1]
      return isTransposed ? (1, width) : (width, 1)
    }
    let (alongA, alongB) = (steps(a, transposeA), steps(b, !transposeB))
    let (stridesA, stridesB) = (a.strides, b.strides)
    return ReferenceTensor(type.shape) { i in
      let (row, column) = (i[i.count - 2], i[i.count - 1])
      let (firstA, firstB) = (start(a, stridesA, i) + row * alongA.outer, start(b, stridesB, i) + column * alongB.outer)
      var sum = 0.0
      for e in 0..<k { sum += a.values[firstA + e * alongA.inner] * b.values[firstB + e * alongB.inner] }
      if hasBias { sum += inputs[2].values[column] }
      if hasResidual { sum += inputs[inputs.count - 1][i] }
      return activation(sum)
    }
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double {
    2 * Double(output.elementCount) * Double(sizes(inputs[0].shape, inputs[1].shape).ka)
  }

  public func acceptsRowStride(input: Int) -> Bool { false }

  /// Rows of one matrix, or matrices of a batch.
  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool {
    let ranks = inputs.map(\.rank)
    guard hasImages[0], !(hasBias && hasImages[2]), !hasResidual || hasImages[hasImages.count - 1] && ranks[hasImages.count - 1] >= ranks[0] else {
      return false
    }
    if hasImages[1] { return ranks[0] == ranks[1] && ranks[0] > 2 }
    // One matrix for all: of several, each image would have its own, and those of a tile are not the first.
    return ranks[0] >= ranks[1] && inputs[1].shape.dropLast(2).allSatisfy { $0 == 1 } && !(transposeA && ranks[0] == 2)
  }

  public func lower(_ context: inout LoweringContext) throws {
    let (a, b) = (context.inputs[0], context.inputs[1])
    let (sa, sb, sy) = (context.shape(a), context.shape(b), context.shape(context.output))
    var (m, n, k, _) = sizes(sa, sb)
    // How many matrices there are, and how far apart they lie in each operand.
    let batchShape = Array(sy.dropLast(2))
    var batch = batchShape.reduce(1, *)
    let (batchA, batchB) = (sa.dropLast(2).reduce(1, *), sb.dropLast(2).reduce(1, *))
    if batchB == 1, batchA == batch, !transposeA { (m, batch) = (m * batch, 1) }
    guard batch == 1 || (batchA == batch || batchA == 1) && (batchB == batch || batchB == 1) else {
      throw LoweringError(context, "batches \(sa) and \(sb) broadcast in a way that has no kernel: expand one of them first")
    }
    let p = GraftGemmParams(
      strideA: batchA == 1 || batch == 1 ? 0 : Int64(m * k), strideB: batchB == 1 ? 0 : Int64(k * n), strideY: Int64(m * n), strideR: Int64(m * n),
      batch: Int32(batch), m: Int32(m), n: Int32(n), k: Int32(k), lda: Int32(transposeA ? m : k), ldb: Int32(transposeB ? k : n), ldy: Int32(n),
      ldr: Int32(n), transposeA: transposeA ? 1 : 0, transposeB: transposeB ? 1 : 0, rowsPerItem: 0, panelsPerItem: 0,
      epilogue: epilogue(activation, hasBias: hasBias, hasResidual: hasResidual))
    let bias: Operand? = hasBias ? context.parameter(context.inputs[2]) : nil
    let residual: Operand? = hasResidual ? context.stored(context.inputs[context.inputs.count - 1]) : nil
    switch context.traits.family {
    case .cpu: lowerForCPU(&context, p, bias: bias, residual: residual, matricesA: batchA, matricesB: batchB)
    case .gpu:
      let operands = ProductOperands(a: context.stored(a), b: context.stored(b), bias: bias, residual: residual, y: .value(context.output))
      context.productForGPU(p, operands, activation)
    }
  }

  private func lowerForCPU(
    _ context: inout LoweringContext, _ parameters: GraftGemmParams, bias: Operand?, residual: Operand?, matricesA: Int, matricesB: Int
  ) {
    let a = context.inputs[0], b = context.inputs[1]
    // A constant is packed once; what is not would be packed for this product alone.
    if context.precision == .float32, context.graph.constant(b) == nil {
      return lowerInPlace(&context, parameters, bias: bias, residual: residual)
    }
    var p = parameters
    let (m, n, k) = (Int(p.m), Int(p.n), Int(p.k))
    let left: Operand
    if transposeA {
      left = context.derived(from: a, key: "transposed", elementCount: matricesA * m * k) { context, target in
        let copy = copyParameters(
          dims: [matricesA, k, m], from: [k * m, m, 1], to: [k * m, 1, k])
        context.launchTransposition(from: .value(a), to: target, copy, elementCount: matricesA * k * m)
      }
      p.lda = p.k
    } else {
      left = context.stored(a)
    }
    let packedRows = CPUTiling.packedRows(k, context.precision)
    let packedColumns = CPUTiling.packedChannels(n, context.traits)
    let right = context.derived(
      from: b, key: "matrix \(transposeB)", elementCount: matricesB * packedRows * packedColumns
    ) { context, target in
      let pack = GraftPackParams(
        strideBatch: Int64(k * n), batch: Int32(matricesB), groups: 1, oc: p.n, c: p.k, taps: 1, strideO: transposeB ? p.k : 1,
        strideC: transposeB ? 1 : p.n, strideTap: 0, strideGroup: 0)
      context.packForCPU(context.parameter(b), into: target, pack)
    }
    p.strideB = matricesB == 1 ? 0 : Int64(packedRows * packedColumns)
    let tiling = CPUTiling(m: m, n: n, rowElements: k, items: Int(p.batch), context: context)
    (p.rowsPerItem, p.panelsPerItem) = (Int32(tiling.rowsPerItem), Int32(tiling.panelsPerItem))
    context.launch(
      "gemm", "gemm", [left, right, bias, residual, .value(context.output)], p, grid: Grid(tiling.grid.x, tiling.grid.y, Int(p.batch)))
  }

  /// The product of operands as they lie in memory.
  private func lowerInPlace(_ context: inout LoweringContext, _ parameters: GraftGemmParams, bias: Operand?, residual: Operand?) {
    var p = parameters
    let tiling = ProductTiling(m: Int(p.m), n: Int(p.n), items: Int(p.batch), context: context)
    p.rowsPerItem = Int32(tiling.rowsPerItem)
    p.panelsPerItem = 1
    let operands: [Operand?] = [context.stored(context.inputs[0]), context.stored(context.inputs[1]), bias, residual, .value(context.output)]
    context.launch("product", "product", operands, p, grid: Grid(tiling.grid.x, tiling.grid.y, Int(p.batch)))
  }
}
