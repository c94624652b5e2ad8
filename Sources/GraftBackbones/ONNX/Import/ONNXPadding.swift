import GraftGraph

/// Borders around tensors, and what is cut off them.
extension ONNXImporter {
  mutating func pad(_ node: ONNXNode) throws {
    let dimensions = shape(of: try imported(node, 0)), rank = dimensions.count
    let mode = try node.string("mode") ?? "constant"
    guard ["constant", "reflect", "edge", "wrap"].contains(mode) else {
      throw node.error("its mode \(quoted(mode)) is not known", remedy: ImportError.fetchAgain)
    }
    guard let pads = try integers(node, attribute: "pads", input: 1) else { throw node.error("it has no pads", remedy: ImportError.fetchAgain) }
    let axes = try (has(node, 3) ? host(node, 3, "axes").integers().map { try axis(node, Int($0), rank: rank) } : Array(0..<rank))
    guard pads.count == 2 * axes.count, pads.allSatisfy((-Self.largestPad...Self.largestPad).contains) else {
      throw node.error("its pads \(pads) do not fit \(dimensions)", remedy: ImportError.fetchAgain)
    }
    let border = try node.float("value").map { HostTensor([], [$0]) } ?? (has(node, 2) ? host(node, 2, "value") : HostTensor([], [0]))
    var (before, after) = (Array(repeating: 0, count: rank), Array(repeating: 0, count: rank))
    for (index, axis) in axes.enumerated() { (before[axis], after[axis]) = (pads[index], pads[index + axes.count]) }
    // Negative padding cuts off, before what is left gets its border.
    var part: Slice?
    if pads.contains(where: { $0 < 0 }) {
      let starts = before.map { max(0, -$0) }
      let sizes = dimensions.indices.map { dimensions[$0] - starts[$0] - max(0, -after[$0]) }
      part = Slice(starts: starts, sizes: sizes, steps: Array(repeating: 1, count: rank))
    }
    if var tensor = try movedHere(node) {
      if let part, mode != "constant" {
        _ = try part.outputType([TensorType(dimensions)])
        tensor = try picked(node, part.sizes, from: tensor) { part.offsets(in: dimensions) }
        (before, after) = (before.map { max(0, $0) }, after.map { max(0, $0) })
      }
      return define(node, host: try padded(node, tensor, before: before, after: after, value: border.integers().first ?? 0, mode))
    }
    var result = try self.value(node, 0)
    if let part {
      result = try add(part, [result], node)
      (before, after) = (before.map { max(0, $0) }, after.map { max(0, $0) })
    }
    guard mode != "constant" else {
      return try define(node, try add(Pad(before: before, after: after, value: border.floats().first ?? 0), [result], node))
    }
    for axis in 0..<rank where before[axis] + after[axis] > 0 {
      let indices = try sources(node, of: shape(result)[axis], before: before[axis], after: after[axis], mode)
      result = try parts(indices.map { $0 ?? 0 }, of: result, axis: axis, node)
    }
    try define(node, result)
  }

  /// Where each place along a dimension comes from; `nil` for a border of one value.
  private func sources(_ node: ONNXNode, of extent: Int, before: Int, after: Int, _ mode: String) throws -> [Int?] {
    let isConstant = mode == "constant"
    guard extent + before + after >= 0, isConstant || extent > 0 && extent <= Self.hostLimit, mode != "reflect" || max(before, after) < extent else {
      throw node.error("its pads \(before) and \(after) do not fit \(extent)", remedy: ImportError.fetchAgain)
    }
    return (-before..<extent + after).map { place in
      switch mode {
      case _ where (0..<extent).contains(place): place
      case "reflect": place < 0 ? -place : 2 * (extent - 1) - place
      case "edge": min(max(place, 0), extent - 1)
      case "wrap": (place % extent + extent) % extent
      default: nil
      }
    }
  }

  /// Integers with a border, or with one cut off, computed here.
  private mutating func padded(_ node: ONNXNode, _ tensor: HostTensor, before: [Int], after: [Int], value: Int64, _ mode: String) throws
    -> HostTensor
  {
    let rank = tensor.shape.count, strides = rowMajorStrides(tensor.shape)
    let result = (0..<rank).map { tensor.shape[$0] + before[$0] + after[$0] }
    guard result.allSatisfy((0...Self.largestComputed).contains) else {
      throw node.error("its pads do not fit \(tensor.shape)", remedy: ImportError.fetchAgain)
    }
    try reserve(node, result, .int64, limit: Self.largestComputed)
    let places = try (0..<rank).map { try sources(node, of: tensor.shape[$0], before: before[$0], after: after[$0], mode) }
    let values = tensor.integers(), steps = rowMajorStrides(result)
    let padded = (0..<result.reduce(1, *)).map { index in
      var place = 0
      for d in 0..<rank {
        guard let source = places[d][index / steps[d] % result[d]] else { return value }
        place += source * strides[d]
      }
      return values[place]
    }
    return HostTensor(result, integers: padded)
  }
}
