import CKernels
import Foundation

/// Which matrix unit a device has: found by compiling a small product for each candidate, running it and comparing it with the
/// host's. What a driver's list of extensions says is not asked.
package enum MatrixUnits {
  /// The units worth trying on a device. Foreign assembly is never handed to another vendor's compiler, which may crash on it; of
  /// Intel's GPUs only some have a unit, and the smallest sub-group says which; of NVIDIA's one generation multiplies by groups of warps.
  package static func candidates(platform: String, isGPU: Bool, matrixSubGroup: Int?, computeCapability: Int?) -> [MatrixUnit.Kind] {
    let name = platform.uppercased()
    if name.contains("NVIDIA") { return (computeCapability == 9 ? [.hopper] : []) + [.nvidia, .turing] }
    if name.contains("AMD ACCELERATED") { return [.mfma, .wmma] }
    guard name.contains("INTEL"), isGPU, let matrixSubGroup else { return [] }
    return matrixSubGroup == 8 ? [.xmx8] : matrixSubGroup == 16 ? [.xmx16] : []
  }

  /// What came of looking for one.
  package struct Finding: Codable, Equatable {
    package var unit: MatrixUnit?
    /// Why candidates or formats cannot be used, and why attention, or its gradients, cannot in formats in which products can.
    package var failures: [String] = [], attentionFailures: [String] = [], attentionGradientFailures: [String] = []
    /// Why groups of warps cannot multiply together where they should.
    package var groupFailures: [String] = []
    /// Whether something failed that need not fail the next time: memory that another program holds, say.
    package var mayPass = false
  }

  /// How often a candidate may end the process that tries it.
  private static let mostUnfinishedTrials = 2
  /// How long a device may take before one is told what it is at.
  private static let patienceSeconds = 30.0

  /// - Parameter again: whether to try although it is known what came of it the last time.
  /// - Throws: `DeviceError` if GRAFT_MATRIX_UNIT names what there is not.
  static func find(on device: OpenCLDevice, again: Bool = false) throws(DeviceError) -> Finding {
    let environment = ProcessInfo.processInfo.environment
    let choice = try MatrixUnitChoice.current(environment: environment, device: device.info.identifier)
    let info = device.info
    let kinds = candidates(
      platform: info.platformName, isGPU: info.isGPU, matrixSubGroup: info.matrixSubGroup, computeCapability: info.computeCapability)
    switch choice {
    case .auto: break
    case .off: return Finding()
    case .emulated(let kind): return Finding(unit: MatrixUnit(kind, isEmulated: true, formats: kind.formats))
    case .only(let kind): return try look(for: kinds.filter { $0 == kind }, on: info, journal: nil)
    }
    guard !kinds.isEmpty else { return Finding() }
    let record = MatrixUnitRecord(info, environment: environment)
    if !again, let known = record.load() { return known }
    let finding = try look(for: kinds, on: info, journal: TrialJournal(environment: environment))
    if !finding.mayPass { record.store(finding) }
    return finding
  }

  /// What a trial is called in the journal.
  package static func trial(_ kind: MatrixUnit.Kind, on info: OpenCLDeviceInfo) -> [String] { MatrixUnitRecord.key(info) + ["matrix unit \(kind)"] }

  /// The first of some units that is there.
  ///
  /// - Parameter isEmulated: in plain OpenCL C, for tests.
  package static func look(
    for kinds: [MatrixUnit.Kind], on info: OpenCLDeviceInfo, journal: TrialJournal?, isEmulated: Bool = false
  ) throws(DeviceError) -> Finding {
    var finding = Finding(), passedOver: [String] = []
    for kind in kinds {
      let trial = trial(kind, on: info)
      if let journal, journal.unfinishedCount(trial) >= mostUnfinishedTrials {
        let obstacle =
          "\(kind.name) is not tried: graft ended \(mostUnfinishedTrials) times while it was. Remove \(journal.path(trial)) to have it tried again."
        if kind == .hopper { finding.groupFailures = [obstacle] } else { passedOver.append(obstacle) }
        continue
      }
      let found: Finding
      do {
        let told = noteIfSlow("\(info.identifier) \(info.name) has been trying \(kind.name) for \(Int(patienceSeconds)) s.")
        defer { told.cancel() }
        let body = { try look(for: kind, on: info, isEmulated: isEmulated) }
        found = try journal?.trying(trial, body) ?? body()
      } catch let error as DeviceError {
        throw error
      } catch {
        throw DeviceError(device: info.identifier, call: "try \(kind.name)", name: "\(error)", remedy: "Use --precision float32, and report this.")
      }
      finding.mayPass = finding.mayPass || found.mayPass
      if kind == .hopper, found.unit?.formats != kind.formats {
        finding.groupFailures = found.failures
        continue
      }
      finding.failures += found.failures
      guard found.unit != nil else { continue }
      // Of the candidates before it that were tried nothing was to be expected.
      finding.failures = passedOver + found.failures
      (finding.unit, finding.attentionFailures) = (found.unit, found.attentionFailures)
      finding.attentionGradientFailures = found.attentionGradientFailures
      return finding
    }
    finding.failures = passedOver + finding.failures
    return finding
  }

  private static func noteIfSlow(_ text: String) -> DispatchWorkItem {
    let item = DispatchWorkItem {
      DeviceNotes.note("\(text) If it does not end, stop graft with Ctrl-C; what is stopped so twice is not tried again.")
    }
    DispatchQueue.global().asyncAfter(deadline: .now() + patienceSeconds, execute: item)
    return item
  }

  private static func look(for kind: MatrixUnit.Kind, on info: OpenCLDeviceInfo, isEmulated: Bool) throws(DeviceError) -> Finding {
    var finding = Finding()
    // In a context of its own: a kernel that goes wrong on the device may leave its context unusable, and then the next has another.
    var probed = try OpenCLDevice(info, family: .gpu)
    // Side by side; what cannot be built is said by the probe itself.
    func build(_ formats: Set<ComputeFormat>, _ probes: (ComputeFormat) -> [any UnitProbe]) {
      try? probed.build(formats.flatMap(probes).flatMap(\.kernels))
    }
    func agree(_ formats: Set<ComputeFormat>, _ what: String, _ probes: (ComputeFormat) -> [any UnitProbe]) throws(DeviceError) -> (
      formats: Set<ComputeFormat>, obstacles: [String]
    ) {
      var (agreeing, obstacles): (Set<ComputeFormat>, [String]) = ([], [])
      for format in ComputeFormat.allCases where formats.contains(format) {
        do {
          var worst = 0.0, bound = 0.0
          for probe in probes(format) {
            let error = try probe.largestError(on: probed)
            if error > probe.bound { (worst, bound) = (max(worst, error), probe.bound) }
          }
          if worst <= bound { agreeing.insert(format) } else { obstacles.append("\(what) in \(format) is off by \(worst).") }
        } catch {
          // A compiler's log may be long; its first lines name the instruction.
          obstacles.append("\(what) in \(format): \(String("\(error)".prefix(400)))")
          if !(error is BuildError) {
            finding.mayPass = true
            probed = try OpenCLDevice(info, family: .gpu)
          }
        }
      }
      return (agreeing, obstacles)
    }
    let products: (ComputeFormat) -> [any UnitProbe] = { MatrixProbe.all(kind, $0, isEmulated: isEmulated) }
    let attention = { AttentionProbe(kind, $0, isEmulated: isEmulated) }, gradients = { AttentionGradientProbe(kind, $0, isEmulated: isEmulated) }
    build(kind.formats, products)
    let multiplied = try agree(kind.formats, kind.name, products)
    finding.failures = multiplied.obstacles
    guard !multiplied.formats.isEmpty else { return finding }
    let short = multiplied.formats.filter { $0.storage.byteCount == 2 }
    build(short) { [attention($0), gradients($0)] }
    let attended = try agree(short, "Attention by \(kind.name)") { [attention($0)] }
    let wentBack = try agree(attended.formats, "Gradients of attention by \(kind.name)") { [gradients($0)] }
    var unit = MatrixUnit(
      kind, isEmulated: isEmulated, formats: multiplied.formats, attentionFormats: attended.formats, attentionGradientFormats: wentBack.formats)
    (finding.attentionFailures, finding.attentionGradientFailures) = (attended.obstacles, wentBack.obstacles)
    if multiplied.formats.contains(.float16) {
      let small = MatrixProbe(kind, .float16, isEmulated: isEmulated, scale: MatrixProbe.subnormal)
      unit.flushesSubnormals = (try? small.largestError(on: probed)) != 0
    }
    finding.unit = unit
    return finding
  }
}

