import Foundation
import GraftData
import GraftGraph

/// Mixes the pictures of a batch with each other, and their targets with them.
///
/// mixup (Zhang et al., 2018) adds two pictures with shares λ and 1 − λ; cutmix (Yun et al., 2019) puts a rectangle of one into the
/// other and takes for λ the share that is left. λ comes from Beta(α, α), once a batch. As in timm, every batch is mixed, each picture
/// with its mirror in the batch's order, and where both are asked for each takes half of the batches.
public struct Mixing: Sendable, Equatable {
  /// α of mixup; 0: none.
  public var mixup: Double
  /// α of cutmix; 0: none.
  public var cutmix: Double

  public init(mixup: Double = 0, cutmix: Double = 0) { (self.mixup, self.cutmix) = (mixup, cutmix) }

  public var isOn: Bool { mixup > 0 || cutmix > 0 }

  /// How one batch is mixed.
  package struct Draw: Equatable, Sendable {
    /// The share that a picture keeps of itself, λ.
    package var share: Double
    /// cutmix's rectangle; `nil` for mixup.
    package var box: RandomCrop.Box?

    package init(share: Double, box: RandomCrop.Box? = nil) { (self.share, self.box) = (share, box) }
  }

  package func draw(width: Int, height: Int, using random: inout SplitMix) -> Draw? {
    guard isOn else { return nil }
    let cuts = mixup > 0 && cutmix > 0 ? random.chance(0.5) : cutmix > 0
    let share = Self.beta(cuts ? cutmix : mixup, using: &random)
    guard cuts else { return Draw(share: share) }
    // The rectangle's sides are (1 − λ)^½ of the picture's, its centre anywhere; what lies outside is cut off, and λ follows.
    let side = (1 - share).squareRoot(), halves = (Int(side * Double(width)) / 2, Int(side * Double(height)) / 2)
    let (x, y) = (random.below(width), random.below(height))
    let columns = max(0, x - halves.0)..<min(width, x + halves.0), rows = max(0, y - halves.1)..<min(height, y + halves.1)
    let box = RandomCrop.Box(x: columns.lowerBound, y: rows.lowerBound, width: columns.count, height: rows.count)
    return Draw(share: 1 - Double(columns.count * rows.count) / Double(width * height), box: box)
  }

  /// Beta(α, α) as G / (G + H), by logarithms: for a small α both may be too small for a number.
  private static func beta(_ alpha: Double, using random: inout SplitMix) -> Double {
    // The limit, where the logarithms themselves would leave the numbers: all or nothing.
    guard alpha > 1e-100 else { return random.chance(0.5) ? 1 : 0 }
    let first = logGamma(alpha, using: &random), second = logGamma(alpha, using: &random)
    return 1 / (1 + exp(second - first))
  }

  /// The logarithm of a number from Gamma(α, 1) (Marsaglia and Tsang, 2000; below 1 by their step from α + 1).
  private static func logGamma(_ alpha: Double, using random: inout SplitMix) -> Double {
    if alpha < 1 { return logGamma(alpha + 1, using: &random) + log(1 - random.uniform()) / alpha }
    let d = alpha - 1 / 3, c = 1 / (9 * d).squareRoot()
    while true {
      let x = random.normal(), root = 1 + c * x
      guard root > 0 else { continue }
      let v = root * root * root
      if log(1 - random.uniform()) < 0.5 * x * x + d - d * v + d * log(v) { return log(d * v) }
    }
  }
}

extension Mixing.Draw {
  /// With which of `count` samples one is mixed.
  package static func partner(of row: Int, count: Int) -> Int { count - 1 - row }

  /// Mixes `count` pictures of [height, width, 3] bytes where they lie. Sums are rounded to the nearest byte, halves up.
  package func apply(to bytes: UnsafeMutableRawBufferPointer, count: Int, width: Int) {
    guard count > 1 else { return }
    let pixels = bytes.bindMemory(to: UInt8.self), size = pixels.count / count
    for first in 0..<count / 2 {
      let one = first * size, other = Self.partner(of: first, count: count) * size
      guard let box else {
        let own = Float(share), rest = Float(1 - share)
        for place in 0..<size {
          let (a, b) = (Float(pixels[one + place]), Float(pixels[other + place]))
          pixels[one + place] = UInt8(own * a + rest * b + 0.5)
          pixels[other + place] = UInt8(own * b + rest * a + 0.5)
        }
        continue
      }
      for row in box.y..<box.y + box.height {
        for place in (row * width + box.x) * 3..<(row * width + box.x + box.width) * 3 { pixels.swapAt(one + place, other + place) }
      }
    }
  }
}
