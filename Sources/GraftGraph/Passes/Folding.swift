extension Graph {
  /// With batch normalisation, and products and sums with a constant a channel, folded into the convolution or product
  /// before them; where there is none, normalisation becomes a scale and a shift.
  ///
  /// Weights are folded in double precision.
  public func foldingNormalization() throws -> Graph {
    let uses = useCounts()
    var rewriter = try Rewriter(self)
    for node in nodes {
      guard let source = node.inputs.first, let affine = channelAffine(node) else {
        try rewriter.keep(node)
        continue
      }
      // The first of two operands may be the constant.
      let x = source == affine.x ? source : affine.x
      let target = rewriter.value(x)
      if uses[x.index] == 1, let producer = rewriter.new.producer(of: target), let folded = try rewriter.fold(affine, into: producer) {
        rewriter.define(node.output, as: folded)
        continue
      }
      let channels = type(of: x).shape.last ?? 1
      guard node.operation is BatchNorm || affine.scale.count == channels else {
        try rewriter.keep(node)
        continue
      }
      var inputs = [target]
      let hasScale = affine.scale.contains { $0 != 1 }
      let hasShift = affine.shift.contains { $0 != 0 }
      if hasScale { inputs.append(rewriter.addConstant(HostTensor([channels], affine.scale.map(Float.init)))) }
      if hasShift { inputs.append(rewriter.addConstant(HostTensor([channels], affine.shift.map(Float.init)))) }
      rewriter.define(node.output, as: try rewriter.add(Unary(.none, hasScale: hasScale, hasShift: hasShift), inputs, name: node.name))
    }
    return rewriter.finished()
  }

  /// y = x scale[c] + shift[c] for one value x.
  struct AffineMap {
    let x: ValueID
    let scale, shift: [Double]
  }

  /// What a node does to each channel, if it is no more than a product and a sum with constants.
  private func channelAffine(_ node: Node) -> AffineMap? {
    let channels = type(of: node.output).shape.last ?? 1
    if let norm = node.operation as? BatchNorm {
      let statistics = node.inputs.dropFirst().compactMap { constant($0)?.doubles() }
      guard statistics.count == 4 else { return nil }
      let scale = (0..<channels).map { statistics[0][$0] / (statistics[3][$0] + norm.epsilon).squareRoot() }
      return AffineMap(x: node.inputs[0], scale: scale, shift: (0..<channels).map { statistics[1][$0] - statistics[2][$0] * scale[$0] })
    }
    if let unary = node.operation as? Unary, unary.activation == .none, unary.hasScale || unary.hasShift {
      let vectors = node.inputs.dropFirst().compactMap { constant($0)?.doubles() }
      guard vectors.count == node.inputs.count - 1 else { return nil }
      let zero = [Double](repeating: 0, count: channels), one = [Double](repeating: 1, count: channels)
      return AffineMap(x: node.inputs[0], scale: unary.hasScale ? vectors[0] : one, shift: unary.hasShift ? vectors[vectors.count - 1] : zero)
    }
    guard let binary = node.operation as? Binary, binary.activation == .none else { return nil }
    for (position, other) in [(0, 1), (1, 0)] {
      let x = node.inputs[position]
      guard let vector = constant(node.inputs[other]), constant(x) == nil, type(of: x).shape == type(of: node.output).shape,
        vector.elementCount == 1 || vector.elementCount == channels && vector.shape.last == channels
      else { continue }
      let values = vector.doubles()
      let spread = values.count == 1 ? [Double](repeating: values[0], count: channels) : values
      let zero = [Double](repeating: 0, count: channels), one = [Double](repeating: 1, count: channels)
      switch binary.function {
      case .add: return AffineMap(x: x, scale: one, shift: spread)
      case .subtract where position == 0: return AffineMap(x: x, scale: one, shift: spread.map { -$0 })
      case .multiply: return AffineMap(x: x, scale: spread, shift: zero)
      case .divide where position == 0 && !spread.contains(0): return AffineMap(x: x, scale: spread.map { 1 / $0 }, shift: zero)
      default: return nil
      }
    }
    return nil
  }
}

extension Rewriter {
  /// The producer again with the affine map in its weights and bias; nil if it has none or they are not constants.
  fileprivate mutating func fold(_ affine: Graph.AffineMap, into producer: Graph.Node) throws -> ValueID? {
    var inputs = producer.inputs
    if let unary = producer.operation as? Unary { return try compose(affine, with: unary, producer) }
    let outputsFirst: Bool
    var hadBias = false
    var operation: any Operation
    if var conv = producer.operation as? Conv2D, conv.activation == .none, !conv.hasResidual {
      (hadBias, outputsFirst) = (conv.hasBias, true)
      conv.hasBias = true
      operation = conv
    } else if var product = producer.operation as? MatMul, product.activation == .none, !product.hasResidual, new.type(of: inputs[1]).rank == 2 {
      (hadBias, outputsFirst) = (product.hasBias, product.transposeB)
      product.hasBias = true
      operation = product
    } else {
      return nil
    }
    guard let weights = constant(inputs[1]), !hadBias || constant(inputs[2]) != nil else { return nil }
    let channels = affine.scale.count
    if affine.scale.contains(where: { $0 != 1 }) {
      inputs[1] = addConstant(weights.scaled(by: affine.scale, channelsFirst: outputsFirst), name: new[inputs[1]].name)
      weights.evict()
    }
    let bias = hadBias ? constant(inputs[2])!.doubles() : [Double](repeating: 0, count: channels)
    let shifted = (0..<channels).map { Float(bias[$0] * affine.scale[$0] + affine.shift[$0]) }
    let biasValue = addConstant(HostTensor([channels], shifted))
    if hadBias { inputs[2] = biasValue } else { inputs.insert(biasValue, at: 2) }
    return try add(operation, inputs, name: producer.name)
  }

  /// Two scales and shifts after one another as one; nil where the first ends in an activation or is no constant.
  private mutating func compose(_ affine: Graph.AffineMap, with first: Unary, _ producer: Graph.Node) throws -> ValueID? {
    let vectors = producer.inputs.dropFirst().compactMap { constant($0)?.doubles() }
    guard first.activation == .none, vectors.count == producer.inputs.count - 1 else { return nil }
    let channels = affine.scale.count
    let scale = first.hasScale ? vectors[0] : [Double](repeating: 1, count: channels)
    let shift = first.hasShift ? vectors[vectors.count - 1] : [Double](repeating: 0, count: channels)
    let scales: [Float] = (0..<channels).map { Float(scale[$0] * affine.scale[$0]) }
    let shifts: [Float] = (0..<channels).map { Float(shift[$0] * affine.scale[$0] + affine.shift[$0]) }
    let inputs = [producer.inputs[0], addConstant(HostTensor([channels], scales)), addConstant(HostTensor([channels], shifts))]
    return try add(Unary(.none, hasScale: true, hasShift: true), inputs, name: producer.name)
  }
}
