import CKernels
import GraftDevice

/// Extents around an image: what a convolution or a pooling adds before it looks.
public struct Padding2D: Sendable, Hashable {
  public var top, left, bottom, right: Int
  public init(top: Int = 0, left: Int = 0, bottom: Int = 0, right: Int = 0) {
    (self.top, self.left, self.bottom, self.right) = (top, left, bottom, right)
  }
  public init(_ all: Int) { self.init(top: all, left: all, bottom: all, right: all) }
}

/// Two numbers, for rows and for columns.
public struct Pair: Sendable, Hashable {
  public var h, w: Int
  public init(_ h: Int, _ w: Int) { (self.h, self.w) = (h, w) }
  public init(_ both: Int) { self.init(both, both) }
}

/// 2-D convolution: y[n, i, j, o] = activation(Σ x[n, i s + a d − p, j s + b d − p, c] w[o, c, a, b] + bias[o] + residual[n, i, j, o]).
///
/// x: [N, H, W, C], w: [O, C/groups, kh, kw] (PyTorch's and ONNX's order), bias: [O], residual and y: [N, H', W', O].
/// Inputs: x, w, then bias and residual where the attributes say so.
public struct Conv2D: Operation {
  public static let kind = "conv2D"
  public var stride = Pair(1)
  public var padding = Padding2D()
  public var dilation = Pair(1)
  public var groups = 1
  public var hasBias = false
  public var hasResidual = false
  public var activation = Activation.none

  public init(stride: Pair = Pair(1), padding: Padding2D = Padding2D(), dilation: Pair = Pair(1), groups: Int = 1, hasBias: Bool = false) {
    (self.stride, self.padding, self.dilation, self.groups, self.hasBias) = (stride, padding, dilation, groups, hasBias)
  }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    let kind = Self.kind
    try ShapeError.expect(inputs.count == 2 + (hasBias ? 1 : 0) + (hasResidual ? 1 : 0), kind, "\(inputs.count) inputs were given")
    let (x, w) = (inputs[0].shape, inputs[1].shape)
    try ShapeError.expect(
      x.count == 4 && w.count == 4, kind, "an image [N, H, W, C] and weights [O, C/groups, kh, kw] are expected, \(x) and \(w) were found")
    try ShapeError.expect(
      stride.h > 0 && stride.w > 0 && dilation.h > 0 && dilation.w > 0 && groups > 0, kind, "strides, dilations and groups must be positive")
    try ShapeError.expect(
      padding.top >= 0 && padding.left >= 0 && padding.bottom >= 0 && padding.right >= 0, kind, "padding must not be negative")
    let (inChannels, overflow) = w[1].multipliedReportingOverflow(by: groups)
    try ShapeError.expect(
      !overflow && inChannels == x[3] && w[0] % groups == 0 && w[0] > 0 && w[1] > 0 && w[2] > 0 && w[3] > 0, kind,
      "weights \(w) in \(groups) groups do not fit an input of \(x[3]) channels")
    let h = x[1] + padding.top + padding.bottom - (w[2] - 1) * dilation.h - 1
    let width = x[2] + padding.left + padding.right - (w[3] - 1) * dilation.w - 1
    try ShapeError.expect(h >= 0 && width >= 0, kind, "the kernel is larger than the padded image \(x)")
    let y = [x[0], h / stride.h + 1, width / stride.w + 1, w[0]]
    if hasBias { try ShapeError.expect(inputs[2].shape == [w[0]], kind, "a bias of \([w[0]]) is expected, \(inputs[2].shape) was found") }
    if hasResidual {
      try ShapeError.expect(inputs.last!.shape == y, kind, "a residual of \(y) is expected, \(inputs.last!.shape) was found")
    }
    return TensorType(y)
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let (x, w) = (inputs[0], inputs[1])
    let (inGroup, outGroup) = (w.shape[1], w.shape[0] / groups)
    let type = try! outputType(inputs.map { TensorType($0.shape) })
    return ReferenceTensor(type.shape) { i in
      var sum = 0.0
      let group = i[3] / outGroup
      for a in 0..<w.shape[2] {
        for b in 0..<w.shape[3] {
          let (h, v) = (i[1] * stride.h + a * dilation.h - padding.top, i[2] * stride.w + b * dilation.w - padding.left)
          guard h >= 0, h < x.shape[1], v >= 0, v < x.shape[2] else { continue }
          let at = ((i[0] * x.shape[1] + h) * x.shape[2] + v) * x.shape[3] + group * inGroup
          for c in 0..<inGroup { sum += x.values[at + c] * w.values[((i[3] * inGroup + c) * w.shape[2] + a) * w.shape[3] + b] }
        }
      }
      if hasBias { sum += inputs[2].values[i[3]] }
      if hasResidual { sum += inputs[inputs.count - 1][i] }
      return activation(sum)
    }
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double {
    2 * Double(output.elementCount) * Double(inputs[1].shape[1] * inputs[1].shape[2] * inputs[1].shape[3])
  }

