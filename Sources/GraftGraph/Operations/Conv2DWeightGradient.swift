import CKernels
import GraftDevice

/// The gradient of a convolution with respect to its weights: dw[o, c, a, b] = Σ x[n, i s + a d − p, j s + b d − p, c] dy[n, i, j, o].
///
/// Inputs: x [N, H, W, C] and dy [N, H', W', O]; result [O, C/groups, kh, kw]. Long sums over few results are cut into shares
/// that are added up in a fixed order.
public struct Conv2DWeightGradient: Operation {
  public static let kind = "conv2DWeightGradient"
  /// The convolution, without bias, residual and activation.
  public var convolution: Conv2D
  /// Rows and columns of its weights.
  public var size: Pair
  public init(of convolution: Conv2D, size: Pair) {
    self.convolution = convolution
    (self.convolution.hasBias, self.convolution.hasResidual, self.convolution.activation) = (false, false, .none)
    self.size = size
  }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(
      inputs.count == 2 && inputs.allSatisfy { $0.rank == 4 }, Self.kind,
      "an image [N, H, W, C] and a gradient [N, H', W', O] are expected, \(inputs.map(\.shape)) were found")
    let (x, dy) = (inputs[0].shape, inputs[1].shape)
    try ShapeError.expect(
      convolution.groups > 0 && x[3] % convolution.groups == 0, Self.kind, "\(x[3]) channels do not fall into \(convolution.groups) groups")
    let weights = TensorType([dy[3], x[3] / convolution.groups, size.h, size.w])
    let y = try convolution.outputType([inputs[0], weights])
    try ShapeError.expect(dy == y.shape, Self.kind, "a gradient of \(y.shape) is expected, \(dy) was found")
    return weights
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let (x, dy) = (inputs[0], inputs[1])
    let (inGroup, outGroup) = (x.shape[3] / convolution.groups, dy.shape[3] / convolution.groups)
    return ReferenceTensor([dy.shape[3], inGroup, size.h, size.w]) { i in
      var sum = 0.0
      let channel = i[0] / outGroup * inGroup + i[1]
      for n in 0..<dy.shape[0] {
        for row in 0..<dy.shape[1] {
          for column in 0..<dy.shape[2] {
            let h = row * convolution.stride.h + i[2] * convolution.dilation.h - convolution.padding.top
            let w = column * convolution.stride.w + i[3] * convolution.dilation.w - convolution.padding.left
            guard h >= 0, h < x.shape[1], w >= 0, w < x.shape[2] else { continue }
            sum +=
              x.values[((n * x.shape[1] + h) * x.shape[2] + w) * x.shape[3] + channel]
              * dy.values[((n * dy.shape[1] + row) * dy.shape[2] + column) * dy.shape[3] + i[0]]
          }
        }
      }
      return sum
    }
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double {
    2 * Double(inputs[1].elementCount) * Double(output.shape[1] * output.shape[2] * output.shape[3])
  }

  public func acceptsRowStride(input: Int) -> Bool { true }

  public func lower(_ context: inout LoweringContext) throws {
    let (x, dy) = (context.inputs[0], context.inputs[1])
    let (xs, ds, ws) = (context.shape(x), context.shape(dy), context.shape(context.output))
    let taps = ws[2] * ws[3]
    var p = GraftConvParams(
      n: Int32(xs[0]), h: Int32(xs[1]), w: Int32(xs[2]), c: Int32(xs[3]), oh: Int32(ds[1]), ow: Int32(ds[2]), oc: Int32(ds[3]),
      kh: Int32(ws[2]), kw: Int32(ws[3]), strideH: Int32(convolution.stride.h), strideW: Int32(convolution.stride.w),
      padH: Int32(convolution.padding.top), padW: Int32(convolution.padding.left), dilationH: Int32(convolution.dilation.h),
      dilationW: Int32(convolution.dilation.w), groups: Int32(convolution.groups), ldx: Int32(context.rowStride(x)),
      ldy: Int32(context.rowStride(dy)), ldr: 0, joinsTaps: 0, rowsPerItem: 0, panelsPerItem: 0, epilogue: epilogue(.none))
    let isDepthwise = ws[1] == 1 && ws[0] == convolution.groups
    switch context.traits.family {
    case .cpu:
      let vector = context.traits.vectorWidth, panel = context.traits.panelVectors * vector
      let columns = isDepthwise ? divideUp(xs[3], vector) : divideUp(ws[1], panel)
      let rows = xs[0] * ds[1], items = columns * taps * (isDepthwise ? 1 : convolution.groups)
      let shares = shareCount(rows: rows, items: items, wanted: 4 * context.workerCount, results: ws.reduce(1, *))
      p.rowsPerItem = Int32(divideUp(rows, shares))
      let partial = context.scratch(elementCount: shares * ws.reduce(1, *), precision: .float32)
      let operands: [Operand?] = [context.stored(x), context.stored(dy), partial]
      if isDepthwise {
        context.launch("conv_weights", "depthwise_weights", operands, p, grid: Grid(columns, taps, shares))
      } else {
        context.launch("conv_weights", "conv_weights", operands, p, grid: Grid(columns * taps, shares, convolution.groups))
      }
      sum(&context, partial, shares: shares, ws) { context, operands, p in
        context.launch("conv_weights", "weights_sum", operands, p, grid: Grid(ws[0]), flops: 0)
      }
    case .gpu: lowerForGPU(&context, p, ws, isDepthwise: isDepthwise)
    }
  }

