import GraftDevice
import GraftGraph
import OperationSamples
import Testing

/// Attention on matrix units, emulated: every unit, head size, layout, mask and tail against double precision.
@Suite struct MatrixAttentionTests {
  static let device = GPUProductTests.device
  /// `hopper` has the programs of `nvidia`.
  static let kinds = MatrixUnit.Kind.allCases.filter { $0 != .hopper }
  static let units: [(MatrixUnit.Kind, ComputeFormat)] = kinds.flatMap { kind in
    ComputeFormat.allCases.filter { kind.formats.contains($0) && $0.storage.byteCount == 2 }.map { (kind, $0) }
  }

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

  private func check(_ sample: OperationSample, on tensors: [HostTensor]? = nil, _ kind: MatrixUnit.Kind, _ format: ComputeFormat) throws {
    let precision = format.storage, tensors = tensors ?? sample.draw(seed: 5, precision: precision)
    let expected = sample.operation.reference(tensors.map(ReferenceTensor.init))
    let (found, kernels) = try run(sample, tensors, .emulated(kind), format)
    #expect(kernels.contains("matrix_attention") && !kernels.contains("attention"), "\(kernels) ran instead")
    let error = sample.largestError(found, expected, precision: precision, allowed: sample.weightErrors(tensors, precision: precision))
    #expect(found.count == expected.values.count && error <= sample.bound(expected), "\(error), bound \(sample.bound(expected)): \(sample)")
  }

  /// ViT-B/16's tokens; blocks of keys that end everywhere in one; all layouts; copies of 16, 8 and 4 bytes; masks along every extent.
  static let samples: [OperationSample] = [
    sample(.packed, heads: 2, queries: 197, size: 64),
    sample(.packed, images: 2, heads: 3, queries: 17, size: 32, mask: [17, 17]),
    sample(.tokens, images: 2, heads: 1, queries: 70, keys: 33, size: 20, mask: [2, 1, 70, 1]),
    sample(.heads, images: 2, heads: 2, queries: 5, keys: 129, size: 10, mask: [2, 1, 129]),
  ]

