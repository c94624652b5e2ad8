/// What a network is computed in, as a user chooses it: how numbers lie in memory, and how exactly they are multiplied.
public enum ComputeFormat: String, Sendable, Hashable, CaseIterable, Codable {
  case float32
  /// float32 in memory; the factors of products and convolutions are rounded to 11 bits where the device has a matrix unit for
  /// them, and sums stay float32. Elsewhere it is float32.
  case tf32
  case bfloat16
  case float16

  /// The format without anything that is rounded on the way to a product.
  public init(_ precision: Precision) {
    switch precision {
    case .float32: self = .float32
    case .bfloat16: self = .bfloat16
    case .float16: self = .float16
    }
  }

  /// How values and weights lie in memory.
  public var storage: Precision {
    switch self {
    case .float32, .tf32: .float32
    case .bfloat16: .bfloat16
    case .float16: .float16
    }
  }
}
