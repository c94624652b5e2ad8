import CKernels
import GraftDevice

/// Layer normalisation over the last dimension: y = (x − mean) / √(variance + ε) scale + shift (Ba et al. 2016).
///
/// x: [..., C]; inputs: x, then scale and shift ([C]) where the attributes say so.
public struct LayerNorm: Operation {
  public static let kind = "layerNorm"
  public var epsilon: Float
  public var hasScale: Bool
  public var hasShift: Bool

  public init(epsilon: Float, hasScale: Bool, hasShift: Bool) { (self.epsilon, self.hasScale, self.hasShift) = (epsilon, hasScale, hasShift) }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(
      inputs.count == 1 + (hasScale ? 1 : 0) + (hasShift ? 1 : 0) && inputs[0].rank > 0, Self.kind, "\(inputs.count) inputs were given")
    for vector in inputs.dropFirst() {
      try ShapeError.expect(
        vector.shape == [inputs[0].shape.last!], Self.kind, "vectors of \(inputs[0].shape.last!) are expected, \(vector.shape) was found")
    }
    return TensorType(inputs[0].shape)
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    var y = inputs[0]
    let c = y.shape.last!
    for row in 0..<(c == 0 ? 0 : y.values.count / c) {
      let x = inputs[0].values[row * c..<(row + 1) * c]
      let mean = x.reduce(0, +) / Double(c)
      let variance = x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(c)
      let deviation = (variance + Double(epsilon)).squareRoot()
      for i in 0..<c {
        var value = (inputs[0].values[row * c + i] - mean) / deviation
        if hasScale { value *= inputs[1].values[i] }
        if hasShift { value += inputs[inputs.count - 1].values[i] }
        y.values[row * c + i] = value
      }
    }
    return y
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { 8 * Double(output.elementCount) }
  public func acceptsRowStride(input: Int) -> Bool { input == 0 }
  public var producesRowStride: Bool { true }

  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool { hasImages[0] && !hasImages.dropFirst().contains(true) }

  public func lower(_ context: inout LoweringContext) throws {
    let x = context.inputs[0], channels = context.shape(x).last!
    let rows = context.type(x).elementCount / max(1, channels)
    let p = GraftLayerNormParams(
      rows: Int64(rows), channels: Int32(channels), ldx: Int32(context.rowStride(x)), ldy: Int32(context.rowStride(context.output)),
      hasScale: hasScale ? 1 : 0, hasShift: hasShift ? 1 : 0, epsilon: epsilon)
    let operands: [Operand?] = [
      context.stored(x), hasScale ? context.parameter(context.inputs[1]) : nil,
      hasShift ? context.parameter(context.inputs[context.inputs.count - 1]) : nil, .value(context.output),
    ]
    switch context.traits.family {
    case .cpu: context.launch("norm", "layer_norm", operands, p, grid: Grid(divideUp(rows, 16)))
    case .gpu:
      let width = context.vector([channels, Int(p.ldx), Int(p.ldy)], operands)
      let groups = context.rowGroups(rows: rows, length: channels / width)
      context.launchGroups(
        "norm", "layer_norm", operands, p, count: groups.count, size: groups.size, options: groups.options + LoweringContext.vectorOption(width))
    }
  }
}
