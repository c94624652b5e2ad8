import GraftGraph

/// Draws a few operations from a list, all of one strength (Cubuk et al., "RandAugment", 2019).
///
/// The list and the strengths are those of timm's `rand-mM-nN-mstd0.5-inc1`: fifteen operations, drawn with replacement, each of
/// which happens half of the time; the strength varies by a normal of deviation ½ about M; more is always stronger. Warps read
/// bilinearly or bicubically, each half of the time, and show the mean colour where there is no picture.
public struct RandAugment: Hashable, Sendable {
  /// Operations a view, half of which happen.
  public var count: Int
  /// 0…10.
  public var magnitude: Double

  public init(count: Int, magnitude: Double) { (self.count, self.magnitude) = (count, magnitude) }

  package enum Kind: CaseIterable, Sendable {
    case autoContrast, equalize, invert, rotate, posterize, solarize, solarizeAdd, saturation, contrast, brightness, sharpness
    case shearX, shearY, translateX, translateY
  }

  package func draw(width: Int, height: Int, using random: inout SplitMix) -> [PixelOperation] {
    (0..<count).map { _ in Kind.allCases[random.below(Kind.allCases.count)] }.compactMap { kind in
      guard random.chance(0.5) else { return nil }
      let level = min(10, max(0, magnitude + 0.5 * random.normal()))
      return Self.operation(kind, level: level, width: width, height: height, using: &random)
    }
  }

  /// The operation at a level of 0…10; its sign, where it has one, is drawn.
  package static func operation(_ kind: Kind, level: Double, width: Int, height: Int, using random: inout SplitMix) -> PixelOperation {
    let part = level / 10, sign: Double = random.chance(0.5) ? -1 : 1
    let resampling: PixelOperation.Resampling = random.chance(0.5) ? .bilinear : .bicubic
    let factor = Float(max(0.1, 1 + sign * part * 0.9))
    switch kind {
    case .autoContrast: return .autoContrast
    case .equalize: return .equalize
    case .invert: return .invert
    case .posterize: return .posterize(bits: 4 - Int(part * 4))
    case .solarize: return .solarize(threshold: 256 - min(256, Int(part * 256)))
    case .solarizeAdd: return .solarizeAdd(min(128, Int(part * 110)))
    case .saturation: return .saturation(factor)
    case .contrast: return .contrast(factor)
    case .brightness: return .brightness(factor)
    case .sharpness: return .sharpness(factor)
    case .rotate: return .warp(.rotation(degrees: sign * part * 30, width: width, height: height), resampling)
    case .shearX: return .warp(.shearX(sign * part * 0.3), resampling)
    case .shearY: return .warp(.shearY(sign * part * 0.3), resampling)
    case .translateX: return .warp(.shift(x: sign * part * 0.45 * Double(width), y: 0), resampling)
    case .translateY: return .warp(.shift(x: 0, y: sign * part * 0.45 * Double(height)), resampling)
    }
  }
}
