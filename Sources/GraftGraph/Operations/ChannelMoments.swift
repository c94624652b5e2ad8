import CKernels
import GraftDevice

/// Mean and variance over all rows, a channel at a time: y[0, c] = mean of x[…, c], y[1, c] = mean of (x[…, c] − y[0, c])².
///
/// x: [..., C]; y: [2, C]. What batch normalisation subtracts and divides by in training; one pass over memory, in which a mean far
/// from zero costs no digits.
public struct ChannelMoments: Operation {
  public static let kind = "channelMoments"
  public init() {}
  public var resultIsFloat32: Bool { true }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(
      inputs.count == 1 && inputs[0].rank > 0 && inputs[0].elementCount > 0, Self.kind, "a tensor with rows is expected, \(inputs) was found")
    return TensorType([2, inputs[0].shape.last!])
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let channels = inputs[0].shape.last!, rows = Double(inputs[0].values.count / channels)
    var y = ReferenceTensor(zeros: [2, channels])
    for (i, x) in inputs[0].values.enumerated() { y.values[i % channels] += x / rows }
    for (i, x) in inputs[0].values.enumerated() {
      let d = x - y.values[i % channels]
      y.values[channels + i % channels] += d * d / rows
    }
    return y
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { 4 * Double(inputs[0].elementCount) }
  public func acceptsRowStride(input: Int) -> Bool { input == 0 }

  /// With n rows: d mean/dx = 1/n and d variance/dx = 2 (x − mean)/n.
  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] {
    let x = context.inputs[0], shape = context.shape(x), rows = shape.dropLast().reduce(1, *)
    let mean = try context.row(0, of: context.output)
    let ofMean = try context.scaled(try context.row(0, of: context.upstream), by: 1 / Float(rows))
    let scale = try context.scaled(try context.row(1, of: context.upstream), by: 2 / Float(rows))
    let shift = try context.binary(.subtract, ofMean, try context.binary(.multiply, scale, mean))
    return [try context.add(Unary(.none, hasScale: true, hasShift: true), [x, scale, shift])]
  }

  public func lower(_ context: inout LoweringContext) throws {
    // The result is float32; the tensor is read as it lies.
    let x = context.inputs[0], channels = context.shape(x).last!, rows = context.type(x).elementCount / channels
    var p = GraftChannelParams(
      rows: Int64(rows), rowsPerPart: 0, channels: Int32(channels), lda: Int32(context.rowStride(x)), ldb: 0, ldy: 0)
    switch context.traits.family {
    case .cpu:
      let blocks = divideUp(channels, 64), parts = max(1, min(divideUp(4 * context.workerCount, blocks), rows / 64))
      p.rowsPerPart = Int64(divideUp(rows, parts))
      let count = divideUp(rows, Int(p.rowsPerPart)), partial = context.scratch(elementCount: count * 2 * channels, precision: .float32)
      context.launch(
        "gradient", "channel_moments", [.value(x), partial], p, grid: Grid(count, blocks), precision: context.precision(of: x))
      context.computeInFloat32 { context, y in
        context.launch("gradient", "merge_moments", [partial, y], p, grid: Grid(blocks), flops: 0, bytes: 0, precision: .float32)
      }
    case .gpu:
      let groups = context.rowGroups(rows: 1, length: 256), blocks = divideUp(channels, min(32, context.groupSize))
      let parts = max(1, min(divideUp(4 * context.traits.multiprocessors, blocks), rows / 64))
      p.rowsPerPart = Int64(divideUp(rows, parts))
      let count = divideUp(rows, Int(p.rowsPerPart)), partial = context.scratch(elementCount: count * 2 * channels, precision: .float32)
      context.launchGroups(
        "gradient", "channel_moments", [.value(x), partial], p, count: count * blocks, size: groups.size, options: groups.options,
        precision: context.precision(of: x))
      context.computeInFloat32 { context, y in
        context.launchItems("gradient", "merge_moments", [partial, y], p, count: channels, flops: 0, bytes: 0, precision: .float32)
      }
    }
  }
}
