import CKernels
import Foundation
import GraftDevice

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
    case .gpu: context.launchItems("norm", "lrn", [context.stored(x), .value(context.output)], p, count: rows * channels)
    }
  }
}
