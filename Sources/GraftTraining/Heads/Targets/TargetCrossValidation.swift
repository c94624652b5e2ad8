/// Strengths of heads for labels or numbers compared by folds of the training data, several times over.
public struct TargetCrossValidation: Sendable {
  /// What one strength reaches over all folds of all repeats.
  public struct Result: Sendable, Equatable {
    public let strength: Double
    /// What strengths are chosen by: the loss that is trained by.
    public let loss: ConfidenceInterval
    /// Mean average precision of labels, R² of numbers.
    public let measure: ConfidenceInterval
    /// Log loss of labels, RMSE of numbers.
    public let error: ConfidenceInterval
  }

  /// Ascending by strength; one for a kind without strengths.
  public let results: [Result]
  /// The least mean loss; of equal ones the larger strength.
  public let best: Result
  public let folds, repeats: Int

  /// Folds are drawn without regard to the targets. The validation split is not looked at.
  ///
  /// - Throws: `TrainingOptionError` for fewer than two folds; `TrainingDataError` for fewer samples than folds, or labels that a fold's
  ///   training samples all have or lack.
  public init(
    _ fitting: any TargetHeadFitting, _ data: TargetTrainingData, folds: Int, repeats: Int = 1, seed: UInt64 = 0,
    onProgress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
  ) throws {
    try data.check()
    let samples = data.train.samples
    let parts = FoldedSamples(samples, labels: [Int](repeating: 0, count: samples.count), classCount: 1)
    let scores = try parts.map(folds: folds, repeats: repeats, seed: seed, onProgress: onProgress) { train, held in
      try fitting.scores(
        TargetTrainingData(
          task: data.task, names: data.names, train: data.train.selecting(rows: train), validation: data.train.selecting(rows: held)))
    }
    results = FoldedSamples.common(scores, strength: \.strength).map { strength, own in
      Result(
        strength: strength, loss: ConfidenceInterval(mean: own.map(\.loss)), measure: ConfidenceInterval(mean: own.map(\.score.measures.measure)),
        error: ConfidenceInterval(mean: own.map(\.score.measures.error)))
    }
    guard let best = results.min(by: { ($0.loss.value, -$0.strength) < ($1.loss.value, -$1.strength) }) else {
      throw TrainingOptionError(message: "no strength could be tried in every fold. Give fewer --folds, or a smaller --k.")
    }
    (self.best, self.folds, self.repeats) = (best, folds, repeats)
  }
}

extension TargetScore.Measures {
  /// Mean average precision or R²
  fileprivate var measure: Double {
    switch self {
    case .multilabel(let meanAveragePrecision, _): meanAveragePrecision
    case .regression(_, let r2): r2
    }
  }

  /// Log loss or RMSE
  fileprivate var error: Double {
    switch self {
    case .multilabel(_, let logLoss): logLoss
    case .regression(let rmse, _): rmse
    }
  }
}
