/// When to say nothing: below a confidence that was chosen so that what is said has a wanted precision.
public struct Abstention: Sendable, Equatable, Codable {
  /// What was asked for.
  public let target: Double
  /// Predictions are accepted from this confidence on; `nil` if no threshold reaches the target on validation data.
  public let threshold: Double?
  /// On the samples that the threshold was chosen on: share of them accepted, and how many of these are right.
  public let validation: Outcomes
  /// On the samples that are scored.
  public internal(set) var test: Outcomes?

  public struct Outcomes: Sendable, Equatable, Codable {
    public let coverage, precision: Double
    public let samples: Int

    /// - Parameter threshold: `nil`: nothing is accepted.
    public init(_ outcomes: [Outcome], threshold: Double?) {
      let accepted = threshold.map { threshold in outcomes.filter { $0.confidence >= threshold } } ?? []
      samples = outcomes.count
      coverage = Double(accepted.count) / Double(max(1, outcomes.count))
      precision = Double(accepted.count(where: \.isRight)) / Double(max(1, accepted.count))
    }
  }

  /// The lowest threshold that reaches the target, which is the one that accepts the most.
  public init(_ outcomes: [Outcome], target: Double) {
    let ordered = outcomes.sorted { $0.confidence > $1.confidence }
    var (right, best): (Int, Double?) = (0, nil)
    for (place, outcome) in ordered.enumerated() {
      right += outcome.isRight ? 1 : 0
      // Equal confidences are accepted together.
      if place + 1 < ordered.count, ordered[place + 1].confidence == outcome.confidence { continue }
      if Double(right) >= target * Double(place + 1) { best = outcome.confidence }
    }
    (self.target, threshold, validation) = (target, best, Outcomes(outcomes, threshold: best))
  }

  /// The same threshold on other samples.
  public func scored(on outcomes: [Outcome]) -> Abstention {
    var copy = self
    copy.test = Outcomes(outcomes, threshold: threshold)
    return copy
  }
}
