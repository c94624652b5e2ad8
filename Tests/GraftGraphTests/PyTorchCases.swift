import GraftGraph

/// The cases of Tools/reference/gradients.py as graphs, by their names.
enum PyTorchCases {
  /// Adds a case's nodes and returns its result.
  typealias Build = @Sendable (inout Graph, [ValueID]) throws -> ValueID

  static let all: [String: Build] = Dictionary(
    uniqueKeysWithValues: convolutions + pooling + normalisation + attention + activations + products + binary + losses + shapes)

  private static func one(_ name: String, _ operation: some Operation) -> (String, Build) {
    (name, { graph, inputs in try graph.add(operation, inputs) })
  }

  private static let convolutions: [(String, Build)] = [
    one("convolution 3x3", Conv2D(padding: Padding2D(1))),
    one("convolution bias", Conv2D(hasBias: true)),
    one("convolution stride", Conv2D(stride: Pair(2), padding: Padding2D(1))),
    one("convolution stride by direction", Conv2D(stride: Pair(3, 2), padding: Padding2D(top: 1, bottom: 1))),
    one("convolution dilation", Conv2D(padding: Padding2D(2), dilation: Pair(2))),
    one("convolution stride and dilation", Conv2D(stride: Pair(2), padding: Padding2D(1), dilation: Pair(2))),
    one("convolution groups", Conv2D(padding: Padding2D(1), groups: 2)),
    one("convolution depthwise", Conv2D(padding: Padding2D(1), groups: 5, hasBias: true)),
    one("convolution depthwise stride", Conv2D(stride: Pair(2), padding: Padding2D(2), groups: 4)),
    one("convolution depthwise multiplier", Conv2D(padding: Padding2D(1), groups: 3)),
    one("convolution 1x1", Conv2D(hasBias: true)),
    one("convolution 1x1 stride", Conv2D(stride: Pair(2))),
    one("convolution 7x7 stride", Conv2D(stride: Pair(2), padding: Padding2D(3))),
    one("convolution padded on one side", Conv2D(stride: Pair(2), padding: Padding2D(bottom: 1, right: 1))),
    (
      "convolution with residual and relu",
      { graph, inputs in
        var operation = Conv2D(padding: Padding2D(1), hasBias: true)
        (operation.hasResidual, operation.activation) = (true, .relu)
        return try graph.add(operation, inputs)
      }
    ),
  ]

  private static let pooling: [(String, Build)] = [
    one("maximum pooling", Pool2D(.maximum, size: Pair(3), stride: Pair(2), padding: Padding2D(1))),
    one("maximum pooling 2x2", Pool2D(.maximum, size: Pair(2))),
    one("average pooling", Pool2D(.average, size: Pair(3), stride: Pair(2), padding: Padding2D(1))),
    one("average pooling counting padding", Pool2D(.average, size: Pair(3), stride: Pair(1), padding: Padding2D(1), countsPadding: true)),
    one("average pooling rounded up", Pool2D(.average, size: Pair(3), stride: Pair(2), ceilMode: true)),
    one("global mean", Reduce(.mean, axes: [1, 2], keepsDimensions: false)),
  ]

  /// Batch normalisations, whose mode the name says.
  static func mode(_ name: String) -> NormalizationMode { name.hasSuffix("in training") ? .batch(momentum: 0.1) : .frozen }

  private static let afterConvolution: Build = { graph, inputs in
    let y = try graph.add(Conv2D(padding: Padding2D(1)), Array(inputs[..<2]))
    return try graph.add(BatchNorm(epsilon: 1e-5), [y] + inputs[2...])
  }

  private static let normalisation: [(String, Build)] = [
    one("batch norm in training", BatchNorm(epsilon: 1e-5)), one("batch norm in inference", BatchNorm(epsilon: 1e-5)),
    ("convolution and batch norm in training", afterConvolution), ("convolution and batch norm in inference", afterConvolution),
    one("layer norm", LayerNorm(epsilon: 1e-6, hasScale: true, hasShift: true)),
    one("layer norm plain", LayerNorm(epsilon: 1e-5, hasScale: false, hasShift: false)),
    one("local response norm", LocalResponseNorm(size: 5, alpha: 0.3, beta: 0.75, k: 1.5)),
    (
      // No operation of its own: a group's numbers of an image become a row.
      "group norm",
      { graph, inputs in
        let split = try graph.add(Reshape([2, 12, 2, 3]), [inputs[0]])
        let rows = try graph.add(Reshape([4, 36]), [try graph.add(Transpose([0, 2, 1, 3]), [split])])
        let normal = try graph.add(LayerNorm(epsilon: 1e-5, hasScale: false, hasShift: false), [rows])
        let back = try graph.add(Transpose([0, 2, 1, 3]), [try graph.add(Reshape([2, 2, 12, 3]), [normal])])
        return try graph.add(Unary(.none, hasScale: true, hasShift: true), [try graph.add(Reshape([2, 3, 4, 6]), [back]), inputs[1], inputs[2]])
      }
    ),
  ]

