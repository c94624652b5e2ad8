/// What trains heads of one kind.
public protocol HeadFitting {
  var kind: HeadMetadata.Kind { get }
  /// Values of `strength` to choose among; empty for a kind without one.
  var strengths: [Double] { get }

  /// Fits a head for every strength on `train` and scores each on samples it has not seen.
  ///
  /// - Returns: as many as there are strengths, in their order; one for a kind without.
  func scores(train: LabelledFeatures, held: LabelledFeatures, classes: [String]) throws -> [StrengthScore]

  /// Trains the head that is kept.
  ///
  /// - Parameters:
  ///   - strength: the one to train with; `nil`: chosen on validation data.
  ///   - metadata: what the head is to know; kind, strength and temperature are filled in here.
  /// - Throws: `TrainingDataError`, `TrainingOptionError`, or what reading the features or `onProgress` throws.
  func fit(
    _ data: LinearTrainingData, strength: Double?, metadata: HeadMetadata, onProgress: @escaping (String) throws -> Void
  ) throws -> FittedHead
}

/// How one strength does on samples that were not trained on.
public struct StrengthScore: Sendable, Equatable {
  /// λ, α, or the number of neighbours.
  public let strength: Double
  public let top1: Double
  public let logLoss: Double
  /// Of a solver that goes step by step: how many steps it took, and whether it came to the minimum.
  public let iterations: Int?
  public let converged: Bool?
  /// Of such a solver: whether it was spared the strength, whose head lies between those of others.
  public let interpolated: Bool?

  public init(strength: Double, top1: Double, logLoss: Double, iterations: Int? = nil, converged: Bool? = nil, interpolated: Bool? = nil) {
    (self.strength, self.top1, self.logLoss) = (strength, top1, logLoss)
    (self.iterations, self.converged, self.interpolated) = (iterations, converged, interpolated)
  }
}

/// A trained head and how it came about.
public struct FittedHead: Sendable {
  public internal(set) var classifier: any FeatureClassifier
  /// What was chosen or given; `nil` for a kind without strengths.
  public let strength: Double?
  /// How it does on samples not trained on, where there were any.
  public var validation: ValidationScore?
  public var calibration: TemperatureFit?
  /// Every strength tried.
  public var sweep: [StrengthScore] = []
  /// Of the linear head alone: what is minimised, the solver's iterations, and how it ended.
  public var objective: Double?
  public var iterations: Int?
  public var status: String?
  /// Of a head trained by steps.
  public var history: [EpochRecord] = []

  init(_ classifier: any FeatureClassifier, strength: Double?) { (self.classifier, self.strength) = (classifier, strength) }
}

extension LinearTrainingData {
  /// Training and validation samples: the data set's own split, or a share of the training samples held out.
  func parted(fraction: Double, seed: UInt64) throws -> (train: LabelledFeatures, held: LabelledFeatures, source: ValidationScore.Source)? {
    if let validation { return (train, validation, .split) }
    let holdout = Holdout(train, classCount: classes.count, fraction: fraction, seed: seed)
    guard !holdout.validation.isEmpty else { return nil }
    return (try train.selecting(rows: holdout.training), try train.selecting(rows: holdout.validation), .holdout)
  }

  /// Where samples have several views leaving out one row leaves the others in: then a part of the samples is held out instead.
  ///
  /// `nil` where every row is a sample of its own.
  func partedViews() throws -> LinearTrainingData? {
    guard train.samples.count < train.rowCount, let parts = try parted(fraction: 0.2, seed: 0) else { return nil }
    return LinearTrainingData(train: parts.train, validation: parts.held, classes: classes)
  }
}
