/// A constant of a graph that training can change.
public struct GraphParameter: Sendable {
  /// The file's name for it; where it has none, the node's name and what it is there.
  public let name: String
  /// The constant.
  public let value: ValueID
  public let tensor: HostTensor
  /// Whether weight decay usually applies: matrices and filters, not biases, scales and shifts.
  public let decays: Bool
  /// The place of the first node that uses it.
  public let firstUse: Int
}

extension Graph {
  /// The part after a cut: the cut's value is its input, outputs are the same.
  ///
  /// - Throws: `ShapeError` if something goes past the cut.
  public func following(_ cut: ValueID) throws -> Graph {
    var needed = Set(outputs)
    for node in nodes.reversed() where needed.contains(node.output) && node.output != cut { needed.formUnion(node.inputs) }
    var part = Graph()
    var map = [cut: part.addInput(type(of: cut), name: self[cut].name)]
    func moved(_ id: ValueID) throws(ShapeError) -> ValueID {
      if let known = map[id] { return known }
      guard let tensor = constant(id) else {
        throw ShapeError("cut", "'\(self[id].name)' goes past '\(self[cut].name)', so the network can't be divided there")
      }
      let new = part.addConstant(tensor, name: self[id].name, isFixed: self[id].isFixed)
      map[id] = new
      return new
    }
    for node in nodes where needed.contains(node.output) && node.output != cut {
      var inputs: [ValueID] = []
      for input in node.inputs { inputs.append(try moved(input)) }
      let output = try part.add(any: node.operation, inputs, name: node.name)
      part.rename(output, self[node.output].name)
      map[node.output] = output
    }
    for output in outputs { part.outputs.append(try moved(output)) }
    return part
  }

  /// The graph as training starts from it: dead nodes gone, channels last throughout, and no normalisation folded into weights,
  /// which would train something else.
  public func preparedForTraining() throws -> Graph {
    try removingDeadNodes().foldingConstants().joiningActivations().fusingAttention(joinsMasks: false).straighteningViews().sinkingTransposes()
      .foldingConstants().joiningPadding().removingDeadNodes()
  }

  /// The constants that layers learn: weights, biases, scales, shifts, and constants that are added or joined to activations. None are
  /// statistics of normalisations, what was computed (masks, tables of positions), and what is added to the scores of an attention: such
  /// a bias is gathered from a smaller table, which is not here, and would lose what ties its elements.
  ///
  /// In the order of their first use. Names are unique.
  public func parameters() -> [GraphParameter] {
    var found: [GraphParameter] = []
    var seen: Set<ValueID> = []
    var names: [String: Int] = [:]
    let scores = scoresOfAttention()
    for (time, node) in nodes.enumerated() {
      for (input, role) in Self.learned(node, self) where seen.insert(input).inserted {
        guard let tensor = constant(input), tensor.elementType.isFloatingPoint, !self[input].isFixed else { continue }
        // A single number is a parameter where a layer has one input, output or channel; else a factor or a token of one number is a constant.
        let isNormalization = node.operation is BatchNorm || node.operation is LayerNorm
        let mayBeOne = role == "weight" || role == "bias" || isNormalization
        guard tensor.elementCount > 1 || mayBeOne && !tensor.shape.isEmpty else { continue }
        if role == "scale" || scores.contains(node.output), !tensor.isVector { continue }
        var name = self[input].name.isEmpty ? "\(node.name.isEmpty ? "\(node.operation.kind) \(time)" : node.name).\(role)" : self[input].name
        names[name, default: 0] += 1
        if let count = names[name], count > 1 { name += "#\(count)" }
        found.append(GraphParameter(name: name, value: input, tensor: tensor, decays: role == "weight" && tensor.shape.count > 1, firstUse: time))
      }
    }
    return found
  }

  /// Sums that end in a softmax, with nothing but other sums and moves between.
  private func scoresOfAttention() -> Set<ValueID> {
    var found: Set<ValueID> = []
    for node in nodes.reversed() {
      switch node.operation {
      case is Softmax: found.insert(node.inputs[0])
      case is Reshape, is Transpose: if found.contains(node.output) { found.insert(node.inputs[0]) }
      case let binary as Binary where binary.function == .add: if found.contains(node.output) { found.formUnion(node.inputs) }
      default: break
      }
    }
    return found
  }

  /// What of a node's inputs may be learned, and what it is.
  private static func learned(_ node: Node, _ graph: Graph) -> [(ValueID, String)] {
    switch node.operation {
    case let conv as Conv2D: return [(node.inputs[1], "weight")] + (conv.hasBias ? [(node.inputs[2], "bias")] : [])
    case let product as MatMul: return [(node.inputs[0], "weight"), (node.inputs[1], "weight")] + (product.hasBias ? [(node.inputs[2], "bias")] : [])
    case is BatchNorm: return [(node.inputs[1], "scale"), (node.inputs[2], "shift")]
    case is LayerNorm: return zip(node.inputs.dropFirst(), ["scale", "shift"]).map { ($0, $1) }
    case let binary as Binary where binary.function == .add || binary.function == .multiply:
      return node.inputs.map { ($0, binary.function == .add ? "bias" : "scale") }
    case is Concat: return node.inputs.map { ($0, "token") }
    default: return []
    }
  }

  /// The statistics that batch normalisations subtract and divide by, in the order of their use.
  public func normalizationStatistics() -> [GraphParameter] {
    var found: [GraphParameter] = []
    var seen: Set<ValueID> = []
    for (time, node) in nodes.enumerated() where node.operation is BatchNorm {
      for (input, role) in zip(node.inputs[3...], ["mean", "variance"]) where seen.insert(input).inserted {
        guard let tensor = constant(input) else { continue }
        let name = self[input].name.isEmpty ? "\(node.name.isEmpty ? "\(node.operation.kind) \(time)" : node.name).\(role)" : self[input].name
        found.append(GraphParameter(name: name, value: input, tensor: tensor, decays: false, firstUse: time))
      }
    }
    return found
  }

  /// The graph with these constants as variables.
  ///
  /// - Returns: the graph, and each constant's variable in it.
  public func promoting(_ parameters: [GraphParameter]) throws -> (graph: Graph, variables: [ValueID]) {
    var rewriter = try Rewriter(self)
    let promoted = parameters.map { parameter in
      rewriter.replace(parameter.value) { $0.addVariable(TensorType(parameter.tensor.shape), name: parameter.name) }
    }
    for node in nodes { try rewriter.keep(node) }
    return (rewriter.finished(), promoted)
  }

  /// The graph with other elements for some constants, under these names.
  public func replacing(_ constants: [ValueID: (name: String, tensor: HostTensor)]) throws -> Graph {
    var rewriter = try Rewriter(self)
    for (id, new) in constants.sorted(by: { $0.key.index < $1.key.index }) {
      _ = rewriter.replace(id) { $0.addConstant(new.tensor, name: new.name) }
    }
    for node in nodes { try rewriter.keep(node) }
    return rewriter.finished()
  }
}
