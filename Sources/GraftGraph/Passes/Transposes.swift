extension Graph {
  /// With transpositions pushed towards the outputs, where most meet their inverse and vanish.
  ///
  /// Model files are channels first, convolutions here channels last: a reader wraps each one in two transpositions and
  /// needs no knowledge of its surroundings. This pass carries "y is x transposed" along, through everything that works
  /// element by element or along named axes, and writes a transposition down only where something needs the order.
  public func sinkingTransposes() throws -> Graph {
    var pass = try TransposeSinking(self)
    for node in nodes { try pass.visit(node) }
    return try pass.finished()
  }
}

/// A value of the new graph, and the permutation by which the old graph's value is it transposed.
private struct Pending {
  var value: ValueID
  /// old.dimension d = new.dimension permutation[d]; nil: the same.
  var permutation: [Int]?
}

private struct TransposeSinking {
  var rewriter: Rewriter
  let old: Graph
  var pending: [ValueID: Pending] = [:]
  /// Old values that have been written down in their own order.
  var written: [ValueID: ValueID] = [:]

  init(_ graph: Graph) throws {
    old = graph
    rewriter = try Rewriter(graph)
  }

  func state(_ id: ValueID) -> Pending? { pending[id] }

  /// The old value in its own order.
  mutating func plain(_ id: ValueID) throws -> ValueID {
    guard let state = pending[id], let permutation = state.permutation else { return pending[id]?.value ?? rewriter.value(id) }
    if let known = written[id] { return known }
    let value = try transpose(state.value, permutation)
    written[id] = value
    return value
  }

  /// A transposition, or a reshape where only extents of 1 move.
  mutating func transpose(_ value: ValueID, _ permutation: [Int], name: String = "") throws -> ValueID {
    let shape = rewriter.new.type(of: value).shape
    if permutation == Array(0..<permutation.count) { return value }
    let moving = permutation.filter { shape[$0] != 1 }
    if moving == moving.sorted() { return try rewriter.add(Reshape(permutation.map { shape[$0] }), [value], name: name) }
    return try rewriter.add(Transpose(permutation), [value], name: name)
  }

  mutating func set(_ id: ValueID, _ value: ValueID, _ permutation: [Int]?) {
    let identity = permutation.map { $0 == Array(0..<$0.count) } ?? true
    pending[id] = Pending(value: value, permutation: identity ? nil : permutation)
    if identity { rewriter.define(id, as: value) }
  }

  mutating func visit(_ node: Graph.Node) throws {
    if let transposition = node.operation as? Transpose {
      let state = pending[node.inputs[0]]
      let value = try state?.value ?? plain(node.inputs[0])
      let before = state?.permutation ?? Array(transposition.permutation.indices)
      set(node.output, value, transposition.permutation.map { before[$0] })
      return
    }
    guard node.inputs.contains(where: { pending[$0]?.permutation != nil }), let (value, permutation) = try pushed(node) else {
      var inputs: [ValueID] = []
      for input in node.inputs { inputs.append(try plain(input)) }
      set(node.output, try rewriter.add(node.operation, inputs, name: node.name), nil)
      return
    }
    set(node.output, value, permutation)
  }

  /// The node on untransposed inputs, and the permutation of its result; nil if its operation needs the order.
  mutating func pushed(_ node: Graph.Node) throws -> (ValueID, [Int])? {
    guard let first = node.inputs.compactMap({ pending[$0]?.permutation }).first else { return nil }
    let rank = first.count
    var inverse = first
    for (d, p) in first.enumerated() { inverse[p] = d }
    func moved<T>(_ values: [T]) -> [T] { inverse.map { values[$0] } }
    switch node.operation {
    case let unary as Unary where !unary.hasScale && !unary.hasShift:
      return (try add(unary, [state(node.inputs[0])!.value], node), first)
    case is Binary:
      var inputs: [ValueID] = []
      for input in node.inputs {
        guard let value = try aligned(input, permutation: first, inverse: inverse, rank: rank) else { return nil }
        inputs.append(value)
      }
      return (try add(node.operation, inputs, node), first)
    case let concat as Concat:
      var inputs: [ValueID] = []
      for input in node.inputs {
        guard old.type(of: input).rank == rank, let value = try aligned(input, permutation: first, inverse: inverse, rank: rank) else { return nil }
        inputs.append(value)
      }
      return (try add(Concat(axis: first[concat.axis]), inputs, node), first)
    case let slice as Slice:
      return (
        try add(Slice(starts: moved(slice.starts), sizes: moved(slice.sizes), steps: moved(slice.steps)), [state(node.inputs[0])!.value], node), first
      )
    case let pad as Pad:
      return (try add(Pad(before: moved(pad.before), after: moved(pad.after), value: pad.value), [state(node.inputs[0])!.value], node), first)
    case let softmax as Softmax:
      return (try add(Softmax(axis: first[softmax.axis], logarithm: softmax.logarithm), [state(node.inputs[0])!.value], node), first)
    case let reduce as Reduce:
      let axes = reduce.axes.map { first[$0] }.sorted()
      let result = try add(Reduce(reduce.function, axes: axes, keepsDimensions: reduce.keepsDimensions), [state(node.inputs[0])!.value], node)
      if reduce.keepsDimensions { return (result, first) }
      // What is left keeps its order among itself.
      let left = first.indices.filter { !reduce.axes.contains($0) }.map { first[$0] }
      let ranks = left.sorted()
      return (result, left.map { ranks.firstIndex(of: $0)! })
    case let reshape as Reshape:
      return try pushedReshape(node, reshape, first)
    default:
      return nil
    }
  }