  public func acceptsRowStride(input: Int) -> Bool { input == 0 || (hasResidual && input == 2 + (hasBias ? 1 : 0)) }
  public var producesRowStride: Bool { true }

  public func extraWeightByteCount(_ inputs: [TensorType], _ output: TensorType, _ traits: DeviceTraits, _ options: PlanOptions) -> Int {
    let weights = inputs[1].shape
    guard let winograd = winograd(weights: weights, output: output.shape, traits, options),
      winograd.keepsWeights(weights, output: output.shape, traits)
    else { return 0 }
    return winograd.weightByteCount(weights) - inputs[1].byteCount
  }

  /// The CPU family's way.
  private func winograd(weights: [Int], output: [Int], _ traits: DeviceTraits, _ options: PlanOptions) -> Winograd? {
    guard options.usesWinograd, traits.family == .cpu else { return nil }
    let directRate = options.precision == .bfloat16 && traits.multipliesBFloat16Pairs ? 2.0 : 1
    return Winograd.choice(self, weights: weights, output: output, directRate: directRate)
  }

  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool {
    hasImages[0] && !hasImages[1] && !(hasBias && hasImages[2]) && (!hasResidual || hasImages[hasImages.count - 1])
  }

  public func lower(_ context: inout LoweringContext) throws {
    let (x, w) = (context.inputs[0], context.inputs[1])
    let (xs, ws, ys) = (context.shape(x), context.shape(w), context.shape(context.output))
    let residual = hasResidual ? context.inputs[context.inputs.count - 1] : nil
    let p = GraftConvParams(
      n: Int32(xs[0]), h: Int32(xs[1]), w: Int32(xs[2]), c: Int32(xs[3]), oh: Int32(ys[1]), ow: Int32(ys[2]), oc: Int32(ys[3]),
      kh: Int32(ws[2]), kw: Int32(ws[3]), strideH: Int32(stride.h), strideW: Int32(stride.w), padH: Int32(padding.top), padW: Int32(padding.left),
      dilationH: Int32(dilation.h), dilationW: Int32(dilation.w), groups: Int32(groups), ldx: Int32(context.rowStride(x)),
      ldy: Int32(context.rowStride(context.output)), ldr: residual.map { Int32(context.rowStride($0)) } ?? 0, joinsTaps: 0, rowsPerItem: 0,
      panelsPerItem: 0,
      epilogue: epilogue(activation, hasBias: hasBias, hasResidual: hasResidual))
    let operands = ConvolutionOperands(
      x: context.stored(x), bias: hasBias ? context.parameter(context.inputs[2]) : nil, residual: residual.map { context.stored($0) },
      y: .value(context.output))
    switch context.traits.family {
    case .cpu: lowerForCPU(&context, p, operands)
    case .gpu: lowerForGPU(&context, p, operands)
    }
  }

  struct ConvolutionOperands {
    let x: Operand
    let bias, residual: Operand?
    let y: Operand
  }

  private func lowerForCPU(_ context: inout LoweringContext, _ parameters: GraftConvParams, _ operands: ConvolutionOperands) {
    var p = parameters
    let w = context.inputs[1], ws = context.shape(w)
    let taps = ws[2] * ws[3], outputs = ws[0] / groups
    if ws[1] == 1 && ws[0] == groups {
      let packed = context.packedDepthwise(w)
      context.launch(
        "depthwise", "depthwise", [operands.x, packed, operands.bias, operands.residual, operands.y], p, grid: Grid(Int(p.n) * Int(p.oh)))
      return
    }
    if let winograd = winograd(weights: ws, output: context.shape(context.output), context.traits, context.options) {
      return lowerByWinograd(&context, winograd, p, operands)
    }
    let packed = context.packedConvolution(w, groups: groups)
    let rows = Int(p.n) * Int(p.oh) * Int(p.ow)
    let tiling = CPUTiling(m: rows, n: outputs, rowElements: ws[1] * min(taps, 3), items: groups, context: context)
    (p.rowsPerItem, p.panelsPerItem) = (Int32(tiling.rowsPerItem), Int32(tiling.panelsPerItem))
    // 1 × 1: a product of pixels and weights, whose rows need no looking for.
    if taps == 1, groups == 1, stride == Pair(1), padding == Padding2D() {
      let matrix = GraftGemmParams(
        strideA: 0, strideB: 0, strideY: 0, strideR: 0, batch: 1, m: Int32(rows), n: p.oc, k: p.c, lda: p.ldx, ldb: 0, ldy: p.ldy, ldr: p.ldr,
        transposeA: 0, transposeB: 0, rowsPerItem: p.rowsPerItem, panelsPerItem: p.panelsPerItem, epilogue: p.epilogue)
      context.launch(
        "gemm", "gemm", [operands.x, packed, operands.bias, operands.residual, operands.y], matrix, grid: Grid(tiling.grid.x, tiling.grid.y))
      return
    }
    // Worth it where a tap is short; whole vectors of channels gain nothing.
    let isDense = p.ldx == p.c && groups == 1 && dilation.w == 1
    p.joinsTaps = isDense && CPUTiling.packedRows(ws[1], context.precision) == ws[1] && ws[1] < 32 ? 1 : 0
    let zeros = context.zeros(elementCount: Int(p.c) * ws[3])
    context.launch(
      "conv", "conv", [operands.x, packed, operands.bias, operands.residual, zeros, operands.y], p,
      grid: Grid(tiling.grid.x, tiling.grid.y, groups))
  }

