import Foundation
import GraftGraph

/// Draws the rectangle that random erasing paints over (Zhong et al., 2017), by timm's procedure: 2 % to a third of the picture, its
/// height 0.3 to 1/0.3 of its width, ten attempts.
package enum RandomErasing {
  package static func draw(width: Int, height: Int, using random: inout SplitMix) -> RandomCrop.Box? {
    let whole = Double(width) * Double(height), ratios = log(0.3)...log(1 / 0.3)
    for _ in 0..<10 {
      let target = whole * random.uniform(0.02...1 / 3), shape = exp(random.uniform(ratios))
      let rows = Int((target * shape).squareRoot().rounded(.toNearestOrEven)), columns = Int((target / shape).squareRoot().rounded(.toNearestOrEven))
      guard rows > 0, columns > 0, rows < height, columns < width else { continue }
      let y = random.below(height - rows + 1), x = random.below(width - columns + 1)
      return RandomCrop.Box(x: x, y: y, width: columns, height: rows)
    }
    return nil
  }
}
