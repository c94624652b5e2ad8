import GraftDevice

/// The limits of a device, for predictions: a GPU that need not be there, or this machine's measured ones.
public struct Chip: Sendable {
  /// What `--predict` takes: "h200".
  public let identifier: String
  public let name: String
  /// Multiply-adds on registers in float32.
  public let gigaflopsPerSecond: Double
  /// Matrix units with 16-bit operands and float32 sums, dense; kernels that do not use them get the rate above.
  public let matrixGigaflopsPerSecond: Double
  /// The same with tf32 operands; the plain rate where there is no unit for them.
  public let tf32GigaflopsPerSecond: Double
  /// Smallest working set first.
  let bandwidths: [DevicePeak.Bandwidth]
  /// Parts that a work-group runs on: streaming multiprocessors, compute units.
  public let multiprocessors: Int
  /// From the end of a kernel to the start of the next that waits for it. An assumption, not a vendor's figure.
  public let launchSeconds: Double
  /// What operations are lowered for.
  package private(set) var traits: DeviceTraits

  /// The fastest that so many bytes can be passed over.
  public func gigabytesPerSecond(byteCount: Double) -> Double {
    DevicePeak(gigaflopsPerSecond: gigaflopsPerSecond, bandwidths: bandwidths).gigabytesPerSecond(workingSetByteCount: byteCount)
  }

  /// The same chip as if its matrix unit could not be used.
  package var withoutMatrixUnit: Chip {
    var chip = self
    chip.traits.matrixUnit = nil
    return chip
  }

  /// Vendors' data sheets: boost clocks, dense rates, no sparsity.
  public static let known: [Chip] = [
    Chip(
      "h200", "NVIDIA H200", .nvidia, teraflops: 67, matrix: 989, tf32: 494.5, gigabytes: 4800, multiprocessors: 132, memory: 141,
      unit: .hopper),
    Chip(
      "a100", "NVIDIA A100 80GB", .nvidia, teraflops: 19.5, matrix: 312, tf32: 156, gigabytes: 2039, multiprocessors: 108, memory: 80, unit: .nvidia),
    Chip(
      "rtx4090", "NVIDIA GeForce RTX 4090", .nvidia, teraflops: 82.6, matrix: 165.2, tf32: 82.6, gigabytes: 1008, multiprocessors: 128, memory: 24,
      unit: .nvidia),
    Chip(
      "rtx3060", "NVIDIA GeForce RTX 3060", .nvidia, teraflops: 12.7, matrix: 25.5, tf32: 12.7, gigabytes: 360, multiprocessors: 28, memory: 12,
      unit: .nvidia),
    Chip("mi210", "AMD Instinct MI210", .amd, teraflops: 22.6, matrix: 181, gigabytes: 1638, multiprocessors: 104, memory: 64, unit: .mfma),
    Chip("rx7900xtx", "AMD Radeon RX 7900 XTX", .amd, teraflops: 61.4, matrix: 122.8, gigabytes: 960, multiprocessors: 48, memory: 24, unit: .wmma),
    Chip(
      "arc-a770", "Intel Arc A770", .intel, teraflops: 17.2, matrix: 137.6, gigabytes: 560, multiprocessors: 32, computeUnits: 512, memory: 16,
      unit: .xmx8),
  ]

  /// - Throws: `ChipError` that names those there are.
  public static func named(_ identifier: String) throws(ChipError) -> Chip {
    guard let chip = known.first(where: { $0.identifier == identifier.lowercased() }) else {
      throw ChipError(identifier: identifier, known: known.map(\.identifier))
    }
    return chip
  }

  /// The limits that choices for a device go by, which measurements take no part in: those of the chip whose name it bears, else
  /// what is usual for so many multiprocessors.
  static func like(_ traits: DeviceTraits) -> Chip {
    func words(_ name: String) -> Set<Substring> { Set(name.split { !$0.isLetter && !$0.isNumber }) }
    let itsWords = words(traits.name)
    if let chip = known.first(where: { words($0.name).isSubset(of: itsWords) }) { return chip }
    var usual = traits
    usual.computeUnits = traits.multiprocessors
    usual.threadCount = 0
    let rate = 400 * Double(usual.computeUnits), bandwidth = rate / 32
    return Chip(
      usual,
      measured: DevicePeak(
        gigaflopsPerSecond: rate,
        bandwidths: [.init(workingSetByteCount: traits.memoryByteCount, readGigabytesPerSecond: bandwidth, triadGigabytesPerSecond: bandwidth)]))
  }

  private enum Vendor: String {
    case nvidia = "NVIDIA Corporation"
    case amd = "Advanced Micro Devices, Inc."
    case intel = "Intel(R) Corporation"

    var workGroup: Int { self == .amd ? 256 : 1024 }
    var localByteCount: Int { (self == .nvidia ? 47 : 64) << 10 }
    var launchSeconds: Double {
      switch self {
      case .nvidia: 3e-6
      case .amd: 6e-6
      case .intel: 8e-6
      }
    }
  }

  private init(
    _ identifier: String, _ name: String, _ vendor: Vendor, teraflops: Double, matrix: Double, tf32: Double? = nil, gigabytes: Double,
    multiprocessors: Int, computeUnits: Int? = nil, memory: Int, unit: MatrixUnit.Kind? = nil
  ) {
    (self.identifier, self.name, self.multiprocessors) = (identifier, name, multiprocessors)
    (gigaflopsPerSecond, matrixGigaflopsPerSecond, tf32GigaflopsPerSecond) = (1e3 * teraflops, 1e3 * matrix, 1e3 * (tf32 ?? teraflops))
    bandwidths = [DevicePeak.Bandwidth(workingSetByteCount: memory << 30, readGigabytesPerSecond: gigabytes, triadGigabytesPerSecond: gigabytes)]
    launchSeconds = vendor.launchSeconds
    var traits = DeviceTraits(
      kind: .openCL, identifier: identifier, name: name, vendor: vendor.rawValue, driver: "", family: .gpu,
      computeUnits: computeUnits ?? multiprocessors, memoryByteCount: memory << 30, maximumBufferByteCount: memory << 29,
      localMemoryByteCount: vendor.localByteCount, maximumWorkGroupSize: vendor.workGroup, vectorWidth: 4, panelVectors: 2, instructionSet: "",
      numericFormats: ["float32"], isGPU: true, threadCount: 0)
    traits.sliceAlignmentByteCount = 128
    traits.matrixUnit = unit.map { MatrixUnit($0, formats: $0.formats) }
    self.traits = traits
  }

  /// A device of this machine, by its measured limits.
  ///
  /// - Parameter launchSeconds: what one launch costs beyond its work.
  public init(_ traits: DeviceTraits, measured peak: DevicePeak, launchSeconds: Double = 3e-6) {
    (identifier, name, self.traits, self.launchSeconds) = (traits.identifier, traits.name, traits, launchSeconds)
    (gigaflopsPerSecond, matrixGigaflopsPerSecond, tf32GigaflopsPerSecond) = (
      peak.gigaflopsPerSecond, peak.gigaflopsPerSecond, peak.gigaflopsPerSecond
    )
    bandwidths = peak.bandwidths
    multiprocessors = max(1, traits.threadCount > 0 ? traits.threadCount : traits.computeUnits)
  }
}

/// A chip that there are no figures of.
public struct ChipError: Error, CustomStringConvertible, Sendable {
  public let identifier: String
  public let known: [String]
  public var description: String { "nothing is known of a chip '\(identifier)': give one of \(known.joined(separator: ", "))" }
}
