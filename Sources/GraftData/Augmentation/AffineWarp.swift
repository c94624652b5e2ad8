import Foundation

/// Where each pixel of a warped picture comes from: (x, y) of the new picture is (a·x + b·y + c, d·x + e·y + f) of the old one, at
/// the pixels' centres.
package struct AffineWarp: Equatable, Sendable {
  package var a, b, c, d, e, f: Double

  package init(_ a: Double, _ b: Double, _ c: Double, _ d: Double, _ e: Double, _ f: Double) {
    (self.a, self.b, self.c, self.d, self.e, self.f) = (a, b, c, d, e, f)
  }

  package static func shearX(_ factor: Double) -> AffineWarp { AffineWarp(1, factor, 0, 0, 1, 0) }
  package static func shearY(_ factor: Double) -> AffineWarp { AffineWarp(1, 0, 0, factor, 1, 0) }
  /// - Parameters: in pixels.
  package static func shift(x: Double, y: Double) -> AffineWarp { AffineWarp(1, 0, x, 0, 1, y) }

  /// Counterclockwise about the centre, as Pillow's `Image.rotate`, which rounds sines and cosines to 15 decimals.
  package static func rotation(degrees: Double, width: Int, height: Int) -> AffineWarp {
    let turn = degrees.truncatingRemainder(dividingBy: 360), angle = -(turn < 0 ? turn + 360 : turn) * Double.pi / 180
    func rounded(_ x: Double) -> Double { (x * 1e15).rounded(.toNearestOrEven) / 1e15 }
    let (cosine, sine) = (rounded(cos(angle)), rounded(sin(angle)))
    let (x, y) = (Double(width) / 2, Double(height) / 2)
    return AffineWarp(cosine, sine, cosine * -x + sine * -y + x, -sine, cosine, -sine * -x + cosine * -y + y)
  }

  /// Pillow's `Image.transform` with `AFFINE` and a fill colour.
  func apply(to pixels: ViewPixels, _ resampling: PixelOperation.Resampling, fill: RGBColor) {
    let (width, height) = (pixels.width, pixels.height)
    Array(pixels.bytes).withUnsafeBufferPointer { source in
      for row in 0..<height {
        for column in 0..<width {
          let (x, y) = (Double(column) + 0.5, Double(row) + 0.5)
          let (fromX, fromY) = (a * x + b * y + c, d * x + e * y + f)
          let start = (row * width + column) * 3
          guard fromX >= 0, fromX < Double(width), fromY >= 0, fromY < Double(height) else {
            (pixels.bytes[start], pixels.bytes[start + 1], pixels.bytes[start + 2]) = (fill.red, fill.green, fill.blue)
            continue
          }
          let place = Place(x: fromX - 0.5, y: fromY - 0.5)
          for channel in 0..<3 {
            let value =
              switch resampling {
              case .bilinear: place.bilinear(source, channel, width, height)
              case .bicubic: place.bicubic(source, channel, width, height)
              }
            pixels.bytes[start + channel] = value <= 0 ? 0 : value >= 255 ? 255 : UInt8(value)
          }
        }
      }
    }
  }

  /// A place between pixels, with the pixel before it and how far it is beyond that.
  private struct Place {
    let column, row: Int
    let dx, dy: Double

    init(x: Double, y: Double) {
      (column, row) = (Int(x.rounded(.down)), Int(y.rounded(.down)))
      (dx, dy) = (x - Double(column), y - Double(row))
    }

    func bilinear(_ source: UnsafeBufferPointer<UInt8>, _ channel: Int, _ width: Int, _ height: Int) -> Double {
      let left = min(max(column, 0), width - 1) * 3 + channel, right = min(max(column + 1, 0), width - 1) * 3 + channel
      func line(_ row: Int) -> Double {
        let (v, w) = (Double(source[row * width * 3 + left]), Double(source[row * width * 3 + right]))
        return v + (w - v) * dx
      }
      let upper = line(min(max(row, 0), height - 1))
      return upper + ((row + 1 < height ? line(row + 1) : upper) - upper) * dy
    }

    func bicubic(_ source: UnsafeBufferPointer<UInt8>, _ channel: Int, _ width: Int, _ height: Int) -> Double {
      func line(_ row: Int) -> Double {
        func value(_ column: Int) -> Double { Double(source[(row * width + min(max(column, 0), width - 1)) * 3 + channel]) }
        return Self.cubic(value(column - 1), value(column), value(column + 1), value(column + 2), dx)
      }
      let first = line(min(max(row - 1, 0), height - 1))
      // Beyond the last line the one before is taken; beyond the first too, where that line is the first.
      let second = row >= 0 && row < height ? line(row) : first
      let third = row + 1 >= 0 && row + 1 < height ? line(row + 1) : second
      let fourth = row + 2 >= 0 && row + 2 < height ? line(row + 2) : third
      return Self.cubic(first, second, third, fourth, dy)
    }

    /// Keys' cubic with a = −1, as Pillow's transforms have it (its resize has −½).
    private static func cubic(_ v1: Double, _ v2: Double, _ v3: Double, _ v4: Double, _ d: Double) -> Double {
      let (p2, p3, p4) = (-v1 + v3, 2 * (v1 - v2) + v3 - v4, -v1 + v2 - v3 + v4)
      return v2 + d * (p2 + d * (p3 + d * p4))
    }
  }
}
