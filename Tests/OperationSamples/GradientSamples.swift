import GraftGraph

/// Cases of the operations that gradients are made of.
extension OperationSamples {
  package static let gradients: [OperationSample] = {
    func image(_ shapes: [Int]...) -> [TensorType] { shapes.map { TensorType($0) } }
    let activations: [Activation] = [
      .relu, .clip(-0.25, 0.5), .leakyReLU(0.2), .sigmoid, .tanh, .hardSigmoid(0.2, 0.5), .hardSwish, .silu, .gelu, .geluTanh, .erf, .exp, .negate,
      .absolute, .elu(0.7), .softplus,
    ]
    var samples = activations.map { OperationSample(operation: ActivationGradient($0), inputs: image([3, 5, 7, 11], [3, 5, 7, 11]), range: -4...4) }
    samples += [Activation.log, .sqrt, .reciprocal].map {
      OperationSample(operation: ActivationGradient($0), inputs: image([2, 1024], [2, 1024]), range: 0.5...4)
    }
    samples += pools.map { sample in
      let pool = sample.operation as! Pool2D
      return OperationSample(
        operation: Pool2DGradient(of: pool), inputs: sample.inputs + [try! pool.outputType(sample.inputs)], terms: pool.size.h * pool.size.w)
    }
    // Ties: of equal maxima the first takes all.
    samples.append(
      OperationSample(
        operation: Pool2DGradient(of: Pool2D(.maximum, size: Pair(3), stride: Pair(1))), inputs: image([1, 5, 6, 3], [1, 3, 4, 3]), range: 0...1e-45))
    for (conv, x, w) in [
      (Conv2D(padding: Padding2D(1)), [2, 9, 8, 5], [7, 5, 3, 3]), (Conv2D(padding: Padding2D(1)), [1, 14, 14, 64], [70, 64, 3, 3]),
      (Conv2D(stride: Pair(1, 2), padding: Padding2D(1)), [2, 9, 10, 16], [24, 16, 3, 3]),
      (Conv2D(stride: Pair(2), padding: Padding2D(3)), [1, 21, 20, 3], [16, 3, 7, 7]),
      (Conv2D(stride: Pair(2, 1), padding: Padding2D(top: 0, left: 1, bottom: 2, right: 1)), [3, 11, 6, 13], [33, 13, 5, 3]),
      (Conv2D(padding: Padding2D(2), dilation: Pair(2), groups: 3), [2, 9, 10, 12], [18, 4, 3, 3]), (Conv2D(), [2, 5, 5, 130], [9, 130, 1, 1]),
      (Conv2D(padding: Padding2D(1), groups: 24), [2, 9, 10, 24], [24, 1, 3, 3]),
      (Conv2D(stride: Pair(2), padding: Padding2D(2), groups: 35), [1, 10, 9, 35], [35, 1, 5, 5]), (Conv2D(groups: 4), [1, 5, 5, 4], [8, 1, 3, 3]),
    ] {
      let y = try! conv.outputType(image(x, w))
      samples.append(
        OperationSample(
          operation: Conv2DWeightGradient(of: conv, size: Pair(w[2], w[3])), inputs: image(x) + [y], terms: y.shape[0] * y.shape[1] * y.shape[2]))
    }
    for shape in [[2, 3, 5, 7], [300, 65], [1, 1], [4, 33, 64]] {
      samples.append(OperationSample(operation: ChannelSums(), inputs: image(shape, shape), terms: shape.dropLast().reduce(1, *)))
      samples.append(OperationSample(operation: ChannelAffine(), inputs: image(shape, shape, [3, shape.last!])))
      samples.append(
        OperationSample(operation: LayerNormGradient(epsilon: 0.1, hasScale: true), inputs: image(shape, shape, [shape.last!]), terms: shape.last!))
    }
    for shape in [[2, 3, 5, 7], [300, 65], [1, 3], [4, 33, 64]] {
      samples.append(OperationSample(operation: ChannelMoments(), inputs: image(shape), terms: shape.dropLast().reduce(1, *)))
    }
    samples += optimizers
    for function in [SampleLoss.Function.crossEntropy, .sigmoid, .squared, .huber(0.75)] {
      for shape in [[5, 3], [1, 1], [7, 131], [3, 1000]] {
        for gives in [false, true] {
          samples.append(OperationSample(operation: SampleLoss(function, givesGradient: gives), inputs: image(shape, shape), terms: shape[1]))
        }
      }
    }
    samples.append(OperationSample(operation: LayerNormGradient(epsilon: 0.1, hasScale: false), inputs: image([5, 67], [5, 67]), terms: 67))
    samples.append(
      OperationSample(
        operation: Place([2, 5, 6], [.init(starts: [0, 0, 1], steps: [1, 2, 2]), .init(starts: [0, 4, 4], steps: [1, -2, -2])]),
        inputs: image([2, 3, 2], [2, 2, 3])))
    samples.append(
      OperationSample(
        operation: Place([7, 4], [.init(starts: [0, 0], steps: [2, 1]), .init(starts: [1, 0], steps: [2, 1])]), inputs: image([4, 4], [3, 4])))
    samples.append(OperationSample(operation: Place([3, 4], []), inputs: []))
    return samples
  }()

  /// Rates and sums of squares are positive.
  private static let optimizers: [OperationSample] = {
    var samples: [OperationSample] = []
    for shape in [[7], [3, 5, 3, 3], [20_011]] {
      let parameter = TensorType(shape), rest = [OptimizerRates.type, TensorType([1])]
      for step in [OptimizerStep(.sgd), OptimizerStep(.sgd, isNesterov: true, decays: false, rateScale: 0.5), OptimizerStep(.adamW)] {
        let inputs = Array(repeating: parameter, count: 2 + step.method.stateCount) + rest
        samples.append(OperationSample(operation: step, inputs: inputs, range: 0.25...0.75))
      }
      samples.append(OperationSample(operation: Blend(), inputs: [parameter, parameter, TensorType([2])]))
      samples.append(OperationSample(operation: SquareSum(), inputs: [parameter, TensorType([2, 3]), parameter], terms: 2 * parameter.elementCount))
    }
    return samples
  }()
}
