import GraftDevice
import GraftGraph
import Testing

/// A row of the GPU family does not depend on how many images are computed with it: not one bit.
@Suite struct BatchBitsTests {
  /// Planned for as a GPU with 132 multiprocessors, which cuts long sums where a small device would not.
  static let device: OpenCLDevice? = {
    guard let info = (try? OpenCLPlatform.devices())?.first(where: { $0.obstacle == nil }) else { return nil }
    return try? OpenCLDevice(info, family: .gpu, sources: .embedded, cache: ProgramCache(directory: nil), computeUnits: 132)
  }()

  /// Layers with few pixels and many terms, a product of images' rows, one with few outputs, and one of what was computed.
  private func network(_ batch: Int) throws -> Graph {
    var generator = SplitMix(3)
    func constant(_ shape: [Int], _ name: String, in graph: inout Graph) -> ValueID {
      let scale = 1 / Float(shape.dropFirst().reduce(1, *)).squareRoot()
      return graph.addConstant(HostTensor(shape, (0..<shape.reduce(1, *)).map { _ in generator.float() * scale }), name: name)
    }
    var graph = Graph()
    let x = graph.addInput(TensorType([batch, 6, 6, 3]), name: "x")
    let first = try graph.add(Conv2D(padding: Padding2D(1)), [x, constant([64, 3, 3, 3], "w1", in: &graph)], name: "first")
    let deep = try graph.add(
      Conv2D(stride: Pair(2), padding: Padding2D(1)), [first, constant([128, 64, 3, 3], "w2", in: &graph)], name: "deep")
    let point = try graph.add(Conv2D(), [deep, constant([64, 128, 1, 1], "w3", in: &graph)], name: "point")
    let deeper = try graph.add(Conv2D(padding: Padding2D(1), groups: 2), [point, constant([128, 32, 3, 3], "w4", in: &graph)], name: "groups")
    let tokens = try graph.add(Reshape([batch, 9, 128]), [deeper], name: "tokens")
    let scores = try graph.add(MatMul(transposeB: true), [tokens, tokens], name: "scores")
    let mixed = try graph.add(MatMul(), [scores, tokens], name: "mixed")
    let rows = try graph.add(Reshape([batch, 1152]), [mixed], name: "rows")
    let hidden = try graph.add(MatMul(transposeB: true), [rows, constant([96, 1152], "w5", in: &graph)], name: "hidden")
    let narrow = try graph.add(MatMul(transposeB: true), [rows, constant([6, 1152], "w6", in: &graph)], name: "narrow")
    let mean = try graph.add(Reduce(.mean, axes: [1], keepsDimensions: false), [tokens], name: "mean")
    graph.outputs = [hidden, narrow, mean]
    return graph
  }

  private func features(_ batch: Int, _ precision: Precision, tuning: KernelTuning = KernelTuning(), on device: OpenCLDevice) throws -> [[UInt32]] {
    var options = PlanOptions(precision: precision)
    options.tuning = tuning
    let plan = try Plan(try network(batch), device: device, options: options)
    var generator = SplitMix(9)
    try plan.write((0..<batch * 108).map { _ in generator.float() }, to: plan.graph.inputs[0])
    try plan.run()
    return try plan.graph.outputs.map { try plan.read($0).map(\.bitPattern) }
  }

  enum Unit: CaseIterable { case none, emulated }

  @Test(
    .enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"),
    arguments: [(Precision.float32, Unit.none), (.float16, .none), (.float16, .emulated)])
  func rowsAreTheSameBitsInEveryBatch(_ precision: Precision, _ unit: Unit) throws {
    let device = try #require(Self.device)
    try MatrixUnitChoice.$forced.withValue(unit == .emulated ? .emulated(.nvidia) : .off) {
      let splits = try Plan.productChoices(try network(8), device: device, options: PlanOptions(precision: precision)).map(\.kernel.splits)
      #expect(splits.contains { $0 > 1 }, "nothing is cut, so this shows nothing: \(splits)")
      let whole = try features(70, precision, on: device)
      for batch in [1, 3, 8] {
        let part = try features(batch, precision, on: device)
        for (output, (part, whole)) in zip(part, whole).enumerated() {
          #expect(part == Array(whole.prefix(part.count)), "output \(output), batch \(batch)")
        }
      }
    }
  }

  /// The number of cuts is one image's affair; the tile is the batch's.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd")) func cutsAreThoseOfOneImage() throws {
    let device = try #require(Self.device)
    var tiles: Set<String> = []
    let cuts = try [1, 5, 64, 1000].map { batch in
      let choices = try Plan.productChoices(try network(batch), device: device, options: PlanOptions())
      tiles.formUnion(choices.map(\.kernel.name))
      return choices.map(\.kernel.splits)
    }
    #expect(Set(cuts).count == 1 && tiles.count > 2)
  }

  /// Kernels found by tuning at one batch keep every other batch's bits the same, too.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd")) func tunedKernelsServeEveryBatch() throws {
    let device = try #require(Self.device)
    var tuning = KernelTuning()
    for choice in try Plan.productChoices(try network(3), device: device, options: PlanOptions()) where choice.shape.k >= 512 {
      guard case .tiled = choice.kernel else { continue }
      tuning[choice.shape, .float32, unit: nil] = KernelTuning.Entry(
        kernel: .tiled(GEMMTile.candidates[6], splits: 4), imageCount: 3, seconds: 1, defaultSeconds: 2)
    }
    #expect(tuning.entries.count >= 2)
    let whole = try features(8, .float32, tuning: tuning, on: device), part = try features(3, .float32, tuning: tuning, on: device)
    for (part, whole) in zip(part, whole) { #expect(part == Array(whole.prefix(part.count))) }
  }
}