/// A small computation on a matrix unit, which the host compares with its own.
protocol UnitProbe {
  /// What it may be off by.
  var bound: Double { get }
  var kernels: [KernelReference] { get }
  /// - Throws: what compiling and running throw.
  func largestError(on device: OpenCLDevice) throws -> Double
}

/// What came of looking for a device's matrix unit, kept for the driver and the kernels it holds for: trying compiles a score of
/// programs. `graft devices` tries again.
struct MatrixUnitRecord {
  private let url: URL

  init(_ info: OpenCLDeviceInfo, environment: [String: String]) {
    url = CacheFolder.url("units", environment: environment).appendingPathComponent(ProgramCache.key(Self.key(info)) + ".json", isDirectory: false)
  }

  /// What a finding holds for; the first changes with what is tried.
  static func key(_ info: OpenCLDeviceInfo) -> [String] {
    ["matrix unit 1", PTXText.revision, info.name, info.vendor, info.driver, info.version, info.platformName, info.platformVersion, kernels]
  }
  private static let kernels = KernelSources.embedded.digest(of: ["common", "gpu"])

  /// `nil` for one that is not there or cannot be read.
  func load() -> MatrixUnits.Finding? {
    (try? Data(contentsOf: url)).flatMap { try? JSONDecoder().decode(MatrixUnits.Finding.self, from: $0) }
  }

