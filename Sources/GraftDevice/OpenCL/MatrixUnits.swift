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

  /// - Returns: the unit, and what came of the candidates or formats that cannot be used.
  /// - Throws: `DeviceError` if GRAFT_MATRIX_UNIT names what there is not.
  static func find(on device: OpenCLDevice) throws(DeviceError) -> (unit: MatrixUnit?, failures: [String]) {
    let choice = try MatrixUnitChoice.current(environment: ProcessInfo.processInfo.environment, device: device.info.identifier)
    var kinds = candidates(platform: device.info.platformName, isGPU: device.info.isGPU, matrixSubGroup: device.info.matrixSubGroup)
    switch choice {
    case .auto: break
    case .off: return (nil, [])
    case .emulated(let kind): return (MatrixUnit(kind, isEmulated: true, formats: kind.formats), [])
    case .only(let kind): kinds = kinds.filter { $0 == kind }
    }
    var failures: [String] = []
    guard !kinds.isEmpty else { return (nil, []) }
    // In a context of its own: a kernel that goes wrong on the device may leave its context unusable.
    let probed = try OpenCLDevice(device.info, family: .gpu)
    for kind in kinds {
      var formats: Set<ComputeFormat> = []
      var obstacles: [String] = []
      for format in ComputeFormat.allCases where kind.formats.contains(format) {
        do {
          let error = try [false, true].map { try MatrixProbe(kind, format, acrossK: $0).largestError(on: probed) }.reduce(0, max)
          if error <= MatrixProbe.bound { formats.insert(format) } else { obstacles.append("\(kind.name) in \(format) is off by \(error).") }
        } catch {
          // A compiler's log may be long; its first lines name the instruction.
          obstacles.append("\(kind.name) in \(format): \(String("\(error)".prefix(400)))")
        }
      }
      if !formats.isEmpty { return (MatrixUnit(kind, formats: formats), obstacles) }
      failures += obstacles
    }
    return (nil, failures)
  }
}

/// One product on a matrix unit, small enough for the host: more than a block of every extent, and a part of one, with operands along
/// k, as forward products have them, or across it, as gradients do.
package struct MatrixProbe {
  private let kernel: KernelReference
  private let precision: Precision
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
    precision = format.storage
    kernel = KernelReference(
      .gpu, file: "matrix_gemm", function: "matrix_gemm",
      options: unit.options + [
        .init("TILE_M", 64), .init("TILE_N", 64), .init("TILE_K", 64 / precision.byteCount), .init("WARPS_M", warps), .init("WARPS_N", warps),
        .init("STAGES", 2), .init("A_ALONG_K", acrossK ? 0 : 1), .init("B_ALONG_K", acrossK ? 0 : 1),
      ], precision: precision)
    itemCount = warps * warps * kind.lanes
  }

  /// −1, 0 or 1, without a pattern that a mistaken layout would share.
  private func number(_ index: Int) -> Float { Float(((index &* 40503 &+ index &* index) >> 5) % 3 - 1) }

  /// As it lies in memory.
  private func stored(_ value: Float) -> [UInt8] {
    let bits =
      precision == .float16 ? (value == 0 ? 0 : 0x3C00) | (value < 0 ? 0x8000 : 0) : value.bitPattern >> (precision == .bfloat16 ? 16 : 0)
    return withUnsafeBytes(of: bits.littleEndian) { Array($0.prefix(precision.byteCount)) }
  }

  private func value(_ stored: ArraySlice<UInt8>) -> Float {
    let bits = stored.reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
    guard precision == .float16 else { return Float(bitPattern: precision == .bfloat16 ? bits << 16 : bits) }
    let (exponent, fraction) = (Int(bits >> 10 & 0x1F), Float(bits & 0x3FF))
    let size = exponent == 0 ? fraction * 0x1p-24 : Float(sign: .plus, exponent: exponent - 15, significand: 1 + fraction * 0x1p-10)
    return exponent == 31 ? .nan : bits & 0x8000 == 0 ? size : -size
  }

  /// - Throws: what compiling and running throw.
  package func largestError(on device: OpenCLDevice) throws -> Double {
    let width = precision.byteCount, a = (0..<m * k).map(number), b = (0..<n * k).map { number($0 + 100_003) }
    func upload(_ values: [Float]) throws -> BufferSlice {
      let slice = BufferSlice(try device.allocate(byteCount: width * values.count))
      try values.flatMap(stored).withUnsafeBytes { try device.write($0, to: slice) }
      return slice
    }
    // a: [m, k] and b: [n, k], or with k before the other extent.
    func laid(_ values: [Float], _ extent: Int) -> [Float] { acrossK ? (0..<values.count).map { values[$0 % extent * k + $0 / extent] } : values }
    let (left, right, result) = (try upload(laid(a, m)), try upload(laid(b, n)), BufferSlice(try device.allocate(byteCount: width * m * n)))
    let parameters = GraftGemmParams(
      strideA: 0, strideB: 0, strideY: 0, strideR: 0, batch: 1, m: Int32(m), n: Int32(n), k: Int32(k), lda: Int32(acrossK ? m : k),
      ldb: Int32(acrossK ? n : k), ldy: Int32(n), ldr: 0, transposeA: acrossK ? 1 : 0, transposeB: acrossK ? 0 : 1, rowsPerItem: 0, panelsPerItem: 0,
      epilogue: GraftEpilogue(activation: Int32(GRAFT_ACTIVATION_NONE), alpha: 0, beta: 0, hasBias: 0, hasResidual: 0))
    let groups = (m + 63) / 64 * ((n + 63) / 64)
    let launch = Launch(
      kernel, buffers: [left, right, nil, nil, result], parameters: Launch.bytes(of: parameters),
      grid: Grid(groups * itemCount, workGroup: (itemCount, 1, 1)), label: "matrix unit")
    try device.prepare([launch]).enqueue()
    var found = [UInt8](repeating: 0, count: width * m * n)
    try found.withUnsafeMutableBytes { try device.read(result, into: $0) }
    var worst = 0.0
    for i in 0..<m {
      for j in 0..<n {
        var sum: Float = 0
        for t in 0..<k { sum += a[i * k + t] * b[j * k + t] }
        let error = abs(Double(value(found[width * (i * n + j)..<width * (i * n + j + 1)])) - Double(sum))
        worst = error.isNaN ? .infinity : max(worst, error)
      }
    }
    return worst
  }
}
