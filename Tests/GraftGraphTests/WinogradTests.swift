import GraftDevice
import GraftGraph
import Testing

/// Convolutions by Winograd's transforms, beside the definition in double precision.
@Suite struct WinogradTests {
  struct Sample: Sendable, CustomStringConvertible {
    var batch = 1
    var size: Pair
    var channels: (Int, Int)
    var padding = Padding2D(1)
    var hasResidual = false
    var activation = Activation.none
    var outputs = 4
    var resultShape: [Int] {
      [batch, size.h + padding.top + padding.bottom - 2, size.w + padding.left + padding.right - 2, channels.1]
    }
    var description: String { "\(batch)×\(size.h)×\(size.w)×\(channels.0)→\(channels.1) by \(outputs)×\(outputs)" }
  }

  /// Images that tiles fit and do not fit, channels that vectors fit and do not fit, every epilogue.
  static let samples = [
    Sample(size: Pair(8, 12), channels: (32, 64)), Sample(size: Pair(7, 9), channels: (33, 41)),
    Sample(batch: 3, size: Pair(5, 6), channels: (48, 32), padding: Padding2D(top: 0, left: 2, bottom: 1, right: 0), activation: .relu),
    Sample(batch: 2, size: Pair(13, 4), channels: (64, 70), hasResidual: true, activation: .silu),
    Sample(size: Pair(14, 14), channels: (40, 129), padding: Padding2D(0), hasResidual: true),
    Sample(size: Pair(2, 2), channels: (64, 64), outputs: 2),
    Sample(batch: 2, size: Pair(2, 2), channels: (67, 45), hasResidual: true, activation: .clip(0, 6), outputs: 2),
  ]

  @Test(arguments: samples, TestDevices.all.filter { $0.device.traits.family == .cpu })
  func agreesWithTheDefinition(_ sample: Sample, _ device: TestDevice) throws {
    let (inputs, outputs) = sample.channels
    var conv = Conv2D(padding: sample.padding, hasBias: true)
    (conv.hasResidual, conv.activation) = (sample.hasResidual, sample.activation)
    var generator = Generator(7)
    let x = HostTensor([sample.batch, sample.size.h, sample.size.w, inputs], &generator)
    let w = HostTensor([outputs, inputs, 3, 3], &generator), bias = HostTensor([outputs], &generator)
    let shape = try conv.outputType([x, w, bias].map { TensorType($0.shape) } + (sample.hasResidual ? [TensorType(sample.resultShape)] : [])).shape
    #expect(Winograd.choice(conv, weights: w.shape, output: shape)?.outputs == sample.outputs)
    let residual = sample.hasResidual ? [HostTensor(shape, &generator)] : []
    let expected = conv.reference(([x, w, bias] + residual).map(ReferenceTensor.init)).values
    let scale = expected.reduce(0) { max($0, abs($1)) }

    var results: [[Float]] = []
    // The second cache is so small that the tiles take several rounds.
    for cache in [device.device.traits.lastCacheByteCount, 1] {
      var graph = Graph()
      let image = graph.addInput(TensorType(x.shape), name: "image")
      let constants = ([w, bias] + residual).map { graph.addConstant($0) }
      graph.outputs = [try graph.add(conv, [image] + constants)]
      let plan = try Plan(graph, device: device.make(), options: .planning(forCache: cache))
      try plan.write(x.floats(), to: image)
      try plan.run()
      results.append(try plan.read(plan.graph.outputs[0]))
    }
    let error = zip(results[0], expected).reduce(0) { max($0, abs(Double($1.0) - $1.1)) } / scale
    #expect(error < 5e-6, "largest error \(error) of the largest value")
    let tilesAgree = results[0] == results[1]
    #expect(tilesAgree)

    var options = PlanOptions()
    options.usesWinograd = false
    var graph = Graph()
    let image = graph.addInput(TensorType(x.shape), name: "image")
    graph.outputs = [try graph.add(conv, [image] + ([w, bias] + residual).map { graph.addConstant($0) })]
    let plan = try Plan(graph, device: device.make(), options: options)
    try plan.write(x.floats(), to: image)
    try plan.run()
    let direct = try plan.read(plan.graph.outputs[0])
    let isTheSame = direct == results[0]
    #expect(!isTheSame, "the option changes nothing")
    #expect(zip(direct, expected).allSatisfy { abs(Double($0) - $1) < 2e-6 * scale })
  }

