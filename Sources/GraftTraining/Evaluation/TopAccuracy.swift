import Foundation

/// Running top-1, top-5 and log loss; what training needs to choose λ and `EvaluationAccumulator` builds on.
///
/// Classes are ranked by their logit, equal ones by their index, the lower first.
struct TopAccuracy {
  /// As scikit-learn's log_loss, probabilities are clipped to [ε, 1 − ε] of double precision.
  static let smallestProbability = Double.ulpOfOne

  let classCount: Int
  private(set) var samples = 0
  private var firstHits = 0
  private var fifthHits = 0
  private var lossSum = 0.0

  init(classCount: Int) { self.classCount = classCount }

  var top1: Double { Double(firstHits) / Double(max(1, samples)) }
  /// Top min(5, C).
  var top5: Double { Double(fifthHits) / Double(max(1, samples)) }
  var logLoss: Double { lossSum / Double(max(1, samples)) }

  /// Counts a sample; false, and nothing counted, if a logit isn't finite.
  ///
  /// - Parameter temperature: what logits are divided by for the log loss.
  mutating func add(_ logits: UnsafeBufferPointer<Float>, label: Int, temperature: Double = 1) -> Bool {
    let own = logits[label]
    var rank = 0
    var largest = own
    for (index, logit) in logits.enumerated() {
      guard logit.isFinite else { return false }
      if logit > own || (logit == own && index < label) { rank += 1 }
      largest = max(largest, logit)
    }
    var total = 0.0
    for logit in logits { total += exp((Double(logit) - Double(largest)) / temperature) }
    let probability = exp((Double(own) - Double(largest)) / temperature) / total
    samples += 1
    if rank == 0 { firstHits += 1 }
    if rank < min(5, classCount) { fifthHits += 1 }
    lossSum -= log(min(max(probability, Self.smallestProbability), 1 - Self.smallestProbability))
    return true
  }

  /// The class with the largest logit; the lowest index of equal ones.
  static func prediction(_ logits: UnsafeBufferPointer<Float>) -> Int {
    var best = 0
    for index in logits.indices where logits[index] > logits[best] { best = index }
    return best
  }
}
