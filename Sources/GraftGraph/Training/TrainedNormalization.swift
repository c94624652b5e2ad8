/// How batch normalisations behave while a network trains.
public enum NormalizationMode: Sendable, Equatable {
  /// With their stored statistics, which stay as they are: what a frozen or lightly tuned network wants.
  case frozen
  /// With each batch's own statistics; the stored ones follow by `momentum`, as PyTorch counts it (0.1 takes a tenth of the new).
  case batch(momentum: Float)
}

/// A stored statistic that follows the batches': `variable ← (1 − momentum) variable + momentum value`.
public struct RunningStatistic: Sendable {
  public let variable: ValueID
  public let value: ValueID
  /// What the value is multiplied by first: n/(n − 1) makes a batch's variance unbiased.
  public let factor: Float
}

extension Graph {
  /// Batch normalisations written as products and sums that can be trained through.
  ///
  /// With stored statistics, one that follows a convolution whose result nobody else sees becomes part of that convolution's weights
  /// and bias, computed anew from the trained ones in each run: the network moves no more memory than the folded one does. The
  /// gradients are those of the normalisation.
  ///
  /// - Returns: the graph, and in `.batch` mode what the stored statistics follow (they have to be variables to do so).
  public func expandingNormalization(_ mode: NormalizationMode) throws -> (graph: Graph, statistics: [RunningStatistic]) {
    let uses = useCounts()
    var rewriter = try Rewriter(self)
    var statistics: [RunningStatistic] = []
    for node in nodes {
      guard let norm = node.operation as? BatchNorm else {
        try rewriter.keep(node)
        continue
      }
      let x = rewriter.value(node.inputs[0]), vectors = node.inputs.dropFirst().map { rewriter.value($0) }
      let (scale, shift, mean, variance) = (vectors[0], vectors[1], vectors[2], vectors[3])
      switch mode {
      case .batch:
        let shape = rewriter.new.type(of: x).shape, channels = shape.last ?? 1, rows = shape.dropLast().reduce(1, *)
        let moments = try rewriter.add(ChannelMoments(), [x], name: node.name)
        func row(_ index: Int) throws -> ValueID {
          let slice = try rewriter.add(Slice(starts: [index, 0], sizes: [1, channels], steps: [1, 1]), [moments], name: node.name)
          return try rewriter.add(Reshape([channels]), [slice], name: node.name)
        }
        let (batchMean, batchVariance) = (try row(0), try row(1))
        let (factor, offset) = try rewriter.affine(scale, shift, batchMean, batchVariance, epsilon: norm.epsilon, name: node.name)
        rewriter.define(node.output, as: try rewriter.add(Unary(.none, hasScale: true, hasShift: true), [x, factor, offset], name: node.name))
        for (stored, batch, unbiased) in [(mean, batchMean, Float(1)), (variance, batchVariance, Float(rows) / Float(max(1, rows - 1)))]
        where rewriter.new.variables.contains(stored) {
          statistics.append(RunningStatistic(variable: stored, value: batch, factor: unbiased))
        }
      case .frozen:
        let (factor, offset) = try rewriter.affine(scale, shift, mean, variance, epsilon: norm.epsilon, name: node.name)
        if uses[node.inputs[0].index] == 1, let producer = rewriter.new.producer(of: x), var conv = producer.operation as? Conv2D,
          conv.activation == .none, !conv.hasResidual
        {
          var inputs = producer.inputs
          let outputs = rewriter.new.type(of: factor).shape[0]
          let spread = try rewriter.folded(Reshape([outputs, 1, 1, 1]), [factor], name: node.name)
          inputs[1] = try rewriter.folded(Binary(.multiply), [inputs[1], spread], name: node.name)
          if conv.hasBias {
            let moved = try rewriter.folded(Binary(.multiply), [inputs[2], factor], name: node.name)
            inputs[2] = try rewriter.folded(Binary(.add), [moved, offset], name: node.name)
          } else {
            conv.hasBias = true
            inputs.insert(offset, at: 2)
          }
          rewriter.define(node.output, as: try rewriter.add(conv, inputs, name: producer.name))
        } else {
          rewriter.define(node.output, as: try rewriter.add(Unary(.none, hasScale: true, hasShift: true), [x, factor, offset], name: node.name))
        }
      }
    }
    return (try rewriter.finished().removingDeadNodes(keeping: &statistics), statistics)
  }
}

extension Rewriter {
  /// scale / √(variance + ε), and shift − mean times that: [C] each.
  fileprivate mutating func affine(
    _ scale: ValueID, _ shift: ValueID, _ mean: ValueID, _ variance: ValueID, epsilon: Double, name: String
  ) throws -> (factor: ValueID, offset: ValueID) {
    let raised = try folded(Binary(.add), [variance, addConstant(HostTensor([1], [Float(epsilon)]))], name: name)
    let deviation = try folded(Unary(.sqrt), [raised], name: name)
    let factor = try folded(Binary(.divide), [scale, deviation], name: name)
    let offset = try folded(Binary(.subtract), [shift, try folded(Binary(.multiply), [mean, factor], name: name)], name: name)
    return (factor, offset)
  }

  /// The operation's result: computed at once, in double precision, where all inputs are constants.
  fileprivate mutating func folded(_ operation: any Operation, _ inputs: [ValueID], name: String) throws -> ValueID {
    let constants = inputs.compactMap { constant($0) }
    guard constants.count == inputs.count else { return try add(operation, inputs, name: name) }
    return addConstant(operation.reference(constants.map(ReferenceTensor.init)).tensor)
  }
}

extension Graph {
  /// Without the nodes that neither an output nor a statistic depends on.
  fileprivate func removingDeadNodes(keeping statistics: inout [RunningStatistic]) throws -> Graph {
    var graph = self
    graph.outputs += statistics.flatMap { [$0.variable, $0.value] }
    graph = try graph.removingDeadNodes()
    let kept = Array(graph.outputs.dropFirst(outputs.count))
    statistics = statistics.enumerated().map {
      RunningStatistic(variable: kept[2 * $0.offset], value: kept[2 * $0.offset + 1], factor: $0.element.factor)
    }
    graph.outputs = Array(graph.outputs.prefix(outputs.count))
    return graph
  }
}
