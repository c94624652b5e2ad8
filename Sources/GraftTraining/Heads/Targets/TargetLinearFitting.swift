import Foundation
import GraftData

/// Linear heads for labels or numbers by L-BFGS; the strength is λ. What is minimised is
///
///     mean over samples of Σₜ loss(w_t·x + b_t, y_t) + λ/2·Σₜ‖w_t‖²
///
/// With `binaryCrossEntropy` that is a logistic regression for each label, as scikit-learn's OneVsRestClassifier(LogisticRegression)
/// fits them, λ being 1/(C·N). With `squared` and `huber` numbers are told in units of their standard deviation, so that one λ serves
/// targets of any units; λ is then α/N of scikit-learn's Ridge on such targets.
///
/// Of several λ the one with the least mean loss on validation data is taken, from the strongest down, each begun where the one before
/// it ended. Once the loss has risen twice in a row weaker ones are left out. Validation data is the data set's own split, or a share
/// of the training samples, on all of which the head is then fitted again.
public struct TargetLinearFitting: TargetHeadFitting {
  public let options: LinearTrainingOptions
  public let loss: Loss
  private let backend: any LinearBackend

  /// - Throws: `TrainingOptionError` for cross-entropy, class weights and label smoothing, which are for classes, and for strengths that
  ///   are none.
  public init(
    loss: Loss, options: LinearTrainingOptions = LinearTrainingOptions(), backend: any LinearBackend = HostLinearBackend()
  ) throws(TrainingOptionError) {
    guard loss != .crossEntropy, !options.balancesClasses, options.labelSmoothing == 0 else {
      throw TrainingOptionError(message: "cross-entropy, class weights and label smoothing are for samples of one class each")
    }
    try options.validate()
    (self.options, self.loss, self.backend) = (options, loss, backend)
  }

  public var kind: HeadMetadata.Kind { .linear }

  public var strengths: [Double] {
    switch options.l2 {
    case .fixed(let value): [value]
    case .sweep(let values): Array(Set(values)).sorted()
    }
  }

  /// Tolerances while strengths are compared; the head that is kept is then fitted to the full ones.
  private static let comparedGap = 1e-4, compared = 1e-4, comparedIterations = 200

  public func scores(_ data: TargetTrainingData) throws -> [TargetStrengthScore] {
    try data.check()
    guard let held = data.validation else { preconditionFailure("scores need validation samples") }
    let problem = try TargetProblem(data.train, data, loss: loss, normalisation: options.featureNormalisation, backend: backend)
    return try compare(problem, held, .folds, data.unnamedMetadata) { _ in }.map(\.score)
  }

  public func fit(
    _ data: TargetTrainingData, strength: Double?, metadata: HeadMetadata, onProgress: @escaping (String) throws -> Void
  ) throws -> FittedTargetHead {
    try data.check()
    try loss.check(task: data.task)
    var metadata = metadata
    (metadata.kind, metadata.featureNormalisation) = (.linear, options.featureNormalisation)
    let whole = try TargetProblem(data.train, data, loss: loss, normalisation: options.featureNormalisation, backend: backend)
    var (l2, start, sweep): (Double, [Double]?, [TargetStrengthScore]) = (strength ?? strengths[0], nil, [])
    var validation: TargetScore?
    if strength == nil, strengths.count > 1 {
      guard let parts = try data.parted(fraction: options.holdoutFraction, seed: options.seed) else {
        throw TrainingDataError(message: "a single sample leaves none to choose λ on. Give λ with --l2, or add samples.")
      }
      let problem =
        data.validation == nil
        ? try TargetProblem(parts.train, data, loss: loss, normalisation: options.featureNormalisation, backend: backend) : whole
      let tried = try compare(problem, parts.held, parts.source, metadata, onProgress)
      sweep = tried.map(\.score).sorted { $0.strength < $1.strength }
      // Of equal losses the stronger penalty.
      guard let best = tried.min(by: { ($0.score.loss, -$0.score.strength) < ($1.score.loss, -$1.score.strength) }) else {
        throw TrainingOptionError(message: "a sweep needs at least one λ")
      }
      (l2, start, validation) = (best.score.strength, best.parameters, best.score.score)
    }
    let found = try whole.solve(l2: l2, from: start, options: options.solver, isFinal: true) { try onProgress("fit: \($0) evaluations") }
    let head = try whole.head(found.parameters, l2: l2, metadata: metadata)
    if let split = data.validation { validation = try head.heldOut(split, source: .split, backend: backend).score() }
    metadata = head.metadata
    metadata.metrics["objective"] = found.loss
    metadata.record(validation)
    var fitted = FittedTargetHead(try head.replacing(metadata: metadata), strength: l2)
    (fitted.validation, fitted.sweep) = (validation, sweep)
    (fitted.objective, fitted.iterations, fitted.status) = (found.loss, found.iterations, found.status.rawValue)
    return fitted
  }

