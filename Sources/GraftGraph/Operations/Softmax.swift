import CKernels
import Foundation
import GraftDevice

/// Softmax along one axis, or its logarithm.
public struct Softmax: Operation {
  public static let kind = "softmax"
  public var axis: Int
  public var logarithm: Bool

  public init(axis: Int, logarithm: Bool = false) { (self.axis, self.logarithm) = (axis, logarithm) }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(
      inputs.count == 1 && axis >= 0 && axis < inputs[0].rank, Self.kind, "axis \(axis) does not fit \(inputs.map(\.shape))")
    return TensorType(inputs[0].shape)
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    var y = inputs[0]
    if y.values.isEmpty { return y }
    let (length, inner) = (y.shape[axis], y.shape[(axis + 1)...].reduce(1, *))
    for outer in 0..<y.shape[..<axis].reduce(1, *) {
      for i in 0..<inner {
        let at = (0..<length).map { (outer * length + $0) * inner + i }
        let greatest = at.map { y.values[$0] }.max() ?? 0
        let total = at.reduce(0) { $0 + exp(y.values[$1] - greatest) }
        for e in at { y.values[e] = logarithm ? y.values[e] - greatest - log(total) : exp(y.values[e] - greatest) / total }
      }
    }
    return y
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { 5 * Double(output.elementCount) }

  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool { axis != 0 }

  public func lower(_ context: inout LoweringContext) throws {
    let shape = context.shape(context.output)
    let p = GraftSoftmaxParams(
      outer: Int32(shape[..<axis].reduce(1, *)), length: Int32(shape[axis]), inner: Int32(shape[(axis + 1)...].reduce(1, *)),
      logarithm: logarithm ? 1 : 0)
    switch context.traits.family {
    case .cpu:
      let x = context.parameter(context.inputs[0])
      let grid = p.inner == 1 ? Grid(divideUp(Int(p.outer), 4)) : Grid(Int(p.outer), divideUp(Int(p.inner), 16))
      context.computeInFloat32 { context, y in
        context.launch("softmax", "softmax", [x, y], p, grid: grid, precision: .float32)
      }
    case .gpu:
      let operands: [Operand?] = [context.stored(context.inputs[0]), .value(context.output)]
      guard p.inner == 1 else {
        return context.launchItems("softmax", "softmax_columns", operands, p, count: Int(p.outer) * Int(p.inner))
      }
      let groups = context.rowGroups(rows: Int(p.outer), length: shape[axis])
      context.launchGroups("softmax", "softmax_rows", operands, p, count: groups.count, size: groups.size, options: groups.options)
    }
  }
}
