import CKernels
import GraftDevice

/// A function of every element: y = activation(x · scale[c] + shift[c]), c the last dimension's index.
///
/// x: [..., C], scale and shift (inputs 1 and 2, where the attributes say so): [C]. With scale and shift it is a
/// normalisation with fixed statistics.
public struct Unary: Operation {
  public static let kind = "unary"
  public var activation: Activation
  public var hasScale: Bool
  public var hasShift: Bool

  public init(_ activation: Activation, hasScale: Bool = false, hasShift: Bool = false) {
    (self.activation, self.hasScale, self.hasShift) = (activation, hasScale, hasShift)
  }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(inputs.count == 1 + (hasScale ? 1 : 0) + (hasShift ? 1 : 0), Self.kind, "\(inputs.count) inputs were given")
    for vector in inputs.dropFirst() {
      let channels = inputs[0].shape.last ?? 1
      try ShapeError.expect(vector.shape == [channels], Self.kind, "a vector of \(channels) is expected, \(vector.shape) was found")
    }
    return TensorType(inputs[0].shape)
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let channels = max(1, inputs[0].shape.last ?? 1)
    return ReferenceTensor(
      inputs[0].shape,
      inputs[0].values.enumerated().map { i, x in
        var x = x
        if hasScale { x *= inputs[1].values[i % channels] }
        if hasShift { x += inputs[inputs.count - 1].values[i % channels] }
        return activation(x)
      })
  }

  public func acceptsRowStride(input: Int) -> Bool { input == 0 }
  public var producesRowStride: Bool { true }

  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool { hasImages[0] && !hasImages.dropFirst().contains(true) }

  public func lower(_ context: inout LoweringContext) throws {
    let x = context.inputs[0], y = context.output
    var (rows, channels) = (1, context.shape(x).last ?? 1)
    rows = context.type(x).elementCount / max(1, channels)
    var (ldx, ldy) = (context.rowStride(x), context.rowStride(y))
    if !hasScale, !hasShift, ldx == channels, ldy == channels {
      // Without channels of their own, elements are one long row: cut it evenly.
      let count = rows * channels
      let length = count % 1024 == 0 ? 1024 : count % 64 == 0 ? 64 : channels
      (rows, channels, ldx, ldy) = (count / max(1, length), length, length, length)
    }
    let p = GraftUnaryParams(
      rows: Int64(rows), channels: Int32(channels), ldx: Int32(ldx), ldy: Int32(ldy), hasScale: hasScale ? 1 : 0, hasShift: hasShift ? 1 : 0,
      epilogue: epilogue(activation))
    let operands: [Operand?] = [
      context.stored(x), hasScale ? context.parameter(context.inputs[1]) : nil,
      hasShift ? context.parameter(context.inputs[context.inputs.count - 1]) : nil, .value(y),
    ]
    switch context.traits.family {
    case .cpu: context.launch("elementwise", "unary", operands, p, grid: Grid(divideUp(rows, 16), divideUp(channels, 4096)))
    case .gpu:
      let width = context.vector([channels, ldx, ldy], operands)
      context.launchItems(
        "elementwise", "unary", operands, p, count: rows * channels / width,
        options: LoweringContext.vectorOption(width) + activation.gpuOptions)
    }
  }
}