  private func compare(
    _ problem: TargetProblem, _ held: TargetedFeatures, _ source: ValidationScore.Source, _ metadata: HeadMetadata,
    _ onProgress: @escaping (String) throws -> Void
  ) throws -> [(score: TargetStrengthScore, parameters: [Double])] {
    var solver = options.solver
    solver.relativeGap = max(solver.relativeGap, Self.comparedGap)
    solver.gradientTolerance = max(solver.gradientTolerance, Self.compared)
    solver.gradientFollowsLoss = true
    solver.maximumIterations = min(solver.maximumIterations, Self.comparedIterations)
    var tried: [(score: TargetStrengthScore, parameters: [Double])] = []
    for (index, l2) in strengths.reversed().enumerated() {
      let found = try problem.solve(l2: l2, from: tried.last?.parameters, options: solver) {
        try onProgress("λ \(index + 1) of \(strengths.count): \($0) evaluations")
      }
      let outputs = try problem.head(found.parameters, l2: l2, metadata: metadata).heldOut(held, source: source, backend: backend)
      tried.append(
        (
          TargetStrengthScore(
            strength: l2, score: outputs.score(), loss: outputs.loss(loss, problem.scaling), iterations: found.iterations,
            converged: found.status != .iterationLimit), found.parameters
        ))
      let losses = tried.suffix(3).map(\.score.loss)
      if losses.count == 3, losses[0] < losses[1], losses[1] < losses[2] { break }
    }
    return tried
  }
}

/// Linear heads for labels or numbers on one set of samples: what doesn't depend on λ.
private struct TargetProblem {
  let scaling: TargetScaling
  private let transform: FeatureTransform
  private let objective: TargetObjective
  /// The same where the features are brought to a device.
  private let resident: (any ResidentLinearObjective)?
  private let curvatureModel: CurvatureModel
  /// How many samples have each label, where none has it or all: as if one did, or did not.
  private let counts: [Int]
  private let flatStart: [Double]
  private let normalisation: FeatureNormalisation
  /// Where samples are far fewer than features: the same in fewer dimensions.
  private let smaller: (space: RowSpace, objective: TargetObjective, curvatureModel: CurvatureModel)?

  init(_ samples: TargetedFeatures, _ data: TargetTrainingData, loss: Loss, normalisation: FeatureNormalisation, backend: any LinearBackend) throws {
    self.normalisation = normalisation
    let statistics = try FeatureStatistics(samples.features, sampleLimit: CurvatureModel.sampleLimit) { samples.name(ofRow: $0) }
    guard normalisation != .none || statistics.largestMagnitude <= LinearProblem.largestFeature else {
      throw TrainingDataError.tooLarge(statistics.largestMagnitude)
    }
    transform = FeatureTransform(normalisation, statistics: statistics)
    curvatureModel = CurvatureModel(statistics, transform: transform)
    scaling = TargetScaling(samples, task: data.task)
    let rows = samples.rowCount, width = samples.targetCount
    let found = data.task == .multilabel ? samples.labelCounts : [Int](repeating: rows / 2, count: width)
    counts = found.map { max(1, min(rows - 1, $0)) }
    let biases = data.task == .multilabel ? samples.labelLogits : [Double](repeating: 0, count: width)
    flatStart = [Double](repeating: 0, count: width * statistics.dimension) + biases
    let seen = NormalisedFeatures(base: samples.features, transform: transform), targets = scaling.scaled(samples.targets)
    let isFixed = found.map { data.task == .multilabel && ($0 == 0 || $0 == rows) }
    objective = TargetObjective(seen, targets: targets, loss: loss, isFixed: isFixed, backend: backend)
    let fixed = zip(isFixed, biases).map { $0 ? $1 : nil }
    resident = (backend as? DeviceLinearBackend)?.objective(seen, outputCount: width, targets: .values(targets, loss, fixed: fixed))
    smaller = try RowSpace(seen).map { space in
      let features = try ArrayFeatures(space.coordinates, rowCount: rows, dimension: space.rank)
      let statistics = try FeatureStatistics(features, sampleLimit: CurvatureModel.sampleLimit) { samples.name(ofRow: $0) }
      return (
        space, TargetObjective(features, targets: targets, loss: loss, isFixed: isFixed, backend: backend),
        CurvatureModel(statistics, transform: .none)
      )
    }
  }

