import Foundation

/// How well confidences agree with accuracy: samples in bins of equal width by the probability of the class that was predicted.
///
/// Source: Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", 2015.
public struct Reliability: Sendable, Equatable, Codable {
  public struct Bin: Sendable, Equatable, Codable {
    /// Confidences above `low` and up to `high`.
    public let low, high: Double
    public fileprivate(set) var samples = 0
    /// Means over the bin's samples; 0 without any.
    public fileprivate(set) var confidence = 0.0
    public fileprivate(set) var accuracy = 0.0
  }

  public static let binCount = 15

  public let bins: [Bin]
  /// The expected calibration error: the mean distance of confidence and accuracy, each bin counting as many as it has samples.
  public let error: Double

  private enum CodingKeys: String, CodingKey {
    case bins
    case error = "expected_calibration_error"
  }

  /// - Parameter outcomes: for each sample the confidence and whether the prediction was right.
  /// - Throws: `EvaluationError` for a confidence that is no probability.
  public init(_ outcomes: [Outcome], binCount: Int = binCount) throws(EvaluationError) {
    if let wrong = outcomes.first(where: { !(0...1).contains($0.confidence) }) {
      throw EvaluationError(message: "a confidence is \(wrong.confidence); it must lie between 0 and 1")
    }
    let count = max(1, binCount)
    var bins = (0..<count).map { Bin(low: Double($0) / Double(count), high: Double($0 + 1) / Double(count)) }
    for outcome in outcomes {
      let place = min(max(Int((outcome.confidence * Double(count)).rounded(.up)) - 1, 0), count - 1)
      bins[place].samples += 1
      bins[place].confidence += outcome.confidence
      bins[place].accuracy += outcome.isRight ? 1 : 0
    }
    var sum = 0.0
    for place in bins.indices where bins[place].samples > 0 {
      sum += abs(bins[place].confidence - bins[place].accuracy)
      bins[place].confidence /= Double(bins[place].samples)
      bins[place].accuracy /= Double(bins[place].samples)
    }
    (self.bins, error) = (bins, sum / Double(max(1, outcomes.count)))
  }
}

/// What became of one sample.
public struct Outcome: Sendable, Equatable {
  /// The probability of the class that was predicted.
  public let confidence: Double
  public let isRight: Bool

  public init(confidence: Double, isRight: Bool) { (self.confidence, self.isRight) = (confidence, isRight) }

  /// By softmax of logits divided by a temperature; of equal logits the lower class is predicted.
  init(_ logits: UnsafeBufferPointer<Float>, label: Int, temperature: Double) {
    let best = TopAccuracy.prediction(logits), largest = Double(logits[best])
    let total = logits.reduce(0) { $0 + exp((Double($1) - largest) / temperature) }
    self.init(confidence: 1 / total, isRight: best == label)
  }
}

extension HeldOutScores {
  /// Confidences by softmax of the scores divided by a temperature.
  public func outcomes(temperature: Double) -> [Outcome] {
    var result: [Outcome] = []
    result.reserveCapacity(count)
    forEach { result.append(Outcome($0, label: $1, temperature: temperature)) }
    return result
  }
}
