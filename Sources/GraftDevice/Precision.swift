import CKernels

/// The number format in which a plan's values and weights lie in memory. Sums are float32 whatever it is, and so are a
/// graph's inputs and results.
public enum Precision: String, Sendable, Hashable, CaseIterable, Codable {
  case float32
  /// The upper half of a float32: its range, 8 bits of precision.
  case bfloat16
  /// IEEE binary16: 11 bits of precision, numbers up to 65504.
  case float16

  /// Bytes an element.
  public var byteCount: Int { self == .float32 ? 4 : 2 }

  /// GRAFT_STORAGE of Kernels/cpu/element.h.
  var storage: Int32 {
    switch self {
    case .float32: GRAFT_FLOAT32
    case .bfloat16: GRAFT_BFLOAT16
    case .float16: GRAFT_FLOAT16
    }
  }
}

extension DeviceTraits {
  /// - Throws: `DeviceError` that says what to use instead, if the device's kernels don't know the format.
  public func check(_ precision: Precision) throws(DeviceError) {
    guard precision != .float32, family != .cpu else { return }
    throw DeviceError(
      device: identifier, call: "compute in \(precision.rawValue)", name: "not available",
      remedy: "The GPU kernels of this version know float32 only: use --precision float32, or the CPU kernels (--device cpu).")
  }
}