  private static func sample(
    _ layout: Attention.Layout, images: Int = 1, heads: Int, queries: Int, keys: Int? = nil, size: Int, scale: Float? = nil, mask: [Int]? = nil,
    range: ClosedRange<Double> = -1...1
  ) -> OperationSample {
    OperationSamples.attention(
      layout, images: images, heads: heads, queries: queries, keys: keys, size: size, scale: scale, mask: mask, range: range)
  }

  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: units)
  func theProbeFindsAnEmulatedUnitRight(_ kind: MatrixUnit.Kind, _ format: ComputeFormat) throws {
    let device = try #require(Self.device as? OpenCLDevice)
    #expect(try AttentionProbe(kind, format, isEmulated: true).largestError(on: device) <= AttentionProbe.bound)
  }

  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: units)
  func agreesWithDoublePrecision(_ kind: MatrixUnit.Kind, _ format: ComputeFormat) throws {
    // Formats differ in what they round with, and each program takes a while to compile.
    for sample in format == .float16 ? Self.samples : [Self.samples[1]] { try check(sample, kind, format) }
  }

  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: kinds)
  func longHeadsAgree(_ kind: MatrixUnit.Kind) throws {
    for sample in OperationSamples.attentionsOnMatrixUnit {
      // WMMA has no registers for a long head's mask.
      let hasMask = (sample.operation as? Attention)?.hasMask == true
      if kind != .wmma || !hasMask { try check(sample, kind, .float16) }
    }
  }

  /// Scores to ±60, and such that exponents leave float32's range unless the greatest is taken away first; a mask that lets nothing
  /// of the first block through.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: [ComputeFormat.bfloat16, .float16])
  func steepScoresAgree(_ format: ComputeFormat) throws {
    try check(Self.sample(.packed, heads: 1, queries: 70, size: 16, scale: 1, range: -2...2), .nvidia, format)
    try check(Self.sample(.packed, heads: 1, queries: 12, size: 16, scale: 40), .nvidia, format)
    let masked = Self.sample(.tokens, heads: 1, queries: 3, keys: 100, size: 16, mask: [100])
    var tensors = masked.draw(seed: 5, precision: format.storage)
    tensors[3] = HostTensor([100], (0..<100).map { $0 < 70 ? -.infinity : 0 })
    try check(masked, on: tensors, .nvidia, format)
  }

  /// Not one bit of a row depends on the images beside it, nor on the other queries, nor on their number.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: [MatrixUnit.Kind.nvidia, .mfma, .xmx16])
  func rowsAreTheSameBitsInEveryBatch(_ kind: MatrixUnit.Kind) throws {
    let whole = Self.sample(.tokens, images: 3, heads: 2, queries: 75, keys: 70, size: 32)
    let tensors = whole.draw(seed: 8, precision: .bfloat16)
    let all = try run(whole, tensors, .emulated(kind), .bfloat16).values
    let width = 64, one = Self.sample(.tokens, images: 1, heads: 2, queries: 9, keys: 70, size: 32)
    // The second image alone, of its queries the ten before the last.
    let queries = Array(tensors[0].floats()[(75 + 64) * width..<(75 + 73) * width])
    let others = tensors.dropFirst().map { HostTensor([1, 70, width], Array($0.floats()[70 * width..<140 * width])) }
    let part = try run(one, [HostTensor([1, 9, width], queries)] + others, .emulated(kind), .bfloat16).values
    #expect(part.map(\.bitPattern) == all[(75 + 64) * width..<(75 + 73) * width].map(\.bitPattern))
  }

  /// Weights are rounded as the unit's operands are: the plain kernels, which round none, give other bits.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"))
  func weightsAreRounded() throws {
    let sample = Self.samples[1], tensors = sample.draw(seed: 2, precision: .bfloat16)
    let (plain, plainKernels) = try run(sample, tensors, .off, .bfloat16)
    let (rounded, kernels) = try run(sample, tensors, .emulated(.nvidia), .bfloat16)
    #expect(plainKernels.contains("attention") && kernels.contains("matrix_attention") && plain != rounded)
  }

  // MARK: Choosing

  /// What no unit reads goes to the plain kernel: other formats, heads at odd places, and those that are too long.
  @Test func whatAUnitCannotReadStaysPlain() throws {
    var traits = try Chip.named("h200").traits
    let short = Self.samples[1]
    func kernel(_ sample: OperationSample, _ format: ComputeFormat) throws -> String? {
      let graph = try sample.graph(sample.draw(seed: 1), constants: false)
      let launches = try PlanOutline(graph, traits: traits, options: .asWritten(computing: format)).launches
      return launches.map(\.kernel.function).first { $0.hasSuffix("attention") }
    }
    #expect(try kernel(short, .float16) == "matrix_attention" && kernel(short, .bfloat16) == "matrix_attention")
    #expect(try kernel(short, .float32) == "attention" && kernel(short, .tf32) == "attention")
    #expect(try kernel(Self.sample(.heads, heads: 1, queries: 9, size: 13), .float16) == "attention")
    #expect(try kernel(Self.sample(.tokens, heads: 1, queries: 9, size: 160), .float16) == "attention")
    // A unit whose products agreed with the host's and whose attention did not.
    traits.matrixUnit = MatrixUnit(.nvidia, formats: [.float16, .bfloat16], attentionFormats: [.bfloat16])
    #expect(try kernel(short, .float16) == "attention" && kernel(short, .bfloat16) == "matrix_attention")
  }

  @Test(arguments: MatrixUnit.Kind.allCases)
  func tilesFitTheLocalMemoryThereIs(_ kind: MatrixUnit.Kind) throws {
    for size in 1...MatrixAttentionTile.largestHeadSize {
      let tile = try #require(MatrixAttentionTile(kind, size: size))
      #expect(tile.head >= size && tile.head - size < 16 && tile.parts * tile.width >= size && tile.width % 16 == 0)
      #expect(tile.localByteCount(kind) <= (kind == .mfma ? 64 : 47) << 10 && tile.itemCount <= 256 && tile.keys % 32 == 0)
    }
    #expect(MatrixAttentionTile(kind, size: 129) == nil && MatrixAttentionTile(kind, size: 0) == nil)
  }
}
