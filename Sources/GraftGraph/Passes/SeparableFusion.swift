import GraftDevice

extension Graph {
  /// With depthwise convolutions and the pointwise ones around them in one node each, where the device has a kernel for that and
  /// it is faster. What a depthwise convolution makes then lies in a core's cache and never in memory.
  package func fusingSeparable(traits: DeviceTraits, options: PlanOptions) throws -> Graph {
    guard traits.family == .cpu, options.fusesSeparable else { return self }
    let uses = useCounts(), results = Set(outputs)
    func inner(_ id: ValueID) -> Graph.Node? {
      guard uses[id.index] == 1, !results.contains(id) else { return nil }
      return producer(of: id)
    }
    var rewriter = try Rewriter(self)
    for node in nodes {
      guard let projection = node.operation as? Conv2D, isPointwise(node),
        let middle = inner(node.inputs[0]), let depthwise = middle.operation as? Conv2D, !depthwise.hasResidual, isDepthwise(middle)
      else {
        try rewriter.keep(node)
        continue
      }
      // With what expands its input, or else without.
      let fused = [inner(middle.inputs[0]), nil].lazy.compactMap { first -> (SeparableConv2D, [ValueID])? in
        if let first {
          guard let expansion = first.operation as? Conv2D, !expansion.hasResidual, isPointwise(first) else { return nil }
          return (
            SeparableConv2D(expansion: expansion, depthwise: depthwise, projection: projection),
            first.inputs + middle.inputs.dropFirst() + node.inputs.dropFirst()
          )
        }
        return (SeparableConv2D(expansion: nil, depthwise: depthwise, projection: projection), middle.inputs + node.inputs.dropFirst())
      }.first { $0.isWorthwhile($1.map { type(of: $0) }, traits: traits, precision: options.precision) }
      guard let (operation, inputs) = fused else {
        try rewriter.keep(node)
        continue
      }
      var moved: [ValueID] = []
      for input in inputs { moved.append(rewriter.value(input)) }
      rewriter.define(node.output, as: try rewriter.add(operation, moved, name: node.name))
    }
    return try rewriter.finished().removingDeadNodes()
  }

  /// A convolution of single pixels with constant weights.
  private func isPointwise(_ node: Node) -> Bool {
    guard let conv = node.operation as? Conv2D, constant(node.inputs[1]) != nil else { return false }
    return conv.groups == 1 && conv.stride == Pair(1) && conv.padding == Padding2D() && type(of: node.inputs[1]).shape[2...] == [1, 1]
  }

  private func isDepthwise(_ node: Node) -> Bool {
    guard let conv = node.operation as? Conv2D, constant(node.inputs[1]) != nil else { return false }
    let channels = type(of: node.inputs[0]).shape[3]
    return conv.groups == channels && type(of: node.output).shape[3] == channels
  }
}
