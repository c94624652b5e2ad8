/// What a gradient rule sees: the node, its inputs, the gradient of its result, and a graph to add nodes to.
public struct GradientContext {
  public internal(set) var graph: Graph
  public internal(set) var node: Graph.Node
  /// The gradient of the node's result.
  public internal(set) var upstream: ValueID
  let needed: Set<ValueID>

  public var inputs: [ValueID] { node.inputs }
  public func shape(_ id: ValueID) -> [Int] { graph.type(of: id).shape }

  /// Whether a gradient with respect to this value leads to one that was asked for.
  public func needs(_ id: ValueID) -> Bool { needed.contains(id) }

  public mutating func add(_ operation: some Operation, _ inputs: [ValueID]) throws -> ValueID {
    try graph.add(operation, inputs, name: node.name.isEmpty ? "" : "gradient of \(node.name)")
  }
}

extension Graph {
  /// Adds the gradients of Σ `loss` · `seed` with respect to `parameters`.
  ///
  /// Only nodes between the parameters and the loss are visited; every sum of gradients has a fixed order.
  ///
  /// - Parameter seed: the gradient of the loss; ones of its shape if nil.
  /// - Returns: one value a parameter, `nil` where the loss does not depend on it.
  /// - Throws: `GradientError` for an operation without a rule.
  public mutating func addGradients(of loss: ValueID, seed: ValueID? = nil, withRespectTo parameters: [ValueID]) throws -> [ValueID?] {
    var needed = Set(parameters)
    for node in nodes where node.inputs.contains(where: needed.contains) { needed.insert(node.output) }
    guard needed.contains(loss) else { return parameters.map { _ in nil } }
    let ones = seed ?? addConstant(HostTensor(type(of: loss).shape, Array(repeating: 1, count: type(of: loss).elementCount)), name: "ones")
    var gradients: [ValueID: ValueID] = [loss: ones]
    for node in nodes.reversed() where needed.contains(node.output) {
      guard let upstream = gradients[node.output], node.inputs.contains(where: needed.contains) else { continue }
      var context = GradientContext(graph: self, node: node, upstream: upstream, needed: needed)
      let results = try node.operation.gradient(&context)
      self = context.graph
      for (input, result) in zip(node.inputs, results) where needed.contains(input) {
        guard let result else { continue }
        if let known = gradients[input] {
          gradients[input] = try add(Binary(.add), [known, result], name: "sum of gradients")
        } else {
          gradients[input] = result
        }
      }
    }
    return parameters.map { gradients[$0] }
  }
}
