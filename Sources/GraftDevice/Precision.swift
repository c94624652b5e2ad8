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

  /// GRAFT_STORAGE of Kernels/cpu/element.h and Kernels/gpu/element.h.
  var storage: Int32 {
    switch self {
    case .float32: GRAFT_FLOAT32
    case .bfloat16: GRAFT_BFLOAT16
    case .float16: GRAFT_FLOAT16
    }
  }
}
