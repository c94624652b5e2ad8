import GraftGraph

/// What a network's outputs are compared by: one number a sample.
public enum Loss: Sendable, Equatable {
  /// −Σ t log softmax(z): one class a sample, or shares of several that add up to 1.
  case crossEntropy
  /// Σ (log(1 + eᶻ) − t z): any number of labels a sample.
  case binaryCrossEntropy
  /// Σ (z − t)² / 2
  case squared
  /// Σ of (z − t)² / 2 up to a distance of δ, and δ (|z − t| − δ/2) beyond (Huber, 1964).
  case huber(Float)

  /// Adds the loss of each sample: outputs and targets [N, C], result [N].
  public func add(to graph: inout Graph, outputs: ValueID, targets: ValueID) throws -> ValueID {
    func sum(_ value: ValueID, _ graph: inout Graph) throws -> ValueID {
      try graph.add(Reduce(.sum, axes: [1], keepsDimensions: false), [value], name: "loss")
    }
    func constant(_ value: Float, _ graph: inout Graph) -> ValueID { graph.addConstant(HostTensor([1], [value])) }
    switch self {
    case .crossEntropy:
      let logarithms = try graph.add(Softmax(axis: 1, logarithm: true), [outputs], name: "loss")
      let product = try graph.add(Binary(.multiply), [logarithms, targets], name: "loss")
      return try graph.add(Unary(.negate), [try sum(product, &graph)], name: "loss")
    case .binaryCrossEntropy:
      let product = try graph.add(Binary(.multiply), [outputs, targets], name: "loss")
      let soft = try graph.add(Unary(.softplus), [outputs], name: "loss")
      return try sum(try graph.add(Binary(.subtract), [soft, product], name: "loss"), &graph)
    case .squared:
      let difference = try graph.add(Binary(.subtract), [outputs, targets], name: "loss")
      let square = try graph.add(Binary(.multiply), [difference, difference], name: "loss")
      return try sum(try graph.add(Binary(.multiply), [square, constant(0.5, &graph)], name: "loss"), &graph)
    case .huber(let delta):
      // With c the difference clipped to ±δ, (z − t − c/2) c is both halves of it.
      let difference = try graph.add(Binary(.subtract), [outputs, targets], name: "loss")
      let clipped = try graph.add(Unary(.clip(-delta, delta)), [difference], name: "loss")
      let half = try graph.add(Binary(.multiply), [clipped, constant(0.5, &graph)], name: "loss")
      let rest = try graph.add(Binary(.subtract), [difference, half], name: "loss")
      return try sum(try graph.add(Binary(.multiply), [rest, clipped], name: "loss"), &graph)
    }
  }
}
