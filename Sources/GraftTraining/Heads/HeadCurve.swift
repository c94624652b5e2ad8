import Foundation

/// Heads as a function of λ, through some that are known: where the next one is looked for.
///
/// A ridge's solution is a sum of parts b/(m + λ). Where λ is strong, softmax regression is nearly one, and sums of three such parts
/// with well chosen m foretell it to 1e-4; where it is weak, heads grow about as log λ falls, and polynomials of it do better. Which
/// of them is trusted is decided by how well each would have foretold the newest head that is known.
package struct HeadCurve {
  private enum Form: CaseIterable {
    /// Parts with m = 0, m = the weakest λ that is known, and m without bound.
    case ridge
    /// Polynomials of log λ.
    case parabola, cubic

    var pointCount: Int { self == .cubic ? 4 : 3 }

    /// What the heads at `places` count in the head at `place`: Lagrange's polynomials, of what `ridge` is a quotient of.
    func shares(_ places: [Double], at place: Double) -> [Double] {
      let last = places[places.count - 1]
      func position(_ l2: Double) -> Double { self == .ridge ? l2 : log(l2) }
      func divisor(_ l2: Double) -> Double { self == .ridge ? l2 * (l2 + last) : 1 }
      return places.indices.map { index in
        places.indices.reduce(divisor(places[index]) / divisor(place)) { product, other in
          other == index
            ? product : product * (position(place) - position(places[other])) / (position(places[index]) - position(places[other]))
        }
      }
    }
  }

  /// λ, descending, and the heads there.
  private let known: [(l2: Double, parameters: [Double])]
  private let form: Form

  /// Heads that are worth knowing.
  package static let pointCount = 5

  /// - Parameter known: λ above 0, descending, and the head there; nil if they are too few.
  package init?(_ known: [(l2: Double, parameters: [Double])]) {
    guard known.count >= Form.parabola.pointCount else { return nil }
    self.known = known
    let usable = Form.allCases.filter { $0.pointCount < known.count }
    form = usable.map { ($0, Self.missed(known, by: $0)) }.min { $0.1 < $1.1 }?.0 ?? .parabola
  }

  /// The head at `l2`, or as far ahead as what is known reaches back: beyond that a curve through rounding leads away.
  package func head(at l2: Double) -> [Double] {
    let points = known.suffix(form.pointCount), places = points.map(\.l2), last = places[places.count - 1]
    return Self.sum(points, form.shares(places, at: max(l2, last * last / places[0])))
  }

  /// The squared distance between the newest head and what those before it say.
  private static func missed(_ known: [(l2: Double, parameters: [Double])], by form: Form) -> Double {
    let newest = known[known.count - 1], points = known.dropLast().suffix(form.pointCount)
    let foretold = sum(points, form.shares(points.map(\.l2), at: newest.l2))
    return zip(foretold, newest.parameters).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
  }

  private static func sum(_ points: ArraySlice<(l2: Double, parameters: [Double])>, _ shares: [Double]) -> [Double] {
    var result = [Double](repeating: 0, count: points.first?.parameters.count ?? 0)
    for (point, share) in zip(points, shares) { VectorMath.add(share, point.parameters, to: &result) }
    return result
  }
}
