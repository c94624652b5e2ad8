/// Strengths compared by folds of the training data, several times over.
public struct CrossValidation: Sendable {
  /// What one strength reaches over all folds of all repeats.
  public struct Result: Sendable, Equatable {
    public let strength: Double
    public let top1: ConfidenceInterval
    public let logLoss: Double
  }

  /// Ascending by strength; one for a kind without strengths.
  public let results: [Result]
  /// The highest mean top-1; of equal ones the lower log loss, then the larger strength.
  public let best: Result
  public let folds, repeats: Int

  /// - Throws: `TrainingOptionError` for fewer than two folds; `TrainingDataError` for a class with fewer samples than two.
  public init(
    _ fitting: any HeadFitting, _ data: LabelledFeatures, classes: [String], folds: Int, repeats: Int = 1, seed: UInt64 = 0,
    onProgress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
  ) throws {
    try LinearTrainingData(train: data, classes: classes).check()
    let counts = try data.classCounts(classCount: classes.count)
    if let rare = counts.indices.min(by: { counts[$0] < counts[$1] }), counts[rare] < 2 {
      throw TrainingDataError(
        message: "\(classes[rare]) has a single training sample, so that a fold without it knows nothing of it. Add samples, or leave --folds away.")
    }
    let samples = data.samples
    let parts = FoldedSamples(samples, labels: samples.map { data.labels[$0[0]] }, classCount: classes.count)
    let scores = try parts.map(folds: folds, repeats: repeats, seed: seed, onProgress: onProgress) { train, held in
      try fitting.scores(train: data.selecting(rows: train), held: data.selecting(rows: held), classes: classes)
    }
    results = FoldedSamples.common(scores, strength: \.strength).map { strength, own in
      Result(strength: strength, top1: ConfidenceInterval(mean: own.map(\.top1)), logLoss: own.reduce(0) { $0 + $1.logLoss } / Double(own.count))
    }
    guard let best = results.max(by: { ($0.top1.value, -$0.logLoss, $0.strength) < ($1.top1.value, -$1.logLoss, $1.strength) }) else {
      throw TrainingOptionError(message: "no strength could be tried in every fold. Give fewer --folds, or a smaller --k.")
    }
    (self.best, self.folds, self.repeats) = (best, folds, repeats)
  }
}
