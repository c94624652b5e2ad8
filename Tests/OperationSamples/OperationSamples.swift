import GraftGraph

private func image(_ shape: [Int], _ others: [Int]...) -> [TensorType] { ([shape] + others).map { TensorType($0) } }

/// Cases of every operation in `OperationList`: extents of 1, primes, and one more and one less than the kernels' tiles.
package enum OperationSamples {
  package static let all: [OperationSample] =
    convolutions + products + elementwise + pools + reductions + movements + losses + gradients + attentions + greatest

  package static let convolutions: [OperationSample] = {
    var samples: [OperationSample] = []
    func add(_ x: [Int], _ w: [Int], _ conv: Conv2D, activation: Activation = .none, residual: Bool = false) {
      var conv = conv
      conv.activation = activation
      conv.hasResidual = residual
      var inputs = image(x, w)
      if conv.hasBias { inputs.append(TensorType([w[0]])) }
      if residual { inputs.append(try! conv.withoutResidual.outputType(inputs)) }
      samples.append(OperationSample(operation: conv, inputs: inputs, terms: w[1] * w[2] * w[3]))
    }
    add([1, 1, 1, 1], [1, 1, 1, 1], Conv2D())
    add([2, 5, 7, 3], [17, 3, 3, 3], Conv2D(padding: Padding2D(1), hasBias: true), activation: .relu)
    add([1, 9, 8, 16], [64, 16, 1, 1], Conv2D(hasBias: true), activation: .clip(0, 6), residual: true)
    add([1, 7, 7, 31], [65, 31, 1, 1], Conv2D(stride: Pair(2)))
    add(
      [3, 11, 6, 13], [33, 13, 5, 3], Conv2D(stride: Pair(2, 1), padding: Padding2D(top: 0, left: 1, bottom: 2, right: 1), hasBias: true),
      activation: .silu)
    add([1, 14, 14, 8], [129, 8, 3, 3], Conv2D(padding: Padding2D(2), dilation: Pair(2)), activation: .hardSwish)
    add([2, 6, 5, 12], [18, 4, 3, 3], Conv2D(padding: Padding2D(1), groups: 3, hasBias: true), activation: .leakyReLU(0.1), residual: true)
    add([1, 5, 5, 4], [8, 1, 3, 3], Conv2D(padding: Padding2D(1), groups: 4))
    add([2, 9, 10, 24], [24, 1, 3, 3], Conv2D(padding: Padding2D(1), groups: 24, hasBias: true), activation: .clip(0, 6))
    add([1, 10, 9, 35], [35, 1, 5, 5], Conv2D(stride: Pair(2), padding: Padding2D(top: 1, left: 1, bottom: 2, right: 2), groups: 35, hasBias: true))
    add([1, 12, 12, 16], [16, 1, 3, 3], Conv2D(padding: Padding2D(2), dilation: Pair(2), groups: 16), activation: .gelu, residual: true)
    add([1, 20, 20, 3], [64, 3, 7, 7], Conv2D(stride: Pair(2), padding: Padding2D(3), hasBias: true), activation: .relu)
    add([1, 3, 3, 96], [97, 96, 3, 3], Conv2D(padding: Padding2D(1)), activation: .sigmoid)
    add([1, 2, 2, 5], [3, 5, 2, 2], Conv2D())
    add([1, 17, 1, 64], [48, 64, 1, 1], Conv2D(hasBias: true), activation: .tanh)
    return samples
  }()

  package static let products: [OperationSample] = {
    var samples: [OperationSample] = []
    for (m, n, k) in [(1, 1, 1), (1, 1000, 37), (7, 5, 130), (12, 64, 16), (13, 65, 17), (129, 33, 5), (64, 128, 256), (2, 3, 515)] {
      for (ta, tb) in [(false, false), (true, false), (false, true), (true, true)] {
        let inputs = image(ta ? [k, m] : [m, k], tb ? [n, k] : [k, n])
        samples.append(OperationSample(operation: MatMul(transposeA: ta, transposeB: tb), inputs: inputs, terms: k))
      }
    }
    samples.append(
      OperationSample(
        operation: MatMul(transposeB: true, hasBias: true, hasResidual: true, activation: .gelu), inputs: image([9, 20], [35, 20], [35], [9, 35]),
        terms: 20))
    samples.append(OperationSample(operation: MatMul(), inputs: image([2, 3, 9, 8], [2, 3, 8, 17]), terms: 8))
    samples.append(OperationSample(operation: MatMul(transposeB: true), inputs: image([5, 9, 8], [5, 17, 8]), terms: 8))
    samples.append(OperationSample(operation: MatMul(hasBias: true), inputs: image([4, 9, 8], [8, 17], [17]), terms: 8))
    samples.append(OperationSample(operation: MatMul(transposeA: true), inputs: image([3, 8, 9], [3, 8, 17]), terms: 8))
    samples.append(OperationSample(operation: MatMul(), inputs: image([1, 9, 8], [3, 8, 17]), terms: 8))
    return samples
  }()

  package static let elementwise: [OperationSample] = {
    let activations: [Activation] = [
      .relu, .clip(-0.25, 0.5), .leakyReLU(0.2), .sigmoid, .tanh, .hardSigmoid(0.2, 0.5), .hardSwish, .silu, .gelu, .geluTanh, .erf, .exp, .negate,
      .absolute, .elu(0.7), .softplus,
    ]
    var samples = activations.map { OperationSample(operation: Unary($0), inputs: image([3, 5, 7, 11]), range: -6...6) }
    samples += [Activation.log, .sqrt, .reciprocal].map { OperationSample(operation: Unary($0), inputs: image([2, 1024]), range: 0.01...20) }
    samples.append(OperationSample(operation: Unary(.relu, hasScale: true, hasShift: true), inputs: image([2, 3, 3, 37], [37], [37])))
    samples.append(OperationSample(operation: Unary(.none, hasShift: true), inputs: image([4, 64], [64])))
    samples.append(OperationSample(operation: Unary(.none, hasScale: true), inputs: image([5], [5])))
    for function in Binary.Function.allCases {
      let range: ClosedRange<Double> = function == .power || function == .divide ? 0.5...2 : -1...1
      for (a, b) in [
        ([2, 3, 5, 7], [2, 3, 5, 7]), ([2, 3, 5, 7], [7]), ([1], [4, 33]), ([2, 3, 5, 1], [1, 3, 1, 7]), ([3, 1], [1, 70]), ([], []),
      ] {
        samples.append(OperationSample(operation: Binary(function), inputs: image(a, b), range: range))
      }
    }
    samples.append(OperationSample(operation: Binary(.add, activation: .relu), inputs: image([2, 2048], [2, 2048])))
    samples.append(OperationSample(operation: BatchNorm(epsilon: 1e-3), inputs: image([2, 3, 3, 9], [9], [9], [9], [9]), range: 0.1...1))
    samples.append(
      OperationSample(operation: LayerNorm(epsilon: 1e-5, hasScale: true, hasShift: true), inputs: image([3, 5, 67], [67], [67]), terms: 67))
    samples.append(
      OperationSample(operation: LayerNorm(epsilon: 1e-5, hasScale: true, hasShift: true), inputs: image([3, 5, 72], [72], [72]), terms: 72))
    samples.append(OperationSample(operation: LayerNorm(epsilon: 1e-6, hasScale: false, hasShift: false), inputs: image([2, 5]), terms: 5))
    samples.append(
      OperationSample(operation: LocalResponseNorm(size: 5, alpha: 1e-1, beta: 0.75, k: 1), inputs: image([2, 3, 3, 37]), range: -3...3))
    samples.append(OperationSample(operation: LocalResponseNorm(size: 4, alpha: 0.5, beta: 0.5, k: 2), inputs: image([1, 2, 2, 96]), range: -3...3))
    samples.append(
      OperationSample(operation: NormalizeImage(), inputs: [TensorType([2, 5, 3, 3], .uint8), TensorType([3]), TensorType([3])]))
    return samples
  }()

  package static let pools: [OperationSample] = [
    Pool2D(.maximum, size: Pair(3), stride: Pair(2), padding: Padding2D(1)), Pool2D(.average, size: Pair(3), stride: Pair(2), padding: Padding2D(1)),
    Pool2D(.average, size: Pair(3), stride: Pair(2), padding: Padding2D(1), countsPadding: true),
    Pool2D(.average, size: Pair(3), stride: Pair(2), padding: Padding2D(1), ceilMode: true, countsPadding: true),
    Pool2D(.maximum, size: Pair(2, 3), stride: Pair(3, 1), padding: Padding2D(top: 0, left: 1, bottom: 1, right: 0), ceilMode: true),
    Pool2D(.average, size: Pair(10, 9)),
  ].flatMap { pool in [[1, 10, 9, 5], [2, 10, 9, 33], [1, 10, 9, 24]].map { OperationSample(operation: pool, inputs: image($0), terms: 9) } }

  package static let reductions: [OperationSample] = [
    OperationSample(operation: Reduce(.mean, axes: [1, 2], keepsDimensions: false), inputs: image([2, 7, 7, 65]), terms: 49),
    OperationSample(operation: Reduce(.sum, axes: [0], keepsDimensions: false), inputs: image([300, 17]), terms: 300),
    OperationSample(operation: Reduce(.maximum, axes: [3], keepsDimensions: true), inputs: image([2, 3, 5, 37])),
    OperationSample(operation: Reduce(.mean, axes: [1], keepsDimensions: true), inputs: image([5, 1]), terms: 1),
    OperationSample(operation: Reduce(.sum, axes: [0, 1], keepsDimensions: false), inputs: image([9, 1031]), terms: 9279),
    OperationSample(operation: Softmax(axis: 1), inputs: image([3, 1000]), range: -8...8, terms: 1000),
    OperationSample(operation: Softmax(axis: 1, logarithm: true), inputs: image([3, 7]), range: -8...8, terms: 7),
    OperationSample(operation: Softmax(axis: 1), inputs: image([2, 5, 3, 4]), range: -8...8, terms: 5),
    OperationSample(operation: Softmax(axis: 0, logarithm: true), inputs: image([6, 3]), range: -8...8, terms: 6),
  ]

  package static let movements: [OperationSample] = [
    OperationSample(operation: Slice(starts: [0, 1, 8], sizes: [2, 4, 16], steps: [1, 1, 1]), inputs: image([2, 6, 40])),
    OperationSample(operation: Reshape([6, 35]), inputs: image([2, 3, 5, 7])),
    OperationSample(operation: Transpose([0, 3, 1, 2]), inputs: image([2, 5, 6, 7])),
    OperationSample(operation: Transpose([0, 2, 3, 1]), inputs: image([2, 19, 6, 17])),
    OperationSample(operation: Transpose([3, 1, 0, 2]), inputs: image([2, 5, 3, 4])),
    OperationSample(operation: Transpose([0, 1, 2, 4, 3]), inputs: image([2, 3, 4, 5, 6])),
    OperationSample(operation: Transpose([4, 2, 0, 3, 1]), inputs: image([2, 3, 4, 5, 6])),
    OperationSample(operation: Transpose([1, 0]), inputs: image([33, 65])),
    OperationSample(operation: Slice(starts: [0, 1, 2, 3], sizes: [2, 2, 2, 4], steps: [1, 2, 1, 1]), inputs: image([2, 5, 6, 9])),
    OperationSample(operation: Slice(starts: [4, 0], sizes: [5, 3], steps: [-1, 2]), inputs: image([5, 6])),
    OperationSample(operation: Pad(before: [0, 1, 2, 0], after: [0, 2, 0, 3], value: -1.5), inputs: image([2, 3, 4, 5])),
    OperationSample(operation: Concat(axis: 3), inputs: image([1, 3, 2, 5], [1, 3, 2, 17], [1, 3, 2, 1])),
    OperationSample(operation: Concat(axis: 0), inputs: image([1, 3], [4, 3])),
    OperationSample(operation: Concat(axis: 1), inputs: image([2, 3, 7], [2, 1, 7])),
    OperationSample(operation: Expand([4, 3, 7]), inputs: image([3, 1])),
    OperationSample(operation: Expand([2, 2048]), inputs: image([2048])),
  ]

  /// Few of a row and all of it, rows of one element, and ties: numbers that are 0 or the smallest there is.
  package static let greatest: [OperationSample] =
    [([5, 1], 1), ([7, 13], 3), ([3, 1000], 5), ([2, 3, 37], 37), ([2, 131], 40), ([33], 8)].map { shape, count in
      OperationSample(operation: TopK(count), inputs: image(shape), range: -8...8)
    } + [OperationSample(operation: TopK(9), inputs: image([4, 70]), range: 0...1e-45)]
    // One place a row: some of those that are drawn lie outside of it.
    + [OperationSample(operation: TopKGradient([19, 33]), inputs: image([19, 2, 1], [19, 2, 1]), range: -9...40)]

  package static let losses: [OperationSample] = [false, true].flatMap { gradient in
    [(1, 2), (5, 10), (7, 1000), (33, 17)].map { n, c in
      OperationSample(
        operation: CrossEntropy(givesGradient: gradient), inputs: [TensorType([n, c]), TensorType([n], .int32)], range: -8...8, terms: c)
    }
  }
}

extension Conv2D {
  fileprivate var withoutResidual: Conv2D {
    var conv = self
    conv.hasResidual = false
    return conv
  }
}
