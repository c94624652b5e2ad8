import GraftDevice
import GraftGraph
import OperationSamples
import Testing

/// The gradients of attention on matrix units, emulated: every unit, head size, layout, mask and tail against double precision.
@Suite struct MatrixAttentionGradientTests {
  static let device = GPUProductTests.device
  static let kernels = Set(MatrixAttentionGradientTile.Result.allCases.map(\.kernel))
  static let plainKernels = Set(MatrixAttentionGradientTile.Result.allCases.map { "attention_gradient_\($0)" })

  /// Formats differ in what they round with, and each program takes a while to compile.
  static let units: [(MatrixUnit.Kind, ComputeFormat)] = MatrixAttentionTests.kinds.map { ($0, .float16) } + [(.nvidia, .bfloat16)]

  private func run(_ sample: OperationSample, _ tensors: [HostTensor], _ unit: MatrixUnitChoice, _ format: ComputeFormat) throws
    -> (values: [Float], kernels: Set<String>)
  {
    let device = try #require(Self.device)
    return try MatrixUnitChoice.$forced.withValue(unit) {
      let plan = try Plan(try sample.graph(tensors, constants: false), device: device, options: .asWritten(computing: format))
      for (input, tensor) in zip(plan.graph.inputs, tensors) { try plan.write(tensor.floats(), to: input) }
      try plan.run()
      return (try plan.read(plan.graph.outputs[0]), plan.kernels)
    }
  }

  private func check(
    _ sample: OperationSample, on tensors: [HostTensor]? = nil, _ kind: MatrixUnit.Kind, _ format: ComputeFormat = .float16
  ) throws {
    let precision = format.storage, tensors = tensors ?? sample.draw(seed: 6, precision: precision)
    let expected = sample.operation.reference(tensors.map(ReferenceTensor.init))
    let (found, kernels) = try run(sample, tensors, .emulated(kind), format)
    #expect(kernels.isSuperset(of: Self.kernels) && kernels.isDisjoint(with: Self.plainKernels), "\(kernels) ran instead")
    let error = sample.largestError(found, expected, precision: precision, allowed: sample.weightErrors(tensors, precision: precision))
    #expect(found.count == expected.values.count && error <= sample.bound(expected), "\(error), bound \(sample.bound(expected)): \(sample)")
  }

  private static func sample(
    _ layout: Attention.Layout, images: Int = 1, heads: Int, queries: Int, keys: Int? = nil, size: Int, scale: Float? = nil, mask: [Int]? = nil,
    range: ClosedRange<Double> = -1...1
  ) -> OperationSample {
    OperationSamples.gradient(
      of: OperationSamples.attention(
        layout, images: images, heads: heads, queries: queries, keys: keys, size: size, scale: scale, mask: mask, range: range))
  }

