import Foundation
import GraftDevice
import GraftGraph
import Synchronization
import Testing

/// Kernels found by trying: which may win, where they are kept, and what a plan makes of them.
@Suite(.serialized) struct KernelTunerTests {
  private static let info = (try? OpenCLPlatform.devices())?.first { $0.obstacle == nil }
  private static let device = GPUProductTests.device

  /// A folder that is gone with the object.
  private final class Folder {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent("graft-tuning-\(UUID().uuidString)")
    var environment: [String: String] { ["GRAFT_CACHE": url.path] }
    deinit { try? FileManager.default.removeItem(at: url) }
  }

  private static let weights: HostTensor = {
    var generator = SplitMix(5)
    return HostTensor([40, 24, 3, 3], (0..<40 * 24 * 9).map { _ in generator.float() })
  }()

  /// A convolution with enough terms for two parts of k.
  private func graph(batch: Int = 2) throws -> Graph {
    var graph = Graph()
    let x = graph.addInput(TensorType([batch, 8, 8, 24]), name: "x")
    graph.outputs = [try graph.add(Conv2D(padding: Padding2D(1)), [x, graph.addConstant(Self.weights, name: "w")], name: "conv")]
    return graph
  }

  private func result(_ options: PlanOptions, on device: any Device) throws -> [UInt32] {
    let plan = try Plan(try graph(), device: device, options: options)
    var generator = SplitMix(6)
    try plan.write((0..<2 * 64 * 24).map { _ in generator.float() }, to: plan.graph.inputs[0])
    try plan.run()
    return try plan.read(plan.graph.outputs[0]).map(\.bitPattern)
  }

  private func choice(on device: any Device, _ options: PlanOptions = PlanOptions()) throws -> ProductChoice {
    try #require(try Plan.productChoices(try graph(), device: device, options: options).first)
  }

  private func entry(_ kernel: ProductKernel, images: Int = 2) -> KernelTuning.Entry {
    KernelTuning.Entry(kernel: kernel, imageCount: images, seconds: 1e-6, defaultSeconds: 2e-6)
  }

