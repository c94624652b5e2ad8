import GraftDevice
import GraftGraph
import OperationSamples
import Testing

/// Tiles and splits of the GPU family: every one against the reference, and which is chosen when.
@Suite struct GPUProductTests {
  /// An OpenCL device that runs the GPU family: a GPU where there is one, else PoCL.
  static let device: (any Device)? = {
    guard let info = (try? OpenCLPlatform.devices())?.first(where: { $0.obstacle == nil }) else { return nil }
    return try? OpenCLDevice(info, family: .gpu)
  }()

  /// Runs one operation with a kernel forced, all inputs but the first constant.
  private func run(_ sample: OperationSample, _ tensors: [HostTensor], _ kernel: ProductKernel, on device: any Device) throws -> [Float] {
    let graph = try sample.graph(tensors, constants: true)
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
      let found = try run(sample, tensors, kernel, on: device)
      let error = sample.largestError(found, expected)
      #expect(error <= bound, "\(kernel): largest error \(error), bound \(bound)")
    }
  }

  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: ProductSamples.products)
  func everyTileMultiplies(_ sample: OperationSample) throws { try check(sample, ProductSamples.kernels) }

  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: ProductSamples.skinny)
  func skinnyProducts(_ sample: OperationSample) throws { try check(sample, [.skinny(splits: 1), .skinny(splits: 4)]) }

  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: ProductSamples.convolutions)
  func everyTileConvolves(_ sample: OperationSample) throws { try check(sample, ProductSamples.kernels) }

  // MARK: Choosing

  private func traits(computeUnits: Int = 132, workGroup: Int = 1024, localByteCount: Int = 47 << 10) -> DeviceTraits {
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
