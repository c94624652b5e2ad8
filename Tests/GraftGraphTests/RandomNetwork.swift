import GraftGraph

/// Small random networks as a model reader builds them: channels first, each operation on images wrapped in transpositions.
struct RandomNetwork {
  private(set) var graph = Graph()
  private var generator: Generator
  private let isBatchNormalized: Bool

  init(seed: UInt64, layerCount: Int, isBatchNormalized: Bool = true, batch: Int = 2) throws {
    generator = Generator(seed)
    self.isBatchNormalized = isBatchNormalized
    let extents = [batch, [3, 4, 6].randomElement(using: &generator)!, 9, 8]
    var x = graph.addInput(TensorType(extents), name: "image")
    for _ in 0..<layerCount { x = try layer(x) }
    graph.outputs = [try classifier(x)]
  }

  private mutating func random(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &generator) }
  private func shape(_ id: ValueID) -> [Int] { graph.type(of: id).shape }

  private mutating func constant(_ shape: [Int], in range: ClosedRange<Double> = -1...1) -> ValueID {
    graph.addConstant(HostTensor(shape, in: range, &generator))
  }

  private mutating func onImage(_ operation: some Operation, _ x: ValueID, _ others: [ValueID] = []) throws -> ValueID {
    let last = try graph.add(Transpose([0, 2, 3, 1]), [x])
    return try graph.add(Transpose([0, 3, 1, 2]), [try graph.add(operation, [last] + others)])
  }

  private mutating func layer(_ x: ValueID) throws -> ValueID {
    switch random(0...10) {
    case 0, 1: return try normalized(try convolution(x, outputs: random(2...9), size: [1, 3].randomElement(using: &generator)!))
    case 2: return try depthwise(x)
    case 3: return try residual(x)
    case 4: return try dense(x)
    case 5: return try shuffle(x)
    case 6: return try pool(x)
    case 7: return try squeezeExcite(x)
    case 8: return try crop(x)
    case 9: return try arithmetic(x)
    default: return try onImage(LocalResponseNorm(size: 3, alpha: 0.1, beta: 0.75, k: 1), x)
    }
  }

  private mutating func activation(_ x: ValueID) throws -> ValueID {
    let kinds: [Activation] = [.relu, .clip(0, 6), .leakyReLU(0.1), .hardSwish, .silu, .tanh]
    return try graph.add(Unary(kinds.randomElement(using: &generator)!), [x])
  }

  private mutating func convolution(_ x: ValueID, outputs: Int, size: Int, groups: Int = 1) throws -> ValueID {
    let inputs = shape(x)[1] / groups
    let scale = 1 / Double(inputs * size * size).squareRoot()
    let w = constant([outputs, inputs, size, size], in: -2 * scale...2 * scale)
    let hasBias = Bool.random(using: &generator)
    let conv = Conv2D(padding: Padding2D(size / 2), groups: groups, hasBias: hasBias)
    return try onImage(conv, x, [w] + (hasBias ? [constant([outputs])] : []))
  }

  private mutating func normalized(_ x: ValueID) throws -> ValueID {
    let c = shape(x)[1]
    var y = x
    if isBatchNormalized, Bool.random(using: &generator) {
      y = try onImage(BatchNorm(epsilon: 1e-3), x, [constant([c], in: 0.5...1.5), constant([c]), constant([c]), constant([c], in: 0.5...2)])
    }
    return Bool.random(using: &generator) ? try activation(y) : y
  }

  private mutating func depthwise(_ x: ValueID) throws -> ValueID {
    let c = shape(x)[1]
    return try normalized(try convolution(x, outputs: c, size: 3, groups: c))
  }

  private mutating func residual(_ x: ValueID) throws -> ValueID {
    let inner = try normalized(try convolution(x, outputs: shape(x)[1], size: 3))
    let sum = try graph.add(Binary(.add), Bool.random(using: &generator) ? [x, inner] : [inner, x])
    return Bool.random(using: &generator) ? try activation(sum) : sum
  }

  /// Each layer sees all before it: nested concatenations.
  private mutating func dense(_ x: ValueID) throws -> ValueID {
    var y = x
    for _ in 0..<random(1...3) { y = try graph.add(Concat(axis: 1), [y, try normalized(try convolution(y, outputs: random(1...4), size: 3))]) }
    return try normalized(try convolution(y, outputs: random(2...6), size: 1))
  }

  private mutating func shuffle(_ x: ValueID) throws -> ValueID {
    let s = shape(x)
    guard let groups = [2, 3].first(where: { s[1].isMultiple(of: $0) }) else { return try activation(x) }
    let split = try graph.add(Reshape([s[0], groups, s[1] / groups, s[2], s[3]]), [x])
    return try graph.add(Reshape(s), [try graph.add(Transpose([0, 2, 1, 3, 4]), [split])])
  }

  private mutating func pool(_ x: ValueID) throws -> ValueID {
    guard shape(x)[2] >= 3, shape(x)[3] >= 3 else { return try activation(x) }
    let function: Pool2D.Function = Bool.random(using: &generator) ? .maximum : .average
    return try onImage(
      Pool2D(function, size: Pair(3), stride: Pair(2), padding: Padding2D(random(0...1)), ceilMode: Bool.random(using: &generator)), x)
  }

  private mutating func squeezeExcite(_ x: ValueID) throws -> ValueID {
    let mean = try graph.add(Reduce(.mean, axes: [2, 3], keepsDimensions: true), [x])
    let gate = try graph.add(Unary(.sigmoid), [try convolution(mean, outputs: shape(x)[1], size: 1)])
    return try graph.add(Binary(.multiply), [x, gate])
  }

  /// Half the channels, padded to an odd border.
  private mutating func crop(_ x: ValueID) throws -> ValueID {
    let s = shape(x), start = random(0...s[1] / 2)
    let part = try graph.add(
      Slice(starts: [0, start, 0, 0], sizes: [s[0], max(1, s[1] - start - 1), s[2], s[3]], steps: [1, 1, 1, 1]), [x])
    return try graph.add(Pad(before: [0, 0, 1, 0], after: [0, 1, 0, 1], value: 0.5), [part])
  }

  /// Constants a channel and a pixel, a softmax, a swap of height and width.
  private mutating func arithmetic(_ x: ValueID) throws -> ValueID {
    let s = shape(x)
    switch random(0...3) {
    case 0: return try graph.add(Binary(.multiply), [x, constant([s[1], 1, 1], in: 0.5...1.5)])
    case 1: return try graph.add(Binary(.subtract), [constant([1, 1, s[2], s[3]]), x])
    case 2: return try graph.add(Softmax(axis: random(1...3)), [x])
    default: return try graph.add(Transpose([0, 1, 3, 2]), [x])
    }
  }

  private mutating func classifier(_ x: ValueID) throws -> ValueID {
    let flat: ValueID
    if Bool.random(using: &generator) {
      flat = try graph.add(Reduce(.mean, axes: [2, 3], keepsDimensions: false), [x])
    } else {
      flat = try graph.add(Reshape([shape(x)[0], shape(x)[1...].reduce(1, *)]), [x])
    }
    let w = constant([5, shape(flat)[1]], in: -0.3...0.3)
    return try graph.add(MatMul(transposeB: true, hasBias: true), [flat, w, constant([5])])
  }
}
