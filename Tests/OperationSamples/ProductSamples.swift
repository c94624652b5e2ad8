import GraftDevice
import GraftGraph

/// Products and convolutions that every kernel of theirs is forced to compute.
package enum ProductSamples {
  /// Every tile whole and with k in three parts, and the definition.
  package static let kernels: [ProductKernel] = [.naive] + GEMMTile.candidates.flatMap { [.tiled($0, splits: 1), .tiled($0, splits: 3)] }

  package static let skinnyKernels: [ProductKernel] = [.skinny(splits: 1), .skinny(splits: 4)]

  /// Winograd's transforms by tiles of 4 × 4 and of 2 × 2 outputs.
  package static let winogradKernels: [ProductKernel] = [4, 2].map { .winograd(outputs: $0, GEMMTile.candidates[6]) }

  /// Samples, and the kernels that can compute them.
  package typealias Case = (sample: OperationSample, kernels: [ProductKernel])

  package static let all: [Case] =
    (products + transposed + convolutions).map { ($0, kernels) } + skinny.map { ($0, skinnyKernels) }
    + transformed.map { ($0, winogradKernels) }

  /// What a simulator computes in a minute or two: one block of the large tiles and some of the small, with tails everywhere;
  /// every tile with whole vectors and without, with k whole and in parts.
  package static let small: [Case] =
    [
      (product(36, 36, 20), [.naive] + GEMMTile.candidates.map { .tiled($0, splits: 1) }),
      (product(37, 35, 21, transposeA: true, transposeB: true), [.naive] + GEMMTile.candidates.map { .tiled($0, splits: 3) }),
      (smallConvolutions[0], [.naive] + GEMMTile.candidates.map { .tiled($0, splits: 3) }),
      (smallConvolutions[1], [.naive] + GEMMTile.candidates.map { .tiled($0, splits: 1) }),
    ] + skinny.filter { $0.flops < 20_000 }.map { ($0, skinnyKernels) }
    + [(transformed[0], [winogradKernels[0]]), (transformed[1], [winogradKernels[1]])]

  /// Operands that every matrix unit can read: both along k, in whole chunks.
  package static let onMatrixUnit = product(24, 18, 72, transposeB: true)
  package static let convolvedOnMatrixUnit =
    convolution([1, 5, 3, 8], [10, 8, 3, 3], Conv2D(stride: Pair(2, 1), padding: Padding2D(1), hasBias: true), .relu, residual: true)

  /// Steps along k that go round the stages of local memory several times.
  package static let deepOnMatrixUnit: [OperationSample] = [false, true].map { product(72, 40, 328, transposeA: $0, transposeB: !$0) }

  /// Every transposition; whole blocks, and tails of rows, columns and k; results in chunks, pairs and single elements.
  package static let productsOnMatrixUnit: [OperationSample] = [(false, true), (true, false), (false, false), (true, true)].flatMap { ta, tb in
    [(136, 72, 104), (40, 36, 44), (36, 42, 34)].map { m, n, k in
      let product = MatMul(transposeA: ta, transposeB: tb, hasBias: true, hasResidual: true, activation: ta == tb ? .silu : .clip(-1, 2))
      let shapes = [ta ? [2, k, m] : [2, m, k], tb ? [2, n, k] : [2, k, n], [n], [2, m, n]]
      return OperationSample(operation: product, inputs: shapes.map { TensorType($0) }, terms: k)
    }
  }

  package static let weightsOnMatrixUnit = weightGradient([1, 6, 5, 8], 18, Pair(3, 2), Conv2D(stride: Pair(2, 1), padding: Padding2D(1)))

  package static let products: [OperationSample] = [false, true].flatMap { transposed in
    // Whole vectors everywhere, and none anywhere; more than one block of the small tiles.
    [(132, 68, 36), (37, 35, 77)].map { m, n, k in
      // A smooth activation is a program of its own.
      product(
        m, n, k, batch: 2, transposeA: transposed, transposeB: transposed, activation: transposed && m % 4 != 0 ? Activation.silu : .clip(-1, 2))
    }
  }

  /// One operand transposed, the other not.
  package static let transposed: [OperationSample] = [false, true].flatMap { isFirst in
    [(36, 36, 20), (37, 35, 21)].map { m, n, k in product(m, n, k, transposeA: isFirst, transposeB: !isFirst) }
  }

  private static func product(
    _ m: Int, _ n: Int, _ k: Int, batch: Int = 1, transposeA: Bool = false, transposeB: Bool = false, activation: Activation = .clip(-1, 2)
  ) -> OperationSample {
    let product = MatMul(transposeA: transposeA, transposeB: transposeB, hasBias: true, hasResidual: true, activation: activation)
    let shapes = [[batch] + (transposeA ? [k, m] : [m, k]), [batch] + (transposeB ? [n, k] : [k, n]), [n], [batch, m, n]]
    return OperationSample(operation: product, inputs: shapes.map { TensorType($0) }, terms: k)
  }

  /// At most 8 rows or columns.
  package static let skinny: [OperationSample] = [(1, 70), (3, 33), (8, 41), (70, 2), (41, 7)].flatMap { m, n in
    [(false, 64), (false, 131), (true, 64), (true, 131)].map { transposed, k in
      let product = MatMul(transposeA: transposed, transposeB: !transposed, hasBias: true, activation: .relu)
      let shapes = [transposed ? [2, k, m] : [2, m, k], transposed ? [2, k, n] : [2, n, k], [n]]
      return OperationSample(operation: product, inputs: shapes.map { TensorType($0) }, terms: k)
    }
  }

  package static let convolutions: [OperationSample] = [
    // A first layer; a deep one; groups; a strided 1 × 1; dilation with uneven padding.
    convolution([2, 15, 13, 3], [20, 3, 3, 3], Conv2D(stride: Pair(2), padding: Padding2D(1), hasBias: true), .relu),
    convolution([1, 9, 8, 16], [36, 16, 3, 3], Conv2D(padding: Padding2D(1), hasBias: true), .silu, residual: true),
    convolution([2, 6, 7, 12], [18, 4, 3, 3], Conv2D(padding: Padding2D(1), groups: 3), .none, residual: true),
    convolution([1, 9, 11, 20], [33, 20, 1, 1], Conv2D(stride: Pair(2)), .none),
    convolution(
      [1, 12, 11, 8], [17, 8, 5, 3], Conv2D(stride: Pair(1, 2), padding: Padding2D(top: 0, left: 2, bottom: 1, right: 3), dilation: Pair(2, 3)),
      .clip(0, 6)),
  ]

  /// Gradients with respect to a convolution's weights that matrix units compute.
  package static let weightGradients: [OperationSample] = [
    // Whole chunks of both operands; every stride, dilation and padding different; groups; a first layer; channels and outputs that
    // only the narrowest copies take.
    weightGradient([2, 11, 10, 16], 40, Pair(3), Conv2D(padding: Padding2D(1))),
    weightGradient(
      [3, 9, 13, 8], 24, Pair(3, 2),
      Conv2D(stride: Pair(2, 1), padding: Padding2D(top: 0, left: 2, bottom: 1, right: 3), dilation: Pair(1, 2))),
    weightGradient([2, 9, 10, 24], 48, Pair(3), Conv2D(stride: Pair(1, 2), padding: Padding2D(1), groups: 3)),
    weightGradient([2, 15, 13, 3], 20, Pair(7), Conv2D(stride: Pair(2), padding: Padding2D(3))),
    weightGradient([1, 9, 11, 10], 18, Pair(5), Conv2D(padding: Padding2D(2))),
    // Copies that step over several images at once; fewer pixels than three shares have room for.
    weightGradient([37, 3, 2, 8], 16, Pair(3), Conv2D(padding: Padding2D(1))),
    weightGradient([70, 1, 1, 8], 16, Pair(1), Conv2D()),
    weightGradient([1, 4, 5, 72], 8, Pair(1), Conv2D()),
  ]

  /// Convolutions that Winograd's transforms compute, with whole vectors of channels and without; images that no tile fits.
  package static let transformed: [OperationSample] = [
    convolution([1, 5, 2, 4], [12, 4, 3, 3], Conv2D(padding: Padding2D(1), hasBias: true), .relu, residual: true),
    convolution([2, 3, 6, 5], [7, 5, 3, 3], Conv2D(padding: Padding2D(top: 0, left: 2, bottom: 1, right: 1), hasBias: true), .silu, residual: true),
    convolution([2, 13, 9, 36], [40, 36, 3, 3], Conv2D(padding: Padding2D(1)), .none),
  ]

  /// A first layer and a grouped one with whole vectors, a handful of pixels each.
  private static let smallConvolutions: [OperationSample] = [
    convolution([1, 7, 5, 3], [18, 3, 3, 3], Conv2D(stride: Pair(2), padding: Padding2D(1), hasBias: true), .relu),
    convolution([2, 4, 3, 8], [16, 4, 3, 2], Conv2D(padding: Padding2D(1), groups: 2), .none, residual: true),
  ]

  private static func weightGradient(_ x: [Int], _ outputs: Int, _ size: Pair, _ convolution: Conv2D) -> OperationSample {
    let y = try! convolution.outputType([TensorType(x), TensorType([outputs, x[3] / convolution.groups, size.h, size.w])])
    return OperationSample(
      operation: Conv2DWeightGradient(of: convolution, size: size), inputs: [TensorType(x), y], terms: y.shape[0] * y.shape[1] * y.shape[2])
  }

  private static func convolution(
    _ x: [Int], _ w: [Int], _ convolution: Conv2D, _ activation: Activation, residual: Bool = false
  ) -> OperationSample {
    var conv = convolution
    conv.activation = activation
    var inputs = [TensorType(x), TensorType(w)] + (conv.hasBias ? [TensorType([w[0]])] : [])
    if residual {
      inputs.append(try! conv.outputType(inputs))
      conv.hasResidual = true
    }
    return OperationSample(operation: conv, inputs: inputs, terms: w[1] * w[2] * w[3])
  }
}
