/// Linear heads by L-BFGS; the strength is λ.
public struct LinearFitting: HeadFitting {
  public let options: LinearTrainingOptions
  private let backend: any LinearBackend

  public init(options: LinearTrainingOptions = LinearTrainingOptions(), backend: any LinearBackend = HostLinearBackend()) {
    (self.options, self.backend) = (options, backend)
  }

  public var kind: HeadMetadata.Kind { .linear }

  public var strengths: [Double] {
    switch options.l2 {
    case .fixed(let value): [value]
    case .sweep(let values): Array(Set(values)).sorted()
    }
  }

  public func scores(train: LabelledFeatures, held: LabelledFeatures, classes: [String]) throws -> [StrengthScore] {
    var options = options
    options.l2 = .sweep(strengths)
    try options.validate()
    try LinearTrainingData(train: train, validation: held, classes: classes).check()
    let problem = try LinearProblem(train, classes: classes, options: options, backend: backend)
    let points = try Sweep(problem: problem, validation: held, source: .folds, options: options).run(strengths, onProgress: nil).points
    return points.map { StrengthScore(strength: $0.l2, top1: $0.top1, logLoss: $0.logLoss) }
  }

  public func fit(
    _ data: LinearTrainingData, strength: Double?, metadata: HeadMetadata, onProgress: @escaping (String) throws -> Void
  ) throws -> FittedHead {
    var options = options
    if let strength { options.l2 = .fixed(strength) }
    let result = try LinearHeadTrainer(options: options, backend: backend).train(data) { progress in
      try onProgress(
        "\(progress.stage.rawValue): \(progress.solver.evaluations) evaluations, \(progress.solver.finishedHeads) of \(progress.solver.headCount) heads done"
      )
    }
    var metadata = metadata
    (metadata.kind, metadata.featureNormalisation, metadata.l2) = (.linear, result.featureNormalisation, result.l2)
    let calibration = metadata.calibrate(result.heldOut)
    metadata.metrics["objective"] = result.objective
    if let score = result.validation { metadata.metrics["validation_top1"] = score.top1 }
    var fitted = FittedHead(try Head(result, metadata: metadata), strength: result.l2)
    (fitted.validation, fitted.calibration) = (result.validation, calibration)
    fitted.sweep = result.sweep.map {
      StrengthScore(
        strength: $0.l2, top1: $0.top1, logLoss: $0.logLoss, iterations: $0.iterations, converged: $0.converged, interpolated: $0.interpolated)
    }
    (fitted.objective, fitted.iterations, fitted.status) = (result.objective, result.iterations, result.status.rawValue)
    return fitted
  }
}