  /// More than a work-group's rows on both sides, a head that is no whole step, a mask along both, operands apart and copied 8 bytes at a
  /// time.
  static let masked = sample(.tokens, images: 2, heads: 2, queries: 70, keys: 37, size: 20, mask: [2, 1, 70, 37])
  /// Packed operands in copies of 16 bytes, and a row and a column beyond whole blocks.
  static let packed = sample(.packed, images: 1, heads: 2, queries: 65, size: 64)

  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: [MatrixUnit.Kind.nvidia, .wmma])
  func theProbeFindsAnEmulatedUnitRight(_ kind: MatrixUnit.Kind) throws {
    let device = try #require(Self.device as? OpenCLDevice), format: ComputeFormat = kind == .nvidia ? .bfloat16 : .float16
    #expect(try AttentionGradientProbe(kind, format, isEmulated: true).largestError(on: device) <= AttentionGradientProbe.bound)
  }

  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: units)
  func agreesWithDoublePrecision(_ kind: MatrixUnit.Kind, _ format: ComputeFormat) throws {
    try check(Self.masked, kind, format)
    if kind == .nvidia, format == .float16 { try check(Self.packed, kind) }
  }

  /// Heads that some units cut into parts, and read from local memory with every block; copies of 4 bytes.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: [MatrixUnit.Kind.nvidia, .wmma])
  func longHeadsAgree(_ kind: MatrixUnit.Kind) throws {
    try check(Self.sample(.heads, heads: 1, queries: 35, keys: 18, size: 126), kind)
  }

  /// Scores to ±60, and such that exponents leave float32's range unless the greatest is taken away first; a mask that lets nothing
  /// of the first block through.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"))
  func steepScoresAgree() throws {
    try check(Self.sample(.packed, heads: 1, queries: 70, size: 16, scale: 1, range: -2...2), .nvidia)
    try check(Self.sample(.packed, heads: 1, queries: 12, size: 16, scale: 40), .nvidia)
    let masked = Self.sample(.tokens, heads: 2, queries: 5, keys: 100, size: 20, mask: [100])
    var tensors = masked.draw(seed: 5, precision: .float16)
    tensors[3] = HostTensor([100], (0..<100).map { $0 < 40 ? -.infinity : 0 })
    try check(masked, on: tensors, .nvidia)
  }

  /// Not one bit of an image's gradients depends on the images beside it, nor of a query's on the other queries.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: [MatrixUnit.Kind.nvidia, .mfma, .xmx16])
  func imagesAreTheSameBitsInEveryBatch(_ kind: MatrixUnit.Kind) throws {
    func sample(images: Int, queries: Int) -> OperationSample {
      Self.sample(.tokens, images: images, heads: 2, queries: queries, keys: 37, size: 20, mask: [images, 1, queries, 37])
    }
    let whole = sample(images: 3, queries: 70), tensors = whole.draw(seed: 8, precision: .float16), count = (70 + 2 * 37) * 40
    let all = try run(whole, tensors, .emulated(kind), .float16).values
    let second = tensors.map { tensor in
      let length = tensor.elementCount / 3
      return HostTensor([1] + tensor.shape.dropFirst(), Array(tensor.floats()[length..<2 * length]))
    }
    let one = try run(sample(images: 1, queries: 70), second, .emulated(kind), .float16).values
    #expect(one.map(\.bitPattern) == all[count..<2 * count].map(\.bitPattern))
    // The last queries alone.
    let last = second.map { tensor in
      guard let extent = tensor.shape.firstIndex(of: 70) else { return tensor }
      let width = tensor.elementCount / 70
      return HostTensor(tensor.shape.enumerated().map { $0 == extent ? 9 : $1 }, Array(tensor.floats()[61 * width..<70 * width]))
    }
    let few = try run(sample(images: 1, queries: 9), last, .emulated(kind), .float16).values
    #expect(few[..<(9 * 40)].map(\.bitPattern) == one[61 * 40..<70 * 40].map(\.bitPattern))
  }

  /// Weights are rounded as the unit's operands are: the plain kernels, which round none, give other bits.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"))
  func weightsAreRounded() throws {
    let tensors = Self.masked.draw(seed: 2, precision: .bfloat16)
    let (plain, plainKernels) = try run(Self.masked, tensors, .off, .bfloat16)
    let (rounded, kernels) = try run(Self.masked, tensors, .emulated(.nvidia), .bfloat16)
    #expect(plainKernels.isSuperset(of: Self.plainKernels) && kernels.isSuperset(of: Self.kernels))
    // Each of the three: dq, dk and dv of the first image.
    for rows in [0..<70, 70..<107, 107..<144] {
      #expect(plain[rows.lowerBound * 40..<rows.upperBound * 40] != rounded[rows.lowerBound * 40..<rows.upperBound * 40])
    }
  }

  // MARK: Choosing

  /// What no unit reads goes to the plain kernels: other formats, heads at odd places, and those that are too long.
  @Test func whatAUnitCannotReadStaysPlain() throws {
    var traits = try Chip.named("h200").traits
    func kernels(_ sample: OperationSample, _ format: ComputeFormat) throws -> Set<String> {
      let graph = try sample.graph(sample.draw(seed: 1), constants: false)
      let launches = try PlanOutline(graph, traits: traits, options: .asWritten(computing: format)).launches
      return Set(launches.map(\.kernel.function).filter { $0.contains("attention_gradient") })
    }
    #expect(try kernels(Self.packed, .float16) == Self.kernels && kernels(Self.packed, .bfloat16) == Self.kernels)
    #expect(try kernels(Self.packed, .float32) == Self.plainKernels && kernels(Self.packed, .tf32) == Self.plainKernels)
    #expect(try kernels(Self.sample(.heads, heads: 1, queries: 9, size: 13), .float16) == Self.plainKernels)
    #expect(try kernels(Self.sample(.tokens, heads: 1, queries: 9, size: 160), .float16) == Self.plainKernels)
    // The sums of dv alone leave memory for a long head.
    traits.localMemoryByteCount = 28 << 10
    #expect(
      try kernels(Self.sample(.tokens, heads: 1, queries: 9, size: 64), .float16)
        == ["attention_gradient_queries", "attention_gradient_keys", "matrix_attention_gradient_values"])
    traits.localMemoryByteCount = 47 << 10
    // A unit whose attention agreed with the host's and whose gradients did not.
    traits.matrixUnit = MatrixUnit(.nvidia, formats: [.float16, .bfloat16], attentionGradientFormats: [.bfloat16])
    #expect(try kernels(Self.packed, .float16) == Self.plainKernels && kernels(Self.packed, .bfloat16) == Self.kernels)
  }

  /// The model of time computes each with the unit's peak, and what lies beyond rows and columns too.
  @Test(arguments: ["h200", "a100", "mi210"])
  func theTimeModelKnowsTheUnit(_ name: String) throws {
    let chip = try Chip.named(name), sample = Self.sample(.packed, images: 64, heads: 12, queries: 197, size: 64)
    var graph = Graph()
    let inputs = sample.inputs.map { graph.addInput($0, name: "") }
    graph.outputs = [try graph.add(any: sample.operation, inputs, name: "gradient")]
    func launches(_ chip: Chip) throws -> [TimePrediction.Launch] {
      try TimePrediction(graph, on: chip, options: .asWritten(computing: .bfloat16)).launches.filter { $0.kernel.contains("attention_gradient") }
    }
    let (onUnit, plain) = (try launches(chip), try launches(chip.withoutMatrixUnit))
    #expect(onUnit.count == 3 && plain.count == 3)
    for (unit, plain) in zip(onUnit, plain) {
      // 208 × 224 scores for 197 × 197, at the unit's peak.
      let arithmetic = unit.flops / (1e9 * chip.matrixGigaflopsPerSecond) * 208 * 224 / (197 * 197)
      #expect(unit.kernel == "matrix_" + plain.kernel && unit.seconds > arithmetic && unit.seconds < plain.seconds)
    }
    let seconds = [onUnit, plain].map { $0.reduce(0) { $0 + $1.seconds } }
    print("\(chip.name): gradient of an attention of ViT-B/16, 64 images: \(1e6 * seconds[0]) µs, plain \(1e6 * seconds[1]) µs")
    #expect(seconds[0] < 0.75 * seconds[1])
  }

  @Test(arguments: MatrixUnit.Kind.allCases)
  func tilesFitTheLocalMemoryThereIs(_ kind: MatrixUnit.Kind) throws {
    let isNVIDIA = kind == .nvidia || kind == .turing
    for result in MatrixAttentionGradientTile.Result.allCases {
      for size in 1...MatrixAttentionTile.largestHeadSize {
        let tile = try #require(MatrixAttentionGradientTile(kind, result, size: size, hasMask: size % 2 == 0))
        #expect(tile.head >= size && tile.head - size < 16 && tile.parts * tile.width >= size && tile.width % 16 == 0)
        #expect(tile.localByteCount(kind) <= (isNVIDIA ? 47 : 64) << 10 && tile.itemCount <= 256)
      }
      #expect(MatrixAttentionGradientTile(kind, result, size: 129, hasMask: false) == nil)
    }
  }
}
