import GraftData

/// Ridge regression of numbers; the strength is α, of which the sum of squares, not its mean, is penalised.
///
/// Targets are fitted in units of their standard deviation, which leaves the solution of each as it is and lets one α be chosen for
/// all: by the validation split, or by the least leave-one-out error, as scikit-learn's RidgeCV.
public struct TargetRidgeFitting: TargetHeadFitting {
  public let strengths: [Double]
  public let featureNormalisation: FeatureNormalisation
  private let backend: any LinearBackend

  /// - Throws: `TrainingOptionError` for strengths that are none.
  public init(
    strengths: [Double] = RidgeFitting.defaultStrengths, featureNormalisation: FeatureNormalisation = .none,
    backend: any LinearBackend = HostLinearBackend()
  ) throws(TrainingOptionError) {
    // The same strengths are strengths for classes.
    self.strengths = try RidgeFitting(strengths: strengths).strengths
    (self.featureNormalisation, self.backend) = (featureNormalisation, backend)
  }

  public var kind: HeadMetadata.Kind { .ridge }

  public func scores(_ data: TargetTrainingData) throws -> [TargetStrengthScore] {
    try check(data)
    guard let held = data.validation else { preconditionFailure("scores need validation samples") }
    return try scores(RidgeProblem(data.train, featureNormalisation), strengths, held, .folds, data.unnamedMetadata)
  }

  private func check(_ data: TargetTrainingData) throws {
    try data.check()
    guard data.task == .regression else { throw TrainingOptionError(message: "ridge tells numbers, and the samples have \(data.task.outputWord)") }
  }

  private func scores(
    _ problem: RidgeProblem, _ strengths: [Double], _ held: TargetedFeatures, _ source: ValidationScore.Source, _ metadata: HeadMetadata
  ) throws -> [TargetStrengthScore] {
    try strengths.map { alpha in
      let held = try problem.head(alpha, metadata).heldOut(held, source: source, backend: backend)
      return TargetStrengthScore(strength: alpha, score: held.score(), loss: held.loss(.squared, problem.scaling))
    }
  }

  public func fit(
    _ data: TargetTrainingData, strength: Double?, metadata: HeadMetadata, onProgress: @escaping (String) throws -> Void
  ) throws -> FittedTargetHead {
    try check(data)
    let strengths = strength.map { [$0] } ?? strengths
    try onProgress("the matrix of \(min(data.train.features.dimension, data.train.rowCount)) rows")
    // Leaving out one row of a sample with several views leaves the others in: a part of the samples is held out instead.
    let parts = data.validation != nil || data.train.hasViews ? try data.parted(fraction: 0.2, seed: 0) : nil
    let fitted = try RidgeProblem(parts?.train ?? data.train, featureNormalisation)
    let tried: [TargetStrengthScore]
    if let parts {
      tried = try scores(fitted, strengths, parts.held, parts.source, metadata)
    } else {
      try onProgress("leaving out each sample")
      tried = try zip(strengths, fitted.leaveOneOut(strengths)).map { alpha, held in
        TargetStrengthScore(strength: alpha, score: held.score(), loss: held.loss(.squared, fitted.scaling))
      }
    }
    // Of equal losses the stronger penalty.
    guard let best = tried.min(by: { ($0.loss, -$0.strength) < ($1.loss, -$1.strength) }) else {
      throw TrainingOptionError(message: "ridge needs a strength")
    }
    let whole = parts?.source == .holdout ? try RidgeProblem(data.train, featureNormalisation) : fitted
    var metadata = metadata
    metadata.record(best.score)
    var head = FittedTargetHead(try whole.head(best.strength, metadata), strength: best.strength)
    (head.validation, head.sweep) = (best.score, tried)
    return head
  }
}

/// Ridge regression of one set of samples.
private struct RidgeProblem {
  let scaling: TargetScaling
  private let path: RidgePath
  private let data: TargetedFeatures
  private let normalisation: FeatureNormalisation

  init(_ data: TargetedFeatures, _ normalisation: FeatureNormalisation) throws {
    (self.data, self.normalisation, scaling) = (data, normalisation, TargetScaling(data, task: .regression))
    path = try RidgePath(data, targets: scaling.precise(data.targets), normalisation: normalisation)
  }

  func head(_ alpha: Double, _ template: HeadMetadata) throws -> Head {
    var metadata = template
    (metadata.kind, metadata.featureNormalisation, metadata.l2) = (.ridge, normalisation, alpha)
    let layer = try path.layer(alpha: alpha), (weight, bias) = scaling.fold(weight: layer.weight, bias: layer.bias)
    return try Head(weight: weight.map(Float.init), bias: bias.map(Float.init), metadata: metadata)
  }

  func leaveOneOut(_ alphas: [Double]) throws -> [HeldOutTargets] {
    try path.leaveOneOutPredictions(alphas).map {
      try HeldOutTargets(.regression, outputs: scaling.restored($0.predictions), data: data, source: .leaveOneOut)
    }
  }
}
