import Foundation
import GraftTraining
import Testing

@Suite struct HeadCurveTests {
  private static let strengths = (0..<5).map { 4 * pow(0.6, Double($0)) }

  private func curve(_ count: Int = 5, _ head: (Double) -> [Double]) -> HeadCurve? {
    HeadCurve(Self.strengths.prefix(count).map { ($0, head($0)) })
  }

  /// A ridge's next head lies a tenth as far from what is foretold as from the last that is known, or less.
  @Test(arguments: [[0, 1e-4, 1e-3, 5e-3, 50, 1e3], [0.1, 0.2, 0.4, 1, 3], [0, 1e-3, 0.1, 0.4, 1, 3, 20, 1e4]])
  func foretellsARidge(moments: [Double]) throws {
    let head = { (l2: Double) in moments.map { (1 + $0) / ($0 + l2) } }
    func distance(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }.squareRoot() }
    let last = Self.strengths[4], next = 0.6 * last, found = try #require(curve(5, head)).head(at: next)
    #expect(distance(found, head(next)) < 0.1 * distance(head(last), head(next)))
  }

  /// Heads that grow as a polynomial of log λ does are met exactly.
  @Test func foretellsPolynomialsOfTheLogarithm() throws {
    let head = { (l2: Double) in [1 - log(l2), pow(log(l2), 2), 0.3 * pow(log(l2), 3) - 2] }
    let next = 0.6 * Self.strengths[4], found = try #require(curve(5, head)).head(at: next)
    for (mine, exact) in zip(found, head(next)) { #expect(abs(mine - exact) < 1e-9) }
  }

  @Test func goesNoFurtherAheadThanItReachesBack() throws {
    let curve = try #require(curve(3) { [1 / $0] })
    #expect(curve.head(at: 1e-9) == curve.head(at: Self.strengths[2] * Self.strengths[2] / Self.strengths[0]))
    #expect(self.curve(2) { [$0] } == nil)
  }
}
