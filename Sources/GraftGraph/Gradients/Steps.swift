// Steps that gradient rules are made of.

extension GradientContext {
  /// The result of the node.
  var output: ValueID { node.output }

  mutating func constant(_ value: Float, _ shape: [Int] = [1]) -> ValueID {
    graph.addConstant(HostTensor(shape, Array(repeating: value, count: shape.reduce(1, *))), name: "\(value)")
  }

  mutating func binary(_ function: Binary.Function, _ a: ValueID, _ b: ValueID) throws -> ValueID { try add(Binary(function), [a, b]) }

  /// value · factor.
  mutating func scaled(_ value: ValueID, by factor: Float) throws -> ValueID {
    factor == 1 ? value : try binary(.multiply, value, constant(factor))
  }

  mutating func reshaped(_ value: ValueID, to shape: [Int]) throws -> ValueID {
    self.shape(value) == shape ? value : try add(Reshape(shape), [value])
  }

  /// Summed over the dimensions along which a tensor of `target`'s shape was repeated to make `value`'s.
  mutating func summed(_ value: ValueID, to target: [Int]) throws -> ValueID {
    let shape = self.shape(value), lead = shape.count - target.count
    let axes = shape.indices.filter { $0 < lead || target[$0 - lead] == 1 && shape[$0] != 1 }
    guard !axes.isEmpty else { return try reshaped(value, to: target) }
    // Dimensions of extent 1 between them join runs of axes that are summed in one pass.
    return try reshaped(try add(Reduce(.sum, axes: axes, keepsDimensions: true), [value]), to: target)
  }

  /// A row of a matrix [rows, C] as a vector [C].
  mutating func row(_ index: Int, of matrix: ValueID) throws -> ValueID {
    let columns = shape(matrix)[1]
    return try reshaped(try add(Slice(starts: [index, 0], sizes: [1, columns], steps: [1, 1]), [matrix]), to: [columns])
  }

  /// Σ gradient over all rows and Σ gradient · value, a channel at a time: what shifts and scales receive.
  mutating func channelSums(_ gradient: ValueID, _ value: ValueID) throws -> (plain: ValueID, product: ValueID) {
    let sums = try add(ChannelSums(), [gradient, value])
    return (try row(0, of: sums), try row(1, of: sums))
  }

  /// The gradient before an activation at the end of the node: from the node's result, or from what `unfused`, the node's operation
  /// without it, computes once more.
  mutating func upstreamBefore(_ activation: Activation, unfused: some Operation) throws -> ValueID {
    if activation == .none { return upstream }
    let seen = activation.hasDerivativeOfResult ? output : try add(unfused, inputs)
    return try add(ActivationGradient(activation), [seen, upstream])
  }
}
