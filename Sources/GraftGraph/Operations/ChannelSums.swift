import CKernels
import GraftDevice

/// Sums over all rows, a channel at a time: y[0, c] = Σ a[…, c] and y[1, c] = Σ a[…, c] b[…, c].
///
/// a, b: [..., C] of one shape; y: [2, C]. The gradients of a scale and a shift, and with b = a the moments that batch
/// normalisation needs, in one pass over memory.
public struct ChannelSums: Operation {
  public static let kind = "channelSums"
  public init() {}

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(
      inputs.count == 2 && inputs[0].shape == inputs[1].shape && inputs[0].rank > 0, Self.kind,
      "two tensors of one shape are expected, \(inputs.map(\.shape)) were found")
    return TensorType([2, inputs[0].shape.last!])
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let channels = inputs[0].shape.last!
    var y = ReferenceTensor(zeros: [2, channels])
    for (i, (a, b)) in zip(inputs[0].values, inputs[1].values).enumerated() {
      y.values[i % channels] += a
      y.values[channels + i % channels] += a * b
    }
    return y
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { 3 * Double(inputs[0].elementCount) }
  public func acceptsRowStride(input: Int) -> Bool { true }

  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] {
    // d(Σ a)/da = 1, d(Σ a b)/da = b, d(Σ a b)/db = a, each for its channel.
    let (a, b) = (context.inputs[0], context.inputs[1])
    let (ones, products) = (try context.row(0, of: context.upstream), try context.row(1, of: context.upstream))
    // One tensor twice: d(Σ a²)/da = 2 a.
    if a == b {
      let twice = try context.scaled(products, by: 2)
      return [try context.add(Unary(.none, hasScale: true, hasShift: true), [a, twice, ones]), nil]
    }
    let da = context.needs(a) ? try context.add(Unary(.none, hasScale: true, hasShift: true), [b, products, ones]) : nil
    let db = context.needs(b) ? try context.add(Unary(.none, hasScale: true), [a, products]) : nil
    return [da, db]
  }

  public func lower(_ context: inout LoweringContext) throws {
    let (a, b) = (context.inputs[0], context.inputs[1])
    let channels = context.shape(a).last!, rows = context.type(a).elementCount / max(1, channels)
    var p = GraftChannelParams(
      rows: Int64(rows), rowsPerPart: 0, channels: Int32(channels), lda: Int32(context.rowStride(a)), ldb: Int32(context.rowStride(b)), ldy: 0)
    switch context.traits.family {
    case .cpu:
      let blocks = divideUp(channels, 64), wanted = divideUp(4 * context.workerCount, blocks)
      let parts = max(1, min(wanted, rows / 64))
      p.rowsPerPart = Int64(divideUp(max(1, rows), parts))
      let count = max(1, divideUp(rows, Int(p.rowsPerPart)))
      let partial = context.scratch(elementCount: count * 2 * channels, precision: .float32)
      context.launch("gradient", "channel_sums", [context.stored(a), context.stored(b), partial], p, grid: Grid(count, blocks))
      let sum = GraftReduceParams(
        outer: 1, length: Int32(count), inner: Int32(2 * channels), ldx: Int32(2 * channels), ldy: Int32(2 * channels),
        operation: Reduce.Function.sum.rawValue)
      context.computeInFloat32 { context, y in
        context.launch("reduce", "reduce", [partial, y], sum, grid: Grid(1, divideUp(2 * channels, 256)), flops: 0, precision: .float32)
      }
    case .gpu:
      let groups = context.rowGroups(rows: 1, length: 256), blocks = divideUp(channels, min(32, context.groupSize))
      let parts = max(1, min(divideUp(4 * context.traits.multiprocessors, blocks), rows / 64))
      p.rowsPerPart = Int64(divideUp(max(1, rows), parts))
      let count = max(1, divideUp(rows, Int(p.rowsPerPart)))
      let partial = context.scratch(elementCount: count * 2 * channels, precision: .float32)
      context.launchGroups(
        "gradient", "channel_sums", [context.stored(a), context.stored(b), partial], p, count: count * blocks, size: groups.size,
        options: groups.options)
      let sum = GraftReduceParams(
        outer: 1, length: Int32(count), inner: Int32(2 * channels), ldx: Int32(2 * channels), ldy: Int32(2 * channels),
        operation: Reduce.Function.sum.rawValue)
      context.launchItems("gradient", "sum_parts", [partial, .value(context.output)], sum, count: 2 * channels, flops: 0)
    }
  }
}

/// y[…, c] = a[…, c] f[0, c] + b[…, c] f[1, c] + f[2, c]: what a normalisation's gradient comes down to.
///
/// a, b: [..., C] of one shape, f: [3, C].
public struct ChannelAffine: Operation {
  public static let kind = "channelAffine"
  public init() {}

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(
      inputs.count == 3 && inputs[0].shape == inputs[1].shape && inputs[0].rank > 0 && inputs[2].shape == [3, inputs[0].shape.last!], Self.kind,
      "two tensors of one shape and factors [3, C] are expected, \(inputs.map(\.shape)) were found")
    return TensorType(inputs[0].shape)
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let c = inputs[0].shape.last!, f = inputs[2].values
    return ReferenceTensor(
      inputs[0].shape, zip(inputs[0].values, inputs[1].values).enumerated().map { i, v in v.0 * f[i % c] + v.1 * f[c + i % c] + f[2 * c + i % c] })
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { 4 * Double(output.elementCount) }
  public func acceptsRowStride(input: Int) -> Bool { input < 2 }
  public var producesRowStride: Bool { true }
  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool { hasImages[0] && hasImages[1] && !hasImages[2] }

  public func lower(_ context: inout LoweringContext) throws {
    let (a, b) = (context.inputs[0], context.inputs[1])
    let channels = context.shape(a).last!, rows = context.type(a).elementCount / max(1, channels)
    let p = GraftChannelParams(
      rows: Int64(rows), rowsPerPart: 0, channels: Int32(channels), lda: Int32(context.rowStride(a)), ldb: Int32(context.rowStride(b)),
      ldy: Int32(context.rowStride(context.output)))
    let operands: [Operand?] = [context.stored(a), context.stored(b), context.parameter(context.inputs[2]), .value(context.output)]
    switch context.traits.family {
    case .cpu: context.launch("gradient", "channel_affine", operands, p, grid: Grid(divideUp(rows, 16)))
    case .gpu:
      let width = context.vector([channels, Int(p.lda), Int(p.ldb), Int(p.ldy)], operands)
      context.launchItems(
        "gradient", "channel_affine", operands, p, count: rows * channels / width, options: LoweringContext.vectorOption(width))
    }
  }
}
