import Foundation

/// A value and the interval that holds the true one in 95 of 100 such experiments.
public struct ConfidenceInterval: Sendable, Equatable, Codable {
  public let value, low, high: Double

  public init(value: Double, low: Double, high: Double) { (self.value, self.low, self.high) = (value, low, high) }

  /// The standard normal's quantile at 97.5 %.
  static let normalQuantile = 1.959963984540054

  /// A share of n independent trials, by Wilson's score interval, which stays within 0 and 1 and is right for few samples.
  ///
  /// Of no trials everything is possible, and the value is 0.
  ///
  /// Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
  ///
  /// - Throws: `EvaluationError` for fewer than 0 or more successes than trials.
  public init(successes: Int, of trials: Int) throws(EvaluationError) {
    guard successes >= 0, successes <= trials else { throw EvaluationError(message: "\(successes) of \(trials) is no share") }
    self.init(wilson: successes, of: trials)
  }

  /// Our own invariant: 0 ≤ successes ≤ trials.
  private init(wilson successes: Int, of trials: Int) {
    guard trials > 0 else {
      self.init(value: 0, low: 0, high: 1)
      return
    }
    let n = Double(trials), p = Double(successes) / n, z2 = Self.normalQuantile * Self.normalQuantile
    let centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    let half = Self.normalQuantile / (1 + z2 / n) * (p * (1 - p) / n + z2 / (4 * n * n)).squareRoot()
    // At 0 and n one end is the value itself, but for rounding.
    self.init(value: p, low: successes == 0 ? 0 : centre - half, high: successes == trials ? 1 : centre + half)
  }

  /// The part of it where a share can be: the interval of a mean over draws goes beyond where the mean is near 0 or 1.
  public var ofShare: ConfidenceInterval { ConfidenceInterval(value: value, low: max(0, low), high: min(1, high)) }

  /// A share of n trials, or a mean of such shares: Wilson's interval of the nearest whole number of successes.
  init(share: Double, of trials: Int) {
    let whole = ConfidenceInterval(wilson: Int((share * Double(trials)).rounded()), of: trials)
    self.init(value: share, low: min(share, whole.low), high: max(share, whole.high))
  }

  /// The mean of independent values, by Student's t; a single one has an interval of no width, which says nothing.
  public init(mean values: [Double]) {
    let n = Double(max(1, values.count)), mean = values.reduce(0, +) / n
    guard values.count > 1 else {
      self.init(value: mean, low: mean, high: mean)
      return
    }
    let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / (n - 1)
    let half = StudentT.quantile(0.975, degrees: values.count - 1) * (variance / n).squareRoot()
    self.init(value: mean, low: mean - half, high: mean + half)
  }
}

/// Student's t distribution.
package enum StudentT {
  /// The t below which a share p of the distribution lies, by bisection of `cumulative`.
  package static func quantile(_ p: Double, degrees: Int) -> Double {
    guard p > 0.5 else { return p == 0.5 ? 0 : -quantile(1 - p, degrees: degrees) }
    var (low, high) = (0.0, 1.0)
    while cumulative(high, degrees: degrees) < p, high < 1e12 { high *= 2 }
    for _ in 0..<200 where high - low > 1e-15 * high {
      let middle = (low + high) / 2
      if cumulative(middle, degrees: degrees) < p { low = middle } else { high = middle }
    }
    return (low + high) / 2
  }

  /// P(T ≤ t) for t ≥ 0: 1 − I(ν/(ν + t²); ν/2, 1/2)/2.
  package static func cumulative(_ t: Double, degrees: Int) -> Double {
    let nu = Double(degrees)
    return 1 - incompleteBeta(nu / (nu + t * t), nu / 2, 0.5) / 2
  }

  /// The regularised incomplete beta function, by Lentz's continued fraction where it converges fast.
  private static func incompleteBeta(_ x: Double, _ a: Double, _ b: Double) -> Double {
    guard x > 0 else { return 0 }
    guard x < 1 else { return 1 }
    if x > (a + 1) / (a + b + 2) { return 1 - incompleteBeta(1 - x, b, a) }
    let front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a
    let tiny = 1e-300
    var c = 1.0, d = 1 - (a + b) * x / (a + 1)
    d = 1 / (abs(d) < tiny ? tiny : d)
    var result = d
    for m in 1...500 {
      let m = Double(m)
      for term in [m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)), -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))] {
        d = 1 + term * d
        d = 1 / (abs(d) < tiny ? tiny : d)
        c = 1 + term / c
        if abs(c) < tiny { c = tiny }
        result *= c * d
      }
      if abs(c * d - 1) < 1e-15 { break }
    }
    return front * result
  }
}
