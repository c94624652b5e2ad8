import CKernels
import GraftDevice

/// The gradient of a pooling with respect to the image.
///
/// Inputs: the image x [N, H, W, C] and dy [N, H', W', C]; result [N, H, W, C]. Of equal maxima in a window the first one, row by
/// row, takes all (as PyTorch's does). Every element is gathered from the windows it lies in, in their order.
public struct Pool2DGradient: Operation {
  public static let kind = "pool2DGradient"
  public var pool: Pool2D
  public init(of pool: Pool2D) { self.pool = pool }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(inputs.count == 2, Self.kind, "\(inputs.count) inputs were given")
    let y = try pool.outputType([inputs[0]])
    try ShapeError.expect(inputs[1].shape == y.shape, Self.kind, "a gradient of \(y.shape) is expected, \(inputs[1].shape) was found")
    return TensorType(inputs[0].shape)
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let (x, dy) = (inputs[0], inputs[1])
    var dx = ReferenceTensor(zeros: x.shape)
    let strides = x.strides
    let (h, w) = (x.shape[1], x.shape[2])
    for n in 0..<dy.shape[0] {
      for i in 0..<dy.shape[1] {
        for j in 0..<dy.shape[2] {
          for c in 0..<dy.shape[3] {
            var (best, count, inside) = (-1, 0, [Int]())
            for a in 0..<pool.size.h {
              for b in 0..<pool.size.w {
                let (row, column) = (
                  i * pool.stride.h + a * pool.dilation.h - pool.padding.top, j * pool.stride.w + b * pool.dilation.w - pool.padding.left
                )
                let isInside = row >= 0 && row < h && column >= 0 && column < w
                if isInside || pool.countsPadding && row < h + pool.padding.bottom && column < w + pool.padding.right { count += 1 }
                guard isInside else { continue }
                let at = n * strides[0] + row * strides[1] + column * strides[2] + c
                inside.append(at)
                if best < 0 || x.values[at] > x.values[best] { best = at }
              }
            }
            let gradient = dy[[n, i, j, c]]
            switch pool.function {
            case .maximum: if best >= 0 { dx.values[best] += gradient }
            case .average: for at in inside { dx.values[at] += gradient / Double(max(1, count)) }
            }
          }
        }
      }
    }
    return dx
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { Double(inputs[1].elementCount * pool.size.h * pool.size.w) }
  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool { !hasImages.contains(false) }

  public func lower(_ context: inout LoweringContext) throws {
    let (x, dy) = (context.shape(context.inputs[0]), context.shape(context.inputs[1]))
    let p = pool.parameters(x: x, y: dy, ldx: x[3], ldy: dy[3])
    let operands: [Operand?] = [context.stored(context.inputs[0]), context.stored(context.inputs[1]), .value(context.output)]
    switch context.traits.family {
    case .cpu: context.launch("pool", "pool_gradient", operands, p, grid: Grid(x[0] * x[1]))
    case .gpu: context.launchItems("gradient", "pool_gradient", operands, p, count: x.reduce(1, *))
    }
  }
}
