import GraftDevice
import GraftGraph
import OperationSamples
import Testing

/// Products and convolutions for matrix units, emulated: every tile, layout, tail and epilogue against the reference.
@Suite struct MatrixUnitTests {
  static let device = GPUProductTests.device
  static let kinds = MatrixUnit.Kind.allCases
  static let formats = [ComputeFormat.bfloat16, .float16]
  /// Every unit with every format it multiplies.
  static let units: [(MatrixUnit.Kind, ComputeFormat)] = kinds.flatMap { kind in
    ComputeFormat.allCases.filter(kind.formats.contains).map { (kind, $0) }
  }

  /// Every tile, and two of them with k in three parts; those two alone in bfloat16, whose programs differ in what they round with.
  static func variants(_ format: ComputeFormat) -> [ProductKernel] {
    let split: [ProductKernel] = [.matrix(MatrixTile(128, 128, stages: 2), splits: 3), .matrix(MatrixTile(64, 32), splits: 3)]
    return (format == .float16 ? MatrixTile.candidates(.nvidia).map { .matrix($0, splits: 1) } : []) + split
  }

  /// Runs one operation with a kernel forced, all inputs but the first constant; says which kernels ran.
  private func run(
    _ operation: any Operation, _ tensors: [HostTensor], _ kernel: ProductKernel?, _ kind: MatrixUnit.Kind, _ format: ComputeFormat,
    on device: any Device
  ) throws -> (values: [Float], kernels: Set<String>) {
    var graph = Graph()
    let inputs = tensors.enumerated().map { index, tensor in
      index == 0 ? graph.addInput(TensorType(tensor.shape), name: "x") : graph.addConstant(tensor, name: "constant \(index)")
    }
    graph.outputs = [try graph.add(any: operation, inputs, name: "node")]
    return try MatrixUnitChoice.$forced.withValue(.emulated(kind)) {
      try ProductKernel.$forced.withValue(kernel) {
        let plan = try Plan(graph, device: device, options: .asWritten(computing: format))
        try plan.write(tensors[0].floats(), to: plan.graph.inputs[0])
        let kernels = Set(try plan.profile().map(\.kernel))
        return (try plan.read(plan.graph.outputs[0]), kernels)
      }
    }
  }