  /// A product whose k is cut into shares, on a matrix unit where there is one that can read the operands; where every channel is a
  /// group of its own, a work-item a weight and share.
  private func lowerForGPU(_ context: inout LoweringContext, _ parameters: GraftConvParams, _ ws: [Int], isDepthwise: Bool) {
    var p = parameters
    let x = context.stored(context.inputs[0]), dy = context.stored(context.inputs[1])
    let rows = Int(p.n) * Int(p.oh), count = ws.reduce(1, *), columns = ws[1] * ws[2] * ws[3]
    let outputs = ws[0] / convolution.groups
    if !isDepthwise, let (partial, shares, channels) = context.weightGradientOnMatrixUnit(p, x: x, dy: dy) {
      return sumForGPU(&context, partial, shares: shares, ws, channels: channels)
    }
    let vectors = GEMMVectors(
      a: context.vector([outputs, Int(p.ldy)], [dy], atMost: 4), b: context.vector([ws[1], Int(p.ldx)], [x], atMost: 4), y: 1)
    let shape = context.weightGradientShape(p, columns: columns)
    let kernel = isDepthwise ? .naive : context.chooseProduct(shape, vectors: vectors, mayBeSkinny: false)
    let partial: Operand
    let shares: Int
    switch kernel {
    case .tiled(let tile, let splits):
      shares = splits
      partial = context.scratch(elementCount: shares * count, precision: .float32)
      context.launchGroups(
        "conv_weights", "conv_weights", [x, dy, partial], p, count: tile.blockCount(m: outputs, n: columns) * convolution.groups * splits,
        size: tile.itemCount, options: tile.options(vectors: vectors), bytes: bytes(context, partials: shares * count))
    default:
      shares = shareCount(
        rows: rows, items: divideUp(count, context.groupSize), wanted: 8 * context.traits.multiprocessors, results: count)
      p.rowsPerItem = Int32(divideUp(rows, shares))
      partial = context.scratch(elementCount: shares * count, precision: .float32)
      context.launchItems(
        "conv_weights", "conv_weights_direct", [x, dy, partial], p, count: shares * count, bytes: bytes(context, partials: shares * count))
    }
    sumForGPU(&context, partial, shares: shares, ws, channels: ws[1])
  }

  /// Bytes of both operands, read once, and of the sums.
  private func bytes(_ context: LoweringContext, partials: Int) -> Double {
    Double(context.inputs.reduce(4 * partials) { $0 + context.byteCount(of: $1) })
  }

  /// Adds shares [O, taps, channels] in order; the weights have as many channels or fewer.
  private func sumForGPU(_ context: inout LoweringContext, _ partial: Operand, shares: Int, _ ws: [Int], channels: Int) {
    let taps = ws[2] * ws[3], count = ws.reduce(1, *)
    sum(&context, partial, shares: shares, ws) { context, operands, p in
      var p = p
      (p.strideBatch, p.strideO) = (Int64(ws[0] * taps * channels), Int32(taps * channels))
      (p.strideTap, p.strideC) = (Int32(channels), 1)
      context.launchItems(
        "conv_weights", "weights_sum", operands, p, count: count, flops: 0, bytes: Double((4 * shares + context.precision.byteCount) * count))
    }
  }

  /// Shares of the output rows, none empty: enough for every thread to have several work-items, as long as the partial results are
  /// few beside what is read.
  private func shareCount(rows: Int, items: Int, wanted: Int, results: Int) -> Int {
    let most = max(1, min(rows / 8, (16 << 20) / max(1, results)))
    let shares = min(most, divideUp(wanted, max(1, items)))
    return divideUp(rows, divideUp(rows, max(1, shares)))
  }

  private func sum(
    _ context: inout LoweringContext, _ partial: Operand, shares: Int, _ weights: [Int],
    _ launch: (inout LoweringContext, [Operand?], GraftPackParams) -> Void
  ) {
    let p = GraftPackParams(
      strideBatch: 0, batch: Int32(shares), groups: 1, oc: Int32(weights[0]), c: Int32(weights[1]), taps: Int32(weights[2] * weights[3]), strideO: 0,
      strideC: 0, strideTap: 0, strideGroup: 0)
    launch(&context, [partial, .value(context.output)], p)
  }
}
