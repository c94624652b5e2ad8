import Foundation

/// How a picture is resampled: Pillow's filters, under timm's names.
public enum Interpolation: String, Codable, Sendable, Hashable, CaseIterable {
  case nearest
  case box
  case bilinear
  case hamming
  case bicubic
  case lanczos

  /// How far the filter reaches to each side, in pixels of the smaller picture; nil for nearest, which does not filter.
  var support: Double? {
    switch self {
    case .nearest: nil
    case .box: 0.5
    case .bilinear, .hamming: 1
    case .bicubic: 2
    case .lanczos: 3
    }
  }

  /// The filter's weight at a distance of `x`.
  func weight(_ x: Double) -> Double {
    switch self {
    case .nearest, .box: x > -0.5 && x <= 0.5 ? 1 : 0
    case .bilinear: max(0, 1 - abs(x))
    case .hamming: Self.hamming(abs(x))
    case .bicubic: Self.bicubic(abs(x))
    case .lanczos: x >= -3 && x < 3 ? Self.sinc(x) * Self.sinc(x / 3) : 0
    }
  }

  /// Keys' cubic convolution with a = −0.5 (IEEE Transactions on Acoustics, Speech and Signal Processing 29, 1981).
  private static func bicubic(_ x: Double) -> Double {
    let a = -0.5
    if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
    if x < 2 { return (((x - 5) * x + 8) * x - 4) * a }
    return 0
  }

  private static func hamming(_ x: Double) -> Double {
    if x == 0 { return 1 }
    if x >= 1 { return 0 }
    let angle = x * Double.pi
    return sin(angle) / angle * (0.54 + 0.46 * cos(angle))
  }

  private static func sinc(_ x: Double) -> Double {
    if x == 0 { return 1 }
    let angle = x * Double.pi
    return sin(angle) / angle
  }
}
