import CKernels
import Foundation

/// Which matrix unit a device has: found by compiling a small product for each candidate, running it and comparing it with the
/// host's. What a driver's list of extensions says is not asked.
package enum MatrixUnits {
  /// The units worth trying on a device. Foreign assembly is never handed to another vendor's compiler, which may crash on it; of
  /// Intel's GPUs only some have a unit, and the smallest sub-group says which.
  package static func candidates(platform: String, isGPU: Bool, matrixSubGroup: Int?) -> [MatrixUnit.Kind] {
    let name = platform.uppercased()
    if name.contains("NVIDIA") { return [.nvidia, .turing] }
    if name.contains("AMD ACCELERATED") { return [.mfma, .wmma] }
    guard name.contains("INTEL"), isGPU, let matrixSubGroup else { return [] }
    return matrixSubGroup == 8 ? [.xmx8] : matrixSubGroup == 16 ? [.xmx16] : []
  }

  /// What came of looking for one.
  struct Finding {
    var unit: MatrixUnit?
    /// Why candidates or formats cannot be used, and why attention, or its gradients, cannot in formats in which products can.
    var failures: [String] = [], attentionFailures: [String] = [], attentionGradientFailures: [String] = []
  }

  /// - Throws: `DeviceError` if GRAFT_MATRIX_UNIT names what there is not.
  static func find(on device: OpenCLDevice) throws(DeviceError) -> Finding {
    let choice = try MatrixUnitChoice.current(environment: ProcessInfo.processInfo.environment, device: device.info.identifier)
    var kinds = candidates(platform: device.info.platformName, isGPU: device.info.isGPU, matrixSubGroup: device.info.matrixSubGroup)
    switch choice {
    case .auto: break
    case .off: return Finding()
    case .emulated(let kind): return Finding(unit: MatrixUnit(kind, isEmulated: true, formats: kind.formats))
    case .only(let kind): kinds = kinds.filter { $0 == kind }
    }
    var finding = Finding()
    guard !kinds.isEmpty else { return finding }
    // In a context of its own: a kernel that goes wrong on the device may leave its context unusable.
    let probed = try OpenCLDevice(device.info, family: .gpu)
    for kind in kinds {
      let products = tried(kind.formats) {
        "\(kind.name) in \($0)"
      } error: { format in
        (try [false, true].map { try MatrixProbe(kind, format, acrossK: $0).largestError(on: probed) }.reduce(0, max), MatrixProbe.bound)
      }
      finding.failures += products.obstacles
      guard !products.formats.isEmpty else { continue }
      // Of the candidates before it nothing was to be expected.
      finding.failures = products.obstacles
      let attention = tried(products.formats.filter { $0.storage.byteCount == 2 }) {
        "Attention by \(kind.name) in \($0)"
      } error: {
        (try AttentionProbe(kind, $0).largestError(on: probed), AttentionProbe.bound)
      }
      let gradients = tried(attention.formats) {
        "Gradients of attention by \(kind.name) in \($0)"
      } error: {
        (try AttentionGradientProbe(kind, $0).largestError(on: probed), AttentionGradientProbe.bound)
      }
      finding.unit = MatrixUnit(
        kind, formats: products.formats, attentionFormats: attention.formats, attentionGradientFormats: gradients.formats)
      (finding.attentionFailures, finding.attentionGradientFailures) = (attention.obstacles, gradients.obstacles)
      return finding
    }
    return finding
  }

  /// The formats in which a probe agrees with the host, and in words why the others are left out.
  private static func tried(
    _ formats: Set<ComputeFormat>, name: (ComputeFormat) -> String, error: (ComputeFormat) throws -> (found: Double, bound: Double)
  ) -> (formats: Set<ComputeFormat>, obstacles: [String]) {
    var (agreeing, obstacles): (Set<ComputeFormat>, [String]) = ([], [])
    for format in ComputeFormat.allCases where formats.contains(format) {
      do {
        let (found, bound) = try error(format)
        if found <= bound { agreeing.insert(format) } else { obstacles.append("\(name(format)) is off by \(found).") }
      } catch {
        // A compiler's log may be long; its first lines name the instruction.
        obstacles.append("\(name(format)): \(String("\(error)".prefix(400)))")
      }
    }
    return (agreeing, obstacles)
  }
}

/// One product on a matrix unit, small enough for the host: more than a block of every extent, and a part of one, with operands along
/// k, as forward products have them, or across it, as gradients do.
package struct MatrixProbe {
  private let kernel: KernelReference
  private let numbers: ProbeNumbers
  private let itemCount: Int
  private let acrossK: Bool
  private let m = 72, n = 80, k = 104
  /// Every product and sum is a whole number up to 104, which the shorter formats hold: nothing is rounded.
  package static let bound = 0.0

  package init(_ kind: MatrixUnit.Kind, _ format: ComputeFormat, isEmulated: Bool = false, acrossK: Bool = false) {
    self.acrossK = acrossK
    let unit = MatrixUnit(kind, isEmulated: isEmulated, formats: [format])
    // A warp of 8 has registers for 16 × 16 sums, larger ones for 32 × 32.
    let warps = kind.lanes == 8 ? 4 : 2
    let precision = format.storage
    numbers = ProbeNumbers(precision: precision)
    kernel = KernelReference(
      .gpu, file: "matrix_gemm", function: "matrix_gemm",
      options: unit.options + [
        .init("TILE_M", 64), .init("TILE_N", 64), .init("TILE_K", 64 / precision.byteCount), .init("WARPS_M", warps), .init("WARPS_N", warps),
        .init("STAGES", 2), .init("A_ALONG_K", acrossK ? 0 : 1), .init("B_ALONG_K", acrossK ? 0 : 1),
      ], precision: precision)
    itemCount = warps * warps * kind.lanes
  }

  /// - Throws: what compiling and running throw.
  package func largestError(on device: OpenCLDevice) throws -> Double {
    let a = (0..<m * k).map(ProbeNumbers.number), b = (0..<n * k).map { ProbeNumbers.number($0 + 100_003) }
    // a: [m, k] and b: [n, k], or with k before the other extent.
    func laid(_ values: [Float], _ extent: Int) -> [Float] { acrossK ? (0..<values.count).map { values[$0 % extent * k + $0 / extent] } : values }
    let (left, right) = (try numbers.upload(laid(a, m), to: device), try numbers.upload(laid(b, n), to: device))
    let result = BufferSlice(try device.allocate(byteCount: numbers.precision.byteCount * m * n))
    let parameters = GraftGemmParams(
      strideA: 0, strideB: 0, strideY: 0, strideR: 0, batch: 1, m: Int32(m), n: Int32(n), k: Int32(k), lda: Int32(acrossK ? m : k),
      ldb: Int32(acrossK ? n : k), ldy: Int32(n), ldr: 0, transposeA: acrossK ? 1 : 0, transposeB: acrossK ? 0 : 1, rowsPerItem: 0, panelsPerItem: 0,
      epilogue: GraftEpilogue(activation: Int32(GRAFT_ACTIVATION_NONE), alpha: 0, beta: 0, hasBias: 0, hasResidual: 0))
    let groups = (m + 63) / 64 * ((n + 63) / 64)
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
