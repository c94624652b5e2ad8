import GraftData

/// What trains heads of one kind for labels or numbers.
public protocol TargetHeadFitting {
  var kind: HeadMetadata.Kind { get }
  /// Values of `strength` to choose among; empty for a kind without one.
  var strengths: [Double] { get }

  /// Fits a head for every strength to the training samples and scores each on the validation samples.
  ///
  /// Our own invariant: there are validation samples.
  ///
  /// - Returns: as many as there are strengths, but for those that can't be the best; one for a kind without.
  func scores(_ data: TargetTrainingData) throws -> [TargetStrengthScore]

  /// Trains the head that is kept.
  ///
  /// - Parameters:
  ///   - strength: the one to train with; `nil`: chosen on validation data.
  ///   - metadata: what the head is to know; kind and strength are filled in here.
  /// - Throws: `TrainingDataError`, `TrainingOptionError`, or what reading the features or `onProgress` throws.
  func fit(
    _ data: TargetTrainingData, strength: Double?, metadata: HeadMetadata, onProgress: @escaping (String) throws -> Void
  ) throws -> FittedTargetHead
}

extension TargetHeadFitting {
  /// Trains the head that is kept, with the strength that is best on validation data.
  public func fit(
    _ data: TargetTrainingData, metadata: HeadMetadata, onProgress: @escaping (String) throws -> Void
  ) throws -> FittedTargetHead {
    try fit(data, strength: nil, metadata: metadata, onProgress: onProgress)
  }
}

extension TargetTrainingData {
  /// The metadata of a head that nobody keeps.
  var unnamedMetadata: HeadMetadata {
    HeadMetadata(
      task: task, classes: names, cut: nil, backboneSHA256: nil, backboneFile: nil, preprocessing: nil, featureNormalisation: .none, l2: 0,
      graftVersion: "")
  }
}

/// How good a head for labels or numbers is on samples that were not trained on.
public struct TargetScore: Sendable, Equatable, Encodable {
  public enum Measures: Sendable, Equatable {
    /// Macro average of the labels' average precisions, and the mean log loss over samples and labels.
    case multilabel(meanAveragePrecision: Double, logLoss: Double)
    /// Means over the targets of the root of the mean squared error, in the user's units, and of the share of the variance explained.
    case regression(rmse: Double, r2: Double)
  }

  public let measures: Measures
  public let samples: Int
  public let source: ValidationScore.Source

  private enum CodingKeys: String, CodingKey {
    case samples, source, rmse, r2
    case meanAveragePrecision = "mean_average_precision"
    case logLoss = "log_loss"
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(samples, forKey: .samples)
    try container.encode(source, forKey: .source)
    switch measures {
    case .multilabel(let meanAveragePrecision, let logLoss):
      try container.encode(meanAveragePrecision, forKey: .meanAveragePrecision)
      try container.encode(logLoss, forKey: .logLoss)
    case .regression(let rmse, let r2):
      try container.encode(rmse, forKey: .rmse)
      try container.encode(r2, forKey: .r2)
    }
  }
}

/// How one strength does on samples that were not trained on.
public struct TargetStrengthScore: Sendable, Equatable {
  /// λ, α, or the number of neighbours.
  public let strength: Double
  public let score: TargetScore
  /// What strengths are chosen by, a mean over the samples: the loss that is trained by. For numbers it is of targets in units of their
  /// standard deviation, so that one in large units does not decide alone.
  public let loss: Double
  public let iterations: Int?
  public let converged: Bool?

  public init(strength: Double, score: TargetScore, loss: Double, iterations: Int? = nil, converged: Bool? = nil) {
    (self.strength, self.score, self.loss, self.iterations, self.converged) = (strength, score, loss, iterations, converged)
  }
}

