import CKernels
import GraftDevice

/// The gradient of a layer normalisation with respect to its input.
///
/// Inputs: x and dy [..., C], then the scale [C] where there is one. With g = dy · scale and x̂ the normalised row,
/// dx = (g − mean(g) − x̂ mean(g x̂)) / √(variance + ε).
public struct LayerNormGradient: Operation {
  public static let kind = "layerNormGradient"
  public var epsilon: Float
  public var hasScale: Bool
  public init(epsilon: Float, hasScale: Bool) { (self.epsilon, self.hasScale) = (epsilon, hasScale) }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(
      inputs.count == (hasScale ? 3 : 2) && inputs[0].shape == inputs[1].shape && inputs[0].rank > 0, Self.kind,
      "two tensors of one shape are expected, \(inputs.map(\.shape)) were found")
    if hasScale { try ShapeError.expect(inputs[2].shape == [inputs[0].shape.last!], Self.kind, "a scale of \(inputs[0].shape.last!) is expected") }
    return TensorType(inputs[0].shape)
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    var dx = inputs[0]
    let c = dx.shape.last!, n = Double(c)
    for start in stride(from: 0, to: dx.values.count, by: max(1, c)) {
      let x = inputs[0].values[start..<start + c], mean = x.reduce(0, +) / n
      let deviation = (x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / n + Double(epsilon)).squareRoot()
      let normal = x.map { ($0 - mean) / deviation }
      let g = (0..<c).map { inputs[1].values[start + $0] * (hasScale ? inputs[2].values[$0] : 1) }
      let (meanOfG, meanOfProducts) = (g.reduce(0, +) / n, zip(g, normal).reduce(0) { $0 + $1.0 * $1.1 } / n)
      for i in 0..<c { dx.values[start + i] = (g[i] - meanOfG - normal[i] * meanOfProducts) / deviation }
    }
    return dx
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { 16 * Double(output.elementCount) }
  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool { hasImages[0] && hasImages[1] && !hasImages[2...].contains(true) }

  public func lower(_ context: inout LoweringContext) throws {
    let x = context.inputs[0], channels = context.shape(x).last!, rows = context.type(x).elementCount / max(1, channels)
    let p = GraftLayerNormParams(
      rows: Int64(rows), channels: Int32(channels), ldx: Int32(channels), ldy: Int32(channels), hasScale: hasScale ? 1 : 0, hasShift: 0,
      epsilon: epsilon)
    let operands: [Operand?] = [
      context.stored(x), context.stored(context.inputs[1]), hasScale ? context.parameter(context.inputs[2]) : nil, .value(context.output),
    ]
    switch context.traits.family {
    case .cpu: context.launch("gradient", "layer_norm_gradient", operands, p, grid: Grid(divideUp(rows, 16)))
    case .gpu:
      let groups = context.rowGroups(rows: rows, length: channels)
      context.launchGroups("gradient", "layer_norm_gradient", operands, p, count: groups.count, size: groups.size, options: groups.options)
    }
  }
}
