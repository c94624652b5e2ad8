import GraftGraph

/// Attention as one operator, which exporters write from opset 23 on. It becomes the steps of older files: softmax(scale · q kᵀ + mask) v.
extension ONNXImporter {
  static let attentionHandlers: [String: Handler] = ["Attention": { try $0.attention($1) }]

  private mutating func attention(_ node: ONNXNode) throws {
    try refuseOutputs(node, after: 1)
    guard (4...6).allSatisfy({ !has(node, $0) }) else {
      throw node.error("it goes on from keys and values of before, which is not supported", remedy: "Export the image encoder alone.")
    }
    guard try node.float("softcap") ?? 0 == 0 else { throw node.error("its softcap is not supported", remedy: "Export the model without it.") }
    let heads = try node.integer("q_num_heads"), keyHeads = try node.integer("kv_num_heads")
    let q = try separated(node, 0, heads: heads), s = shape(q)
    var (k, v) = (try separated(node, 1, heads: keyHeads), try separated(node, 2, heads: keyHeads))
    guard shape(k).dropLast() == shape(v).dropLast(), shape(k)[1] > 0, s[1] % shape(k)[1] == 0, s[0] == shape(k)[0], s[3] == shape(k)[3] else {
      throw node.error("its inputs \(s), \(shape(k)) and \(shape(v)) do not fit one another", remedy: ImportError.fetchAgain)
    }
    (k, v) = (try repeated(node, k, heads: s[1]), try repeated(node, v, heads: s[1]))
    var scores = try add(MatMul(transposeB: true), [q, k], node)
    scores = try scaled(scores, by: try node.float("scale") ?? 1 / Float(s[3]).squareRoot(), node)
    if let mask = try mask(node, scores: shape(scores)) { scores = try add(Binary(.add), [scores, mask], node) }
    let mixed = try add(MatMul(), [try add(Softmax(axis: 3), [scores], node), v], node)
    guard heads != nil, shape(of: try imported(node, 0)).count == 3 else { return try define(node, mixed) }
    let rows = try add(Transpose([0, 2, 1, 3]), [mixed], node)
    try define(node, try add(Reshape([s[0], s[2], s[1] * shape(mixed)[3]]), [rows], node))
  }

  /// Queries, keys or values as [B, H, T, D]: as they are, or from the rows of a linear layer, [B, T, H · D].
  private mutating func separated(_ node: ONNXNode, _ index: Int, heads: Int?) throws -> ValueID {
    let x = try value(node, index), s = shape(x)
    if s.count == 4, !s.contains(0) { return x }
    guard s.count == 3, !s.contains(0), let heads, heads > 0, s[2] % heads == 0 else {
      throw node.error("its input \(index) has shape \(s), of which its numbers of heads make nothing", remedy: ImportError.fetchAgain)
    }
    return try add(Transpose([0, 2, 1, 3]), [try add(Reshape([s[0], s[1], heads, s[2] / heads]), [x], node)], node)
  }

  /// Keys or values of fewer heads, each for as many heads of queries in a row.
  private mutating func repeated(_ node: ONNXNode, _ x: ValueID, heads: Int) throws -> ValueID {
    let s = shape(x)
    guard s[1] != heads else { return x }
    let wide = try add(Expand([s[0], s[1], heads / s[1], s[2], s[3]]), [try add(Reshape([s[0], s[1], 1, s[2], s[3]]), [x], node)], node)
    return try add(Reshape([s[0], heads, s[2], s[3]]), [wide], node)
  }

  /// What is added to the scores; nil for nothing. Of conditions, those that do not hold hide a key, and so does what comes later where
  /// the attention is causal.
  private mutating func mask(_ node: ONNXNode, scores: [Int]) throws -> ValueID? {
    let given = has(node, 3) ? try host(node, 3, "mask") : nil
    if let given, broadcastShape(given.shape, scores) != scores {
      throw node.error("its mask \(given.shape) does not broadcast to scores \(scores)", remedy: ImportError.fetchAgain)
    }
    let isCausal = try node.integer("is_causal") ?? 0 != 0
    guard given != nil || isCausal else { return nil }
    if let given, given.elementType.isFloatingPoint, !isCausal, given.doubles().allSatisfy(\.isFinite) { return try value(node, 3) }
    let (queries, keys) = (scores[2], scores[3])
    try reserve(node, [queries, keys], .float32, limit: Self.largestComputed)
    let earlier = HostTensor([queries, keys], (0..<queries * keys).map { isCausal && $0 % keys > $0 / keys ? -Float.infinity : 0 })
    let zero = HostTensor([], [0])
    var mask = earlier
    if let given {
      let isCondition = !given.elementType.isFloatingPoint
      mask = try elementwise(node, [given, earlier], like: zero) { ($1 + (isCondition ? ($0 != 0 ? 0 : -.infinity) : $0)) }
    }
    let values = mask.doubles()
    guard values.allSatisfy({ $0 < .infinity }),
      stride(from: 0, to: values.count, by: keys).allSatisfy({ values[$0..<$0 + keys].contains(where: \.isFinite) })
    else { throw node.error("its mask leaves nothing of a row, or is no number", remedy: "Export the model without such rows.") }
    return graph.addConstant(mask, isFixed: true)
  }
}