  /// Depthwise directly; 1 × 1 as a product of pixels and weights; 3 × 3 by Winograd's transforms where those are faster; the rest as an implicit product (Kernels/gpu/conv.cl).
  private func lowerForGPU(_ context: inout LoweringContext, _ p: GraftConvParams, _ operands: ConvolutionOperands) {
    let w = context.inputs[1], ws = context.shape(w)
    let taps = ws[2] * ws[3], outputs = ws[0] / groups
    if ws[1] == 1, ws[0] == groups {
      let packed = packForGPU(&context, groups: 1, outputs: ws[0], inputs: 1, taps: taps, precision: .float32)
      return depthwiseForGPU(&context, p, operands, packed)
    }
    var product = ProductOperands(a: operands.x, b: operands.x, bias: operands.bias, residual: operands.residual, y: operands.y)
    if context.convolutionOnMatrixUnit(p, product, weights: w, activation) { return }
    if context.convolutionByWinograd(p, product, weights: w, activation) { return }
    product.b = packForGPU(&context, groups: groups, outputs: outputs, inputs: ws[1], taps: taps, precision: context.precision)
    guard taps == 1, groups == 1, stride == Pair(1), padding == Padding2D() else {
      return context.convolutionForGPU(p, product, activation)
    }
    let matrix = GraftGemmParams(
      strideA: 0, strideB: 0, strideY: 0, strideR: 0, batch: 1, m: p.n * p.oh * p.ow, n: p.oc, k: p.c, lda: p.ldx,
      ldb: Int32(divideUp(outputs, 4) * 4), ldy: p.ldy, ldr: p.ldr, transposeA: 0, transposeB: 0, rowsPerItem: 0, panelsPerItem: 0,
      epilogue: p.epilogue)
    context.productForGPU(matrix, product, activation, packedB: true)
  }

  /// The weights as matrices [taps inputs, outputs], a group at a time, outputs padded to a multiple of 4. Depthwise weights are
  /// parameters: float32.
  private func packForGPU(
    _ context: inout LoweringContext, groups: Int, outputs: Int, inputs: Int, taps: Int, precision: Precision
  ) -> Operand {
    let w = context.inputs[1], count = groups * taps * inputs * divideUp(outputs, 4) * 4
    let source = context.parameter(w)
    return context.derived(from: w, key: "gpu \(groups) \(inputs) \(precision)", elementCount: count, precision: precision) { context, target in
      let pack = GraftPackParams(
        strideBatch: 0, batch: 1, groups: Int32(groups), oc: Int32(outputs), c: Int32(inputs), taps: Int32(taps), strideO: Int32(inputs * taps),
        strideC: Int32(taps), strideTap: 1, strideGroup: Int32(outputs * inputs * taps))
      context.launchItems(
        "pack", "pack", [source, target], pack, count: count, flops: 0, bytes: Double((4 + precision.byteCount) * count), precision: precision)
    }
  }

  private func depthwiseForGPU(_ context: inout LoweringContext, _ p: GraftConvParams, _ operands: ConvolutionOperands, _ weights: Operand) {
    let all = [operands.x, operands.bias, operands.residual, operands.y]
    // A row's inputs and the sums stay in registers: of wide kernels, those of 4 channels.
    let width = context.vector(
      [Int(p.c), Int(p.ldx), Int(p.ldy)] + (operands.residual == nil ? [] : [Int(p.ldr)]), all, atMost: p.kw <= 3 ? 8 : 4)
    // A width and stride known to the compiler let that be so, as far as registers reach.
    let known = p.dilationW == 1 && p.kw <= 7 && p.strideW <= 2
    let pixels = width == 8 ? 2 : 4
    context.launchItems(
      "depthwise", "depthwise", [operands.x, weights, operands.bias, operands.residual, operands.y], p,
      count: Int(p.n) * Int(p.oh) * divideUp(Int(p.ow), pixels) * Int(p.c) / width,
      options: LoweringContext.vectorOption(width) + activation.gpuOptions + [
        .init("PIXELS", pixels), .init("KERNEL_W", known ? Int(p.kw) : 0), .init("STRIDE_W", known ? Int(p.strideW) : 1),
      ])
  }
}
