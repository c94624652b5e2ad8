import CKernels
import GraftDevice

/// Mean, sum or maximum over neighbouring dimensions.
public struct Reduce: Operation {
  public static let kind = "reduce"
  public enum Function: Int32, Sendable { case mean = 0, sum, maximum }

  public var function: Function
  /// Ascending, not negative.
  public var axes: [Int]
  public var keepsDimensions: Bool

  public init(_ function: Function, axes: [Int], keepsDimensions: Bool) {
    (self.function, self.axes, self.keepsDimensions) = (function, axes.sorted(), keepsDimensions)
  }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(inputs.count == 1, Self.kind, "\(inputs.count) inputs were given")
    let shape = inputs[0].shape
    try ShapeError.expect(
      axes.allSatisfy { $0 >= 0 && $0 < shape.count } && Set(axes).count == axes.count, Self.kind, "axes \(axes) do not fit \(shape)")
    try ShapeError.expect(axes.allSatisfy { shape[$0] > 0 }, Self.kind, "nothing to reduce in \(shape)")
    return TensorType(shape.indices.compactMap { axes.contains($0) ? (keepsDimensions ? 1 : nil) : shape[$0] })
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let x = inputs[0]
    let kept = x.shape.indices.map { axes.contains($0) ? 1 : x.shape[$0] }
    var result = ReferenceTensor(kept, Array(repeating: function == .maximum ? -.infinity : 0, count: kept.reduce(1, *)))
    let strides = broadcastStrides(kept, to: x.shape)
    var index = [Int](repeating: 0, count: x.shape.count)
    for value in x.values {
      let at = zip(index, strides).reduce(0) { $0 + $1.0 * $1.1 }
      result.values[at] = function == .maximum ? max(result.values[at], value) : result.values[at] + value
      for d in x.shape.indices.reversed() {
        index[d] += 1
        if index[d] < x.shape[d] { break }
        index[d] = 0
      }
    }
    if function == .mean {
      let count = Double(axes.reduce(1) { $0 * x.shape[$1] })
      result.values = result.values.map { $0 / count }
    }
    return ReferenceTensor(try! outputType([TensorType(x.shape)]).shape, result.values)
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { Double(inputs[0].elementCount) }
  public func acceptsRowStride(input: Int) -> Bool { true }

  /// Rows that lie apart are fine where the rows are what is reduced, in one image or many.
  public func lower(_ context: inout LoweringContext) throws {
    let x = context.inputs[0]
    let shape = context.shape(x)
    guard let first = axes.first, let last = axes.last else {
      let count = context.type(x).elementCount
      let stride = context.rowStride(x), channels = shape.last ?? 1
      try context.copy(
        dims: [count / max(1, channels), channels], from: .value(x), fromStrides: [stride, 1], to: .value(context.output), toStrides: [channels, 1])
      return
    }
    guard last - first + 1 == axes.count else { throw LoweringError(context, "reduces axes that are not neighbours: \(axes) of \(shape)") }
    let outer = shape[..<first].reduce(1, *), length = shape[first...last].reduce(1, *), inner = shape[(last + 1)...].reduce(1, *)
    let channels = shape.last ?? 1, stride = context.rowStride(x)
    var (source, ldx) = (Operand.value(x), inner)
    if stride != channels {
      if last == shape.count - 2 {
        ldx = stride
      } else {
        source = context.scratch(elementCount: outer * length * inner)
        try context.copy(
          dims: [outer * length * inner / channels, channels], from: .value(x), fromStrides: [stride, 1], to: source, toStrides: [channels, 1])
      }
    }
    let p = GraftReduceParams(
      outer: Int32(outer), length: Int32(length), inner: Int32(inner), ldx: Int32(ldx), ldy: Int32(inner), operation: function.rawValue)
    switch context.traits.family {
    case .cpu: context.launch("reduce", "reduce", [source, .value(context.output)], p, grid: Grid(outer, divideUp(inner, 256)))
    case .gpu: throw LoweringError(context, "has no kernel in the GPU family yet")
    }
  }
}