  /// Where it cannot be written, the next start tries again.
  func store(_ finding: MatrixUnits.Finding) {
    guard let data = try? JSONEncoder().encode(finding) else { return }
    try? AtomicFile.makeDirectory(url.deletingLastPathComponent().path)
    try? AtomicFile.write([UInt8](data), to: url.path)
  }
}

/// One product on a matrix unit, small enough for the host: more than a block of every extent, and a part of one, with operands along
/// k, as forward products have them, or across it, as gradients do.
package struct MatrixProbe: UnitProbe {
  private let kernel: KernelReference
  var kernels: [KernelReference] { [kernel] }
  private let numbers: ProbeNumbers
  private let itemCount: Int
  private let acrossK: Bool
  private let scale: Float
  private let extent: Int
  private let m = 72, n = 80, k = 104
  /// Every product and sum is a whole number up to 104, which the shorter formats hold: nothing is rounded.
  package static let bound = 0.0
  var bound: Double { Self.bound }

  /// Those of a unit: with operands along k and across it, and by groups of warps too where it has them.
  package static func all(_ kind: MatrixUnit.Kind, _ format: ComputeFormat, isEmulated: Bool = false) -> [MatrixProbe] {
    (kind == .hopper && format.storage.byteCount == 2 ? [false, true] : [false]).flatMap { byGroups in
      [false, true].map { MatrixProbe(kind, format, isEmulated: isEmulated, byGroups: byGroups, acrossK: $0) }
    }
  }

  /// A number that float16 has fewer bits for.
  package static let subnormal: Float = 0x1p-20

  /// - Parameter scale: what the numbers of one factor are multiples of, in float16 1 or `subnormal`.
  package init(
    _ kind: MatrixUnit.Kind, _ format: ComputeFormat, isEmulated: Bool = false, byGroups: Bool = false, acrossK: Bool = false, scale: Float = 1
  ) {
    (self.acrossK, self.scale) = (acrossK, scale)
    let unit = MatrixUnit(kind, isEmulated: isEmulated, formats: [format])
    // A warp of 8 has registers for 16 × 16 sums, larger ones for 32 × 32. Groups of four have whole rows, of several panels.
    extent = byGroups ? 128 : 64
    let warps: (m: Int, n: Int) = byGroups ? (8, 1) : kind.lanes == 8 ? (4, 4) : (2, 2)
    let precision = format.storage
    numbers = ProbeNumbers(precision: precision)
    kernel = KernelReference(
      .gpu, file: "matrix_gemm", function: "matrix_gemm",
      options: unit.options(byGroups: byGroups) + [
        .init("TILE_M", extent), .init("TILE_N", extent), .init("TILE_K", 64 / precision.byteCount), .init("WARPS_M", warps.m),
        .init("WARPS_N", warps.n), .init("STAGES", 2), .init("A_ALONG_K", acrossK ? 0 : 1), .init("B_ALONG_K", acrossK ? 0 : 1),
      ], precision: precision)
    itemCount = warps.m * warps.n * kind.lanes
  }

  /// - Throws: what compiling and running throw.
  package func largestError(on device: OpenCLDevice) throws -> Double {
    let a = (0..<m * k).map { scale * ProbeNumbers.number($0) }, b = (0..<n * k).map { ProbeNumbers.number($0 + 100_003) }
    // a: [m, k] and b: [n, k], or with k before the other extent.
    func laid(_ values: [Float], _ extent: Int) -> [Float] { acrossK ? (0..<values.count).map { values[$0 % extent * k + $0 / extent] } : values }
    let (left, right) = (try numbers.upload(laid(a, m), to: device), try numbers.upload(laid(b, n), to: device))
    let result = BufferSlice(try device.allocate(byteCount: numbers.precision.byteCount * m * n))
    let parameters = GraftGemmParams(
      strideA: 0, strideB: 0, strideY: 0, strideR: 0, batch: 1, m: Int32(m), n: Int32(n), k: Int32(k), lda: Int32(acrossK ? m : k),
      ldb: Int32(acrossK ? n : k), ldy: Int32(n), ldr: 0, transposeA: acrossK ? 1 : 0, transposeB: acrossK ? 0 : 1, rowsPerItem: 0, panelsPerItem: 0,
      epilogue: GraftEpilogue(activation: Int32(GRAFT_ACTIVATION_NONE), alpha: 0, beta: 0, hasBias: 0, hasResidual: 0))
    let groups = (m + extent - 1) / extent * ((n + extent - 1) / extent)
    let launch = Launch(
      kernel, buffers: [left, right, nil, nil, result], parameters: Launch.bytes(of: parameters),
      grid: Grid(groups * itemCount, workGroup: (itemCount, 1, 1)), label: "matrix unit")
    try device.prepare([launch]).enqueue()
    let found = try numbers.download(result, count: m * n, from: device)
    var worst = 0.0
    for i in 0..<m {
      for j in 0..<n {
        var sum: Float = 0
        for t in 0..<k { sum += a[i * k + t] * b[j * k + t] }
        let error = abs(Double(found[i * n + j]) - Double(sum))
        worst = error.isNaN ? .infinity : max(worst, error)
      }
    }
    return worst
  }
}
