/// Ridge regression on targets of ±1; the strength is α, of which the sum of squares, not its mean, is penalised.
///
/// Without a validation split the strength is the one with the least leave-one-out error, as RidgeClassifierCV chooses it.
public struct RidgeFitting: HeadFitting {
  /// A decade apart from 1e-3 to 1e6.
  public static let defaultStrengths: [Double] = [1e-3, 1e-2, 1e-1, 1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6]

  public let strengths: [Double]
  public let featureNormalisation: FeatureNormalisation
  private let backend: any LinearBackend

  /// - Throws: `TrainingOptionError` for strengths that are none.
  public init(
    strengths: [Double] = defaultStrengths, featureNormalisation: FeatureNormalisation = .none, backend: any LinearBackend = HostLinearBackend()
  ) throws(TrainingOptionError) {
    guard !strengths.isEmpty, strengths.allSatisfy({ $0 >= 0 && $0.isFinite }) else {
      throw TrainingOptionError(message: "ridge needs strengths that are not negative, such as 1")
    }
    (self.strengths, self.featureNormalisation, self.backend) = (Array(Set(strengths)).sorted(), featureNormalisation, backend)
  }

  public var kind: HeadMetadata.Kind { .ridge }

  public func scores(train: LabelledFeatures, held: LabelledFeatures, classes: [String]) throws -> [StrengthScore] {
    try LinearTrainingData(train: train, validation: held, classes: classes).check()
    let path = try RidgePath(train, classCount: classes.count, normalisation: featureNormalisation)
    return try strengths.map { alpha in
      let score = try scored(path, alpha, held, classes, source: .folds).score()
      return StrengthScore(strength: alpha, top1: score.top1, logLoss: score.logLoss)
    }
  }

  public func fit(
    _ data: LinearTrainingData, strength: Double?, metadata: HeadMetadata, onProgress: @escaping (String) throws -> Void
  ) throws -> FittedHead {
    try data.check()
    if data.validation == nil, let parts = try data.partedViews() {
      var chosen = try fit(parts, strength: strength, metadata: metadata, onProgress: onProgress)
      let path = try RidgePath(data.train, classCount: data.classes.count, normalisation: featureNormalisation)
      chosen.classifier = try head(path, chosen.strength ?? strengths[0], metadata: chosen.classifier.metadata)
      return chosen
    }
    try onProgress("the matrix of \(min(data.train.features.dimension, data.train.rowCount)) rows")
    let path = try RidgePath(data.train, classCount: data.classes.count, normalisation: featureNormalisation)
    let alpha: Double, held: HeldOutScores
    var sweep: [StrengthScore] = []
    if let split = data.validation {
      let tried = try (strength.map { [$0] } ?? strengths).map { ($0, try scored(path, $0, split, data.classes, source: .split)) }
      sweep = tried.map { alpha, held in
        let score = held.score()
        return StrengthScore(strength: alpha, top1: score.top1, logLoss: score.logLoss)
      }
      guard let best = sweep.indices.max(by: { (sweep[$0].top1, -sweep[$0].logLoss) < (sweep[$1].top1, -sweep[$1].logLoss) }) else {
        throw TrainingOptionError(message: "ridge needs a strength")
      }
      (alpha, held) = tried[best]
    } else {
      try onProgress("leaving out each sample")
      let points = try path.leaveOneOut(strength.map { [$0] } ?? strengths)
      sweep = points.map { StrengthScore(strength: $0.alpha, top1: $0.score.top1, logLoss: $0.score.logLoss) }
      guard let best = points.min(by: { $0.error < $1.error }) else { throw TrainingOptionError(message: "ridge needs a strength") }
      alpha = best.alpha
      held = try HeldOutScores(logits: best.predictions, labels: data.train.labels, classCount: data.classes.count, source: .leaveOneOut)
    }
    var metadata = metadata
    let calibration = metadata.calibrate(held)
    metadata.metrics["validation_top1"] = held.score().top1
    var fitted = FittedHead(try head(path, alpha, metadata: metadata), strength: alpha)
    (fitted.validation, fitted.calibration, fitted.sweep) = (held.score(), calibration, sweep)
    return fitted
  }

  private func scored(
    _ path: RidgePath, _ alpha: Double, _ held: LabelledFeatures, _ classes: [String], source: ValidationScore.Source
  ) throws -> HeldOutScores {
    try head(path, alpha, metadata: HeadMetadata(unnamed: classes)).heldOutScores(held, source: source, backend: backend)
  }

  private func head(_ path: RidgePath, _ alpha: Double, metadata: HeadMetadata) throws -> Head {
    var metadata = metadata
    (metadata.kind, metadata.featureNormalisation, metadata.l2) = (.ridge, featureNormalisation, alpha)
    let (weight, bias) = try path.layer(alpha: alpha)
    return try Head(weight: weight.map(Float.init), bias: bias.map(Float.init), metadata: metadata)
  }
}

extension HeadMetadata {
  /// Of a head that is scored and thrown away.
  init(unnamed classes: [String]) {
    self.init(
      classes: classes, cut: nil, backboneSHA256: nil, backboneFile: nil, preprocessing: nil, featureNormalisation: .none, l2: 0, graftVersion: "")
  }
}
