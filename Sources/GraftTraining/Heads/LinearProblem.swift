/// Linear heads on one set of samples: everything that doesn't depend on λ, computed once.
final class LinearProblem {
  /// Float32 products of larger features overflow or lose all precision.
  static let largestFeature: Float = 1e15

  let dimension: Int
  let classCount: Int
  private let classCounts: [Int]
  private let transform: FeatureTransform
  private let dataTerm: any LinearObjective
  /// What the data term is of.
  private let data: LabelledFeatures
  private let targets: SoftmaxTargets
  private let curvatureModel: CurvatureModel
  private let backend: any LinearBackend
  /// Weights of zero, and biases that say of every sample how often the classes are.
  private let flatStart: [Double]
  /// Where samples are far fewer than features: the same problem in fewer dimensions.
  private let smaller: (space: RowSpace, problem: LinearProblem)?

  /// - Throws: `TrainingDataError`, or what reading the features throws.
  init(_ data: LabelledFeatures, classes: [String], options: LinearTrainingOptions, backend: any LinearBackend) throws {
    dimension = data.features.dimension
    classCount = classes.count
    let normalisation = options.featureNormalisation
    classCounts = try data.classCounts(classCount: classes.count)
    let statistics = try FeatureStatistics(data, sampleLimit: CurvatureModel.sampleLimit)
    guard normalisation != .none || statistics.largestMagnitude <= Self.largestFeature else {
      throw TrainingDataError.tooLarge(statistics.largestMagnitude)
    }
    transform = FeatureTransform(normalisation, statistics: statistics)
    curvatureModel = CurvatureModel(statistics, transform: transform)
    let seen = try data.replacing(features: NormalisedFeatures(base: data.features, transform: transform))
    self.data = seen
    targets = try SoftmaxTargets(
      classWeights: options.balancesClasses ? TrainingOptions.balancedWeights(labels: data.labels, classes: classes.count) : nil,
      smoothing: options.labelSmoothing, classCounts: classCounts)
    dataTerm = try backend.objective(seen, classCount: classes.count, targets: targets)
    flatStart = [Double](repeating: 0, count: classes.count * dimension) + targets.levels(classCounts)
    self.backend = backend
    smaller = try RowSpace(seen.features).map { space in
      let features = try ArrayFeatures(space.coordinates, rowCount: data.rowCount, dimension: space.rank)
      var options = options
      options.featureNormalisation = .none
      return (space, try LinearProblem(data.replacing(features: features), classes: classes, options: options, backend: backend))
    }
  }

  /// Vectors that the solver keeps for a head: the history's pairs, and the point, the trial, the direction and so on.
  func byteCountPerHead(options: LBFGSOptions) -> Int {
    let (vectors, overflow) = (2 * min(options.historyCount, 1000) + 10).multipliedReportingOverflow(by: dataTerm.parameterCount)
    return overflow ? .max / 8 : min(vectors, .max / 8) * MemoryLayout<Double>.size
  }

  /// Of a head's parameters, those that are weights: the first ones.
  var weightCount: Int { classCount * dimension }

  /// Heads whose products together are efficient ones.
  var efficientHeadCount: Int { max(1, backend.efficientOutputCount / classCount) }

  /// Fits a head for every λ, all together.
  ///
  /// - Parameters:
  ///   - starts: `[P]` for each; an empty one stands for weights of zero and the biases that are best with them.
  ///   - isFinal: whether what was found in fewer dimensions is gone on from in all of them: it is in float32 there, too.
  func solve(
    l2: [Double], from starts: [[Double]], options: LBFGSOptions, isFinal: Bool = false,
    onEvaluation: @escaping (SolverProgress) throws -> Void
  ) throws -> [SolverResult] {
    precondition(l2.count == starts.count)
    guard let (space, problem) = smaller else { return try solveInAll(l2: l2, from: starts, options: options, onEvaluation: onEvaluation) }
    let projected = starts.map { $0.isEmpty ? [] : space.projecting($0, classCount: classCount) }
    let found = try problem.solve(l2: l2, from: projected, options: options, onEvaluation: onEvaluation)
      .map { $0.replacing(parameters: space.expanding($0.parameters, classCount: classCount)) }
    guard isFinal else { return found }
    let rest = options.following(found.map(\.iterations))
    let final = try solveInAll(l2: l2, from: found.map(\.parameters), options: rest, onEvaluation: onEvaluation)
    return zip(final, found).map { $0.following($1) }
  }

