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
    var x = try graph.add(Transpose([0, 2, 3, 1]), [input])
    var outputs: [ValueID] = []
    var features: ValueID?
    func constant(_ name: String) throws -> ValueID {
      guard let tensor = weights[name] else {
        throw ImportError(file: weights.file, node: "tensor \(quoted(name))", what: "it is missing", remedy: ImportError.fetchAgain)
      }
      return graph.addConstant(tensor, name: name)
    }
    for layer in layers {
      switch layer.operation {
      case .convolution(let spec):
        let shape = graph.type(of: x).shape
        let (h, w) = (
          spec.padding.amounts(extent: shape[1], kernel: spec.kernel, stride: spec.stride),
          spec.padding.amounts(extent: shape[2], kernel: spec.kernel, stride: spec.stride)
        )
        let conv = Conv2D(
          stride: Pair(spec.stride), padding: Padding2D(top: h.before, left: w.before, bottom: h.after, right: w.after), groups: spec.groups)
        var y = try graph.add(conv, [x, try constant(spec.weight)], name: layer.name)
        let norm = spec.normalization
        let vectors = try [norm.scale, norm.bias, norm.mean, norm.variance].map { try constant($0) }
        y = try graph.add(BatchNorm(epsilon: norm.epsilon), [y] + vectors, name: "\(layer.name).norm")
        if let residual = spec.residual { y = try graph.add(Binary(.add), [y, outputs[residual]], name: "\(layer.name).add") }
        switch spec.activation {
        case .identity: break
        case .relu6: y = try graph.add(Unary(.clip(0, 6)), [y], name: "\(layer.name).relu6")
        }
        x = y
      case .globalAveragePool:
        x = try graph.add(Reduce(.mean, axes: [1, 2], keepsDimensions: false), [x], name: layer.name)
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
