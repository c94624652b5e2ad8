import CKernels
import GraftDevice

/// The k greatest of each row and where they are: y[…, 0, j] is the j-th value, y[…, 1, j] its index.
///
/// x: [..., C]; y: [..., 2, k], float32 in every format, in which indices are exact: C is 2²⁴ at most. In descending order; of equal
/// values that with the lower index first, and NaN before everything, as PyTorch's `topk` has it.
public struct TopK: Operation {
  public static let kind = "topK"
  public var count: Int
  public init(_ count: Int) { self.count = count }
  public var resultIsFloat32: Bool { true }

  /// The largest index that a float32 holds, and one.
  private static let largestColumnCount = 1 << 24

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    guard inputs.count == 1, inputs[0].elementType == .float32, let columns = inputs[0].shape.last else {
      throw ShapeError(Self.kind, "one tensor with rows is expected, \(inputs) was found")
    }
    try ShapeError.expect(count >= 1 && count <= columns, Self.kind, "rows of \(columns) have no \(count) greatest: give 1 to \(columns)")
    try ShapeError.expect(
      columns <= Self.largestColumnCount, Self.kind, "rows of \(columns) are too long for indices in float32: at most \(Self.largestColumnCount)")
    return TensorType(inputs[0].shape.dropLast() + [2, count])
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let x = inputs[0], columns = x.shape.last ?? 1
    var y: [Double] = []
    for row in 0..<(columns == 0 ? 0 : x.values.count / columns) {
      let values = x.values[row * columns..<(row + 1) * columns].map { $0 }
      let order = values.indices.sorted { i, j in
        let (a, b) = (values[i], values[j])
        if a.isNaN || b.isNaN { return a.isNaN && (!b.isNaN || i < j) }
        return a > b || (a == b && i < j)
      }
      y += order.prefix(count).map { values[$0] } + order.prefix(count).map(Double.init)
    }
    return ReferenceTensor(x.shape.dropLast() + [2, count], y)
  }

  /// Comparisons, as the way taken by the GPU family makes them for few.
  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { Double(inputs[0].elementCount) * Double(count) }

  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool { inputs[0].rank >= 2 }

  /// Values' gradients where the values came from; an index has none.
  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] {
    [try context.add(TopKGradient(context.shape(context.inputs[0])), [context.output, context.upstream])]
  }

  public func lower(_ context: inout LoweringContext) throws {
    let x = context.inputs[0], columns = context.shape(x).last ?? 1, rows = context.type(x).elementCount / max(1, columns)
    guard rows > 0 else { return }
    let p = GraftTopKParams(rows: Int64(rows), columns: Int32(columns), count: Int32(count)), format = context.precision(of: x)
    let operands: [Operand?] = [.value(x), .value(context.output)]
    switch context.traits.family {
    case .cpu: context.launch("topk", "top_k", operands, p, grid: Grid(rows), precision: format)
    case .gpu:
      // A pass costs a group's meetings beside its reading; counting costs a row's length for each element, and meets nobody.
      guard count <= max(8, columns / 16) else {
        return context.launchItems("topk", "top_k_rank", operands, p, count: rows * columns, precision: format)
      }
      let groups = context.rowGroups(rows: rows, length: columns)
      context.launchGroups(
        "topk", "top_k_select", operands, p, count: groups.count, size: groups.size, options: groups.options, precision: format)
    }
  }
}

/// The gradient of `TopK` with respect to x: the values' gradients at the values' places, zeros elsewhere.
///
/// Inputs: what `TopK` gave and its gradient, [..., 2, k] each. Result: [..., C].
public struct TopKGradient: Operation {
  public static let kind = "topKGradient"
  /// x's: [..., C].
  public var shape: [Int]
  public init(_ shape: [Int]) { self.shape = shape }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(
      inputs.count == 2 && inputs[0].shape == inputs[1].shape && inputs[0].rank == shape.count + 1 && !shape.isEmpty
        && inputs[0].shape.dropLast(2) == shape.dropLast() && inputs[0].shape[shape.count - 1] == 2, Self.kind,
      "what the k greatest of \(shape) are and its gradient are expected, \(inputs.map(\.shape)) were found")
    return TensorType(shape)
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    var dx = ReferenceTensor(zeros: shape)
    let columns = shape[shape.count - 1], count = inputs[0].shape[shape.count]
    for row in 0..<(columns == 0 ? 0 : dx.values.count / columns) {
      for j in 0..<count {
        let at = row * 2 * count + j, column = inputs[0].values[at + count]
        guard column > -1, column < Double(columns) else { continue }
        dx.values[row * columns + Int(column)] = inputs[1].values[at]
      }
    }
    return dx
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { 0 }

  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool { shape.count >= 2 && !hasImages.contains(false) }

  public func lower(_ context: inout LoweringContext) throws {
    let output = context.type(context.output), columns = output.shape.last ?? 1, rows = output.elementCount / max(1, columns)
    guard rows > 0, columns > 0 else { return }
    let count = context.shape(context.inputs[0]).last ?? 1
    let p = GraftTopKParams(rows: Int64(rows), columns: Int32(columns), count: Int32(count))
    let inputs: [Operand?] = [context.parameter(context.inputs[0]), context.parameter(context.inputs[1])]
    context.computeInFloat32 { context, dx in
      switch context.traits.family {
      case .cpu: context.launch("topk", "top_k_gradient", inputs + [dx], p, grid: Grid(rows), precision: .float32)
      case .gpu:
        context.fill(dx, elementCount: rows * columns, value: 0)
        context.launchItems("topk", "top_k_gradient", inputs + [dx], p, count: rows * count, precision: .float32)
      }
    }
  }
}
