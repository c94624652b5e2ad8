/// Builds a new graph from an old one, node by node: what every pass that replaces nodes is written with.
struct Rewriter {
  let old: Graph
  private(set) var new = Graph()
  /// Where each old value went.
  private var map: [ValueID?]

  init(_ graph: Graph) throws(ShapeError) {
    old = graph
    map = Array(repeating: nil, count: graph.values.count)
    for id in graph.inputs {
      let (type, name) = (graph.type(of: id), graph[id].name)
      map[id.index] = graph.variables.contains(id) ? new.addVariable(type, name: name) : new.addInput(type, name: name)
    }
  }

  /// The new graph's value for an old one; constants move over when they are first used.
  mutating func value(_ id: ValueID) -> ValueID {
    if let known = map[id.index] { return known }
    guard let tensor = old.constant(id) else { preconditionFailure("a value was used before it was defined") }
    let new = self.new.addConstant(tensor, name: old[id].name, isFixed: old[id].isFixed)
    map[id.index] = new
    return new
  }

  /// The constant behind a value of the new graph.
  func constant(_ id: ValueID) -> HostTensor? { new.constant(id) }

  mutating func add(_ operation: any Operation, _ inputs: [ValueID], name: String) throws(ShapeError) -> ValueID {
    try new.add(any: operation, inputs, name: name)
  }

  mutating func addConstant(_ tensor: HostTensor, name: String = "", isFixed: Bool = false) -> ValueID {
    new.addConstant(tensor, name: name, isFixed: isFixed)
  }

  /// Puts something else in the place of an input or a constant, before any node uses it.
  mutating func replace(_ id: ValueID, with add: (inout Graph) -> ValueID) -> ValueID {
    let new = add(&self.new)
    map[id.index] = new
    return new
  }

  /// Says that an old value is this new one; the new one takes over the name if it has none.
  mutating func define(_ id: ValueID, as new: ValueID) {
    map[id.index] = new
    if self.new[new].name.isEmpty || self.old.outputs.contains(id) { self.new.rename(new, old[id].name) }
  }

  /// Copies a node as it is.
  mutating func keep(_ node: Graph.Node) throws(ShapeError) {
    var inputs: [ValueID] = []
    for input in node.inputs { inputs.append(value(input)) }
    define(node.output, as: try add(node.operation, inputs, name: node.name))
  }

  /// The finished graph, its outputs where the old ones went.
  mutating func finished() -> Graph {
    for output in old.outputs { new.outputs.append(value(output)) }
    return new
  }
}

extension HostTensor {
  /// Whether its elements lie along one dimension, as those of a layer's scale or shift do.
  package var isVector: Bool { shape.count { $0 > 1 } <= 1 }
}

extension Operation {
  /// Whether its result holds elements of its inputs as they are, each at most once.
  fileprivate var onlyMoves: Bool { self is Reshape || self is Transpose || self is Slice || self is Concat }
}

extension Graph {
  /// The graph after every pass, ready to be lowered.
  public func optimized() throws -> Graph {
    try removingDeadNodes().foldingConstants().joiningActivations().fusingAttention().straighteningViews().sinkingTransposes().foldingConstants()
      .joiningPadding().foldingNormalization().joiningParallelConvolutions().joiningAffineSums().fusing().removingDeadNodes()
  }

  /// Without the nodes that no output depends on.
  public func removingDeadNodes() throws -> Graph {
    var used = Set(outputs)
    for node in nodes.reversed() where used.contains(node.output) { used.formUnion(node.inputs) }
    var rewriter = try Rewriter(self)
    for node in nodes where used.contains(node.output) { try rewriter.keep(node) }
    return rewriter.finished()
  }

  /// With every node whose inputs are all constants replaced by its result, computed in double precision.
  ///
  /// Results much larger than what they come from (an expanded scalar) are left to the device, and so is everything once
  /// the results together are: each of a row of nodes may be a little larger than the one before.
  public func foldingConstants() throws -> Graph {
    var rewriter = try Rewriter(self)
    var elementsLeft = 1 << 20
    for value in values { if case .constant(let tensor) = value.source { elementsLeft += 8 * tensor.elementCount } }
    for node in nodes {
      let inputs = node.inputs.map { rewriter.value($0) }
      let constants = inputs.compactMap { rewriter.constant($0) }
      let source = constants.reduce(0) { $0 + $1.elementCount }
      let elementCount = type(of: node.output).elementCount
      guard constants.count == inputs.count, !inputs.isEmpty, elementCount <= max(65_536, 4 * source), elementCount <= elementsLeft else {
        try rewriter.keep(node)
        continue
      }
      let result: HostTensor
      if let reshape = node.operation as? Reshape {
        result = constants[0].reshaped(reshape.shape)
      } else {
        elementsLeft -= elementCount
        result = node.operation.reference(constants.map(ReferenceTensor.init)).tensor
      }
      // What is only moved is still what was learned, and so is the scale or the shift of a normalisation in steps; a table that was
      // computed of something is not.
      let isFixed = inputs.allSatisfy { rewriter.new[$0].isFixed } || !node.operation.onlyMoves && !result.isVector
      rewriter.define(node.output, as: rewriter.addConstant(result, name: self[node.output].name, isFixed: isFixed))
    }
    return rewriter.finished()
  }
}
