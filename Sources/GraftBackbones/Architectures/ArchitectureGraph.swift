import GraftGraph

extension Architecture {
  /// The architecture as a graph over its weights, for an input `[N, 3, H, W]`; outputs "logits" and "features".
  ///
  /// Layers are named as in the description, so every one can be a cut.
  func graph(_ weights: StateDictionary, inputShape: [Int]) throws -> Graph {
    guard inputShape.count == 4, inputShape[1] == 3 else {
      throw ImportError(
        file: weights.file, what: "\(name) takes images [N, 3, H, W], and \(inputShape) was given", remedy: "Give a tensor of that shape.")
    }
    var graph = Graph()
    let input = graph.addInput(TensorType(inputShape), name: "input")
    var x = input
    var outputs: [ValueID] = []
    var features: ValueID?
    func constant(_ name: String) throws -> ValueID {
      guard let tensor = weights[name] else {
        throw ImportError(file: weights.file, node: "tensor \(quoted(name))", what: "it is missing", remedy: ImportError.fetchAgain)
      }
      return graph.addConstant(tensor, name: name)
    }
    // Between layers images are channels first, as PyTorch's, so that a cut has the shape users know.
    let toLast = Transpose([0, 2, 3, 1])
    /// A node inside a layer: its value has no name, and so is no cut.
    func inner(_ operation: some Operation, _ inputs: [ValueID], _ layer: LayerSpec) throws -> ValueID {
      let value = try graph.add(operation, inputs, name: layer.name)
      graph.rename(value, "")
      return value
    }
    for layer in layers {
      if let input = layer.input { x = outputs[input] }
      switch layer.operation {
      case .convolution(let spec):
        let shape = graph.type(of: x).shape
        let (h, w) = (
          spec.padding.amounts(extent: shape[2], kernel: spec.kernel, stride: spec.stride),
          spec.padding.amounts(extent: shape[3], kernel: spec.kernel, stride: spec.stride)
        )
        let conv = Conv2D(
          stride: Pair(spec.stride), padding: Padding2D(top: h.before, left: w.before, bottom: h.after, right: w.after), groups: spec.groups)
        var y = try inner(conv, [try inner(toLast, [x], layer), try constant(spec.weight)], layer)
        let norm = spec.normalization
        let vectors = try [norm.scale, norm.bias, norm.mean, norm.variance].map { try constant($0) }
        y = try inner(BatchNorm(epsilon: norm.epsilon), [y] + vectors, layer)
        if let residual = spec.residual { y = try inner(Binary(.add), [y, try inner(toLast, [outputs[residual]], layer)], layer) }
        switch spec.activation {
        case .identity: break
        case .relu6: y = try inner(Unary(.clip(0, 6)), [y], layer)
        case .relu: y = try inner(Unary(.relu), [y], layer)
        }
        x = try inner(Transpose([0, 3, 1, 2]), [y], layer)
      case .maximumPool:
        let pool = Pool2D(.maximum, size: Pair(3), stride: Pair(2), padding: Padding2D(1))
        x = try inner(Transpose([0, 3, 1, 2]), [try inner(pool, [try inner(toLast, [x], layer)], layer)], layer)
      case .globalAveragePool:
        x = try graph.add(Reduce(.mean, axes: [2, 3], keepsDimensions: false), [x], name: layer.name)
        features = x
      case .linear(let spec):
        x = try graph.add(MatMul(transposeB: true, hasBias: true), [x, try constant(spec.weight), try constant(spec.bias)], name: layer.name)
      }
      // A cut is named by its layer.
      graph.rename(x, layer.name)
      outputs.append(x)
    }
    graph.rename(x, "logits")
    graph.outputs = [x]
    if let features {
      graph.rename(features, "features")
      graph.outputs.append(features)
    }
    return graph
  }
}
