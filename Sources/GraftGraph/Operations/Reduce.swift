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
    walk(x.shape, (0, x.strides), (0, broadcastStrides(kept, to: x.shape))) { from, to in
      let value = x.values[from]
      result.values[to] = function == .maximum ? max(result.values[to], value) : result.values[to] + value
    }
    if function == .mean {
      let count = Double(axes.reduce(1) { $0 * x.shape[$1] })
      result.values = result.values.map { $0 / count }
    }
    return ReferenceTensor(try! outputType([TensorType(x.shape)]).shape, result.values)
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { Double(inputs[0].elementCount) }
  public func acceptsRowStride(input: Int) -> Bool { true }

  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool { !axes.contains(0) }

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
    guard last - first + 1 == axes.count else { return try lowerApart(&context) }
    let outer = shape[..<first].reduce(1, *), length = shape[first...last].reduce(1, *), inner = shape[(last + 1)...].reduce(1, *)
    let channels = shape.last ?? 1, stride = context.rowStride(x)
    var (source, ldx) = (context.stored(x), inner)
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
    case .gpu: lowerForGPU(&context, p, source)
    }
  }

  /// Axes that lie apart: a copy with those that stay in front, then one pass over its rows.
  private func lowerApart(_ context: inout LoweringContext) throws {
    let x = context.inputs[0], shape = context.shape(x), strides = context.strides(of: x)
    let kept = shape.indices.filter { !axes.contains($0) }
    let outer = kept.reduce(1) { $0 * shape[$1] }, length = axes.reduce(1) { $0 * shape[$1] }
    // In the source's order, so that its last dimension stays the contiguous one.
    let order = kept + axes
    let dense = rowMajorStrides(order.map { shape[$0] })
    var toStrides = dense
    for (place, d) in order.enumerated() { toStrides[d] = dense[place] }
    let source = context.scratch(elementCount: outer * length)
    try context.copy(dims: shape, from: .value(x), fromStrides: strides, to: source, toStrides: toStrides)
    let p = GraftReduceParams(
      outer: Int32(outer), length: Int32(length), inner: 1, ldx: 1, ldy: 1, operation: function.rawValue)
    switch context.traits.family {
    case .cpu: context.launch("reduce", "reduce", [source, .value(context.output)], p, grid: Grid(outer, 1))
    case .gpu: lowerForGPU(&context, p, source)
    }
  }

  /// One pass, or two where few results have many terms: k rows of sums first, then their sum.
  private func lowerForGPU(_ context: inout LoweringContext, _ p: GraftReduceParams, _ source: Operand) {
    let (outer, length, inner) = (Int(p.outer), Int(p.length), Int(p.inner))
    // As in ProductShape: cuts are those of one image's results, for whatever batch.
    let images = context.imageCount, areImages = !axes.contains(0) && images > 0 && outer % images == 0
    let parts = partCount(length, results: (areImages ? outer / images * ProductShape.nominalImageCount : outer) * inner, context)
    guard parts > 1 else { return pass(&context, p, from: source, to: .value(context.output)) }
    let partial = context.scratch(elementCount: outer * parts * inner, precision: .float32)
    var (first, second) = (p, p)
    (first.outer, first.length) = (Int32(outer * parts), Int32(length / parts))
    (second.length, second.ldx) = (Int32(parts), p.inner)
    let isShort = context.precision != .float32
    pass(&context, first, from: source, to: partial, options: isShort ? [.init("TO_FLOAT", 1)] : [])
    pass(&context, second, from: partial, to: .value(context.output), options: isShort ? [.init("FROM_FLOAT", 1)] : [])
  }

  private func pass(
    _ context: inout LoweringContext, _ p: GraftReduceParams, from source: Operand, to target: Operand, options: [KernelReference.Option] = []
  ) {
    let (outer, inner) = (Int(p.outer), Int(p.inner))
    let alongRows = inner == 1 && p.ldx == 1
    let groups = context.rowGroups(rows: outer, length: alongRows ? Int(p.length) : 256)
    context.launchGroups(
      "reduce", alongRows ? "reduce_rows" : "reduce_columns", [source, target], p,
      count: alongRows ? groups.count : outer * divideUp(inner, min(32, context.groupSize)),
      size: groups.size, options: groups.options + options)
  }

  /// Equal parts of `length`, enough of them to give every multiprocessor a few groups; 1 if there are enough results or no
  /// such divisor.
  private func partCount(_ length: Int, results: Int, _ context: LoweringContext) -> Int {
    let wanted = 4 * context.traits.multiprocessors / max(1, divideUp(results, 32))
    guard wanted > 1, length >= 4096 else { return 1 }
    return (2...min(wanted, length / 256)).last { length % $0 == 0 } ?? 1
  }
}
