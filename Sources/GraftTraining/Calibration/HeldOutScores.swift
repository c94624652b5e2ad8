/// What a head says about samples that it was not trained on: what strengths are chosen by and probabilities calibrated on.
public struct HeldOutScores: Sendable {
  /// `[N, C]`
  public let logits: [Float]
  /// `[N]`
  public let labels: [Int]
  public let classCount: Int
  public let source: ValidationScore.Source

  /// - Throws: `TrainingDataError` if the counts don't fit, a label is no class's, or a number isn't finite.
  public init(logits: [Float], labels: [Int], classCount: Int, source: ValidationScore.Source) throws(TrainingDataError) {
    let (needed, overflow) = labels.count.multipliedReportingOverflow(by: classCount)
    guard classCount > 0, !overflow, logits.count == needed else {
      throw TrainingDataError(message: "\(logits.count) scores for \(labels.count) samples and \(classCount) classes")
    }
    if let label = labels.first(where: { !(0..<classCount).contains($0) }) {
      throw TrainingDataError(message: "a validation sample has label \(label), and there are \(classCount) classes")
    }
    if let place = logits.firstIndex(where: { !$0.isFinite }) {
      throw TrainingDataError.notFinite(logits[place], row: "validation row \(place / classCount)")
    }
    (self.logits, self.labels, self.classCount, self.source) = (logits, labels, classCount, source)
  }

  public var count: Int { labels.count }

  /// Top-1 and log loss, by softmax of the scores divided by a temperature.
  public func score(temperature: Double = 1) -> ValidationScore {
    var accuracy = TopAccuracy(classCount: classCount)
    forEach { own, label in _ = accuracy.add(own, label: label, temperature: temperature) }
    return ValidationScore(top1: accuracy.top1, logLoss: accuracy.logLoss, samples: count, source: source)
  }

  func forEach(_ body: (UnsafeBufferPointer<Float>, Int) -> Void) {
    logits.withUnsafeBufferPointer { logits in
      for (row, label) in labels.enumerated() {
        body(UnsafeBufferPointer(rebasing: logits[row * classCount..<(row + 1) * classCount]), label)
      }
    }
  }
}
