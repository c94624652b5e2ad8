import GraftGraph

/// How far brightness, contrast, saturation and hue may move, as torchvision's `ColorJitter`: factors are drawn from
/// 1 − x … 1 + x (not below 0), the hue's turn from −x … x, and the four come in any order.
public struct ColorJitter: Hashable, Sendable {
  public var brightness, contrast, saturation: Double
  /// At most ½: half the circle.
  public var hue: Double

  public init(brightness: Double, contrast: Double, saturation: Double, hue: Double) {
    (self.brightness, self.contrast, self.saturation, self.hue) = (brightness, contrast, saturation, hue)
  }

  package func draw(using random: inout SplitMix) -> [PixelOperation] {
    func factor(_ reach: Double) -> Float { Float(random.uniform(max(0, 1 - reach)...1 + reach)) }
    var operations: [PixelOperation] = []
    if brightness > 0 { operations.append(.brightness(factor(brightness))) }
    if contrast > 0 { operations.append(.contrast(factor(contrast))) }
    if saturation > 0 { operations.append(.saturation(factor(saturation))) }
    if hue > 0 { operations.append(.hue(random.uniform(-hue...hue))) }
    return operations.shuffled(using: &random)
  }
}
