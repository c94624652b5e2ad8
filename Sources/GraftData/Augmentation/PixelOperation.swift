import Foundation

/// A change of a picture's pixels with all that it depends on; the size stays.
///
/// Results are those of Pillow's `ImageOps`, `ImageEnhance` and `Image.transform`, to the bit: the same tables, the same
/// single precision, the same rounding. `hue` is torchvision's `adjust_hue` of a PIL image.
package enum PixelOperation: Equatable, Sendable {
  /// Stretches each channel to 0…255.
  case autoContrast
  /// Gives each channel an even histogram.
  case equalize
  case invert
  /// Keeps the leading bits of each byte; none makes black.
  case posterize(bits: Int)
  /// Inverts what is not below the threshold.
  case solarize(threshold: Int)
  /// Adds to what is below 128.
  case solarizeAdd(Int)
  /// Away from black: 0 is black, 1 the picture.
  case brightness(Float)
  /// Away from the mean luminance: 0 is grey, 1 the picture.
  case contrast(Float)
  /// Away from grey of the same luminance: 0 is without colour, 1 the picture.
  case saturation(Float)
  /// Away from the picture smoothed: 0 is smooth, 1 the picture.
  case sharpness(Float)
  /// Turns the circle of hues by this part of it, -½…½.
  case hue(Double)
  /// An affine map of places; what comes in from outside is `fill`.
  case warp(AffineWarp, Resampling)

  /// How a warp reads between pixels.
  package enum Resampling: Sendable, CaseIterable {
    case bilinear, bicubic
  }

  /// - Parameter fill: what a warp shows where there is no picture.
  package func apply(to pixels: ViewPixels, fill: RGBColor = RGBColor(red: 0, green: 0, blue: 0)) {
    switch self {
    case .autoContrast: pixels.map((0..<3).map { Self.stretched(pixels.histogram(ofChannel: $0)) })
    case .equalize: pixels.map((0..<3).map { Self.equalized(pixels.histogram(ofChannel: $0)) })
    case .invert: pixels.map { 255 - $0 }
    case .posterize(let bits):
      let mask = bits >= 8 ? 255 : ~((1 << (8 - max(0, bits))) - 1)
      pixels.map { $0 & mask }
    case .solarize(let threshold): pixels.map { $0 < threshold ? $0 : 255 - $0 }
    case .solarizeAdd(let amount): pixels.map { $0 < 128 ? $0 + amount : $0 }
    case .brightness(let factor): pixels.map { Int(Self.blend(0, $0, factor)) }
    case .contrast(let factor):
      let mean = Self.meanLuminance(pixels)
      pixels.map { Int(Self.blend(mean, $0, factor)) }
    case .saturation(let factor): Self.saturate(pixels, factor)
    case .sharpness(let factor): Self.sharpen(pixels, factor)
    case .hue(let turn): Hue.turn(pixels, by: turn)
    case .warp(let map, let resampling): map.apply(to: pixels, resampling, fill: fill)
    }
  }

  /// From `base` to `value` by `factor`, and beyond, cut to a byte: Pillow's `Image.blend`.
  static func blend(_ base: Int, _ value: Int, _ factor: Float) -> UInt8 {
    let blended = Float(base) + factor * Float(value - base)
    return blended <= 0 ? 0 : blended >= 255 ? 255 : UInt8(blended)
  }

  // MARK: Tables

  /// Pillow's `ImageOps.autocontrast` without a cut-off.
  private static func stretched(_ histogram: [Int]) -> [UInt8] {
    let identity = (0..<256).map { UInt8($0) }
    guard let low = histogram.firstIndex(where: { $0 > 0 }), let high = histogram.lastIndex(where: { $0 > 0 }), low < high else { return identity }
    let scale = 255 / Double(high - low), offset = -Double(low) * scale
    return (0..<256).map { UInt8(clamping: Int(Double($0) * scale + offset)) }
  }

  /// Pillow's `ImageOps.equalize`.
  private static func equalized(_ histogram: [Int]) -> [UInt8] {
    let identity = (0..<256).map { UInt8($0) }
    let present = histogram.filter { $0 > 0 }
    guard present.count > 1, let last = present.last else { return identity }
    let step = (present.reduce(0, +) - last) / 255
    guard step > 0 else { return identity }
    var sum = step / 2
    return histogram.map { count in
      defer { sum += count }
      return UInt8(clamping: sum / step)
    }
  }

  private static func meanLuminance(_ pixels: ViewPixels) -> Int {
    var sum = 0
    for start in stride(from: 0, to: pixels.bytes.count, by: 3) { sum += pixels.luminance(at: start) }
    return Int(Double(sum) / Double(pixels.width * pixels.height) + 0.5)
  }

  // MARK: Neighbours and channels

  private static func saturate(_ pixels: ViewPixels, _ factor: Float) {
    for start in stride(from: 0, to: pixels.bytes.count, by: 3) {
      let grey = pixels.luminance(at: start)
      for place in start..<start + 3 { pixels.bytes[place] = blend(grey, Int(pixels.bytes[place]), factor) }
    }
  }

  /// Smooths by (1 1 1; 1 5 1; 1 1 1) / 13, leaving the border, and goes from there.
  private static func sharpen(_ pixels: ViewPixels, _ factor: Float) {
    let rowBytes = pixels.width * 3
    guard pixels.width > 2, pixels.height > 2 else { return }
    Array(pixels.bytes).withUnsafeBufferPointer { source in
      for row in 1..<pixels.height - 1 {
        for place in row * rowBytes + 3..<(row + 1) * rowBytes - 3 {
          var sum = 4 * Int(source[place])
          for start in [place - rowBytes, place, place + rowBytes] {
            sum += Int(source[start - 3]) + Int(source[start]) + Int(source[start + 3])
          }
          // Rounded to the nearest; a half never occurs, as 13 is odd.
          pixels.bytes[place] = blend((2 * sum + 13) / 26, Int(source[place]), factor)
        }
      }
    }
  }
}
