import Foundation

/// Hue in Pillow's HSV: a byte each for hue, saturation and value.
enum Hue {
  /// Adds to every pixel's hue, around the circle: torchvision's `adjust_hue`, which cuts 255 · `turn` to a whole number.
  static func turn(_ pixels: ViewPixels, by turn: Double) {
    let steps = UInt8(truncatingIfNeeded: Int(turn * 255))
    for start in stride(from: 0, to: pixels.bytes.count, by: 3) {
      let (hue, saturation, value) = hsv(pixels.bytes[start], pixels.bytes[start + 1], pixels.bytes[start + 2])
      (pixels.bytes[start], pixels.bytes[start + 1], pixels.bytes[start + 2]) = rgb(hue &+ steps, saturation, value)
    }
  }

  /// Smith's hexcone ("Color gamut transform pairs", 1978), with Pillow's single precision and truncation.
  static func hsv(_ red: UInt8, _ green: UInt8, _ blue: UInt8) -> (UInt8, UInt8, UInt8) {
    let most = max(red, green, blue), least = min(red, green, blue)
    guard most > least else { return (0, 0, most) }
    let range = Float(most - least), saturation = range / Float(most)
    let (r, g, b) = (Float(most - red) / range, Float(most - green) / range, Float(most - blue) / range)
    // 2 and 4 are double precision in Pillow's source, and the sum is rounded to single.
    let sextant: Float = red == most ? b - g : green == most ? Float(2 + Double(r) - Double(b)) : Float(4 + Double(g) - Double(r))
    let hue = Float(fmod(Double(sextant) / 6 + 1, 1))
    return (UInt8(clamping: Int(Double(hue) * 255)), UInt8(clamping: Int(Double(saturation) * 255)), most)
  }

  static func rgb(_ hue: UInt8, _ saturation: UInt8, _ value: UInt8) -> (UInt8, UInt8, UInt8) {
    guard saturation > 0 else { return (value, value, value) }
    let place = Double(hue) * 6 / 255, sextant = Int(place)
    let fraction = Double(Float(place - Double(sextant))), s = Double(Float(Double(saturation) / 255)), v = Double(value)
    func byte(_ x: Double) -> UInt8 { UInt8(clamping: Int(x.rounded(.toNearestOrAwayFromZero))) }
    let (p, q, t) = (byte(v * (1 - s)), byte(v * (1 - s * fraction)), byte(v * (1 - s * (1 - fraction))))
    switch sextant % 6 {
    case 0: return (value, t, p)
    case 1: return (q, value, p)
    case 2: return (p, value, t)
    case 3: return (p, q, value)
    case 4: return (t, p, value)
    default: return (value, p, q)
    }
  }
}
