/// Trains a linear head: softmax regression with an L2 penalty.
///
/// With λ given, it is fitted once on the training samples. A sweep (`Sweep`) fits a head for every λ and keeps the one with the
/// highest top-1 on validation data (ties: the lower log loss, then the larger λ). Validation data is the data set's
/// validation split; without one a stratified, stable share of the training samples is held out for the choice, and the
/// head is then fitted again on all of them, as scikit-learn's LogisticRegressionCV does. A validation split is never
/// trained on, and nothing here can see a test split.
public struct LinearHeadTrainer {
  public let options: LinearTrainingOptions
  private let backend: any LinearBackend

  public init(options: LinearTrainingOptions = LinearTrainingOptions(), backend: any LinearBackend = HostLinearBackend()) {
    (self.options, self.backend) = (options, backend)
  }

  /// - Throws: `TrainingDataError` for samples that can't be trained on (a class without samples, a single class, a row
  ///   that isn't a number), `TrainingOptionError`, `DivergenceError`, or what the features or `onProgress` throw.
  public func train(_ data: LinearTrainingData, onProgress: ((LinearTrainingProgress) throws -> Void)? = nil) throws -> LinearTrainingResult {
    let clock = ContinuousClock()
    let start = clock.now
    try options.validate()
    try data.check()

    let problem = try LinearProblem(data.train, classes: data.classes, options: options, backend: backend)
    let l2: Double
    var choice: Choice?
    switch options.l2 {
    case .fixed(let given): l2 = given
    case .sweep(let strengths):
      let made = try choose(strengths, data, whole: problem, onProgress: onProgress)
      (l2, choice) = (made.best.l2, made)
    }
    let solver = options.solver.following([choice?.iterationsToContinue ?? 0])
    let solutions = try problem.solve(l2: [l2], from: [choice?.best.parameters ?? []], options: solver, isFinal: true) {
      try onProgress?(LinearTrainingProgress(stage: .fit, solver: $0))
    }
    let solution = solutions[0]
    var validation = choice?.best.score
    var heldOut = choice?.heldOut
    if let split = data.validation {
      let held = try problem.heldOutScores(solution.parameters, on: split, source: .split)
      (validation, heldOut) = (held.score(), held)
    }
    let (weight, bias) = problem.foldedLayer(solution.parameters)
    guard weight.allSatisfy({ $0.isFinite }), bias.allSatisfy({ $0.isFinite }) else {
      throw DivergenceError(head: 0, reason: "a weight is too large for float32")
    }
    return LinearTrainingResult(
      weight: weight, bias: bias, classCount: data.classes.count, dimension: problem.dimension,
      featureNormalisation: options.featureNormalisation, l2: l2, iterations: solution.iterations + (choice?.iterationsToContinue ?? 0),
      objective: solution.loss, gradientMaximum: solution.gradientMaximum, status: solution.status, validation: validation, heldOut: heldOut,
      sweep: choice?.sweep ?? [], seconds: (clock.now - start) / .seconds(1))
  }

  private struct Choice {
    let best: Sweep.Candidate
    let sweep: [SweepPoint]
    /// Iterations already spent on the samples that the final fit sees; 0 if those were others.
    let iterationsToContinue: Int
    /// Of samples held out, where the final fit sees all that there are.
    let heldOut: HeldOutScores?
  }

  private func choose(
    _ strengths: [Double], _ data: LinearTrainingData, whole: LinearProblem, onProgress: ((LinearTrainingProgress) throws -> Void)?
  ) throws -> Choice {
    if let split = data.validation {
      let sweep = try Sweep(problem: whole, validation: split, source: .split, options: options)
      let (best, points) = try sweep.run(strengths, onProgress: onProgress)
      return Choice(best: best, sweep: points, iterationsToContinue: best.iterations, heldOut: nil)
    }
    let holdout = Holdout(data.train, classCount: data.classes.count, fraction: options.holdoutFraction, seed: options.seed)
    guard !holdout.validation.isEmpty else {
      throw TrainingDataError(
        message: "every class has a single training sample, so that none can be held out to choose λ on. Give λ with --l2, or add samples.")
    }
    let problem = try LinearProblem(
      data.train.selecting(rows: holdout.training), classes: data.classes, options: options, backend: backend)
    let held = try data.train.selecting(rows: holdout.validation)
    let (best, points) = try Sweep(problem: problem, validation: held, source: .holdout, options: options).run(strengths, onProgress: onProgress)
    let scores = try problem.heldOutScores(best.parameters, on: held, source: .holdout)
    return Choice(best: best, sweep: points, iterationsToContinue: 0, heldOut: scores)
  }
}
