import Foundation

/// The one number by which logits are divided so that probabilities mean what they say on held-out samples.
///
/// It minimises their summed cross-entropy and (log T)²/8, as if log T were known to be 0 give or take 2: a few samples that are all
/// right would otherwise call for certainty, and among many it does not count. No prediction changes.
///
/// Source: Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", 2017.
public struct TemperatureFit: Sendable, Equatable, Codable {
  /// What a temperature may be: beyond, the samples say only "as certain (or uncertain) as can be".
  static let range = 1e-3...1e3

  public let temperature: Double
  /// Mean cross-entropy before and after.
  public let logLossBefore, logLossAfter: Double
  public let samples: Int
  public let source: ValidationScore.Source

  private enum CodingKeys: String, CodingKey {
    case temperature
    case logLossBefore = "log_loss_before"
    case logLossAfter = "log_loss_after"
    case samples, source
  }

  /// What log T is expected to lie within.
  static let spread = 2.0

  /// Fits by Newton's method on log 1/T, kept within a bracket that the slope's sign narrows.
  ///
  /// `nil` without samples.
  public init?(_ held: HeldOutScores) {
    guard held.count > 0 else { return nil }
    var (low, high) = (-log(Self.range.upperBound), -log(Self.range.lowerBound))
    let prior = 1 / (Self.spread * Self.spread * Double(held.count))
    var place = 0.0
    for _ in 0..<200 {
      let inverse = exp(place), (first, second) = Self.derivatives(held, inverse)
      let slope = inverse * first + prior * place, curvature = inverse * inverse * second + inverse * first + prior
      if slope == 0 { break }
      if slope > 0 { high = place } else { low = place }
      var next = curvature > 0 ? place - slope / curvature : (low + high) / 2
      if !(next > low && next < high) { next = (low + high) / 2 }
      if abs(next - place) <= 1e-12 { break }
      place = next
    }
    temperature = exp(-place)
    (logLossBefore, logLossAfter) = (Self.meanLoss(held, 1), Self.meanLoss(held, exp(place)))
    (samples, source) = (held.count, held.source)
  }

  /// Unclipped, unlike a score's: what is minimised.
  private static func meanLoss(_ held: HeldOutScores, _ inverse: Double) -> Double {
    var sum = 0.0
    held.forEach { own, label in
      let largest = Double(own.max() ?? 0)
      sum += log(own.reduce(0) { $0 + exp((Double($1) - largest) * inverse) }) - (Double(own[label]) - largest) * inverse
    }
    return sum / Double(held.count)
  }

  /// Of the mean cross-entropy by 1/T: the mean of E[z] − z of the label, and the mean variance of z, both under softmax(z/T).
  private static func derivatives(_ held: HeldOutScores, _ inverse: Double) -> (slope: Double, curvature: Double) {
    var (slope, curvature) = (0.0, 0.0)
    held.forEach { own, label in
      let largest = Double(own.max() ?? 0)
      var (total, first, second) = (0.0, 0.0, 0.0)
      for value in own {
        let z = Double(value) - largest, weight = exp(z * inverse)
        total += weight
        first += weight * z
        second += weight * z * z
      }
      let mean = first / total
      slope += mean - (Double(own[label]) - largest)
      curvature += max(0, second / total - mean * mean)
    }
    return (slope / Double(held.count), curvature / Double(held.count))
  }
}
