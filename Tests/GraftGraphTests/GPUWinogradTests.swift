import GraftDevice
import GraftGraph
import OperationSamples
import Testing

/// The GPU family's convolutions by Winograd's transforms, beside the definition in double precision.
@Suite struct GPUWinogradTests {
  static let device = GPUProductTests.device

  private func prepared(_ conv: Conv2D, _ x: HostTensor, _ constants: [HostTensor], _ options: PlanOptions, on device: any Device) throws -> Plan {
    var graph = Graph()
    let image = graph.addInput(TensorType(x.shape), name: "image")
    graph.outputs = [try graph.add(conv, [image] + constants.map { graph.addConstant($0) }, name: "conv")]
    let plan = try Plan(graph, device: device, options: options)
    try plan.write(x.floats(), to: plan.graph.inputs[0])
    return plan
  }

  private func run(_ plan: Plan) throws -> [Float] {
    try plan.run()
    return try plan.read(plan.graph.outputs[0])
  }

  /// Images that tiles fit and do not fit, channels that vectors fit and do not fit, every epilogue; all at once, and in pieces of
  /// a few tiles, which change no bit.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: WinogradTests.samples, [4, 2])
  func agreesWithTheDefinition(_ sample: WinogradTests.Sample, _ outputs: Int) throws {
    let device = try #require(Self.device)
    var conv = Conv2D(padding: sample.padding, hasBias: true)
    (conv.hasResidual, conv.activation) = (sample.hasResidual, sample.activation)
    var generator = Generator(7)
    let x = HostTensor([sample.batch, sample.size.h, sample.size.w, sample.channels.0], &generator)
    var constants = [HostTensor([sample.channels.1, sample.channels.0, 3, 3], &generator), HostTensor([sample.channels.1], &generator)]
    if sample.hasResidual { constants.append(HostTensor(sample.resultShape, &generator)) }
    let expected = conv.reference(([x] + constants).map(ReferenceTensor.init)).values, scale = expected.reduce(0) { max($0, abs($1)) }

    try ProductKernel.$forced.withValue(.winograd(outputs: outputs, GEMMTile.candidates[6])) {
      var pieces = PlanOptions()
      // Two tiles a piece, and the rest.
      pieces.winogradByteLimit = 2 * 4 * (outputs + 2) * (outputs + 2) * (sample.channels.0 + sample.channels.1 + 6)
      let (whole, cut) = (try prepared(conv, x, constants, PlanOptions(), on: device), try prepared(conv, x, constants, pieces, on: device))
      let found = try run(whole)
      let error = largestError(found, expected) / scale
      #expect(error < (outputs == 4 ? 5e-6 : 2e-6), "largest error \(error) of the largest value")
      #expect(try run(cut) == found)
      #expect(cut.memory.activations <= whole.memory.activations)
      let kernels = try cut.profile().map(\.kernel)
      #expect(kernels.contains("winograd_input") && kernels.contains("winograd_output") && !kernels.contains("conv"))
    }
  }