  /// In a shorter format the same arithmetic reads and writes rounded numbers.
  @Test(arguments: samples, TestDevices.inShortFormats)
  func agreesInShorterFormats(_ sample: Sample, _ device: TestDevice) throws {
    let (inputs, outputs) = sample.channels
    var conv = Conv2D(padding: sample.padding, hasBias: true)
    (conv.hasResidual, conv.activation) = (sample.hasResidual, sample.activation)
    var generator = Generator(8)
    func draw(_ shape: [Int]) -> HostTensor { HostTensor(shape, HostTensor(shape, &generator).floats().map(device.precision.rounded)) }
    let x = draw([sample.batch, sample.size.h, sample.size.w, inputs])
    let constants = [draw([outputs, inputs, 3, 3]), draw([outputs])] + (sample.hasResidual ? [draw(sample.resultShape)] : [])
    let expected = conv.reference(([x] + constants).map(ReferenceTensor.init)).values
    let scale = expected.reduce(0) { max($0, abs($1)) }
    var graph = Graph()
    let image = graph.addInput(TensorType(x.shape), name: "image")
    graph.outputs = [try graph.add(conv, [image] + constants.map { graph.addConstant($0) })]
    let plan = try Plan(graph, device: device.make(), options: PlanOptions(precision: device.precision))
    try plan.write(x.floats(), to: image)
    try plan.run()
    let found = try plan.read(plan.graph.outputs[0])
    let error = zip(found, expected).reduce(0.0) {
      max($0, $1.0.isNaN ? .infinity : abs(Double($1.0) - $1.1) - device.precision.storageError(of: $1.1))
    }
    #expect(error < 1e-5 * scale, "largest error \(error) beyond one rounding, of values up to \(scale)")
  }

  /// Where few tiles use large weights, these are transformed in every run, some outputs at a time; where many do, once. A row's
  /// bits are the same.
  @Test(arguments: TestDevices.all.filter { $0.device.traits.family == .cpu })
  func weightsAreTransformedOnceOrInEveryRun(_ device: TestDevice) throws {
    var generator = Generator(9)
    let size = 8, channels = (in: 130, out: 200), many = 32
    let w = HostTensor([channels.out, channels.in, 3, 3], &generator), bias = HostTensor([channels.out], &generator)
    let images = HostTensor([many, size, size, channels.in], &generator).floats()
    var conv = Conv2D(padding: Padding2D(1), hasBias: true)
    conv.activation = .relu
    func run(_ batch: Int) throws -> (values: [Float], weightByteCount: Int) {
      var graph = Graph()
      let image = graph.addInput(TensorType([batch, size, size, channels.in]), name: "image")
      graph.outputs = [try graph.add(conv, [image, graph.addConstant(w), graph.addConstant(bias)])]
      let plan = try Plan(graph, device: device.make(), options: .planning(forCache: 8 << 20))
      try plan.write(Array(images.prefix(images.count / many * batch)), to: image)
      try plan.run()
      return (try plan.read(plan.graph.outputs[0]), plan.memory.weights)
    }
    let (few, all) = (try run(2), try run(many))
    // 9 values a weight instead of 36.
    #expect(few.weightByteCount * 3 < all.weightByteCount)
    let isTheSame = few.values == Array(all.values.prefix(few.values.count))
    #expect(isTheSame)
    let expected = conv.reference([
      ReferenceTensor(HostTensor([2, size, size, channels.in], Array(images.prefix(images.count / many * 2)))), ReferenceTensor(w),
      ReferenceTensor(bias),
    ]).values
    let scale = expected.reduce(0) { max($0, abs($1)) }
    #expect(zip(few.values, expected).allSatisfy { abs(Double($0) - $1) < 5e-6 * scale })
  }

  /// What the transforms are not made for goes the direct way.
  @Test func otherConvolutionsAreLeftAlone() {
    let (w, y) = ([256, 256, 3, 3], [1, 28, 28, 256])
    #expect(Winograd.choice(Conv2D(padding: Padding2D(1)), weights: w, output: y) != nil)
    #expect(Winograd.choice(Conv2D(stride: Pair(2), padding: Padding2D(1)), weights: w, output: y) == nil)
    #expect(Winograd.choice(Conv2D(padding: Padding2D(2), dilation: Pair(2)), weights: w, output: y) == nil)
    #expect(Winograd.choice(Conv2D(padding: Padding2D(1), groups: 2), weights: [256, 128, 3, 3], output: y) == nil)
    #expect(Winograd.choice(Conv2D(), weights: [256, 256, 1, 1], output: y) == nil)
    #expect(Winograd.choice(Conv2D(padding: Padding2D(1)), weights: [8, 3, 3, 3], output: [1, 28, 28, 8]) == nil)
  }
}
