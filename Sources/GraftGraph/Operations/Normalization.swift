import CKernels
import Foundation
import GraftDevice

/// Batch normalisation with its inference statistics: y = (x − mean[c]) / √(variance[c] + ε) scale[c] + shift[c].
///
/// x: [..., C]; inputs: x, scale, shift, mean, variance (each [C]). A plan never runs it: `foldNormalization` turns it into
/// weights of the convolution before it, or into a `Unary` with scale and shift.
public struct BatchNorm: Operation {
  public static let kind = "batchNorm"
  public var epsilon: Double

  public init(epsilon: Double) { self.epsilon = epsilon }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(inputs.count == 5, Self.kind, "\(inputs.count) inputs were given")
    for vector in inputs.dropFirst() {
      try ShapeError.expect(
        vector.shape == [inputs[0].shape.last ?? 1], Self.kind, "vectors of \(inputs[0].shape.last ?? 1) are expected, \(vector.shape) was found")
    }
    return TensorType(inputs[0].shape)
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let channels = max(1, inputs[0].shape.last ?? 1)
    return ReferenceTensor(
      inputs[0].shape,
      inputs[0].values.enumerated().map { i, x in
        let c = i % channels
        return (x - inputs[3].values[c]) / (inputs[4].values[c] + epsilon).squareRoot() * inputs[1].values[c] + inputs[2].values[c]
      })
  }

  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool { hasImages[0] && !hasImages.dropFirst().contains(true) }

  public func lower(_ context: inout LoweringContext) throws {
    throw LoweringError(context, "its statistics are not constants of the model: only inference statistics are supported")
  }
}

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
      let x = y.values[row * c..<(row + 1) * c]
      let mean = x.reduce(0, +) / Double(c)
      let variance = x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(c)
      for i in 0..<c {
        var value = (y.values[row * c + i] - mean) / (variance + Double(epsilon)).squareRoot()
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
      let groups = context.rowGroups(rows: rows, length: channels)
      context.launchGroups("norm", "layer_norm", operands, p, count: groups.count, size: groups.size, options: groups.options)
    }
  }
}

/// Local response normalisation across channels: y = x / (k + α/size Σ x²)^β over a window of channels (Krizhevsky et al. 2012).
///
/// x: [..., C]; the window of channel c is [c − ⌊(size−1)/2⌋, c + ⌈(size−1)/2⌉], as ONNX's.
public struct LocalResponseNorm: Operation {
  public static let kind = "localResponseNorm"
  public var size: Int
  public var alpha, beta, k: Float

  public init(size: Int, alpha: Float, beta: Float, k: Float) { (self.size, self.alpha, self.beta, self.k) = (size, alpha, beta, k) }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(inputs.count == 1 && inputs[0].rank > 0 && size > 0, Self.kind, "a window of \(size) over \(inputs.map(\.shape))")
    return TensorType(inputs[0].shape)
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let x = inputs[0], c = x.shape.last!
    return ReferenceTensor(
      x.shape,
      x.values.indices.map { i in
        let (row, channel) = (i / c * c, i % c)
        let window = max(0, channel - (size - 1) / 2)...min(c - 1, channel + size / 2)
        let squares = window.reduce(0.0) { $0 + x.values[row + $1] * x.values[row + $1] }
        return x.values[i] / pow(Double(k) + Double(alpha) / Double(size) * squares, Double(beta))
      })
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { Double(2 * size + 10) * Double(output.elementCount) }
  public func acceptsRowStride(input: Int) -> Bool { true }
  public var producesRowStride: Bool { true }

  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool { hasImages[0] && !hasImages.dropFirst().contains(true) }

  public func lower(_ context: inout LoweringContext) throws {
    let x = context.inputs[0], channels = context.shape(x).last!
    let rows = context.type(x).elementCount / max(1, channels)
    let p = GraftLRNParams(
      rows: Int64(rows), channels: Int32(channels), ldx: Int32(context.rowStride(x)), ldy: Int32(context.rowStride(context.output)),
      size: Int32(size), alpha: alpha, beta: beta, k: k)
    switch context.traits.family {
    case .cpu: context.launch("norm", "lrn", [context.stored(x), .value(context.output)], p, grid: Grid(divideUp(rows, 16)))
    case .gpu: context.launchItems("norm", "lrn", [.value(x), .value(context.output)], p, count: rows * channels)
    }
  }
}
