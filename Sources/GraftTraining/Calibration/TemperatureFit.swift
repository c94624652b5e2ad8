import Foundation

/// The one number by which logits are divided so that probabilities mean what they say on held-out samples.
///
/// It minimises their mean cross-entropy, which is convex in 1/T; no prediction changes. With N samples a label's share of the target
/// is (N + 1)/(N + 2), the other classes have the rest alike: otherwise a few samples that are all right would call for certainty.
///
/// Sources: Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", 2017; Platt, "Probabilistic outputs for
/// support vector machines", 1999 (the targets).
public struct TemperatureFit: Sendable, Equatable, Codable {
  /// What a temperature may be: beyond, the samples say only "as certain (or uncertain) as can be".
  static let range = 1e-3...1e3

  public let temperature: Double
  /// Mean cross-entropy with the labels themselves, before and after.
  public let logLossBefore, logLossAfter: Double
  public let samples: Int
  public let source: ValidationScore.Source

  private enum CodingKeys: String, CodingKey {
    case temperature
    case logLossBefore = "log_loss_before"
    case logLossAfter = "log_loss_after"
    case samples, source
  }

  /// Fits by Newton's method on the inverse temperature, kept within a bracket that the slope's sign narrows.
  ///
  /// `nil` without samples.
  public init?(_ held: HeldOutScores) {
    guard held.count > 0 else { return nil }
    var (low, high) = (1 / Self.range.upperBound, 1 / Self.range.lowerBound)
    var inverse = 1.0
    for _ in 0..<100 {
      let (slope, curvature) = Self.derivatives(held, inverse)
      if slope == 0 { break }
      if slope > 0 { high = inverse } else { low = inverse }
      var next = curvature > 0 ? inverse - slope / curvature : (low * high).squareRoot()
      if !(next > low && next < high) { next = (low * high).squareRoot() }
      if abs(next - inverse) <= 1e-12 * inverse { break }
      inverse = next
    }
    temperature = 1 / inverse
    (logLossBefore, logLossAfter) = (Self.meanLoss(held, 1), Self.meanLoss(held, inverse))
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

  /// Of the mean cross-entropy by 1/T: the mean of E[z] − z of the target, and the mean variance of z, both under softmax(z/T).
  private static func derivatives(_ held: HeldOutScores, _ inverse: Double) -> (slope: Double, curvature: Double) {
    var (slope, curvature) = (0.0, 0.0)
    let ofOthers = 1 / Double(held.count + 2), others = Double(max(1, held.classCount - 1))
    held.forEach { own, label in
      let largest = Double(own.max() ?? 0)
      var (total, first, second, sum) = (0.0, 0.0, 0.0, 0.0)
      for value in own {
        let z = Double(value) - largest, weight = exp(z * inverse)
        total += weight
        first += weight * z
        second += weight * z * z
        sum += z
      }
      let mean = first / total, ofLabel = Double(own[label]) - largest
      slope += mean - (1 - ofOthers) * ofLabel - ofOthers * (sum - ofLabel) / others
      curvature += max(0, second / total - mean * mean)
    }
    return (slope / Double(held.count), curvature / Double(held.count))
  }
}