  // MARK: What a plan makes of it

  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd")) func aPlanUsesWhatWasFound() throws {
    let device = try #require(Self.device)
    let kernel = ProductKernel.tiled(GEMMTile.candidates[3], splits: 1)
    let split = try #require(
      [2, 1].lazy.map { ProductKernel.tiled(GEMMTile.candidates[0], splits: $0) }.first { $0 != (try? choice(on: device).kernel) })
    for kernel in [kernel, split] {
      var options = PlanOptions(), tuning = KernelTuning()
      tuning[try choice(on: device).shape, .float32, unit: nil] = entry(kernel)
      options.tuning = tuning
      #expect(try choice(on: device, options).kernel == kernel)
      let forced = try ProductKernel.$forced.withValue(kernel) { try result(PlanOptions(), on: device) }
      #expect(try result(options, on: device) == forced)
      // Of another format, unit or batch: nothing of it, or its cuts only.
      options.precision = .float16
      let plain = try MatrixUnitChoice.$forced.withValue(.off) { try choice(on: device, options).kernel }
      options.tuning = KernelTuning()
      #expect(try MatrixUnitChoice.$forced.withValue(.off) { try choice(on: device, options).kernel } == plain)
    }
  }

  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"))
  func aMatrixUnitUsesWhatWasFound() throws {
    let device = try #require(Self.device)
    try MatrixUnitChoice.$forced.withValue(.emulated(.nvidia)) {
      var options = PlanOptions(precision: .float16), tuning = KernelTuning()
      options.tuning = tuning
      let known = try choice(on: device, options)
      let kernel = ProductKernel.matrix(MatrixTile(32, 32), splits: 1)
      #expect(known.kernel != kernel)
      tuning[known.shape, .float16, unit: MatrixUnit(.nvidia, isEmulated: true, formats: [])] = entry(kernel)
      // The plain kernels' entry is another one.
      tuning[known.shape, .float16, unit: nil] = entry(.tiled(GEMMTile.candidates[0], splits: 1))
      options.tuning = tuning
      #expect(try choice(on: device, options).kernel == kernel)
    }
  }

  // MARK: Trying

  private func tune(on device: any Device, _ folder: Folder, seconds: Double = 60, isCancelled: () -> Bool = { false }) throws
    -> (outcome: KernelTuner.Outcome, tuning: KernelTuning)
  {
    let tuner = KernelTuner(device: device, options: PlanOptions(), seconds: seconds, environment: folder.environment)
    let outcome = try tuner.tune(try graph(), isCancelled: isCancelled)
    return (outcome, try KernelTuningFile(for: device, folder: folder.url.appendingPathComponent("tuning")).load())
  }

  /// A kernel that is wrong with one tile only: as the default, and as one of the others.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: [true, false])
  func aWrongKernelNeverWins(_ isDefault: Bool) throws {
    let (device, info, folder) = (try #require(Self.device), try #require(Self.info), Folder())
    let chosen = try choice(on: device).kernel
    let standard = try #require(GEMMTile.candidates.first { chosen == .tiled($0, splits: chosen.splits) })
    let wrong = isDefault ? standard : try #require(GEMMTile.candidates.last { $0 != standard })
    let text = try #require(KernelSources.embedded.text("gpu/tile.h"))
    let broken = text.replacing("sums[i][j] = 0.0f", with: "sums[i][j] = TILE_M == \(wrong.tileM) && TILE_N == \(wrong.tileN)")
    #expect(broken != text)
    let sources = KernelSources.embedded.adding("gpu/tile.h", broken)
    let sick = try OpenCLDevice(info, family: .gpu, sources: sources, cache: ProgramCache(directory: nil))
    let (outcome, tuning) = try tune(on: sick, folder)
    let found = try #require(outcome.results.first)
    let name = ProductKernel.tiled(wrong, splits: 1).name
    #expect(found.triedCount > 1 && found.excluded.contains { $0.hasPrefix(name) && $0.contains("off by") }, "\(found)")
    #expect(!found.kernel.hasPrefix(name) && !tuning.entries.values.contains { $0.kernel.name == name })
    if isDefault { #expect(tuning.entries.count == 1) }
  }

  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd")) func theTimeIsKeptAndSoIsWhatWasFound() throws {
    let (device, folder) = (try #require(Self.device), Folder())
    let none = try tune(on: device, folder, seconds: 1e-9)
    #expect(none.outcome.results.isEmpty && none.outcome.shapeCount == 1 && none.tuning.entries.isEmpty)
    let stopped = try tune(on: device, folder, isCancelled: { true })
    #expect(stopped.outcome.results.isEmpty)
    // An entry of something else stays where a shape is tuned.
    let file = KernelTuningFile(for: device, folder: folder.url.appendingPathComponent("tuning"))
    var other = try choice(on: device).shape
    other.n = 7
    var known = KernelTuning()
    known[other, .float32, unit: nil] = entry(.skinny(splits: 2))
    try file.save(known)
    let done = try tune(on: device, folder)
    #expect(done.outcome.results.count == 1 && done.tuning[other, .float32, unit: nil] == entry(.skinny(splits: 2)))
    #expect(done.outcome.path == file.path && done.outcome.results[0].seconds > 0)
  }

  /// A search that is cut short keeps what an earlier one found.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd")) func aShortSearchLosesNothing() throws {
    let (device, folder) = (try #require(Self.device), Folder())
    let file = KernelTuningFile(for: device, folder: folder.url.appendingPathComponent("tuning"))
    let shape = try choice(on: device).shape
    // A tile that is no candidate, or not reached, and is said to be fast.
    let best = entry(.tiled(try #require(GEMMTile.candidates.last), splits: 128))
    var known = KernelTuning()
    known[shape, .float32, unit: nil] = best
    try file.save(known)
    // Asked once before the shape and then before each candidate.
    for candidates in 0..<3 {
      var count = 0
      let cut = try tune(on: device, folder) {
        count += 1
        return count > 1 + candidates
      }
      #expect(cut.outcome.results.count == 1 && cut.tuning[shape, .float32, unit: nil] == best)
    }
    #expect(try tune(on: device, folder).tuning[shape, .float32, unit: nil] != best)
  }

  // MARK: The file

  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd")) func whatIsStoredIsFoundAgain() throws {
    let (device, folder) = (try #require(Self.device), Folder())
    let file = KernelTuningFile(for: device, folder: folder.url.appendingPathComponent("tuning"))
    #expect(try file.load() == KernelTuning())
    var tuning = KernelTuning()
    let kernels = GEMMTile.candidates.map { ProductKernel.tiled($0, splits: 2) } + [.skinny(splits: 4)]
    let matrix = Set(MatrixTile.all).map { ProductKernel.matrix($0, splits: 8) }
    for (index, kernel) in (kernels + matrix).enumerated() {
      let shape = ProductShape(kind: .product, m: index + 1, n: 3, k: 5, count: 1, images: .matrices)
      tuning[shape, .bfloat16, unit: MatrixUnit(.wmma, formats: [])] = entry(kernel)
    }
    try file.save(tuning)
    let found = try file.load()
    #expect(found.entries.mapValues(\.kernel) == tuning.entries.mapValues(\.kernel))
    #expect(KernelTuning.stored(for: device, environment: folder.environment).entries.count == tuning.entries.count)
    #expect(KernelTuning.stored(for: device, environment: folder.environment.merging(["GRAFT_TUNING": "off"]) { $1 }).entries.isEmpty)
  }

  /// Every name is one kernel's.
  @Test func namesAreDistinct() {
    var kernels: [ProductKernel] = []
    for tile in GEMMTile.candidates { kernels += [.tiled(tile, splits: 1), .winograd(outputs: 4, tile), .winograd(outputs: 2, tile)] }
    kernels += Set(MatrixTile.all).map { .matrix($0, splits: 1) }
    for kernel in kernels { #expect(ProductKernel(name: kernel.name, splits: 1) == kernel) }
    #expect(Set(kernels.map(\.name)).count == kernels.count)
    #expect(ProductKernel(name: "tile 3x3x3", splits: 1) == nil && ProductKernel(name: "skinny", splits: 129) == nil)
  }

  static let damages: [(what: String, find: String, replace: String)] = [
    ("damaged", "\"entries\"", "\"entry\""), ("damaged", "{", ""), ("format 2", "\"format\" : 1", "\"format\" : 2"),
    ("another device", "\"device\" : \"", "\"device\" : \"Other "), ("another driver", "\"driver\" : \"", "\"driver\" : \"Newer "),
    ("another device", "\"platform\" : \"", "\"platform\" : \"Newer "), ("another version", "\"kernels\" : \"", "\"kernels\" : \"0"),
    ("a kernel that there is not", "tile 64x64x16", "tile 64x65x16"), ("a kernel that there is not", "\"splits\" : 1", "\"splits\" : 0"),
    ("a kernel that there is not", "\"splits\" : 1", "\"splits\" : 256"), ("damaged", "\"splits\" : 1", "\"splits\" : 1e300"),
    ("a kernel that there is not", "\"images\" : 2", "\"images\" : -2"), ("damaged", "\"images\" : 2", "\"images\" : 99999999999999999999"),
  ]

  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd"), arguments: damages)
  func anUnusableFileIsIgnoredWithOneNote(_ damage: (what: String, find: String, replace: String)) throws {
    let (device, folder) = (try #require(Self.device), Folder())
    let file = KernelTuningFile(for: device, folder: folder.url.appendingPathComponent("tuning"))
    var tuning = KernelTuning()
    tuning[try choice(on: device).shape, .float32, unit: nil] = entry(.tiled(GEMMTile.candidates[2], splits: 1))
    try file.save(tuning)
    let text = try String(contentsOfFile: file.path, encoding: .utf8)
    let range = try #require(text.range(of: damage.find))
    try text.replacingCharacters(in: range, with: damage.replace).write(toFile: file.path, atomically: false, encoding: .utf8)
    let notes = Notes()
    DeviceNotes.setHandler { notes.add($0) }
    for _ in 0..<3 { #expect(KernelTuning.stored(for: device, environment: folder.environment).entries.isEmpty) }
    let mine = notes.all.filter { $0.contains(file.path) }
    #expect(mine.count == 1 && mine.first?.contains(damage.what) == true, "\(mine)")
    // The next tuning replaces it.
    try file.save(tuning)
    #expect(KernelTuning.stored(for: device, environment: folder.environment) == (try file.load()))
  }

  private final class Notes: Sendable {
    private let notes = Mutex<[String]>([])
    func add(_ note: String) { notes.withLock { $0.append(note) } }
    var all: [String] { notes.withLock { $0 } }
  }

  /// Winograd's transforms are tried, checked and stored like a tile, and serve every batch; a tile that was found keeps them away.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd")) func transformsAreACandidate() throws {
    let (device, folder) = (try #require(Self.device), Folder())
    let transforms = ProductKernel.winograd(outputs: 2, GEMMTile.candidates[5])
    var options = PlanOptions(), tuning = KernelTuning()
    for (kernel, images) in [(transforms, 2), (transforms, 64), (.tiled(GEMMTile.candidates[5], splits: 1), 2)] {
      tuning[try choice(on: device).shape, .float32, unit: nil] = entry(kernel, images: images)
      options.tuning = tuning
      let found = try choice(on: device, options).kernel
      switch (kernel, found) {
      // Of another batch: the transforms, by the tile that suits this one.
      case (.winograd(let outputs, let tile), .winograd(let foundOutputs, let foundTile)):
        #expect(outputs == foundOutputs && (tile == foundTile) == (images == 2))
      default: #expect(found == kernel)
      }
      options.usesWinograd = false
      if case .winograd = try choice(on: device, options).kernel { Issue.record("the option is overruled by \(kernel)") }
      options.usesWinograd = true
    }
    // Transforms that are wrong, while the direct convolution is right.
    let info = try #require(Self.info), text = try #require(KernelSources.embedded.text("gpu/winograd.cl"))
    let broken = text.replacing("value = t[j] + added", with: "value = t[j] + added + 1.0f")
    #expect(broken != text)
    let sources = KernelSources.embedded.adding("gpu/winograd.cl", broken)
    let sick = try OpenCLDevice(info, family: .gpu, sources: sources, cache: ProgramCache(directory: nil))
    let (outcome, stored) = try tune(on: sick, folder)
    let found = try #require(outcome.results.first)
    #expect(found.excluded.contains { $0.hasPrefix("winograd 4x4") } && found.excluded.contains { $0.hasPrefix("winograd 2x2") }, "\(found)")
    #expect(!found.kernel.hasPrefix("winograd") && stored.entries.values.allSatisfy { !$0.kernel.name.hasPrefix("winograd") })
  }

  /// A convolution's way back: with respect to its image and its weights.
  private func gradients() throws -> Graph {
    var graph = Graph()
    let x = graph.addVariable(TensorType([4, 16, 16, 24]), name: "x"), w = graph.addVariable(TensorType([40, 24, 3, 3]), name: "w")
    let y = try graph.add(Conv2D(padding: Padding2D(1)), [x, w], name: "conv")
    let seed = graph.addInput(graph.type(of: y), name: "dy")
    graph.outputs = try graph.addGradients(of: y, seed: seed, withRespectTo: [x, w]).compactMap { $0 }
    return graph
  }

  private func weights(on device: any Device, _ options: PlanOptions) throws -> ProductChoice {
    try #require(try Plan.productChoices(try gradients(), device: device, options: options).first { $0.shape.kind == .weights })
  }

  /// Both gradients of a convolution are shapes of their own, and a plan uses what was found for them.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd")) func gradientsAreTuned() throws {
    let (device, folder) = (try #require(Self.device), Folder())
    var options = PlanOptions()
    options.imageCount = 4
    let known = try weights(on: device, options)
    #expect(known.shape.m == 40 && known.shape.n == 9 * 24 && known.shape.k == 4 * 256 && known.shape.images == .none)
    let kernel = ProductKernel.tiled(GEMMTile.candidates[0], splits: known.kernel == .tiled(GEMMTile.candidates[0], splits: 4) ? 2 : 4)
    var tuning = KernelTuning()
    tuning[known.shape, .float32, unit: nil] = entry(kernel, images: 4)
    options.tuning = tuning
    #expect(try weights(on: device, options).kernel == kernel)
    // On a matrix unit, in as many parts as fill the device.
    try MatrixUnitChoice.$forced.withValue(.emulated(.nvidia)) {
      options.precision = .float16
      let matrix = ProductKernel.matrix(MatrixTile(32, 32), splits: 3)
      let unit = MatrixUnit(.nvidia, isEmulated: true, formats: [])
      let shape = try weights(on: device, options).shape
      tuning[shape, .float16, unit: unit] = entry(matrix, images: 4)
      options.tuning = tuning
      #expect(try weights(on: device, options).kernel == matrix)
      tuning[shape, .float16, unit: unit] = entry(.matrix(MatrixTile(32, 32), splits: 100), images: 4)
      options.tuning = tuning
      #expect(try weights(on: device, options).kernel != .matrix(MatrixTile(32, 32), splits: 100))
    }

    // Trying: a tile that is wrong is found out for the weights' gradient too.
    let info = try #require(Self.info), text = try #require(KernelSources.embedded.text("gpu/tile.h"))
    let standard = known.kernel, wrong = try #require(GEMMTile.candidates.last { standard != .tiled($0, splits: standard.splits) })
    let broken = text.replacing("sums[i][j] = 0.0f", with: "sums[i][j] = TILE_M == \(wrong.tileM) && TILE_N == \(wrong.tileN)")
    let sick = try OpenCLDevice(
      info, family: .gpu, sources: KernelSources.embedded.adding("gpu/tile.h", broken), cache: ProgramCache(directory: nil))
    var plain = PlanOptions()
    (plain.imageCount, plain.usesWinograd) = (4, false)
    let outcome = try KernelTuner(device: sick, options: plain, seconds: 60, environment: folder.environment).tune(try gradients())
    #expect(outcome.results.count == outcome.shapeCount && outcome.shapeCount == 2)
    // The way back to the image has weights that vary: its kernels are found apart from a frozen network's.
    #expect(outcome.results.contains { $0.shape.hasPrefix("convolution 256x24x360 an image") && $0.shape.hasSuffix("weights vary") })
    let found = try #require(outcome.results.first { $0.shape.hasPrefix("weights 40x216x1024 kernel 3x3") })
    let name = ProductKernel.tiled(wrong, splits: 1).name
    #expect(found.failure == nil && found.triedCount > 1 && !found.kernel.hasPrefix(name), "\(found)")
    #expect(found.excluded.contains { $0.hasPrefix(name) && $0.contains("off by") }, "\(found)")
  }

  /// Cuts that a shape does not have are not taken from a file.
  @Test(.enabled(if: device != nil, "no OpenCL device: install pocl-opencl-icd")) func impossibleCutsAreIgnored() throws {
    let device = try #require(Self.device)
    var options = PlanOptions(), tuning = KernelTuning()
    let known = try choice(on: device)
    for kernel in [ProductKernel.tiled(GEMMTile.candidates[2], splits: 32), .tiled(GEMMTile.candidates[2], splits: 3), .skinny(splits: 2)] {
      tuning[known.shape, .float32, unit: nil] = entry(kernel)
      options.tuning = tuning
      #expect(try choice(on: device, options).kernel == known.kernel)
    }
  }
}