  /// What a batch takes beyond its input and result is bounded, and the memory plan knows it.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd")) func scratchIsBounded() throws {
    let device = try #require(Self.device)
    let (x, w) = (
      HostTensor([4, 16, 16, 32], Array(repeating: 1, count: 4 * 256 * 32)), HostTensor([32, 32, 3, 3], Array(repeating: 1, count: 9216))
    )
    let conv = Conv2D(padding: Padding2D(1))
    func activations(_ byteLimit: Int) throws -> (byteCount: Int, pieces: Int) {
      var options = PlanOptions()
      options.winogradByteLimit = byteLimit
      let plan = try ProductKernel.$forced.withValue(.winograd(outputs: 4, GEMMTile.candidates[6])) {
        try prepared(conv, x, [w], options, on: device)
      }
      return (plan.memory.activations, try plan.profile().filter { $0.kernel == "winograd_input" }.count)
    }
    let result = 4 * x.elementCount, tile = 4 * 36 * 64, tiles = 4 * 16
    #expect(try activations(.max / 2).byteCount >= result + tiles * tile)
    for limit in [tile, 5 * tile, 40 * tile] {
      let found = try activations(limit)
      // Blocks begin at multiples of some bytes.
      #expect(found.byteCount <= result + limit + 4096 && found.pieces >= tiles * tile / limit, "\(found) for \(limit)")
    }
  }

  /// Weights that are computed are transformed in every run: what a gradient's convolution has.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd")) func weightsMayBeComputed() throws {
    let device = try #require(Self.device)
    var generator = Generator(5)
    var graph = Graph()
    let tensors = [HostTensor([2, 7, 6, 12], &generator), HostTensor([10, 12, 3, 3], &generator), HostTensor([2, 7, 6, 10], &generator)]
    let ids = tensors.map { graph.addInput(TensorType($0.shape), name: "input") }
    let conv = Conv2D(padding: Padding2D(1)), y = try graph.add(conv, [ids[0], ids[1]], name: "conv")
    let gradients = try graph.addGradients(of: y, seed: ids[2], withRespectTo: [ids[0]])
    graph.outputs = [y, try #require(gradients[0])]
    let expected = graph.reference(tensors.map(ReferenceTensor.init))
    try ProductKernel.$forced.withValue(.winograd(outputs: 4, GEMMTile.candidates[6])) {
      let plan = try Plan(graph, device: device, options: .asWritten)
      for (input, tensor) in zip(plan.graph.inputs, tensors) { try plan.write(tensor.floats(), to: input) }
      try plan.run()
      #expect(try plan.profile().filter { $0.kernel == "winograd_weights" }.count == 2)
      for (output, expected) in zip(plan.graph.outputs, expected) {
        #expect(largestError(try plan.read(output), expected.values) < 5e-6 * expected.values.reduce(0) { max($0, abs($1)) })
      }
    }
  }

  // MARK: Choosing

  private func kernels(_ conv: Conv2D, _ x: [Int], _ w: [Int], on chip: Chip, _ options: PlanOptions = PlanOptions()) throws -> [String] {
    var graph = Graph()
    let image = graph.addInput(TensorType(x), name: "image")
    graph.outputs = [try graph.add(conv, [image, graph.addConstant(HostTensor(w, Array(repeating: 0, count: w.reduce(1, *))))], name: "conv")]
    return try PlanOutline(graph, traits: chip.traits, options: options).launches.map(\.kernel.function)
  }

  /// What the transforms are not made for, or do not pay for, goes the direct way.
  @Test func otherConvolutionsAreLeftAlone() throws {
    let chip = try Chip.named("h200"), (x, w) = ([2, 28, 28, 256], [256, 256, 3, 3])
    var direct = PlanOptions()
    direct.usesWinograd = false
    #expect(try kernels(Conv2D(padding: Padding2D(1)), x, w, on: chip) == ["winograd_input", "gemm", "winograd_output"])
    #expect(try kernels(Conv2D(padding: Padding2D(1)), x, w, on: chip, direct).contains("conv"))
    #expect(try kernels(Conv2D(stride: Pair(2), padding: Padding2D(1)), x, w, on: chip).contains("conv"))
    #expect(try kernels(Conv2D(padding: Padding2D(2), dilation: Pair(2)), x, w, on: chip).contains("conv"))
    #expect(try kernels(Conv2D(padding: Padding2D(1), groups: 2), x, [256, 128, 3, 3], on: chip).contains("conv"))
    #expect(try kernels(Conv2D(), x, [256, 256, 3, 1], on: chip).contains("conv"))
    #expect(try kernels(Conv2D(padding: Padding2D(1)), [2, 28, 28, 16], [16, 16, 3, 3], on: chip).contains("conv"))
    for precision in [Precision.float16, .bfloat16] {
      let found = try kernels(Conv2D(padding: Padding2D(1)), x, w, on: chip, PlanOptions(precision: precision))
      #expect(!found.contains("winograd_input"))
    }
  }

  /// Where the choice falls on the transforms, the model of time expects a gain of them; a chip with little bandwidth for its
  /// arithmetic needs more channels.
  @Test(arguments: Chip.known.map(\.identifier)) func isChosenWhereItWins(_ identifier: String) throws {
    let chip = try Chip.named(identifier)
    var direct = PlanOptions()
    direct.usesWinograd = false
    var transformed = 0
    for channels in [16, 32, 48, 64, 96, 128, 256, 512] {
      for size in [4, 7, 14, 28, 56, 112] {
        var graph = Graph()
        let image = graph.addInput(TensorType([64, size, size, channels]), name: "image")
        let w = graph.addConstant(HostTensor([channels, channels, 3, 3], Array(repeating: 0, count: 9 * channels * channels)))
        graph.outputs = [try graph.add(Conv2D(padding: Padding2D(1)), [image, w], name: "conv")]
        let (chosen, plain) = (try TimePrediction(graph, on: chip), try TimePrediction(graph, on: chip, options: direct))
        guard chosen.launches.contains(where: { $0.kernel == "winograd_input" }) else { continue }
        transformed += 1
        #expect(chosen.seconds < plain.seconds, "\(channels) channels, \(size) × \(size): \(chosen.seconds) s, directly \(plain.seconds)")
        #expect(channels >= 64)
      }
    }
    #expect(transformed >= 10)
  }

  /// The choice is one image's: a row has the same bits in every batch, however the batch is cut into pieces.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd")) func rowsAreTheSameBitsInEveryBatch() throws {
    let device = try #require(BatchBitsTests.device)
    var generator = Generator(4)
    let w = HostTensor([256, 256, 3, 3], &generator), images = HostTensor([9, 8, 7, 256], &generator).floats()
    var options = PlanOptions()
    options.winogradByteLimit = 4 * 36 * 512 * 7
    func features(_ batch: Int) throws -> [Float] {
      let x = HostTensor([batch, 8, 7, 256], Array(images.prefix(batch * 56 * 256)))
      let plan = try prepared(Conv2D(padding: Padding2D(1)), x, [w], options, on: device)
      #expect(try plan.profile().contains { $0.kernel == "winograd_input" })
      return try run(plan)
    }
    let whole = try features(9)
    for batch in [1, 2, 4] {
      let part = try features(batch)
      #expect(part == Array(whole.prefix(part.count)), "batch \(batch)")
    }
  }
}
