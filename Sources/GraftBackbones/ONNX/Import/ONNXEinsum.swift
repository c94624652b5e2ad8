import GraftGraph

extension ONNXImporter {
  /// Einstein's sums of one or two tensors: transpositions around one product of batches of matrices.
  mutating func einsum(_ node: ONNXNode) throws {
    guard let equation = try node.string("equation") else { throw node.error("it has no equation", remedy: ImportError.fetchAgain) }
    let text = equation.filter { $0 != " " }
    func refused(_ why: String) -> ImportError {
      node.error("its equation \(quoted(equation)) \(why)", remedy: "Export the model with products of two tensors and plain letters.")
    }
    let sides = text.split(separator: ">", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    let left = sides[0].hasSuffix("-") ? String(sides[0].dropLast()) : sides[0]
    let operands = left.split(separator: ",", omittingEmptySubsequences: false).map { Array($0) }
    guard operands.count == node.inputs.count, (1...2).contains(operands.count) else { throw refused("is not of its \(node.inputs.count) inputs") }
    let letters = operands.flatMap { $0 }
    guard letters.allSatisfy(\.isLetter) else { throw refused("has other signs than letters") }
    let result: [Character]
    if sides.count == 2 {
      result = Array(sides[1])
    } else {
      // Without an arrow: what is there once, in the alphabet's order.
      result = letters.filter { letter in letters.count(where: { $0 == letter }) == 1 }.sorted()
    }
    guard Set(result).count == result.count, Set(result).isSubset(of: letters), operands.allSatisfy({ Set($0).count == $0.count }) else {
      throw refused("repeats a letter, or makes one")
    }
    var extents: [Character: Int] = [:], values: [ValueID] = []
    for (index, labels) in operands.enumerated() {
      let x = try value(node, index)
      guard shape(x).count == labels.count else { throw refused("does not fit \(shape(x))") }
      for (letter, extent) in zip(labels, shape(x)) {
        guard extents.updateValue(extent, forKey: letter) ?? extent == extent else { throw refused("gives \(quoted(String(letter))) two extents") }
      }
      values.append(x)
    }
    // What only one operand has, and the result has not, is summed first.
    var labels = operands
    for index in labels.indices {
      let others = Set(result).union(labels.indices.filter { $0 != index }.flatMap { labels[$0] })
      let summed = labels[index].indices.filter { !others.contains(labels[index][$0]) }
      guard !summed.isEmpty else { continue }
      values[index] = try add(Reduce(.sum, axes: summed, keepsDimensions: false), [values[index]], node)
      labels[index] = labels[index].filter(others.contains)
    }
    guard labels.count == 2 else { return try define(node, try ordered(values[0], labels[0], as: result, node)) }
    let (a, b) = (Set(labels[0]), Set(labels[1]))
    let batch = result.filter { a.contains($0) && b.contains($0) }, inner = labels[0].filter { b.contains($0) && !result.contains($0) }
    let rows = result.filter { a.contains($0) && !b.contains($0) }, columns = result.filter { b.contains($0) && !a.contains($0) }
    func size(_ letters: [Character]) -> Int { letters.reduce(1) { $0 * (extents[$1] ?? 1) } }
    func matrices(_ index: Int, _ order: [[Character]]) throws -> ValueID {
      let moved = try ordered(values[index], labels[index], as: order.flatMap { $0 }, node)
      return try shaped(moved, order.map(size), node)
    }
    // Heads and windows keep dimensions of their own, by which attention is recognised.
    let outer = batch.count <= 4 ? batch.map { [$0] } : [batch]
    let product = try add(MatMul(), [try matrices(0, outer + [rows, inner]), try matrices(1, outer + [inner, columns])], node)
    let order = batch + rows + columns
    let apart = try shaped(product, order.map { extents[$0] ?? 1 }, node)
    try define(node, try ordered(apart, order, as: result, node))
  }

  private mutating func shaped(_ x: ValueID, _ wanted: [Int], _ node: ONNXNode) throws -> ValueID {
    shape(x) == wanted ? x : try add(Reshape(wanted), [x], node)
  }

  /// A value's dimensions in another order.
  private mutating func ordered(_ x: ValueID, _ labels: [Character], as wanted: [Character], _ node: ONNXNode) throws -> ValueID {
    labels == wanted ? x : try add(Transpose(wanted.compactMap(labels.firstIndex)), [x], node)
  }
}
