import CKernels
import GraftDevice

/// Maximum or average pooling, x: [N, H, W, C], y: [N, H', W', C].
///
/// An average divides by the positions inside the image, or, with `countsPadding`, inside the padded image (ONNX's
/// count_include_pad). `ceilMode` rounds the output's extents up, except that no window starts in the padding after the
/// image (PyTorch's rule, and ONNX's from opset 19).
public struct Pool2D: Operation {
  public static let kind = "pool2D"
  public enum Function: String, Sendable { case maximum, average }

  public var function: Function
  public var size: Pair
  public var stride: Pair
  public var padding: Padding2D
  public var dilation = Pair(1)
  public var ceilMode = false
  public var countsPadding = false

  public init(
    _ function: Function, size: Pair, stride: Pair? = nil, padding: Padding2D = Padding2D(), ceilMode: Bool = false, countsPadding: Bool = false
  ) {
    (self.function, self.size, self.stride, self.padding) = (function, size, stride ?? size, padding)
    (self.ceilMode, self.countsPadding) = (ceilMode, countsPadding)
  }

  private func extent(_ input: Int, _ size: Int, _ stride: Int, _ dilation: Int, _ before: Int, _ after: Int) -> Int {
    let room = input + before + after - (size - 1) * dilation - 1
    guard room >= 0 else { return 0 }
    var count = (ceilMode ? divideUp(room, stride) : room / stride) + 1
    if ceilMode, (count - 1) * stride >= input + before { count -= 1 }
    return count
  }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    let kind = Self.kind
    try ShapeError.expect(inputs.count == 1 && inputs[0].rank == 4, kind, "an image [N, H, W, C] is expected, \(inputs.map(\.shape)) was found")
    try ShapeError.expect(
      size.h > 0 && size.w > 0 && stride.h > 0 && stride.w > 0 && dilation.h > 0 && dilation.w > 0, kind, "size, stride and dilation must be positive"
    )
    try ShapeError.expect(
      padding.top >= 0 && padding.left >= 0 && padding.bottom >= 0 && padding.right >= 0, kind, "padding must not be negative")
    let reach = Pair((size.h - 1) * dilation.h, (size.w - 1) * dilation.w)
    try ShapeError.expect(
      max(padding.top, padding.bottom) <= reach.h && max(padding.left, padding.right) <= reach.w, kind,
      "padding must be smaller than the window, so that every window sees the image")
    let x = inputs[0].shape
    let h = extent(x[1], size.h, stride.h, dilation.h, padding.top, padding.bottom)
    let w = extent(x[2], size.w, stride.w, dilation.w, padding.left, padding.right)
    try ShapeError.expect(h > 0 && w > 0, kind, "the window is larger than the padded image \(x)")
    return TensorType([x[0], h, w, x[3]])
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let x = inputs[0]
    let type = try! outputType([TensorType(x.shape)])
    return ReferenceTensor(type.shape) { i in
      var (sum, greatest, count) = (0.0, -Double.infinity, 0)
      for a in 0..<size.h {
        for b in 0..<size.w {
          let (h, w) = (i[1] * stride.h + a * dilation.h - padding.top, i[2] * stride.w + b * dilation.w - padding.left)
          let inside = h >= 0 && h < x.shape[1] && w >= 0 && w < x.shape[2]
          let padded = countsPadding && h < x.shape[1] + padding.bottom && w < x.shape[2] + padding.right
          if inside || padded { count += 1 }
          guard inside else { continue }
          let value = x[[i[0], h, w, i[3]]]
          sum += value
          greatest = max(greatest, value)
        }
      }
      return function == .maximum ? greatest : count > 0 ? sum / Double(count) : 0
    }
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { Double(output.elementCount * size.h * size.w) }
  public func acceptsRowStride(input: Int) -> Bool { true }
  public var producesRowStride: Bool { true }

  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool { true }

  func parameters(x: [Int], y: [Int], ldx: Int, ldy: Int) -> GraftPoolParams {
    GraftPoolParams(
      n: Int32(x[0]), h: Int32(x[1]), w: Int32(x[2]), c: Int32(x[3]), oh: Int32(y[1]), ow: Int32(y[2]), kh: Int32(size.h), kw: Int32(size.w),
      strideH: Int32(stride.h), strideW: Int32(stride.w), padH: Int32(padding.top), padW: Int32(padding.left), dilationH: Int32(dilation.h),
      dilationW: Int32(dilation.w), ldx: Int32(ldx), ldy: Int32(ldy), average: function == .average ? 1 : 0, countsPadding: countsPadding ? 1 : 0,
      padEndH: Int32(padding.bottom), padEndW: Int32(padding.right))
  }

  public func lower(_ context: inout LoweringContext) throws {
    let (x, y) = (context.shape(context.inputs[0]), context.shape(context.output))
    let p = parameters(x: x, y: y, ldx: context.rowStride(context.inputs[0]), ldy: context.rowStride(context.output))
    switch context.traits.family {
    case .cpu: context.launch("pool", "pool", [context.stored(context.inputs[0]), .value(context.output)], p, grid: Grid(y[0] * y[1]))
    case .gpu:
      let operands: [Operand?] = [context.stored(context.inputs[0]), .value(context.output)]
      let width = context.vector([x[3], Int(p.ldx), Int(p.ldy)], operands)
      context.launchItems(
        "pool", "pool", operands, p, count: y.reduce(1, *) / width, options: LoweringContext.vectorOption(width))
    }
  }
}
