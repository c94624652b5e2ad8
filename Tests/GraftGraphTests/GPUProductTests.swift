import GraftDevice
import GraftGraph
import Testing

/// Tiles and splits of the GPU family: every one against the reference, and which is chosen when.
@Suite struct GPUProductTests {
  /// An OpenCL device that runs the GPU family: a GPU where there is one, else PoCL.
  static let device: (any Device)? = {
    guard let info = (try? OpenCLPlatform.devices())?.first(where: { $0.obstacle == nil }) else { return nil }
    return try? OpenCLDevice(info, family: .gpu)
  }()

  /// Every tile whole and with k in three parts, and the definition.
  static let variants: [ProductKernel] = [.naive] + GEMMTile.candidates.flatMap { [.tiled($0, splits: 1), .tiled($0, splits: 3)] }

  /// Runs one operation with a kernel forced, all inputs but the first constant.
  private func run(_ operation: any Operation, _ tensors: [HostTensor], _ kernel: ProductKernel, on device: any Device) throws -> [Float] {
    var graph = Graph()
    let inputs = tensors.enumerated().map { index, tensor in
      index == 0 ? graph.addInput(TensorType(tensor.shape), name: "x") : graph.addConstant(tensor, name: "constant \(index)")
    }
    graph.outputs = [try graph.add(any: operation, inputs, name: "node")]
    return try ProductKernel.$forced.withValue(kernel) {
      let plan = try Plan(graph, device: device, options: .asWritten)
      try plan.write(tensors[0].floats(), to: plan.graph.inputs[0])
      try plan.run()
      return try plan.read(plan.graph.outputs[0])
    }
  }

  /// Compares every kernel in `kernels` with the reference, which is computed once.
  private func check(_ sample: OperationSample, _ kernels: [ProductKernel]) throws {
    let device = try #require(Self.device)
    let tensors = sample.draw(seed: 11)
    let expected = sample.operation.reference(tensors.map(ReferenceTensor.init))
    let bound = sample.bound(expected)
    for kernel in kernels {
      let found = try run(sample.operation, tensors, kernel, on: device)
      let error = zip(found, expected.values).reduce(0.0) { max($0, $1.0.isNaN ? .infinity : abs(Double($1.0) - $1.1)) }
      #expect(error <= bound, "\(kernel): largest error \(error), bound \(bound)")
    }
  }

