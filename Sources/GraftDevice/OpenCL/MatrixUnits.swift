import CKernels
import Foundation

/// Which matrix unit a device has: found by compiling a small product for each candidate, running it and comparing it with the
/// host's. What a driver's list of extensions says is not asked.
enum MatrixUnits {
  /// The units worth trying on a platform. Foreign assembly is never handed to another vendor's compiler, which may crash on it.
  static func candidates(platform: String) -> [MatrixUnit.Kind] {
    let name = platform.uppercased()
    return name.contains("NVIDIA") ? [.nvidia] : name.contains("AMD ACCELERATED") ? [.mfma, .wmma] : []
  }

  /// - Returns: the unit, and what came of the candidates or formats that cannot be used.
  /// - Throws: `DeviceError` if GRAFT_MATRIX_UNIT names what there is not.
  static func find(on device: OpenCLDevice) throws(DeviceError) -> (unit: MatrixUnit?, failures: [String]) {
    let choice = try MatrixUnitChoice.current(environment: ProcessInfo.processInfo.environment, device: device.info.identifier)
    var kinds = candidates(platform: device.info.platformName)
    switch choice {
    case .auto: break
    case .off: return (nil, [])
    case .emulated(let kind): return (MatrixUnit(kind, isEmulated: true, formats: [.bfloat16, .float16]), [])
    case .only(let kind): kinds = kinds.filter { $0 == kind }
    }
    var failures: [String] = []
    guard !kinds.isEmpty else { return (nil, []) }
    // In a context of its own: a kernel that goes wrong on the device may leave its context unusable.
    let probed = try OpenCLDevice(device.info, family: .gpu)
    for kind in kinds {
      var formats: Set<Precision> = []
      var obstacles: [String] = []
      for precision in [Precision.bfloat16, .float16] {
        do {
          let error = try MatrixProbe(kind, precision).largestError(on: probed)
          if error <= MatrixProbe.bound { formats.insert(precision) } else { obstacles.append("\(kind.name) in \(precision) is off by \(error).") }
        } catch {
          // A compiler's log may be long; its first lines name the instruction.
          obstacles.append("\(kind.name) in \(precision): \(String("\(error)".prefix(400)))")
        }
      }
      if !formats.isEmpty { return (MatrixUnit(kind, formats: formats), obstacles) }
      failures += obstacles
    }
    return (nil, failures)
  }
}

/// One product on a matrix unit, small enough for the host: more than a block of every extent, and a part of one.
package struct MatrixProbe {
  private let kernel: KernelReference
  private let precision: Precision
  private let itemCount: Int
  private let m = 72, n = 80, k = 104
  /// Every product and sum is a whole number up to 104, which the shorter formats hold: nothing is rounded.
  package static let bound = 0.0

  package init(_ kind: MatrixUnit.Kind, _ precision: Precision, isEmulated: Bool = false) {
    let unit = MatrixUnit(kind, isEmulated: isEmulated, formats: [precision])
    kernel = KernelReference(
      .gpu, file: "matrix_gemm", function: "matrix_gemm",
      options: unit.options + [
        .init("TILE_M", 64), .init("TILE_N", 64), .init("TILE_K", 32), .init("WARPS_M", 2), .init("WARPS_N", 2), .init("STAGES", 2),
      ], precision: precision)
    (self.precision, itemCount) = (precision, 4 * kind.lanes)
  }

  /// −1, 0 or 1, without a pattern that a mistaken layout would share.
  private func number(_ index: Int) -> Float { Float(((index &* 40503 &+ index &* index) >> 5) % 3 - 1) }

  private func bits(_ value: Float) -> UInt16 { value == 0 ? 0 : (value < 0 ? 0x8000 : 0) | (precision == .float16 ? 0x3C00 : 0x3F80) }

  private func value(_ bits: UInt16) -> Float {
    guard precision == .float16 else { return Float(bitPattern: UInt32(bits) << 16) }
    let (exponent, fraction) = (Int(bits >> 10 & 0x1F), Float(bits & 0x3FF))
    let size = exponent == 0 ? fraction * 0x1p-24 : Float(sign: .plus, exponent: exponent - 15, significand: 1 + fraction * 0x1p-10)
    return exponent == 31 ? .nan : bits & 0x8000 == 0 ? size : -size
  }

  /// - Throws: what compiling and running throw.
  package func largestError(on device: OpenCLDevice) throws -> Double {
    let a = (0..<m * k).map(number), b = (0..<n * k).map { number($0 + 100_003) }
    func upload(_ values: [Float]) throws -> BufferSlice {
      let slice = BufferSlice(try device.allocate(byteCount: 2 * values.count))
      try values.map(bits).withUnsafeBytes { try device.write($0, to: slice) }
      return slice
    }
    let (left, right, result) = (try upload(a), try upload(b), BufferSlice(try device.allocate(byteCount: 2 * m * n)))
    let parameters = GraftGemmParams(
      strideA: 0, strideB: 0, strideY: 0, strideR: 0, batch: 1, m: Int32(m), n: Int32(n), k: Int32(k), lda: Int32(k), ldb: Int32(k), ldy: Int32(n),
      ldr: 0, transposeA: 0, transposeB: 1, rowsPerItem: 0, panelsPerItem: 0,
      epilogue: GraftEpilogue(activation: Int32(GRAFT_ACTIVATION_NONE), alpha: 0, beta: 0, hasBias: 0, hasResidual: 0))
    let groups = (m + 63) / 64 * ((n + 63) / 64)
    let launch = Launch(
      kernel, buffers: [left, right, nil, nil, result], parameters: Launch.bytes(of: parameters),
      grid: Grid(groups * itemCount, workGroup: (itemCount, 1, 1)), label: "matrix unit")
    try device.prepare([launch]).enqueue()
    var found = [UInt16](repeating: 0, count: m * n)
    try found.withUnsafeMutableBytes { try device.read(result, into: $0) }
    var worst = 0.0
    for i in 0..<m {
      for j in 0..<n {
        var sum: Float = 0
        for t in 0..<k { sum += a[i * k + t] * b[j * k + t] }
        let error = abs(Double(value(found[i * n + j])) - Double(sum))
        worst = error.isNaN ? .infinity : max(worst, error)
      }
    }
    return worst
  }
}