  /// - Parameter isFinal: whether what was found in fewer dimensions is gone on from in all of them: it is in float32 there, too.
  func solve(
    l2: Double, from start: [Double]?, options: LBFGSOptions, isFinal: Bool = false, onEvaluation: @escaping (Int) throws -> Void
  ) throws -> SolverResult {
    func minimise(
      _ objective: TargetObjective, _ model: CurvatureModel, from start: [Double], after iterations: Int = 0
    ) throws -> SolverResult {
      let options = options.following([iterations])
      let penalised = PenalisedObjective(objective, l2: [l2], classCounts: counts, curvatureModel: model)
      return try LBFGS(options: options).minimise(penalised, from: start) { try onEvaluation($0.evaluations) }[0]
    }
    let begin = start ?? flatStart, width = counts.count
    guard let smaller else {
      guard let resident else { return try minimise(objective, curvatureModel, from: begin) }
      let problem = try resident.residentProblem(
        l2: [l2], starts: [begin], curvatureModel: curvatureModel,
        leastCurvatures: PenalisedObjective.leastCurvatures(counts, rowCount: objective.rowCount))
      let found = try LBFGS(options: options).minimise(problem) { try onEvaluation($0.evaluations) }[0]
      // Sums in double precision go on where those in float32 show no further decrease.
      guard found.isBoundByPrecision, objective.isSmall else { return found }
      return try minimise(objective, curvatureModel, from: found.parameters, after: found.iterations).following(found)
    }
    let found = try minimise(smaller.objective, smaller.curvatureModel, from: smaller.space.projecting(begin, classCount: width))
    let whole = found.replacing(parameters: smaller.space.expanding(found.parameters, classCount: width))
    guard isFinal else { return whole }
    return try minimise(objective, curvatureModel, from: whole.parameters, after: whole.iterations).following(whole)
  }

  /// The head for raw features (but for the division by length) and in the user's units.
  func head(_ parameters: [Double], l2: Double, metadata: HeadMetadata) throws -> Head {
    let weightCount = parameters.count - counts.count
    let raw = transform.fold(weight: Array(parameters[..<weightCount]), bias: Array(parameters[weightCount...]))
    let (weight, bias) = scaling.fold(weight: raw.weight, bias: raw.bias)
    var metadata = metadata
    (metadata.kind, metadata.featureNormalisation, metadata.l2) = (.linear, normalisation, l2)
    return try Head(weight: weight.map(Float.init), bias: bias.map(Float.init), metadata: metadata)
  }
}

extension Loss {
  /// - Throws: `TrainingOptionError` for a loss of another task.
  func check(task: LabelTask) throws(TrainingOptionError) {
    let fits =
      switch (self, task) {
      case (.crossEntropy, .classification), (.binaryCrossEntropy, .multilabel), (.squared, .regression), (.huber, .regression): true
      default: false
      }
    guard fits else {
      throw TrainingOptionError(message: "the loss \(self) does not fit \(task.rawValue): labels take sigmoid, numbers take squared or huber")
    }
  }
}
