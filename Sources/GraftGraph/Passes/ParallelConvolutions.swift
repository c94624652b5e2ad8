extension Graph {
  /// With sums of convolutions of one value, alike but for the sizes of their windows, as one convolution; a scale and a shift a
  /// channel counts as one of a single pixel.
  ///
  /// Networks that are trained with several branches a layer are written so (RepVGG, MobileOne, RepViT): Ding et al., "RepVGG: Making
  /// VGG-style ConvNets Great Again" (2021). Weights are added in double precision.
  public func joiningParallelConvolutions() throws -> Graph {
    let uses = useCounts()
    var rewriter = try Rewriter(self)
    for node in nodes {
      if let binary = node.operation as? Binary, binary.function == .add, binary.activation == .none, node.inputs[0] != node.inputs[1],
        type(of: node.inputs[0]).shape == type(of: node.inputs[1]).shape, let joined = try rewriter.joined(node, uses)
      {
        rewriter.define(node.output, as: joined)
      } else {
        try rewriter.keep(node)
      }
    }
    return try rewriter.finished().removingDeadNodes()
  }
}

/// A convolution of `x` with constants and nothing after it.
private struct Branch {
  let x: ValueID
  var convolution: Conv2D
  /// [O, C/groups, kh, kw]
  let shape: [Int]
  let weights: () -> [Float]
  let bias: [Double]

  /// `nil` for what is computed in another way, or depends on more than `x`.
  init?(_ value: ValueID, in graph: Graph) {
    guard let node = graph.producer(of: value), let convolution = node.operation as? Conv2D, convolution.activation == .none,
      !convolution.hasResidual, let weights = graph.constant(node.inputs[1])
    else { return nil }
    var bias = [Double](repeating: 0, count: weights.shape[0])
    if convolution.hasBias {
      guard let vector = graph.constant(node.inputs[2]) else { return nil }
      bias = vector.doubles()
    }
    (x, self.convolution, shape, self.bias) = (node.inputs[0], convolution, weights.shape, bias)
    self.weights = weights.floats
  }

  /// A value, or a scale and a shift of one, as a convolution like another, whose result has as many channels as its input.
  init?(pixelwise value: ValueID, like other: Branch, in graph: Graph) {
    let channels = other.shape[0], inGroup = other.shape[1]
    guard other.convolution.stride == Pair(1), other.convolution.groups * inGroup == channels else { return nil }
    var (scale, shift) = ([Double](repeating: 1, count: channels), [Double](repeating: 0, count: channels))
    if value == other.x {
      // In short formats a weight near 1 would round the others away; those of depthwise convolutions stay float32.
      guard inGroup == 1 else { return nil }
    } else {
      guard let node = graph.producer(of: value), node.inputs[0] == other.x, let unary = node.operation as? Unary, unary.activation == .none else {
        return nil
      }
      let vectors = node.inputs.dropFirst().compactMap { graph.constant($0)?.doubles() }
      guard vectors.count == node.inputs.count - 1 else { return nil }
      if unary.hasScale { scale = vectors[0] }
      if unary.hasShift { shift = vectors[vectors.count - 1] }
    }
    (x, shape, bias) = (other.x, [channels, inGroup, 1, 1], shift)
    convolution = Conv2D(groups: other.convolution.groups, hasBias: true)
    weights = {
      var weights = [Float](repeating: 0, count: channels * inGroup)
      for channel in 0..<channels { weights[channel * inGroup + channel % inGroup] = Float(scale[channel]) }
      return weights
    }
  }

  /// Where the other's window lies in this one's; `nil` if it does not, or the two are no branches of one layer.
  func place(of other: Branch) -> Pair? {
    let (a, b) = (convolution, other.convolution)
    let place = Pair(a.padding.top - b.padding.top, a.padding.left - b.padding.left)
    guard x == other.x, a.stride == b.stride, a.groups == b.groups, shape[..<2] == other.shape[..<2], a.dilation == Pair(1), b.dilation == Pair(1),
      place.h >= 0, place.w >= 0, place.h + other.shape[2] <= shape[2], place.w + other.shape[3] <= shape[3]
    else { return nil }
    return place
  }
}

extension Rewriter {
  /// The sum as one convolution; `nil` unless both summands are of one value, and nothing else reads the convolutions.
  fileprivate mutating func joined(_ node: Graph.Node, _ uses: [Int]) throws -> ValueID? {
    let values = node.inputs.map { value($0) }
    for (position, other) in [(0, 1), (1, 0)] where uses[node.inputs[position].index] == 1 {
      guard let large = Branch(values[position], in: new),
        let small = Branch(values[other], in: new) ?? Branch(pixelwise: values[other], like: large, in: new),
        values[other] == large.x || uses[node.inputs[other].index] == 1, let place = large.place(of: small)
      else { continue }
      var weights = large.weights()
      let (rows, columns) = (small.shape[2], small.shape[3])
      for (index, weight) in small.weights().enumerated() {
        let (plane, row, column) = (index / (rows * columns), index / columns % rows, index % columns)
        let target = (plane * large.shape[2] + row + place.h) * large.shape[3] + column + place.w
        weights[target] = Float(Double(weights[target]) + Double(weight))
      }
      var convolution = large.convolution
      convolution.hasBias = true
      let bias = zip(large.bias, small.bias).map { Float($0 + $1) }
      let inputs = [large.x, addConstant(HostTensor(large.shape, weights)), addConstant(HostTensor([bias.count], bias))]
      return try add(convolution, inputs, name: new.producer(of: values[position])?.name ?? node.name)
    }
    return nil
  }
}
