import GraftGraph

/// Matrix products.
extension ONNXImporter {
  static let productHandlers: [String: Handler] = [
    "MatMul": { try $0.matMul($1) },
    "Gemm": { try $0.gemm($1) },
    "Einsum": { try $0.einsum($1) },
  ]

  mutating func matMul(_ node: ONNXNode) throws {
    var (a, b) = (try value(node, 0), try value(node, 1))
    let (vectorA, vectorB) = (shape(a).count == 1, shape(b).count == 1)
    if vectorA { a = try add(Reshape([1] + shape(a)), [a], node) }
    if vectorB { b = try add(Reshape(shape(b) + [1]), [b], node) }
    // The kernels repeat one matrix, or none: other ways to broadcast are expanded here.
    let (batchA, batchB) = (Array(shape(a).dropLast(2)), Array(shape(b).dropLast(2)))
    if batchA != batchB, batchA.reduce(1, *) != 1, batchB.reduce(1, *) != 1, let batch = broadcastShape(batchA, batchB) {
      if batchA != batch { a = try add(Expand(batch + shape(a).suffix(2)), [a], node) }
      if batchB != batch { b = try add(Expand(batch + shape(b).suffix(2)), [b], node) }
    }
    var y = try add(MatMul(), [a, b], node)
    if vectorA || vectorB {
      var dimensions = shape(y)
      if vectorB { dimensions.removeLast() }
      if vectorA { dimensions.remove(at: dimensions.count - (vectorB ? 1 : 2)) }
      y = try add(Reshape(dimensions), [y], node)
    }
    try define(node, y)
  }

  /// y = α op(a) op(b) + β c.
  mutating func gemm(_ node: ONNXNode) throws {
    let (alpha, beta) = (try node.float("alpha") ?? 1, try node.float("beta") ?? 1)
    let transposeA = try node.integer("transA") ?? 0 != 0, transposeB = try node.integer("transB") ?? 0 != 0
    var a = try value(node, 0)
    // Before opset 9 some exporters fed whole images to it.
    if shape(a).count > 2, !transposeA { a = try add(Reshape([shape(a)[0], shape(a).dropFirst().reduce(1, *)]), [a], node) }
    var y = try add(MatMul(transposeA: transposeA, transposeB: transposeB), [a, try value(node, 1)], node)
    y = try scaled(y, by: alpha, node)
    if has(node, 2), beta != 0 { y = try add(Binary(.add), [y, try scaled(try value(node, 2), by: beta, node)], node) }
    try define(node, y)
  }
}
