extension Graph {
  /// With activations that model files write in single steps, x times a function of x, as one: SiLU, both forms of GELU, hard swish.
  ///
  /// Nothing else reads what is between. Gradients are to be added after this pass.
  public func joiningActivations() throws -> Graph {
    let uses = useCounts()
    var rewriter = try Rewriter(self)
    for node in nodes {
      if let (x, activation) = GatedActivation(graph: self, uses: uses).match(node) {
        rewriter.define(node.output, as: try rewriter.add(Unary(activation), [rewriter.value(x)], name: node.name))
      } else {
        try rewriter.keep(node)
      }
    }
    return try rewriter.finished().removingDeadNodes()
  }
}

/// Looks for products of a value and a function of it.
private struct GatedActivation {
  let graph: Graph
  let uses: [Int]

  /// The value and the activation, if the node is one.
  func match(_ node: Graph.Node) -> (x: ValueID, activation: Activation)? {
    guard let binary = node.operation as? Binary, binary.activation == .none, [.multiply, .divide].contains(binary.function) else { return nil }
    let product = factors(of: node, depth: 3)
    guard product.values.count == 2 else { return nil }
    for (x, gate) in [(product.values[0], product.values[1]), (product.values[1], product.values[0])] {
      guard graph.type(of: x).shape == graph.type(of: node.output).shape, let (activation, scale) = activation(of: x, gatedBy: gate),
        isClose(product.scale, scale)
      else { continue }
      return (x, activation)
    }
    return nil
  }

  /// x times the gate times the scale is the activation.
  private func activation(of x: ValueID, gatedBy gate: ValueID) -> (Activation, scale: Double)? {
    guard let node = only(gate) else { return nil }
    if let unary = node.operation as? Unary, !unary.hasScale, !unary.hasShift {
      switch unary.activation {
      case .sigmoid where node.inputs[0] == x: return (.silu, 1)
      case .hardSigmoid(let slope, 0.5) where node.inputs[0] == x && isClose(Double(slope), 1 / 6): return (.hardSwish, 1)
      case .clip(0, 6) where sum(node.inputs[0], 3) == x: return (.hardSwish, 1 / 6)
      default: return nil
      }
    }
    guard let other = sum(gate, 1), let inner = only(other), let unary = inner.operation as? Unary, !unary.hasScale, !unary.hasShift else {
      return nil
    }
    let argument = factors(of: inner.inputs[0], depth: 3)
    switch unary.activation {
    case .erf: return argument.values == [x] && isClose(argument.scale, 0.5.squareRoot()) ? (.gelu, 0.5) : nil
    case .tanh: return isClose(argument.scale, (2 / Double.pi).squareRoot()) && isCubic(argument.values, of: x) ? (.geluTanh, 0.5) : nil
    default: return nil
    }
  }

  /// x + 0.044715 x³, or x (1 + 0.044715 x²).
  private func isCubic(_ values: [ValueID], of x: ValueID) -> Bool {
    func isPower(_ id: ValueID, _ exponent: Int) -> Bool {
      let product = factors(of: id, depth: 4)
      return product.values == Array(repeating: x, count: exponent) && isClose(product.scale, 0.044715)
    }
    if values.count == 1, let node = only(values[0]), let binary = node.operation as? Binary, binary.function == .add, binary.activation == .none {
      return node.inputs[0] == x && isPower(node.inputs[1], 3) || node.inputs[1] == x && isPower(node.inputs[0], 3)
    }
    guard values.count == 2, let place = values.firstIndex(of: x), let square = sum(values[1 - place], 1) else { return false }
    return isPower(square, 2)
  }

  // MARK: Steps

  /// What computes a value that only one node reads.
  private func only(_ id: ValueID) -> Graph.Node? { uses[id.index] == 1 ? graph.producer(of: id) : nil }

  /// The other summand, if a value is the sum of something and this number.
  private func sum(_ id: ValueID, _ number: Float) -> ValueID? {
    guard let node = only(id), let binary = node.operation as? Binary, binary.function == .add, binary.activation == .none else { return nil }
    for (position, other) in [(0, 1), (1, 0)] {
      if let tensor = graph.constant(node.inputs[position]), tensor.elementCount == 1, tensor.floats() == [number] { return node.inputs[other] }
    }
    return nil
  }

  /// A product as its factors and a number; what more than one node reads is a factor as a whole.
  private func factors(of id: ValueID, depth: Int) -> (values: [ValueID], scale: Double) {
    guard depth > 0, let node = only(id) else { return ([id], 1) }
    return factors(of: node, depth: depth - 1)
  }

  private func factors(of node: Graph.Node, depth: Int) -> (values: [ValueID], scale: Double) {
    if let (input, factor) = graph.scalarFactor(node) {
      let rest = factors(of: input, depth: depth)
      return (rest.values, rest.scale * factor)
    }
    guard let binary = node.operation as? Binary, binary.function == .multiply, binary.activation == .none else { return ([node.output], 1) }
    let (a, b) = (factors(of: node.inputs[0], depth: depth), factors(of: node.inputs[1], depth: depth))
    return (a.values + b.values, a.scale * b.scale)
  }

  /// Equal to the last places of single precision.
  private func isClose(_ a: Double, _ b: Double) -> Bool { abs(a - b) <= 1e-6 * abs(b) }
}
