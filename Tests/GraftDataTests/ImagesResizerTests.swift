import Foundation
import GraftData
import Testing

@Suite struct ImageResizerTests {
  @Test("resized pixels are Pillow's, to the bit", arguments: ImageFixtures.shared.resize)
  func parity(of resizing: ImageFixtures.ResizeCase) {
    let source = Noise.image(width: resizing.sourceWidth, height: resizing.sourceHeight, seed: resizing.seed)
    let result = ImageResizer(resizing.interpolation).resize(source, width: resizing.result.width, height: resizing.result.height)
    let (largest, count) = difference(result.pixels, ImageFixtures.shared.pixels(resizing.result))
    #expect(largest == 0, "\(count) bytes differ, by up to \(largest)")
  }

  @Test("a part is the part of the whole", arguments: Interpolation.allCases)
  func parts(interpolation: Interpolation) {
    var noise = Noise(seed: 4)
    func side(_ most: Int) -> Int { 1 + Int(noise.next()) % most }
    for _ in 0..<40 {
      let source = Noise.image(width: side(70), height: side(70), seed: UInt32(noise.next()))
      let (width, height) = (side(90), side(90))
      let whole = ImageResizer(interpolation).resize(source, width: width, height: height)
      let (left, top) = (Int(noise.next()) % width, Int(noise.next()) % height)
      let columns = left..<left + side(width - left)
      let rows = top..<top + side(height - top)
      // one guard byte to each side of every row
      let rowBytes = 3 * columns.count + 1
      var part = [UInt8](repeating: 0xA5, count: 1 + rows.count * rowBytes)
      part.withUnsafeMutableBufferPointer { buffer in
        ImageResizer(interpolation).resize(
          source, to: (width, height), columns: columns, rows: rows, into: UnsafeMutableBufferPointer(rebasing: buffer[1...]), rowBytes: rowBytes)
      }
      #expect(part[0] == 0xA5)
      for row in rows {
        let start = 1 + (row - rows.lowerBound) * rowBytes
        let expected = whole.pixels[(row * width + columns.lowerBound) * 3..<(row * width + columns.upperBound) * 3]
        #expect(part[start..<start + 3 * columns.count].elementsEqual(expected))
        #expect(part[start + 3 * columns.count] == 0xA5)
      }
    }
  }

  @Test("against a naive resampling in double precision", arguments: [Interpolation.box, .bilinear, .bicubic])
  func naive(interpolation: Interpolation) {
    for (width, height, toWidth, toHeight, seed) in [(31, 47, 64, 11, 1), (128, 96, 50, 37, 2), (17, 33, 16, 34, 3), (300, 5, 29, 100, 4)] {
      let source = Noise.image(width: width, height: height, seed: UInt32(seed))
      let result = ImageResizer(interpolation).resize(source, width: toWidth, height: toHeight)
      let columns = Self.weights(from: width, to: toWidth, interpolation)
      let rows = Self.weights(from: height, to: toHeight, interpolation)
      var largest = 0.0
      for y in 0..<toHeight {
        for x in 0..<toWidth {
          for channel in 0..<3 {
            var sum = 0.0
            for (sourceY, rowWeight) in rows[y] {
              var row = 0.0
              for (sourceX, weight) in columns[x] { row += weight * Double(source.pixels[(sourceY * width + sourceX) * 3 + channel]) }
              sum += rowWeight * min(max(row, 0), 255)
            }
            largest = max(largest, abs(min(max(sum, 0), 255) - Double(result.pixels[(y * toWidth + x) * 3 + channel])))
          }
        }
      }
      // two roundings to bytes of half a step each, the first weighted: bicubic's weights have absolute sums up to 1.3
      #expect(largest <= 1.2, "\(interpolation) \(width)×\(height) to \(toWidth)×\(toHeight): \(largest)")
    }
  }

  /// Each output's inputs and weights, by the definition: a filter widened by the scale, cut at the border, of sum 1.
  private static func weights(from count: Int, to target: Int, _ interpolation: Interpolation) -> [[(Int, Double)]] {
    let scale = Double(count) / Double(target)
    let width = max(scale, 1)
    return (0..<target).map { index in
      let all = (0..<count).map { input -> (Int, Double) in
        let offset = (Double(input) + 0.5 - (Double(index) + 0.5) * scale) / width
        let x = abs(offset)
        switch interpolation {
        case .box: return (input, offset > -0.5 && offset <= 0.5 ? 1 : 0)
        case .bilinear: return (input, max(0, 1 - x))
        default:
          if x >= 2 { return (input, 0) }
          return (input, x < 1 ? 1.5 * x * x * x - 2.5 * x * x + 1 : -0.5 * x * x * x + 2.5 * x * x - 4 * x + 2)
        }
      }
      let sum = all.reduce(0) { $0 + $1.1 }
      return all.filter { $0.1 != 0 }.map { ($0.0, $0.1 / sum) }
    }
  }

  @Test("a picture with a very long side")
  func extremes() {
    for (width, height) in [(DecodedImage.longestSide, 1), (1, DecodedImage.longestSide)] {
      let pixels = [UInt8](repeating: 200, count: width * height * 3)
      guard let image = DecodedImage(width: width, height: height, pixels: pixels) else {
        Issue.record("no picture of \(width) × \(height)")
        return
      }
      let result = ImageResizer(.bicubic).resize(image, width: 9, height: 9)
      #expect(result.pixels.allSatisfy { $0 == 200 })
    }
  }
}