  mutating func add(_ operation: any Operation, _ inputs: [ValueID], _ node: Graph.Node) throws -> ValueID {
    try rewriter.add(operation, inputs, name: node.name)
  }

  /// An operand brought into the order of values that are `permutation` away from the old one; nil if that needs a copy of
  /// something that is neither constant nor small.
  mutating func aligned(_ id: ValueID, permutation: [Int], inverse: [Int], rank: Int) throws -> ValueID? {
    if let state = pending[id], let own = state.permutation { return own == permutation ? state.value : nil }
    let shape = old.type(of: id).shape
    guard shape.count <= rank else { return nil }
    let full = Array(repeating: 1, count: rank - shape.count) + shape
    let isSmall = full.filter { $0 != 1 }.count <= 1
    guard isSmall || old.constant(id) != nil else { return nil }
    if shape.allSatisfy({ $0 == 1 }) { return try plain(id) }
    var value = try plain(id)
    if full != shape { value = try rewriter.add(Reshape(full), [value], name: old[id].name) }
    return try transpose(value, inverse, name: old[id].name)
  }

  /// A reshape that splits dimensions, or merges ones that lie side by side in memory: done on the untransposed value.
  ///
  /// Where the dimensions to merge lie apart or in another order, the value is first brought into an order in which they do
  /// not, with the others left where they are: that is what a channel shuffle comes down to, one transposition.
  mutating func pushedReshape(_ node: Graph.Node, _ reshape: Reshape, _ permutation: [Int]) throws -> (ValueID, [Int])? {
    let input = node.inputs[0]
    guard let groups = reshapeGroups(old.type(of: input).shape, reshape.shape) else { return nil }
    var value = state(input)!.value
    var permutation = permutation
    // Each group's place among the untransposed dimensions: that of its last member.
    let order = groups.indices.sorted { a, b in
      (groups[a].from.map { permutation[$0] }.max() ?? -1, a) < (groups[b].from.map { permutation[$0] }.max() ?? -1, b)
    }
    let wanted = order.flatMap { groups[$0].from.map { permutation[$0] } }
    if wanted != wanted.sorted() {
      value = try transpose(value, wanted, name: node.name)
      permutation = permutation.map { wanted.firstIndex(of: $0)! }
    }
    let shape = order.flatMap { groups[$0].to.map { reshape.shape[$0] } }
    let targets = order.flatMap { groups[$0].to }
    var result = Array(repeating: 0, count: targets.count)
    for (place, dimension) in targets.enumerated() { result[dimension] = place }
    return (try rewriter.add(Reshape(shape), [value], name: node.name), result)
  }

  mutating func finished() throws -> Graph {
    for output in old.outputs { rewriter.define(output, as: try plain(output)) }
    return rewriter.finished()
  }
}

/// Runs of dimensions of two shapes with equal products; nil where an extent is 0.
private func reshapeGroups(_ from: [Int], _ to: [Int]) -> [(from: [Int], to: [Int])]? {
  guard !from.contains(0), !to.contains(0) else { return nil }
  var groups: [(from: [Int], to: [Int])] = []
  var (i, j) = (0, 0)
  while i < from.count || j < to.count {
    var group: (from: [Int], to: [Int]) = ([], [])
    var (a, b) = (1, 1)
    if i < from.count {
      a = from[i]
      group.from.append(i)
      i += 1
    }
    if j < to.count {
      b = to[j]
      group.to.append(j)
      j += 1
    }
    while a != b {
      if a < b {
        guard i < from.count else { return nil }
        a *= from[i]
        group.from.append(i)
        i += 1
      } else {
        guard j < to.count else { return nil }
        b *= to[j]
        group.to.append(j)
        j += 1
      }
    }
    // An extent of 1 on one side alone joins the group before it.
    if group.from.isEmpty || group.to.isEmpty, !groups.isEmpty {
      groups[groups.count - 1].from += group.from
      groups[groups.count - 1].to += group.to
    } else {
      groups.append(group)
    }
  }
  return groups
}
