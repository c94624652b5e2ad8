import Foundation
import GraftGraph

/// Draws the part of a picture that a view shows: torchvision's `RandomResizedCrop`.
package struct RandomCrop: Sendable {
  /// The part's area, of the picture's.
  package var area: ClosedRange<Double>
  /// Its width, of its height; drawn evenly by logarithm.
  package var ratio: ClosedRange<Double> = 3 / 4...4 / 3

  package init(area: ClosedRange<Double>, ratio: ClosedRange<Double> = 3 / 4...4 / 3) { (self.area, self.ratio) = (area, ratio) }

  package struct Box: Equatable, Sendable {
    package var x, y, width, height: Int

    package init(x: Int, y: Int, width: Int, height: Int) { (self.x, self.y, self.width, self.height) = (x, y, width, height) }
  }

  /// Ten attempts; where none fits into the picture, the middle, with the nearest ratio allowed.
  package func draw(width: Int, height: Int, using random: inout SplitMix) -> Box {
    let whole = Double(width) * Double(height), ratios = log(ratio.lowerBound)...log(ratio.upperBound)
    for _ in 0..<10 {
      let target = whole * random.uniform(area), shape = exp(random.uniform(ratios))
      let side = (target * shape).squareRoot().rounded(.toNearestOrEven), other = (target / shape).squareRoot().rounded(.toNearestOrEven)
      guard side >= 1, side <= Double(width), other >= 1, other <= Double(height) else { continue }
      let (columns, rows) = (Int(side), Int(other))
      let y = random.below(height - rows + 1), x = random.below(width - columns + 1)
      return Box(x: x, y: y, width: columns, height: rows)
    }
    return Self.middle(width: width, height: height, ratio: ratio)
  }

  static func middle(width: Int, height: Int, ratio: ClosedRange<Double>) -> Box {
    let own = Double(width) / Double(height)
    var (columns, rows) = (width, height)
    if own < ratio.lowerBound {
      rows = min(height, max(1, Int((Double(width) / ratio.lowerBound).rounded(.toNearestOrEven))))
    } else if own > ratio.upperBound {
      columns = min(width, max(1, Int((Double(height) * ratio.upperBound).rounded(.toNearestOrEven))))
    }
    return Box(x: (width - columns) / 2, y: (height - rows) / 2, width: columns, height: rows)
  }

  /// That part of the picture, at the size of `target`, resampled as if there were nothing around it.
  package static func resize(_ image: DecodedImage, _ box: Box, _ interpolation: Interpolation, into target: ViewPixels) {
    var part = image
    if box.width != image.width || box.height != image.height {
      let bytes = [UInt8](unsafeUninitializedCapacity: box.width * box.height * 3) { buffer, count in
        image.pixels.withUnsafeBufferPointer { source in
          for row in 0..<box.height {
            let from = ((box.y + row) * image.width + box.x) * 3, to = row * box.width * 3
            _ = UnsafeMutableBufferPointer(rebasing: buffer[to..<to + box.width * 3])
              .update(fromContentsOf: UnsafeBufferPointer(rebasing: source[from..<from + box.width * 3]))
          }
        }
        count = box.width * box.height * 3
      }
      part = DecodedImage(checkedWidth: box.width, height: box.height, pixels: bytes)
    }
    ImageResizer(interpolation).resize(
      part, to: (target.width, target.height), columns: 0..<target.width, rows: 0..<target.height, into: target.bytes, rowBytes: 3 * target.width)
  }
}