  static let products: [OperationSample] = [false, true].flatMap { transposed in
    // Whole vectors everywhere, and none anywhere; more than one block of the small tiles.
    [(132, 68, 36), (37, 35, 77)].map { m, n, k in
      // A smooth activation is a program of its own.
      let activation = transposed && m % 4 != 0 ? Activation.silu : .clip(-1, 2)
      let product = MatMul(transposeA: transposed, transposeB: transposed, hasBias: true, hasResidual: true, activation: activation)
      let shapes = [transposed ? [2, k, m] : [2, m, k], transposed ? [2, n, k] : [2, k, n], [n], [2, m, n]]
      return OperationSample(operation: product, inputs: shapes.map { TensorType($0) }, terms: k)
    }
  }

  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: products)
  func everyTileMultiplies(_ sample: OperationSample) throws { try check(sample, Self.variants) }

  @Test(
    .enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: [(1, 70), (3, 33), (8, 41), (70, 2), (41, 7)],
    [false, true])
  func skinnyProducts(_ size: (m: Int, n: Int), _ transposed: Bool) throws {
    for k in [64, 131] {
      let product = MatMul(transposeA: transposed, transposeB: !transposed, hasBias: true, activation: .relu)
      let shapes = [transposed ? [2, k, size.m] : [2, size.m, k], transposed ? [2, k, size.n] : [2, size.n, k], [size.n]]
      try check(
        OperationSample(operation: product, inputs: shapes.map { TensorType($0) }, terms: k), [.skinny(splits: 1), .skinny(splits: 4)])
    }
  }

  static let convolutions: [OperationSample] = {
    func sample(_ x: [Int], _ w: [Int], _ conv: Conv2D, _ activation: Activation, residual: Bool = false) -> OperationSample {
      var conv = conv
      conv.activation = activation
      var inputs = [TensorType(x), TensorType(w)] + (conv.hasBias ? [TensorType([w[0]])] : [])
      if residual {
        inputs.append(try! conv.outputType(inputs))
        conv.hasResidual = true
      }
      return OperationSample(operation: conv, inputs: inputs, terms: w[1] * w[2] * w[3])
    }
    return [
      // A first layer; a deep one; groups; a strided 1 × 1; dilation with uneven padding.
      sample([2, 15, 13, 3], [20, 3, 3, 3], Conv2D(stride: Pair(2), padding: Padding2D(1), hasBias: true), .relu),
      sample([1, 9, 8, 16], [36, 16, 3, 3], Conv2D(padding: Padding2D(1), hasBias: true), .silu, residual: true),
      sample([2, 6, 7, 12], [18, 4, 3, 3], Conv2D(padding: Padding2D(1), groups: 3), .none, residual: true),
      sample([1, 9, 11, 20], [33, 20, 1, 1], Conv2D(stride: Pair(2)), .none),
      sample(
        [1, 12, 11, 8], [17, 8, 5, 3], Conv2D(stride: Pair(1, 2), padding: Padding2D(top: 0, left: 2, bottom: 1, right: 3), dilation: Pair(2, 3)),
        .clip(0, 6)),
    ]
  }()

  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: convolutions)
  func everyTileConvolves(_ sample: OperationSample) throws { try check(sample, Self.variants) }

  // MARK: Choosing

  private func traits(computeUnits: Int = 132, workGroup: Int = 1024, localByteCount: Int = 49152) -> DeviceTraits {
    DeviceTraits(
      kind: .openCL, identifier: "opencl:0", name: "test", vendor: "", driver: "", family: .gpu, computeUnits: computeUnits,
      memoryByteCount: 1 << 33, maximumBufferByteCount: 1 << 32, localMemoryByteCount: localByteCount, maximumWorkGroupSize: workGroup,
      vectorWidth: 1, panelVectors: 1, instructionSet: "", numericFormats: ["float32"], isGPU: true, threadCount: 0)
  }

  private func choose(_ m: Int, _ n: Int, _ k: Int, count: Int = 1, skinny: Bool = true, _ traits: DeviceTraits) -> ProductKernel {
    ProductKernel.choose(m: m, n: n, k: k, count: count, vectors: GEMMVectors(a: 4, b: 4, y: 4), mayBeSkinny: skinny, traits: traits)
  }

  @Test(arguments: GEMMTile.candidates)
  func candidatesAreWellFormed(_ tile: GEMMTile) {
    #expect(tile.itemCount <= 256 && tile.localByteCount <= 32768)
    for vector in [1, 4] {
      // Both operands' blocks divide evenly among the work-items.
      #expect(tile.tileM * tile.tileK % (tile.itemCount * vector) == 0)
      #expect(tile.tileN * tile.tileK % (tile.itemCount * vector) == 0)
      let names = tile.options(vectors: GEMMVectors(a: vector, b: vector, y: vector)).map(\.name)
      #expect(Set(names).count == names.count)
    }
    #expect(tile.pad % 4 == 0 && tile.itemCount % tile.tileK == 0)
  }

  @Test func largeProductsTakeTheLargestTile() {
    #expect(choose(4096, 4096, 4096, traits()) == .tiled(GEMMTile.candidates[0], splits: 1))
  }

  @Test func fewResultsOfManyTermsAreSplit() {
    guard case .tiled(_, let splits) = choose(256, 256, 50000, traits()) else {
      Issue.record("a product of 256 × 256 is not skinny")
      return
    }
    #expect(splits >= 8)
  }

  @Test func narrowProductsAreSkinny() {
    #expect(choose(1, 1000, 2048, traits()) == .skinny(splits: 4))
    guard case .tiled = choose(1, 1000, 2048, skinny: false, traits()) else {
      Issue.record("a convolution is never skinny")
      return
    }
  }

  @Test func smallDevicesGetWhatFits() {
    for (workGroup, local) in [(1024, 10240), (64, 32768), (128, 16384)] {
      let traits = traits(workGroup: workGroup, localByteCount: local)
      guard case .tiled(let tile, _) = choose(512, 512, 512, traits) else {
        Issue.record("no tile fits \(workGroup) work-items and \(local) bytes")
        continue
      }
      #expect(tile.itemCount <= workGroup && tile.localByteCount <= local)
    }
    #expect(choose(512, 512, 512, traits(workGroup: 16)) == .naive)
    #expect(choose(1, 512, 512, traits(localByteCount: 1024)) == .naive)
  }
}
