/// Trains a linear head: softmax regression with an L2 penalty.
///
/// With λ given, it is fitted once on the training samples. A sweep fits all its λ together and keeps the one with the
/// highest top-1 on validation data (ties: the lower log loss, then the larger λ). Validation data is the data set's
/// validation split; without one a stratified, stable share of the training samples is held out for the choice, and the
/// head is then fitted again on all of them, as scikit-learn's LogisticRegressionCV does. A validation split is never
/// trained on, and nothing here can see a test split.
///
/// Strengths of a sweep that don't fit in memory together go in groups from the strongest down, each starting where the
/// nearest stronger one ended; the final fit starts from the sweep's solution.
public struct LinearHeadTrainer {
  /// The relative gap that suffices to choose among strengths; the head that is kept is then fitted to the full one.
  static let sweepRelativeGap = 1e-4

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

    let problem = try LinearProblem(data.train, classes: data.classes, normalisation: options.featureNormalisation, backend: backend)
    var choice: Choice?
    if case .sweep(let strengths) = options.l2 {
      choice = try choose(Set(strengths).sorted(by: >), data, whole: problem, onProgress: onProgress)
    }
    let l2 = choice?.l2 ?? options.l2.weakest
    let solutions = try problem.solve(l2: [l2], from: choice?.parameters, options: options.solver) {
      try onProgress?(LinearTrainingProgress(stage: .fit, solver: $0))
    }
    guard let solution = solutions.first else { throw TrainingOptionError(message: "a sweep needs at least one λ") }
    var validation = choice?.score
    if let split = data.validation {
      validation = try problem.score(solutions.map(\.parameters), on: split, source: .split).first
    }
    let (weight, bias) = problem.foldedLayer(solution.parameters)
    return LinearTrainingResult(
      weight: weight, bias: bias, classCount: data.classes.count, dimension: problem.dimension,
      featureNormalisation: options.featureNormalisation, l2: l2, iterations: solution.iterations + (choice?.iterationsToContinue ?? 0),
      objective: solution.loss, gradientMaximum: solution.gradientMaximum, status: solution.status, validation: validation,
      sweep: choice?.sweep ?? [], seconds: (clock.now - start) / .seconds(1))
  }

  private struct Choice {
    let l2: Double
    let parameters: [Double]
    let score: ValidationScore
    let sweep: [SweepPoint]
    /// Iterations already spent on the samples that the final fit sees; 0 if those were others.
    let iterationsToContinue: Int
  }

  /// - Parameter strengths: descending, not empty.
  private func choose(
    _ strengths: [Double], _ data: LinearTrainingData, whole: LinearProblem, onProgress: ((LinearTrainingProgress) throws -> Void)?
  ) throws -> Choice {
    var (problem, validation, source) = (whole, data.validation, ValidationScore.Source.split)
    if validation == nil {
      let holdout = Holdout(data.train, classCount: data.classes.count, fraction: options.holdoutFraction, seed: options.seed)
      guard !holdout.validation.isEmpty else {
        throw TrainingDataError(
          message: "every class has a single training sample, so that none can be held out to choose λ on. Give λ with --l2, or add samples.")
      }
      validation = try data.train.selecting(rows: holdout.validation)
      source = .holdout
      problem = try LinearProblem(
        data.train.selecting(rows: holdout.training), classes: data.classes, normalisation: options.featureNormalisation, backend: backend)
    }
    guard let validation else { throw TrainingDataError(message: "there are no validation samples to choose λ on") }

    var solver = options.solver
    solver.relativeGap = max(solver.relativeGap, Self.sweepRelativeGap)
    let groupSize = max(1, options.solverByteLimit / max(1, problem.byteCountPerHead(options: solver)))
    var candidates: [(point: SweepPoint, score: ValidationScore, parameters: [Double])] = []
    for first in stride(from: 0, to: strengths.count, by: groupSize) {
      let group = Array(strengths[first..<min(first + groupSize, strengths.count)])
      let solutions = try problem.solve(l2: group, from: candidates.last?.parameters, options: solver) {
        try onProgress?(LinearTrainingProgress(stage: .sweep, solver: $0))
      }
      let scores = try problem.score(solutions.map(\.parameters), on: validation, source: source)
      for (l2, (solution, score)) in zip(group, zip(solutions, scores)) {
        let point = SweepPoint(l2: l2, top1: score.top1, logLoss: score.logLoss, iterations: solution.iterations)
        candidates.append((point, score, solution.parameters))
      }
    }
    // Strengths descend, and `max` by "is worse" with ties keeps the later: the reversed order keeps the strongest.
    let best = candidates.reversed().max { ($0.score.top1, -$0.score.logLoss) < ($1.score.top1, -$1.score.logLoss) }
    guard let best else { throw TrainingOptionError(message: "a sweep needs at least one λ") }
    return Choice(
      l2: best.point.l2, parameters: best.parameters, score: best.score, sweep: candidates.reversed().map(\.point),
      iterationsToContinue: source == .split ? best.point.iterations : 0)
  }
}

extension L2Strength {
  /// The given λ, or the smallest of a sweep.
  var weakest: Double {
    switch self {
    case .fixed(let value): value
    case .sweep(let values): values.min() ?? 0
    }
  }
}

extension LinearTrainingData {
  func check() throws(TrainingDataError) {
    guard classes.count >= 2 else {
      throw TrainingDataError(
        message: "there is \(classes.isEmpty ? "no class" : "a single class, \(classes[0])"): a classifier needs two or more. Add a folder a class.")
    }
    if let twice = Dictionary(grouping: classes, by: { $0 }).filter({ $0.value.count > 1 }).keys.min() {
      throw TrainingDataError(message: "two classes are called \(twice)")
    }
    let counts = try train.classCounts(classCount: classes.count)
    let missing = zip(classes, counts).filter { $0.1 == 0 }.map(\.0)
    guard missing.isEmpty else {
      let names = missing.prefix(5).joined(separator: ", ") + (missing.count > 5 ? " and \(missing.count - 5) more" : "")
      throw TrainingDataError(message: "no training sample shows \(names). Add samples to the train split, or remove the class.")
    }
    guard let validation else { return }
    guard validation.features.dimension == train.features.dimension else {
      throw TrainingDataError(
        message: "validation samples have \(validation.features.dimension) features and training samples \(train.features.dimension)")
    }
    guard validation.rowCount > 0 else {
      throw TrainingDataError(message: "the validation split is empty; leave it away, and training samples are held out instead")
    }
    _ = try validation.classCounts(classCount: classes.count)
  }
}