  private func solveInAll(
    l2: [Double], from starts: [[Double]], options: LBFGSOptions, onEvaluation: @escaping (SolverProgress) throws -> Void
  ) throws -> [SolverResult] {
    let starts = starts.map { $0.isEmpty ? flatStart : $0 }
    let found: [SolverResult]
    switch dataTerm {
    case let resident as any ResidentLinearObjective:
      let problem = try resident.residentProblem(
        l2: l2, starts: starts, curvatureModel: curvatureModel,
        leastCurvatures: PenalisedObjective.leastCurvatures(classCounts, rowCount: dataTerm.rowCount))
      found = try LBFGS(options: options).minimise(problem, onEvaluation: onEvaluation)
    case let hosted as any HostedLinearObjective:
      let objective = PenalisedObjective(hosted, l2: l2, classCounts: classCounts, curvatureModel: curvatureModel)
      found = try LBFGS(options: options).minimise(objective, from: starts.flatMap { $0 }, onEvaluation: onEvaluation)
    default: throw TrainingOptionError(message: "linear heads can't be trained with \(backend): its objective can't be evaluated")
    }
    return try sharpened(found, l2: l2, options, onEvaluation)
  }

  /// Goes on in double precision where float32 showed no further decrease, if the samples are few enough.
  private func sharpened(
    _ results: [SolverResult], l2: [Double], _ options: LBFGSOptions, _ onEvaluation: @escaping (SolverProgress) throws -> Void
  ) throws -> [SolverResult] {
    let places = results.indices.filter { results[$0].isBoundByPrecision }
    guard !places.isEmpty, let precise = PreciseLinearObjective(data, classCount: classCount, targets: targets) else { return results }
    var (results, options) = (results, options.following(places.map { results[$0].iterations }))
    options.lossPrecision = 1e-13
    let objective = PenalisedObjective(precise, l2: places.map { l2[$0] }, classCounts: classCounts, curvatureModel: curvatureModel)
    let found = try LBFGS(options: options).minimise(objective, from: places.flatMap { results[$0].parameters }, onEvaluation: onEvaluation)
    for (place, result) in zip(places, found) { results[place] = result.following(results[place]) }
    return results
  }

  /// Top-1 and log loss of each head on samples with raw features; one pass for all.
  ///
  /// - Returns: with each head's logits `[rows, C]` where they are kept.
  func score(
    _ heads: [[Double]], on data: LabelledFeatures, source: ValidationScore.Source, keepsLogits: Bool
  ) throws -> [(score: ValidationScore, logits: [Float])] {
    let weight = heads.flatMap { $0[..<weightCount].map(Float.init) }
    let bias = heads.flatMap { $0[weightCount...].map(Float.init) }
    var evaluators = heads.map { _ in TopAccuracy(classCount: classCount) }
    var (logits, kept) = ([Float](), heads.map { _ in [Float]() })
    try NormalisedFeatures(base: data.features, transform: transform).forEachChunk { chunk in
      try backend.logits(chunk, weight: weight, bias: bias, into: &logits)
      try logits.withUnsafeBufferPointer { logits in
        for row in 0..<chunk.rowCount {
          for head in heads.indices {
            let begin = (row * heads.count + head) * classCount, own = UnsafeBufferPointer(rebasing: logits[begin..<begin + classCount])
            if keepsLogits { kept[head].append(contentsOf: own) }
            guard evaluators[head].add(own, label: data.labels[chunk.firstRow + row]) else {
              throw TrainingDataError.notFinite(.nan, row: "validation " + data.name(ofRow: chunk.firstRow + row))
            }
          }
        }
      }
    }
    return zip(evaluators, kept).map { (ValidationScore(top1: $0.top1, logLoss: $0.logLoss, samples: $0.samples, source: source), $1) }
  }

  /// What one head says about samples with raw features.
  func heldOutScores(_ parameters: [Double], on data: LabelledFeatures, source: ValidationScore.Source) throws -> HeldOutScores {
    let (weight, bias) = (parameters[..<weightCount].map(Float.init), parameters[weightCount...].map(Float.init))
    var all: [Float] = [], logits: [Float] = []
    all.reserveCapacity(data.rowCount * classCount)
    try NormalisedFeatures(base: data.features, transform: transform).forEachChunk { chunk in
      try backend.logits(chunk, weight: weight, bias: bias, into: &logits)
      all += logits
    }
    return try HeldOutScores(logits: all, labels: data.labels, classCount: classCount, source: source)
  }

  /// W `[C, D]` and b `[C]` for raw features (but for the division by length).
  func foldedLayer(_ parameters: [Double]) -> (weight: [Float], bias: [Float]) {
    let folded = transform.fold(weight: Array(parameters[..<weightCount]), bias: Array(parameters[weightCount...]))
    return (folded.weight.map(Float.init), folded.bias.map(Float.init))
  }
}
