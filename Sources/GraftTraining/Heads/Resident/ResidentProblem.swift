import GraftDevice

/// Penalised linear heads with several strengths, wholly on a device: features, heads, gradients and the solver's vectors.
///
/// What comes back are losses, one number a sample, and products of vectors. As `PenalisedObjective`, with vectors in float32.
final class ResidentProblem: SolverProblem {
  private let features: ResidentFeatures
  /// λ, `[H]`
  private let l2: [Double]
  private let starts: [[Double]]
  private let curvatureModel: CurvatureModel?
  private let leastCurvatures: [Double]
  private var heads: [Int: ResidentVectors] = [:]
  private var evaluations: [Int: ResidentEvaluation] = [:]
  /// Heads whose first preconditioner was made.
  private var started: Set<Int> = []
  /// Between the λ of heads whose steps, and whose curvatures, serve each other. Curvatures change slowly with λ.
  private static let stepRatio = 5.0, curvatureRatio = 20.0

  /// - Parameters:
  ///   - starts: `[P]` for each head.
  ///   - leastCurvatures: see `PenalisedObjective`.
  init(_ features: ResidentFeatures, l2: [Double], starts: [[Double]], curvatureModel: CurvatureModel?, leastCurvatures: [Double]) {
    (self.features, self.l2, self.starts) = (features, l2, starts)
    (self.curvatureModel, self.leastCurvatures) = (curvatureModel, leastCurvatures)
  }

  var headCount: Int { l2.count }
  private var weightCount: Int { features.outputCount * features.dimension }
  private var parameterCount: Int { weightCount + features.outputCount }

  func vectors(of head: Int, options: LBFGSOptions) throws -> any SolverVectors {
    // More steps than parameters, or than a solver takes, are never remembered.
    let historyCount = min(options.historyCount, parameterCount, options.maximumIterations)
    let renewed = { [unowned self] in try preconditioner(head) }
    let vectors: ResidentVectors
    if headCount == 1, let latest = features.latestHead, latest.vectors.capacity >= historyCount, isNeighbour(latest.l2, l2[head], Self.stepRatio) {
      vectors = try ResidentVectors(
        following: latest.vectors, start: starts[head], l2Change: l2[head] - latest.l2, weightCount: weightCount, preconditioner: renewed)
    } else {
      vectors = try ResidentVectors(features.device, start: starts[head], historyCount: historyCount, preconditioner: renewed)
    }
    features.latestHead = headCount == 1 ? (l2[head], vectors) : nil
    heads[head] = vectors
    return vectors
  }

  func evaluate(_ active: [Int]) throws -> [Double] {
    let evaluation = try evaluation(of: active.count), places = try evaluation.parameters()
    let (weights, biases, classes) = (0..<weightCount, weightCount..<parameterCount, features.outputCount)
    let vectors = active.compactMap { heads[$0] }
    for (slot, head) in vectors.enumerated() {
      try head.vectors.copy([(head.trial, 1)], of: weights, to: .init(places.weight, first: slot * weightCount))
      try head.vectors.copy([(head.trial, 1)], of: biases, to: .init(places.bias, first: slot * classes))
    }
    let losses = try evaluation.run { weight, bias, isFirst in
      for (slot, (head, index)) in zip(vectors, active).enumerated() {
        // The penalty's part, or what earlier rows gave, and these rows'.
        let before: DeviceVectors.Term = isFirst ? (head.trial, l2[index]) : (head.trialGradient, 1)
        try head.vectors.set(head.trialGradient, weights, to: [before], plus: (.init(weight, first: slot * weightCount), 1))
        try head.vectors.set(head.trialGradient, biases, to: isFirst ? [] : [before], plus: (.init(bias, first: slot * classes), 1))
      }
    }
    return try zip(losses, zip(vectors, active)).map { loss, head in
      loss + l2[head.1] / 2 * (try head.0.vectors.measure([.dot(head.0.trial, head.0.trial)], count: weightCount)[0])
    }
  }

  /// A plan for so many heads. Those of a sweep finish one by one; old plans would pile up.
  private func evaluation(of count: Int) throws -> ResidentEvaluation {
    if let known = evaluations[count] { return known }
    if evaluations.count >= 4 { evaluations.removeAll() }
    let made = try ResidentEvaluation(features, headCount: count)
    evaluations[count] = made
    return made
  }

  private func isNeighbour(_ a: Double, _ b: Double, _ ratio: Double) -> Bool { max(a, b) <= ratio * min(a, b) }

  private func preconditioner(_ index: Int) throws -> ResidentPreconditioner? {
    guard let curvatureModel, let head = heads[index] else { return nil }
    let here = zip(try curvatures(of: index, head), leastCurvatures).map { max($0, $1) }
    return try curvatureModel.preconditioner(l2: l2[index], curvatures: here).map {
      ResidentPreconditioner($0, products: try features.products(of: $0))
    }
  }

  /// The mean of p(1 − p) of each output. At its start a head of a sweep is content with its neighbour's.
  private func curvatures(of index: Int, _ head: ResidentVectors) throws -> [Double] {
    let isStart = started.insert(index).inserted
    if isStart, let latest = features.latestCurvatures, isNeighbour(latest.l2, l2[index], Self.curvatureRatio) {
      return latest.values
    }
    let found = try features.curvatures { weight, bias in
      try head.vectors.copy([(head.point, 1)], of: 0..<weightCount, to: .init(weight))
      try head.vectors.copy([(head.point, 1)], of: weightCount..<parameterCount, to: .init(bias))
    }
    features.latestCurvatures = (l2[index], found)
    return found
  }
}
