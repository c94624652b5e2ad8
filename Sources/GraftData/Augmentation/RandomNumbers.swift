import Foundation
import GraftGraph

extension SplitMix {
  /// From 0 up to 1, in steps of 2⁻⁵³.
  package mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }

  package mutating func uniform(_ range: ClosedRange<Double>) -> Double {
    range.lowerBound + (range.upperBound - range.lowerBound) * uniform()
  }

  /// From 0 up to `count`, each alike.
  package mutating func below(_ count: Int) -> Int { Int.random(in: 0..<max(1, count), using: &self) }

  /// Mean 0, variance 1 (Box and Muller, 1958).
  package mutating func normal() -> Double { (-2 * log(1 - uniform())).squareRoot() * cos(2 * Double.pi * uniform()) }

  package mutating func chance(_ probability: Double) -> Bool { uniform() < probability }
}
