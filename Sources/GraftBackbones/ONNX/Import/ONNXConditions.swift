import GraftGraph

/// Branches, and tests for what is no finite number.
extension ONNXImporter {
  static let conditionHandlers: [String: Handler] = [
    "If": { try $0.branch($1) },
    "IsNaN": { try $0.isNaN($1) },
    "IsInf": { try $0.isInfinite($1) },
  ]

  /// The branch that is taken becomes part of the graph: exporters ask about shapes, which are known.
  private mutating func branch(_ node: ONNXNode) throws {
    let condition = try host(node, 0, "condition")
    guard condition.elementCount == 1 else { throw node.error("its condition is not one value", remedy: ImportError.fetchAgain) }
    let name = condition.doubles()[0] != 0 ? "then_branch" : "else_branch"
    guard let graph = try node.graph(name), graph.outputs.count == node.outputs.count else {
      throw node.error("it has no \(name) with its \(node.outputs.count) outputs", remedy: ImportError.fetchAgain)
    }
    let own = graph.ownNames
    for inner in own.sorted() where names[inner] != nil {
      throw node.error("its \(name) computes \(quoted(inner)), which is defined already", remedy: ImportError.fetchAgain)
    }
    define(graph.initializers)
    for inner in graph.nodes { try run(inner) }
    for (index, output) in graph.outputs.enumerated() {
      switch names[output] {
      case .host(let tensor): define(node, host: tensor, output: index)
      case .value(let id): try define(node, id, output: index)
      case nil: throw node.error("nothing in its \(name) computes \(quoted(output))", remedy: ImportError.fetchAgain)
      }
    }
    forget(own)
  }

  private mutating func isNaN(_ node: ONNXNode) throws {
    if let x = try known(node, 0) {
      return define(node, host: HostTensor(x.shape, integers: x.doubles().map { $0.isNaN ? 1 : 0 }))
    }
    let x = try value(node, 0)
    // A number equals itself.
    let test = try opposite(try add(Binary(.equal), [x, x], node), node)
    tested[test] = x
    try define(node, test)
  }

  private mutating func isInfinite(_ node: ONNXNode) throws {
    let x = try host(node, 0, "input")
    let (low, high) = (try node.integer("detect_negative") ?? 1 != 0, try node.integer("detect_positive") ?? 1 != 0)
    define(node, host: HostTensor(x.shape, integers: x.doubles().map { high && $0 == .infinity || low && $0 == -.infinity ? 1 : 0 }))
  }

  /// `Where(IsNaN(p), c, p)` of a softmax, as PyTorch writes its attention for rows of scores that are all masked: p itself, where no row
  /// is. Whether the node is one, and has been defined.
  mutating func replacesNaN(_ node: ONNXNode) throws -> Bool {
    guard case .value(let condition) = try imported(node, 0), let x = tested[condition] else { return false }
    guard case .value(x) = try imported(node, 2), let producer = graph.producer(of: x), let softmax = producer.operation as? Softmax,
      try everyRowIsOpen(producer.inputs[0], axis: softmax.axis, node)
    else {
      throw node.error(
        "it chooses by what is no number, and that is only read after a softmax of which no row is masked as a whole",
        remedy: "Export the model without it.")
    }
    // A constant that is chosen nowhere counts for the shape.
    guard broadcastShape(shape(x), shape(of: try imported(node, 1))) == shape(x) else {
      throw node.error("its inputs do not broadcast to \(shape(x))", remedy: ImportError.fetchAgain)
    }
    try define(node, x)
    return true
  }

  /// Whether each row of scores has a number above minus infinity, as long as the data is finite: the only infinities come from one mask
  /// that is added, and leave something of each row.
  private mutating func everyRowIsOpen(_ scores: ValueID, axis: Int, _ node: ONNXNode) throws -> Bool {
    let rowLength = shape(scores)[axis]
    var masks = 0
    // A sum of a sum with itself is looked at once.
    var seen: [Set<ValueID>] = [[], []]
    var pending = [(id: scores, isAdded: axis == shape(scores).count - 1)]
    while let (id, isAdded) = pending.popLast() {
      guard seen[isAdded ? 1 : 0].insert(id).inserted else { continue }
      if let producer = graph.producer(of: id), producer.operation is Expand {
        pending.append((producer.inputs[0], isAdded && [1, rowLength].contains(shape(producer.inputs[0]).last ?? 1)))
      } else if let tensor = try known(id, node) {
        let values = tensor.doubles(), extent = tensor.shape.last ?? 1
        if values.allSatisfy(\.isFinite) { continue }
        masks += 1
        // Elements of one row lie next to one another.
        guard masks == 1, isAdded, extent == rowLength || extent == 1, values.allSatisfy({ $0.isFinite || $0 == -.infinity }),
          stride(from: 0, to: values.count, by: extent).allSatisfy({ values[$0..<$0 + extent].contains(where: \.isFinite) })
        else { return false }
      } else if let producer = graph.producer(of: id) {
        switch producer.operation {
        case let binary as Binary: pending += producer.inputs.map { ($0, isAdded && binary.function == .add) }
        case is Reshape: pending.append((producer.inputs[0], isAdded && shape(producer.inputs[0]).last == rowLength))
        case is Unary, is Transpose: pending += producer.inputs.map { ($0, false) }
        default: break
        }
      }
    }
    return true
  }
}
