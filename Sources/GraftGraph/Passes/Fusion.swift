extension Graph {
  /// With activations and residual sums moved into the operation that produces what they act on.
  public func fusing() throws -> Graph {
    let uses = useCounts()
    var rewriter = try Rewriter(self)
    for node in nodes {
      if let unary = node.operation as? Unary, !unary.hasScale, !unary.hasShift, uses[node.inputs[0].index] == 1 {
        let target = rewriter.value(node.inputs[0])
        if let producer = rewriter.new.producer(of: target), let fused = producer.operation.withActivation(unary.activation) {
          rewriter.define(node.output, as: try rewriter.add(fused, producer.inputs, name: producer.name))
          continue
        }
      }
      if let binary = node.operation as? Binary, binary.function == .add, type(of: node.inputs[0]).shape == type(of: node.inputs[1]).shape {
        if let fused = try fuseResidual(node, binary, uses, &rewriter) {
          rewriter.define(node.output, as: fused)
          continue
        }
      }
      try rewriter.keep(node)
    }
    return rewriter.finished()
  }

  /// The later of the two summands' producers takes the other as its residual.
  private func fuseResidual(_ node: Node, _ binary: Binary, _ uses: [Int], _ rewriter: inout Rewriter) throws -> ValueID? {
    let order = node.inputs[0].index > node.inputs[1].index ? [(0, 1), (1, 0)] : [(1, 0), (0, 1)]
    for (position, other) in order where uses[node.inputs[position].index] == 1 && node.inputs[0] != node.inputs[1] {
      let target = rewriter.value(node.inputs[position]), residual = rewriter.value(node.inputs[other])
      guard let producer = rewriter.new.producer(of: target) else { continue }
      if var conv = producer.operation as? Conv2D, conv.activation == .none, !conv.hasResidual {
        conv.hasResidual = true
        conv.activation = binary.activation
        return try rewriter.add(conv, producer.inputs + [residual], name: producer.name)
      }
      if var product = producer.operation as? MatMul, product.activation == .none, !product.hasResidual {
        product.hasResidual = true
        product.activation = binary.activation
        return try rewriter.add(product, producer.inputs + [residual], name: producer.name)
      }
    }
    return nil
  }
}

extension Operation {
  /// The operation with this activation at its end, if it has a place for one that is not taken.
  fileprivate func withActivation(_ activation: Activation) -> (any Operation)? {
    if var conv = self as? Conv2D, conv.activation == .none {
      conv.activation = activation
      return conv
    }
    if var product = self as? MatMul, product.activation == .none {
      product.activation = activation
      return product
    }
    if var binary = self as? Binary, binary.activation == .none {
      binary.activation = activation
      return binary
    }
    if var unary = self as? Unary, unary.activation == .none {
      unary.activation = activation
      return unary
    }
    return nil
  }
}