  private static let attention: [(String, Build)] = [
    one("attention tokens", Attention(heads: 2, scale: 0.5, layout: .tokens)),
    one("attention packed", Attention(heads: 2, scale: 0.5, layout: .packed)),
    one("attention heads with mask", Attention(heads: 3, scale: 0.5, layout: .heads, hasMask: true)),
    one("attention causal", Attention(heads: 2, scale: 0.5, layout: .tokens, hasMask: true)),
  ]

  private static let activations: [(String, Build)] =
    [
      ("relu", .relu), ("clip", .clip(-0.5, 2)), ("relu6", .clip(0, 6)), ("leaky relu", .leakyReLU(0.1)), ("sigmoid", .sigmoid), ("tanh", .tanh),
      ("hard sigmoid", .hardSigmoid(1 / 6, 0.5)), ("hard swish", .hardSwish), ("silu", .silu), ("gelu", .gelu), ("gelu tanh", .geluTanh),
      ("erf", .erf), ("exp", .exp), ("log", .log), ("sqrt", .sqrt), ("reciprocal", .reciprocal), ("negate", .negate), ("absolute", .absolute),
      ("elu", .elu(0.7)), ("softplus", .softplus),
    ].map { (name: String, activation: Activation) in one("activation \(name)", Unary(activation)) }
    + [one("scale and shift", Unary(.silu, hasScale: true, hasShift: true))]

  private static let products: [(String, Build)] = [
    one("matmul", MatMul()), one("matmul transposed a", MatMul(transposeA: true)), one("matmul transposed b", MatMul(transposeB: true)),
    one("matmul transposed a transposed b", MatMul(transposeA: true, transposeB: true)), one("matmul batched", MatMul()),
    (
      // No kernel multiplies batches that broadcast in part: the plan's error says to expand first.
      "matmul with an expanded batch",
      { graph, inputs in
        let batch = try graph.add(Expand([2, 3, 5, 2]), [inputs[1]])
        return try graph.add(MatMul(), [inputs[0], batch])
      }
    ),
    one("matmul of all rows", MatMul()), one("linear layer", MatMul(transposeB: true, hasBias: true)),
    one("linear layer with residual and gelu", MatMul(transposeB: true, hasBias: true, hasResidual: true, activation: .gelu)),
  ]

  private static let binary: [(String, Build)] =
    [("add", Binary.Function.add), ("subtract", .subtract), ("multiply", .multiply), ("maximum", .maximum), ("minimum", .minimum)].flatMap {
      (name: String, function: Binary.Function) in
      [one("binary \(name)", Binary(function)), one("binary \(name) both broadcast", Binary(function))]
    } + [
      one("binary divide", Binary(.divide)), one("binary power", Binary(.power)), one("binary prelu", Binary(.prelu)),
      one("residual sum with relu", Binary(.add, activation: .relu)),
    ]

  private static let losses: [(String, Build)] = [
    one("softmax", Softmax(axis: 1)), one("softmax inner axis", Softmax(axis: 1)), one("log-softmax", Softmax(axis: 1, logarithm: true)),
    (
      "cross-entropy of classes",
      { graph, inputs in
        let labels: [Int32] = [2, 0, 4, 1]
        let storage = labels.withUnsafeBytes { HostBytes(copying: Array($0)) }
        let constant = graph.addConstant(try HostTensor(shape: [4], elementType: .int32, storage: storage))
        return try graph.add(CrossEntropy(), [inputs[0], constant])
      }
    ),
    one("cross-entropy smoothed", SampleLoss(.crossEntropy)),
    (
      "cross-entropy smoothed by class",
      { graph, inputs in
        let targets = [2, 0, 4, 1].flatMap { label in (0..<5).map { Float($0 == label ? 0.92 : 0.02) } }
        return try graph.add(SampleLoss(.crossEntropy), [inputs[0], graph.addConstant(HostTensor([4, 5], targets))])
      }
    ),
    one("binary cross-entropy", SampleLoss(.sigmoid)), one("squared", SampleLoss(.squared)), one("huber", SampleLoss(.huber(0.6))),
  ]

  private static let shapes: [(String, Build)] = [
    one("mean", Reduce(.mean, axes: [1], keepsDimensions: true)), one("mean of the last", Reduce(.mean, axes: [2], keepsDimensions: false)),
    one("sum", Reduce(.sum, axes: [1, 2], keepsDimensions: false)), one("maximum", Reduce(.maximum, axes: [1], keepsDimensions: false)),
    one("pad", Pad(before: [1, 0, 1], after: [1, 2, 0], value: 0.5)),
    one("slice", Slice(starts: [0, 1, 2], sizes: [2, 3, 3], steps: [1, 2, 1])),
    one("concat", Concat(axis: 2)), one("transpose", Transpose([2, 0, 3, 1])), one("reshape", Reshape([6, 20])), one("expand", Expand([2, 3, 4])),
    (
      "value that is used twice",
      { graph, inputs in
        let product = try graph.add(MatMul(), inputs)
        let y = try graph.add(Binary(.multiply), [try graph.add(Unary(.tanh), [product]), product])
        return try graph.add(Binary(.add), [y, inputs[0]])
      }
    ),
  ]
}