  /// Compares with the reference, which is computed once; the arithmetic is that of float32, the result is rounded when it is stored.
  ///
  /// In tf32, with that of the rounded factors: as exactly as float32, which shows that they are rounded, and how.
  private func check(_ sample: OperationSample, _ kernels: [ProductKernel?], _ kind: MatrixUnit.Kind, _ format: ComputeFormat) throws {
    let device = try #require(Self.device), precision = format.storage
    let tensors = sample.draw(seed: 11, precision: precision)
    let factors = format == .tf32 ? OperationSample.factorsInTF32(tensors) : tensors
    let expected = sample.operation.reference(factors.map(ReferenceTensor.init))
    for kernel in kernels {
      let (found, names) = try run(sample.operation, tensors, kernel, kind, format, on: device)
      #expect(names.contains { $0.hasPrefix("matrix_") }, "\(names) ran instead")
      let error = zip(found, expected.values).reduce(0.0) {
        max($0, $1.0.isNaN ? .infinity : abs(Double($1.0) - $1.1) - precision.storageError(of: $1.1))
      }
      #expect(error <= sample.bound(expected), "\(kernel.map { "\($0)" } ?? "chosen"): largest error \(error), bound \(sample.bound(expected))")
    }
  }

  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: units)
  func theProbeFindsAnEmulatedUnitRight(_ kind: MatrixUnit.Kind, _ format: ComputeFormat) throws {
    let device = try #require(Self.device as? OpenCLDevice)
    for probe in MatrixProbe.all(kind, format, isEmulated: true) { #expect(try probe.largestError(on: device) <= MatrixProbe.bound) }
  }

  /// What a unit that flushes small numbers would be found by.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"))
  func theProbeSeesSmallNumbers() throws {
    let device = try #require(Self.device as? OpenCLDevice)
    #expect(try MatrixProbe(.mfma, .float16, isEmulated: true, scale: MatrixProbe.subnormal).largestError(on: device) == 0)
  }

  /// Gradients are smaller than float16's normal numbers; a forward pass is not asked about.
  @Test func smallValuesDoWithoutAUnitThatFlushesThem() throws {
    var unit = MatrixUnit(.mfma, formats: [.bfloat16, .float16])
    for (flushes, format, hasSmallValues, isUsed) in [
      (true, ComputeFormat.float16, true, false), (true, .float16, false, true), (true, .bfloat16, true, true), (false, .float16, true, true),
    ] {
      unit.flushesSubnormals = flushes
      var options = PlanOptions(format: format)
      options.hasSmallValues = hasSmallValues
      #expect((options.usable(unit) != nil) == isUsed)
    }
  }

  /// Every transposition; whole blocks, and tails of rows, columns and k; results in chunks, pairs and single elements.
  static let products = ProductSamples.productsOnMatrixUnit

  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: products)
  func everyLayoutMultiplies(_ sample: OperationSample) throws {
    try check(sample, [.matrix(MatrixTile(64, 64), splits: 1), .matrix(MatrixTile(32, 64), splits: 3), nil], .nvidia, .float16)
  }

  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: formats)
  func everyTileMultiplies(_ format: ComputeFormat) throws {
    // More than a block of the largest in one extent and less than one in the other, then the other way.
    for (m, n) in [(264, 24), (24, 264)] {
      let product = MatMul(transposeB: true, hasBias: true, hasResidual: true, activation: .relu)
      let sample = OperationSample(
        operation: product, inputs: [TensorType([m, 200]), TensorType([n, 200]), TensorType([n]), TensorType([m, n])], terms: 200)
      try check(sample, Self.variants(format), .nvidia, format)
    }
  }

  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: ProductSamples.convolutions)
  func convolutions(_ sample: OperationSample) throws {
    // Three channels and twenty of a padded copy, whole taps, and groups of four channels.
    try check(sample, [.matrix(MatrixTile(64, 64), splits: 1), .matrix(MatrixTile(32, 32), splits: 2), nil], .nvidia, .float16)
  }

  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: formats)
  func everyTileConvolves(_ format: ComputeFormat) throws {
    var conv = Conv2D(stride: Pair(2, 1), padding: Padding2D(top: 1, left: 2, bottom: 0, right: 1), hasBias: true)
    (conv.hasResidual, conv.activation) = (true, .clip(-1, 1.5))
    let inputs = [TensorType([2, 17, 10, 24]), TensorType([40, 24, 3, 3]), TensorType([40]), TensorType([2, 8, 11, 40])]
    try check(OperationSample(operation: conv, inputs: inputs, terms: 216), Self.variants(format), .nvidia, format)
  }

  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: ProductSamples.weightGradients)
  func gradientsOfWeights(_ sample: OperationSample) throws {
    try check(sample, [.matrix(MatrixTile(32, 32), splits: 1), .matrix(MatrixTile(32, 32), splits: 3)], .nvidia, .float16)
  }

  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: formats)
  func everyTileComputesGradientsOfWeights(_ format: ComputeFormat) throws {
    try check(ProductSamples.weightGradients[0], Self.variants(format) + [nil], .nvidia, format)
  }

  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"))
  func gradientsOfWeightsInTF32() throws {
    try check(ProductSamples.weightGradients[0], [.matrix(MatrixTile(64, 64).inFloat32, splits: 3)], .nvidia, .tf32)
    for sample in ProductSamples.weightGradients.dropFirst() { try check(sample, [.matrix(MatrixTile(32, 32).inFloat32, splits: 3)], .nvidia, .tf32) }
  }

  /// An odd number of outputs, groups of one channel, and every channel a group of its own: what no copy can begin at has today's
  /// kernels, and so has a plan in float32.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"))
  func otherGradientsOfWeightsKeepThePlainKernels() throws {
    let device = try #require(Self.device)
    func kernels(_ x: [Int], _ outputs: Int, groups: Int = 1, _ format: ComputeFormat = .float16) throws -> Set<String> {
      let convolution = Conv2D(padding: Padding2D(1), groups: groups)
      let gradient = Conv2DWeightGradient(of: convolution, size: Pair(3)), inputs = [TensorType(x), TensorType([x[0], x[1], x[2], outputs])]
      let sample = OperationSample(operation: gradient, inputs: inputs, terms: x[0] * x[1] * x[2])
      let tensors = sample.draw(seed: 5, precision: format.storage)
      let (found, names) = try run(gradient, tensors, nil, .nvidia, format, on: device)
      let expected = gradient.reference(tensors.map { ReferenceTensor($0) })
      #expect(sample.largestError(found, expected, precision: format.storage) <= sample.bound(expected))
      return names
    }
    #expect(try kernels([1, 5, 6, 8], 16).contains("matrix_weights"))
    #expect(try kernels([1, 5, 6, 8], 9).contains("conv_weights"))
    #expect(try kernels([1, 5, 6, 4], 8, groups: 4).contains("conv_weights"))
    #expect(try kernels([1, 5, 6, 8], 8, groups: 8).contains("conv_weights_direct"))
    #expect(try kernels([1, 5, 6, 8], 16, .float32).contains("conv_weights"))
  }

  /// The pixels are cut so that a large device has work, though the weights are few.
  @Test func gradientsOfFewWeightsFillTheDevice() throws {
    let chip = try Chip.named("h200")
    let (x, dy) = (TensorType([64, 56, 56, 64]), TensorType([64, 56, 56, 64]))
    var graph = Graph()
    let inputs = [graph.addInput(x, name: "x"), graph.addInput(dy, name: "dy")]
    graph.outputs = [try graph.add(Conv2DWeightGradient(of: Conv2D(padding: Padding2D(1)), size: Pair(3)), inputs)]
    let outline = try PlanOutline(graph, traits: chip.traits, options: .asWritten(computing: .float16))
    let launch = try #require(outline.launches.first { $0.kernel.function == "matrix_weights" })
    #expect(launch.grid.globalSize.x / launch.grid.workGroupSize.x >= chip.multiprocessors)
  }

  /// AMD's units: every tile of each, rows and columns of A and B along k and across it, groups, a split.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: [MatrixUnit.Kind.wmma, .mfma], formats)
  func amdsUnits(_ kind: MatrixUnit.Kind, _ format: ComputeFormat) throws {
    let tiles = MatrixTile.candidates(kind).suffix(format == .float16 ? 16 : 1).map { ProductKernel.matrix($0, splits: 1) }
    let product = MatMul(transposeB: true, hasBias: true, hasResidual: true, activation: .relu)
    let sizes = [TensorType([136, 104]), TensorType([72, 104]), TensorType([72]), TensorType([136, 72])]
    try check(
      OperationSample(operation: product, inputs: sizes, terms: 104), tiles + [.matrix(MatrixTile.candidates(kind)[1], splits: 3)], kind, format)
    try check(ProductSamples.convolutions[1], tiles, kind, format)
    try check(ProductSamples.convolutions[2], [nil], kind, format)
    try check(ProductSamples.weightGradients[1], tiles.suffix(1), kind, format)
  }

  /// A linear layer's gradients: b across k, and both operands.
  @Test(
    .enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: [MatrixUnit.Kind.wmma, .mfma, .turing, .xmx8, .xmx16],
    products.filter { $0.inputs[3].shape[2] == 36 && $0.inputs[1].shape[2] == 36 })
  func everyUnitReadsAcrossK(_ kind: MatrixUnit.Kind, _ sample: OperationSample) throws {
    let tiles = MatrixTile.candidates(kind)
    try check(sample, [.matrix(tiles[tiles.count - 1], splits: 3)], kind, .float16)
  }

  /// Units that came later, whose programs take a device without them long to compile: a large tile and the smallest, whole and
  /// split, with tails in every extent.
  @Test(
    .enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"),
    arguments: [(MatrixUnit.Kind.turing, ComputeFormat.float16), (.xmx8, .bfloat16), (.xmx8, .float16), (.xmx16, .bfloat16), (.xmx16, .float16)])
  func otherUnits(_ kind: MatrixUnit.Kind, _ format: ComputeFormat) throws {
    let tiles = MatrixTile.candidates(kind), kernels: [ProductKernel] = [.matrix(tiles[0], splits: 1), .matrix(tiles[tiles.count - 1], splits: 3)]
    let product = MatMul(transposeB: true, hasBias: true, hasResidual: true, activation: .relu)
    let sizes = [TensorType([136, 104]), TensorType([72, 104]), TensorType([72]), TensorType([136, 72])]
    try check(OperationSample(operation: product, inputs: sizes, terms: 104), kernels, kind, format)
    try check(ProductSamples.convolutions[1], Array(kernels.dropFirst()), kind, format)
    try check(ProductSamples.weightGradients[2], Array(kernels.dropFirst()), kind, format)
  }

  /// Operands across k go another way to registers than those along it, and no transposing instruction helps.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: products.filter { $0.inputs[3].shape[2] != 36 })
  func everyLayoutMultipliesInTF32(_ sample: OperationSample) throws {
    try check(sample, [.matrix(MatrixTile(64, 64).inFloat32, splits: 1), .matrix(MatrixTile(32, 64).inFloat32, splits: 3)], .nvidia, .tf32)
  }

  /// Results by several passes through local memory, the largest tile's, and convolutions with whole channels, with some and with
  /// three.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"))
  func largeTilesAndConvolutionsInTF32() throws {
    let product = MatMul(transposeB: true, hasBias: true, hasResidual: true, activation: .relu)
    let sizes = [TensorType([264, 200]), TensorType([24, 200]), TensorType([24]), TensorType([264, 24])]
    let kernels = [MatrixTile.candidates(.nvidia, .tf32)[0], MatrixTile(128, 128, stages: 2).inFloat32].map { ProductKernel.matrix($0, splits: 1) }
    try check(OperationSample(operation: product, inputs: sizes, terms: 200), kernels, .nvidia, .tf32)
    for sample in ProductSamples.convolutions { try check(sample, [.matrix(MatrixTile(32, 32).inFloat32, splits: 2)], .nvidia, .tf32) }
  }

  /// Rounding both factors to 11 bits changes a product by 2⁻¹⁰ of it at most, and does change it.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"))
  func tf32IsAsFarFromFloat32AsItsBitsSay() throws {
    let device = try #require(Self.device), (m, n, k) = (40, 24, 72)
    let sample = OperationSample(operation: MatMul(transposeB: true), inputs: [TensorType([m, k]), TensorType([n, k])], terms: k)
    let tensors = sample.draw(seed: 3), kernel = ProductKernel.matrix(MatrixTile(32, 32).inFloat32, splits: 1)
    let expected = sample.operation.reference(tensors.map(ReferenceTensor.init))
    let sizes = sample.operation.reference(tensors.map { ReferenceTensor(HostTensor($0.shape, $0.floats().map(abs))) })
    let (found, _) = try run(sample.operation, tensors, kernel, .nvidia, .tf32, on: device)
    let largest = zip(found, zip(expected.values, sizes.values)).reduce(0.0) { max($0, abs(Double($1.0) - $1.1.0) / $1.1.1) }
    #expect(largest <= 0x1p-10 * (1 + 0x1p-11) + sample.bound(expected) && largest > 0x1p-16, "\(largest)")
    // A plan in float32 has no use for the unit.
    let (_, names) = try run(sample.operation, tensors, nil, .nvidia, .float32, on: device)
    #expect(!names.contains { $0.hasPrefix("matrix_") })
  }

  /// Ties go away from zero, the largest number rounds beyond the range, and what is no number stays none.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"))
  func tf32RoundsAsTheUnitDoes() throws {
    let device = try #require(Self.device)
    let values: [Float] = [
      1, 1 + 0x1p-11, -1 - 0x1p-11, 1 + 0x1p-12, 1 + 0x1.8p-11, 0x1.002p-3, -0x1.ffep5, 0, -0.0, .greatestFiniteMagnitude, .infinity,
      -.infinity, .nan, 3.14159274, -2.71828175,
    ]
    // The identity, so that each result is one rounded factor.
    let tensors = [
      HostTensor([values.count, 4], values.flatMap { [$0, 0, 0, 0] }), HostTensor([4, 4], (0..<16).map { $0 % 5 == 0 ? 1 : 0 }),
    ]
    let (found, _) = try run(MatMul(), tensors, .matrix(MatrixTile(32, 32).inFloat32, splits: 1), .nvidia, .tf32, on: device)
    for (index, value) in values.enumerated() {
      let result = found[index * 4]
      if value.isFinite, value.magnitude < 0x1p127 {
        #expect(result == OperationSample.roundedToTF32(value), "\(value)")
      } else {
        #expect(!result.isFinite, "\(value) became \(result)")
      }
    }
  }

  /// One kernel that a driver's compiler refuses, though a smaller one of its kind was found right, is no reason to give up.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"))
  func aProgramThatCannotBeBuiltLeavesThePlainKernels() throws {
    let info = try #require(try OpenCLPlatform.devices().first { $0.obstacle == nil })
    let sources = KernelSources.embedded.adding("gpu/matrix_gemm.cl", "#error this compiler does not like it\n")
    let sick = try OpenCLDevice(info, family: .gpu, sources: sources, cache: ProgramCache(directory: nil))
    let sample = OperationSample(operation: MatMul(transposeB: true), inputs: [TensorType([40, 64]), TensorType([32, 64])], terms: 64)
    let tensors = sample.draw(seed: 3, precision: .float16), expected = sample.operation.reference(tensors.map { ReferenceTensor($0) })
    for _ in 0..<2 {
      let (found, names) = try run(sample.operation, tensors, nil, .nvidia, .float16, on: sick)
      #expect(!names.contains { $0.hasPrefix("matrix_") })
      #expect(sample.largestError(found, expected, precision: .float16) <= sample.bound(expected))
    }
    // A kernel that was asked for is not replaced.
    let forced = ProductKernel.matrix(MatrixTile(32, 32), splits: 1)
    let other = try OpenCLDevice(info, family: .gpu, sources: sources, cache: ProgramCache(directory: nil))
    #expect(throws: BuildError.self) { try run(sample.operation, tensors, forced, .nvidia, .float16, on: other) }
  }

  /// A GPU of NVIDIA's that need not be there.
  private func traits(units: Int) -> DeviceTraits {
    DeviceTraits(
      kind: .openCL, identifier: "opencl:0", name: "test", vendor: "", driver: "", family: .gpu, computeUnits: units, memoryByteCount: 1 << 33,
      maximumBufferByteCount: 1 << 32, localMemoryByteCount: 47 << 10, maximumWorkGroupSize: 1024, vectorWidth: 1, panelVectors: 1,
      instructionSet: "", numericFormats: ["float32"], isGPU: true, threadCount: 0)
  }

  // MARK: Groups of warps

  /// Every layout, by descriptors that the emulation decodes; whole blocks, several panels and tails.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: products)
  func everyLayoutMultipliesByGroups(_ sample: OperationSample) throws {
    try check(sample, [.matrix(.byGroups(128, 128, stages: 2), splits: 1), .matrix(.byGroups(64, 64, stages: 4), splits: 3)], .hopper, .float16)
  }

  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: formats)
  func everyTileOfGroupsComputes(_ format: ComputeFormat) throws {
    let tiles = MatrixTile.candidates(.hopper).filter(\.isByGroups).suffix(format == .float16 ? 16 : 1)
    let kernels = tiles.map { ProductKernel.matrix($0, splits: 1) }
    for (m, n) in [(200, 24), (24, 264)] {
      let product = MatMul(transposeB: true, hasBias: true, hasResidual: true, activation: .relu)
      let sample = OperationSample(
        operation: product, inputs: [TensorType([m, 136]), TensorType([n, 136]), TensorType([n]), TensorType([m, n])], terms: 136)
      try check(sample, kernels, .hopper, format)
    }
    var conv = Conv2D(stride: Pair(2, 1), padding: Padding2D(top: 1, left: 2, bottom: 0, right: 1), hasBias: true)
    (conv.hasResidual, conv.activation) = (true, .clip(-1, 1.5))
    let inputs = [TensorType([2, 17, 10, 24]), TensorType([40, 24, 3, 3]), TensorType([40]), TensorType([2, 8, 11, 40])]
    try check(OperationSample(operation: conv, inputs: inputs, terms: 216), kernels, .hopper, format)
    try check(ProductSamples.weightGradients[0], kernels, .hopper, format)
  }

  /// Narrow copies, groups, first layers, strides and dilations.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"))
  func convolutionsAndTheirGradientsByGroups() throws {
    let tile = MatrixTile.byGroups(64, 64, stages: 4)
    for sample in ProductSamples.convolutions { try check(sample, [.matrix(tile, splits: 2), nil], .hopper, .float16) }
    for sample in ProductSamples.weightGradients { try check(sample, [.matrix(tile, splits: 3), nil], .hopper, .float16) }
  }

  /// What a row's sums are must not depend on how many images are computed with it, so that neither may who multiplies.
  @Test func theBatchDoesNotDecideWhetherGroupsMultiply() throws {
    let traits = try Chip.named("h200").traits
    var found: Set<Bool> = []
    for channels in [32, 64, 256, 512] {
      var kinds: Set<Bool> = []
      for batch in [1, 2, 8, 64, 256] {
        var graph = Graph()
        let x = graph.addInput(TensorType([batch, 14, 14, channels]), name: "x")
        let w = graph.addConstant(HostTensor([channels, channels, 3, 3], [Float](repeating: 0.5, count: channels * channels * 9)), name: "w")
        graph.outputs = [try graph.add(Conv2D(padding: Padding2D(1)), [x, w])]
        let outline = try PlanOutline(graph, traits: traits, options: .asWritten(computing: .float16))
        for launch in outline.launches where launch.kernel.function == "matrix_conv" {
          kinds.insert(launch.kernel.options.contains(MatrixUnit.Kind.hopper.option(byGroups: true)))
        }
      }
      #expect(kinds.count == 1, "\(channels) channels")
      found.formUnion(kinds)
    }
    #expect(found.contains(true))
  }

  @Test func aTileOfGroupsIsForTheUnitThatHasThem() {
    var traits = self.traits(units: 132)
    let tile = MatrixTile.byGroups(128, 128, stages: 2), vectors = MatrixVectors(a: 8, b: 8, y: 8)
    traits.matrixUnit = MatrixUnit(.nvidia, formats: [.float16])
    #expect(!tile.fits(traits, vectors: vectors))
    traits.matrixUnit = MatrixUnit(.hopper, formats: [.float16, .tf32])
    #expect(tile.fits(traits, vectors: vectors))
    #expect(MatrixTile.candidates(.hopper, .tf32).filter(\.isByGroups).isEmpty)
    let large = ProductKernel.chooseMatrix(m: 4096, n: 4096, k: 4096, count: 1, vectors: vectors, format: .float16, traits: traits)
    #expect(large?.tile.isByGroups == true && large?.splits == 1)
    let bySingleWarps = ProductKernel.chooseMatrix(
      m: 4096, n: 4096, k: 4096, count: 1, vectors: vectors, byGroups: false, format: .float16, traits: traits)
    #expect(bySingleWarps?.tile.isByGroups == false)
  }

  // MARK: Choosing

  private func choose(_ m: Int, _ n: Int, _ k: Int, units: Int = 132, vectors: MatrixVectors = MatrixVectors(a: 8, b: 8, y: 8)) -> (
    tile: MatrixTile, splits: Int
  )? {
    var traits = self.traits(units: units)
    traits.matrixUnit = MatrixUnit(.nvidia, formats: [.float16])
    #expect(
      ProductKernel.chooseMatrix(m: m, n: n, k: k, count: 1, vectors: vectors, format: .bfloat16, traits: traits) == nil,
      "a format the unit was not found to have")
    return ProductKernel.chooseMatrix(m: m, n: n, k: k, count: 1, vectors: vectors, format: .float16, traits: traits)
  }

  @Test(arguments: MatrixTile.all)
  func candidatesFitTheLocalMemoryThereIs(_ tile: MatrixTile) {
    #expect(tile.localByteCount <= 47 << 10 && tile.itemCount <= 256)
    let names = tile.options(MatrixVectors(a: 8, b: 8, y: 8)).map(\.name)
    #expect(Set(names).count == names.count)
  }

  @Test func largeProductsTakeLargeTilesAndSmallOnesFillTheDevice() throws {
    let large = try #require(choose(4096, 4096, 4096))
    #expect(large.tile.tileM * large.tile.tileN == 128 * 128 && large.splits == 1)
    let small = try #require(choose(256, 256, 4096))
    #expect(small.tile.blockCount(m: 256, n: 256) * small.splits >= 64)
    // A first layer: 4 channels a copy do not go with warps of 64 × 64.
    let first = try #require(choose(3_211_264, 64, 196, vectors: MatrixVectors(a: 4, b: 4, y: 8)))
    #expect(first.tile.tileN == 64 && first.splits == 1)
  }

  // MARK: Saying which

  @Test func theEnvironmentChooses() throws {
    func choice(_ text: String?) throws -> MatrixUnitChoice {
      try MatrixUnitChoice.current(environment: text.map { ["GRAFT_MATRIX_UNIT": $0] } ?? [:], device: "opencl:0")
    }
    #expect(try choice(nil) == .auto && choice("") == .auto && choice("AUTO") == .auto && choice("off") == .off)
    #expect(try choice("emulated") == .emulated(.nvidia) && choice("nvidia") == .only(.nvidia) && choice("emulated-nvidia") == .emulated(.nvidia))
    let error = #expect(throws: DeviceError.self) { try choice("cuda") }
    #expect(error?.description.contains("emulated-nvidia") == true && error?.description.contains("xmx16") == true)
    #expect(try choice("turing") == .only(.turing) && choice("emulated-xmx8") == .emulated(.xmx8))
  }

  @Test func aPlatformSaysWhichUnitsAreTried() {
    func kinds(_ platform: String, isGPU: Bool = true, _ subGroup: Int? = nil, capability: Int? = nil) -> [MatrixUnit.Kind] {
      MatrixUnits.candidates(platform: platform, isGPU: isGPU, matrixSubGroup: subGroup, computeCapability: capability)
    }
    #expect(kinds("NVIDIA CUDA", capability: 9) == [.hopper, .nvidia, .turing] && kinds("NVIDIA CUDA", capability: 12) == [.nvidia, .turing])
    #expect(kinds("NVIDIA CUDA") == [.nvidia, .turing] && kinds("AMD Accelerated Parallel Processing") == [.mfma, .wmma])
    #expect(kinds("Intel(R) OpenCL Graphics", 8) == [.xmx8] && kinds("Intel(R) OpenCL Graphics", 16) == [.xmx16])
    #expect(kinds("Intel(R) OpenCL Graphics").isEmpty && kinds("Intel(R) OpenCL", isGPU: false, 8).isEmpty && kinds("rusticl", 8).isEmpty)
  }

  /// Fragments of convolutions in warps of 32 × 32 find no registers on gfx1100.
  @Test func convolutionsOnWMMATakeSmallWarps() {
    let tiles = MatrixTile.candidates(.wmma), rooms = tiles.filter { $0.hasRoomForWindows(on: .wmma) }
    #expect(rooms.count == tiles.count - 1 && rooms.contains { $0.tileM == 64 && $0.tileN == 64 })
  }

  /// No foreign assembly reaches another vendor's compiler, and nothing is there that was not found.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"))
  func anotherPlatformHasNone() throws {
    let device = try #require(Self.device as? OpenCLDevice)
    guard !device.info.platformName.uppercased().contains("NVIDIA") else { return }
    #expect(try MatrixUnitChoice.$forced.withValue(.auto) { try device.matrixUnit() } == nil)
    #expect(try MatrixUnitChoice.$forced.withValue(.only(.nvidia)) { try device.matrixUnit() } == nil)
  }
}
