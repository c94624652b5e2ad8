import Foundation
import GraftGraph

/// Operators that make one number of many.
extension ONNXImporter {
  static let reductionHandlers: [String: Handler] = [
    "ReduceMean": { try $0.reduce($1, .mean) },
    "ReduceSum": { try $0.reduce($1, .sum) },
    "ReduceMax": { try $0.reduce($1, .maximum) },
    "ReduceMin": { try $0.reduce($1, .minimum) },
    "ReduceProd": { try $0.reduce($1, .product) },
    "ReduceL1": { try $0.reduce($1, .absoluteSum) },
    "ReduceL2": { try $0.reduce($1, .norm) },
    "ReduceSumSquare": { try $0.reduce($1, .squareSum) },
    "ReduceLogSum": { try $0.reduce($1, .logSum) },
    "ReduceLogSumExp": { try $0.reduce($1, .logExponentialSum) },
    "TopK": { try $0.topK($1) },
  ]

  enum Reduction {
    case mean, sum, maximum, minimum, product, absoluteSum, norm, squareSum, logSum, logExponentialSum
  }

  private mutating func reduce(_ node: ONNXNode, _ reduction: Reduction) throws {
    let source = try imported(node, 0), rank = shape(of: source).count
    let given = try integers(node, attribute: "axes", input: 1)
    let isEmpty = given?.isEmpty ?? true
    // Of each number alone then, which some of them change all the same.
    let isElementwise = try isEmpty && node.integer("noop_with_empty_axes") ?? 0 != 0
    if isElementwise, ![.absoluteSum, .norm, .squareSum, .logSum].contains(reduction) { return try identity(node) }
    let axes = isElementwise ? [] : isEmpty ? Array(0..<rank) : try given?.map { try axis(node, $0, rank: rank) } ?? []
    let keeps = try node.integer("keepdims") ?? 1 != 0
    if case .host(let tensor) = source, !tensor.elementType.isFloatingPoint || reduction == .product {
      return define(node, host: try reduced(node, tensor, reduction, axes: axes, keeps: keeps))
    }
    let x = try value(node, 0)
    func plain(_ function: Reduce.Function, _ x: ValueID) throws -> ValueID {
      axes.isEmpty ? x : try add(Reduce(function, axes: axes, keepsDimensions: keeps), [x], node)
    }
    let y: ValueID
    switch reduction {
    case .mean: y = try plain(.mean, x)
    case .sum: y = try plain(.sum, x)
    case .maximum: y = try plain(.maximum, x)
    case .minimum: y = try add(Unary(.negate), [try plain(.maximum, try add(Unary(.negate), [x], node))], node)
    case .absoluteSum: y = try plain(.sum, try add(Unary(.absolute), [x], node))
    case .squareSum: y = try plain(.sum, try add(Binary(.multiply), [x, x], node))
    case .logSum: y = try add(Unary(.log), [try plain(.sum, x)], node)
    case .logExponentialSum where axes.isEmpty: y = x
    case .logExponentialSum:
      // The greatest goes first, so that nothing overflows.
      let greatest = try add(Reduce(.maximum, axes: axes, keepsDimensions: true), [x], node)
      let terms = try add(Unary(.exp), [try add(Binary(.subtract), [x, greatest], node)], node)
      let level = try add(Unary(.log), [try add(Reduce(.sum, axes: axes, keepsDimensions: true), [terms], node)], node)
      let whole = try add(Binary(.add), [level, greatest], node)
      y = keeps ? whole : try add(Reshape(shape(x).indices.filter { !axes.contains($0) }.map { shape(x)[$0] }), [whole], node)
    case .norm: y = try add(Unary(.sqrt), [try plain(.sum, try add(Binary(.multiply), [x, x], node))], node)
    case .product:
      guard let tensor = try known(node, 0) else {
        throw node.error("it multiplies values that depend on the data", remedy: "Export the model without it.")
      }
      return define(node, host: try reduced(node, tensor, reduction, axes: axes, keeps: keeps))
    }
    try define(node, y)
  }

  /// The reduction of what is known.
  private mutating func reduced(_ node: ONNXNode, _ x: HostTensor, _ reduction: Reduction, axes: [Int], keeps: Bool) throws -> HostTensor {
    let kept = x.shape.indices.map { axes.contains($0) ? 1 : x.shape[$0] }
    let terms = axes.reduce(1) { $0 * x.shape[$1] }
    guard terms > 0, Set(axes).count == axes.count else { throw node.error("nothing to reduce in \(x.shape)", remedy: ImportError.fetchAgain) }
    try reserve(node, x.shape, .int64, limit: Self.largestComputed)
    let elements = x.doubles()
    let starts: [Reduction: Double] = [.maximum: -.infinity, .minimum: .infinity, .product: 1]
    var values = [Double](repeating: starts[reduction] ?? 0, count: kept.reduce(1, *))
    walk(x.shape, (0, rowMajorStrides(x.shape)), (0, broadcastStrides(kept, to: x.shape))) { from, place in
      let value = elements[from]
      switch reduction {
      case .mean, .sum, .logSum: values[place] += value
      case .logExponentialSum: values[place] += exp(value)
      case .maximum: values[place] = max(values[place], value)
      case .minimum: values[place] = min(values[place], value)
      case .product: values[place] *= value
      case .absoluteSum: values[place] += abs(value)
      case .norm, .squareSum: values[place] += value * value
      }
    }
    if reduction == .mean { values = values.map { $0 / Double(terms) } }
    if [.logSum, .logExponentialSum].contains(reduction) { values = values.map { log($0) } }
    if reduction == .norm { values = values.map { $0.squareRoot() } }
    return try hostTensor(keeps ? kept : x.shape.indices.filter { !axes.contains($0) }.map { x.shape[$0] }, values, like: x, node)
  }

  /// Values and indices; the indices are floats here, like every other number that depends on the data.
  private mutating func topK(_ node: ONNXNode) throws {
    let x = try value(node, 0), dimensions = shape(x)
    let axis = try axis(node, try node.integer("axis") ?? -1, rank: dimensions.count)
    guard axis == dimensions.count - 1 else {
      throw node.error("it selects along axis \(axis) of \(dimensions), not along the last", remedy: "Transpose what it selects from first.")
    }
    guard try node.integer("largest") ?? 1 == 1 else {
      throw node.error("it selects the smallest", remedy: "Select the greatest of the negated values instead.")
    }
    guard let counts = try integers(node, attribute: "k", input: 1) ?? node.integer("k").map({ [$0] }), counts.count == 1 else {
      throw node.error("it does not say how many", remedy: ImportError.fetchAgain)
    }
    let found = try add(TopK(counts[0]), [x], node), rows = dimensions.dropLast() + [1, counts[0]], lead = Array(repeating: 0, count: axis)
    for output in 0..<2 {
      let part = try add(Slice(starts: lead + [output, 0], sizes: Array(rows), steps: rows.map { _ in 1 }), [found], node)
      try define(node, try add(Reshape(dimensions.dropLast() + [counts[0]]), [part], node), output: output)
    }
  }
}