/// A trained head for labels or numbers, and how it came about.
public struct FittedTargetHead: Sendable {
  public internal(set) var classifier: any FeatureClassifier
  /// What was chosen or given; `nil` for a kind without strengths.
  public let strength: Double?
  /// How it does on samples not trained on, where there were any.
  public var validation: TargetScore?
  /// Every strength tried, ascending.
  public var sweep: [TargetStrengthScore] = []
  /// Of a head by L-BFGS: what is minimised, the iterations, and how it ended.
  public var objective: Double?
  public var iterations: Int?
  public var status: String?
  /// Of a head trained by steps.
  public var history: [EpochRecord] = []

  init(_ classifier: any FeatureClassifier, strength: Double?) { (self.classifier, self.strength) = (classifier, strength) }
}

/// What a head says about samples that it was not trained on, and what it should say.
struct HeldOutTargets {
  let task: LabelTask
  /// T
  let width: Int
  /// `[N, T]`, logits of labels, or numbers in the user's units.
  let outputs: [Float]
  /// `[N, T]`
  let targets: [Double]
  let source: ValidationScore.Source

  /// - Throws: `TrainingDataError` if a number isn't finite.
  init(_ task: LabelTask, outputs: [Float], data: TargetedFeatures, source: ValidationScore.Source) throws(TrainingDataError) {
    if let place = outputs.firstIndex(where: { !$0.isFinite }) {
      throw TrainingDataError.notFinite(outputs[place], row: "validation " + data.name(ofRow: place / max(1, data.targetCount)))
    }
    self.init(task, outputs: outputs, targets: data.targets, width: data.targetCount, source: source)
  }

  /// Our own invariant: the counts belong together.
  init(_ task: LabelTask, outputs: [Float], targets: [Double], width: Int, source: ValidationScore.Source) {
    precondition(outputs.count == targets.count && width > 0)
    (self.task, self.width, self.outputs, self.targets, self.source) = (task, width, outputs, targets, source)
  }

  var count: Int { targets.count / width }

  func score() -> TargetScore {
    let measures: TargetScore.Measures =
      switch task {
      case .regression:
        {
          let sums = RegressionSums(outputs: outputs, targets: targets, width: width)
          return .regression(rmse: sums.rmse.mean, r2: sums.r2.mean)
        }()
      default:
        .multilabel(
          meanAveragePrecision: (0..<width).map { RankedScores(outputs: outputs, targets: targets, width: width, column: $0).averagePrecision() }
            .mean,
          logLoss: LabelLoss.mean(outputs: outputs, targets: targets))
      }
    return TargetScore(measures: measures, samples: count, source: source)
  }

  /// The mean loss over the samples, in the units of training.
  func loss(_ loss: Loss, _ scaling: TargetScaling) -> Double {
    let wanted = scaling.scaled(targets), given = scaling.scaled(outputs.map(Double.init))
    return (0..<count).reduce(0) { $0 + loss.value(outputs: given[$1 * width..<($1 + 1) * width], targets: wanted[$1 * width..<($1 + 1) * width]) }
      / Double(max(1, count))
  }
}

extension FeatureClassifier {
  /// What it says about samples of its task that it was not trained on.
  func heldOut(_ data: TargetedFeatures, source: ValidationScore.Source, backend: any LinearBackend) throws -> HeldOutTargets {
    var all: [Float] = []
    all.reserveCapacity(data.targets.count)
    try forEachLogits(of: data.features, file: "the head", backend: backend) { all += $1 }
    return try HeldOutTargets(metadata.task, outputs: all, data: data, source: source)
  }
}

extension HeadMetadata {
  /// Takes note of how the head does on validation data.
  mutating func record(_ score: TargetScore?) {
    switch score?.measures {
    case .multilabel(let precision, let loss):
      (metrics["validation_mean_average_precision"], metrics["validation_log_loss"]) = (precision, loss)
    case .regression(let rmse, let r2): (metrics["validation_rmse"], metrics["validation_r2"]) = (rmse, r2)
    case nil: break
    }
  }
}

extension [Double] {
  /// 0 of none.
  var mean: Double { reduce(0, +) / Double(Swift.max(1, count)) }
}
