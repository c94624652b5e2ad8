import CKernels
import GraftDevice

/// Bytes of images into floats: y[n, h, w, c] = x[n, h, w, c] scale[c] + shift[c].
///
/// x: [N, H, W, C] uint8, scale and shift: [C]. With scale = 1/(255 std) and shift = −mean/std it is torchvision's
/// ToTensor and Normalize.
public struct NormalizeImage: Operation {
  public static let kind = "normalizeImage"
  public init() {}

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(
      inputs.count == 3 && inputs[0].rank == 4 && inputs[0].elementType == .uint8, Self.kind, "bytes [N, H, W, C] are expected, \(inputs) was found")
    for vector in inputs.dropFirst() {
      try ShapeError.expect(
        vector.shape == [inputs[0].shape[3]], Self.kind, "vectors of \(inputs[0].shape[3]) are expected, \(vector.shape) was found")
    }
    return TensorType(inputs[0].shape)
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let c = inputs[0].shape[3]
    return ReferenceTensor(inputs[0].shape, inputs[0].values.enumerated().map { $1 * inputs[1].values[$0 % c] + inputs[2].values[$0 % c] })
  }

  public var producesRowStride: Bool { true }

  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool { hasImages[0] && !hasImages.dropFirst().contains(true) }

  public func lower(_ context: inout LoweringContext) throws {
    let shape = context.shape(context.output)
    let pixels = shape[0] * shape[1] * shape[2]
    let p = GraftNormalizeParams(pixels: Int64(pixels), channels: Int32(shape[3]), ldy: Int32(context.rowStride(context.output)))
    let operands: [Operand?] = [
      .value(context.inputs[0]), context.parameter(context.inputs[1]), context.parameter(context.inputs[2]), .value(context.output),
    ]
    switch context.traits.family {
    case .cpu: context.launch("elementwise", "normalize_image", operands, p, grid: Grid(divideUp(pixels, 1024)))
    case .gpu:
      let width = Int(p.ldy) == shape[3] ? context.vector([], [.value(context.output)]) : 1
      context.launchItems(
        "elementwise", "normalize_image", operands, p, count: divideUp(pixels * shape[3], width), options: LoweringContext.vectorOption(width))
    }
  }
}
