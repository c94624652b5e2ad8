/// Fits heads of several λ together and picks the one that does best on validation data.
///
/// Weak penalties take by far the most iterations and seldom win. So the heads train in rounds; after each, a head that
/// hasn't converged is given up if a stronger, converged one does better on the validation data by both measures while
/// this one already fits the training data more closely: from there it only overfits further.
///
/// Strengths that don't fit in memory together go in groups from the strongest down, each starting where the nearest
/// stronger head ended.
struct Sweep {
  /// A relative gap that suffices to choose among strengths; the head that is kept is then fitted to the full one.
  static let relativeGap = 1e-4
  /// Iterations until heads are compared for the first time; each further round has four times as many.
  static let firstRound = 25

  struct Candidate {
    let l2: Double
    let parameters: [Double]
    let objective: Double
    let iterations: Int
    let isConverged: Bool
    let score: ValidationScore

    /// The order of merit: top-1, then the lower log loss, then the larger λ.
    static func isWorse(_ a: Candidate, _ b: Candidate) -> Bool {
      (a.score.top1, -a.score.logLoss, a.l2) < (b.score.top1, -b.score.logLoss, b.l2)
    }

    /// Whether going on with this one can't make it better than `best`.
    func isHopeless(against best: Candidate) -> Bool {
      best.isConverged && best.l2 > l2 && objective < best.objective && score.top1 < best.score.top1 && score.logLoss > best.score.logLoss
    }
  }

  let problem: LinearProblem
  let validation: LabelledFeatures
  let source: ValidationScore.Source
  let options: LinearTrainingOptions

  /// - Returns: the best, and all in ascending order of λ.
  func run(
    _ strengths: [Double], onProgress: ((LinearTrainingProgress) throws -> Void)?
  ) throws -> (best: Candidate, points: [SweepPoint]) {
    let descending = Set(strengths).sorted(by: >)
    let groupSize = max(1, options.solverByteLimit / max(1, problem.byteCountPerHead(options: options.solver)))
    var candidates: [Candidate] = []
    for first in stride(from: 0, to: descending.count, by: groupSize) {
      let group = Array(descending[first..<min(first + groupSize, descending.count)])
      let start = candidates.last?.parameters ?? []
      candidates += try fit(group.map { ($0, start, 0) }, limit: Self.firstRound, onProgress: onProgress)
      try settle(&candidates, onProgress: onProgress)
    }
    guard let best = candidates.max(by: Candidate.isWorse) else { throw TrainingOptionError(message: "a sweep needs at least one λ") }
    let points = candidates.reversed().map {
      SweepPoint(l2: $0.l2, top1: $0.score.top1, logLoss: $0.score.logLoss, iterations: $0.iterations, converged: $0.isConverged)
    }
    return (best, points)
  }

  /// Goes on with what hasn't converged and may still win, round by round.
  private func settle(_ candidates: inout [Candidate], onProgress: ((LinearTrainingProgress) throws -> Void)?) throws {
    var limit = Self.firstRound
    while let best = candidates.max(by: Candidate.isWorse) {
      let pending = candidates.indices.filter {
        !candidates[$0].isConverged && candidates[$0].iterations < options.solver.maximumIterations && !candidates[$0].isHopeless(against: best)
      }
      if pending.isEmpty { return }
      limit = limit > options.solver.maximumIterations / 4 ? options.solver.maximumIterations : limit * 4
      let continued = try fit(
        pending.map { (candidates[$0].l2, candidates[$0].parameters, candidates[$0].iterations) }, limit: limit, onProgress: onProgress)
      for (index, candidate) in zip(pending, continued) { candidates[index] = candidate }
    }
  }

  private func fit(
    _ heads: [(l2: Double, start: [Double], iterations: Int)], limit: Int, onProgress: ((LinearTrainingProgress) throws -> Void)?
  ) throws -> [Candidate] {
    var solver = options.solver
    solver.relativeGap = max(solver.relativeGap, Self.relativeGap)
    solver.maximumIterations = min(limit, solver.maximumIterations)
    let solutions = try problem.solve(l2: heads.map(\.l2), from: heads.map(\.start), options: solver) {
      try onProgress?(LinearTrainingProgress(stage: .sweep, solver: $0))
    }
    let scores = try problem.score(solutions.map(\.parameters), on: validation, source: source)
    return zip(heads, zip(solutions, scores)).map { head, found in
      Candidate(
        l2: head.l2, parameters: found.0.parameters, objective: found.0.loss, iterations: head.iterations + found.0.iterations,
        isConverged: found.0.status != .iterationLimit, score: found.1)
    }
  }
}
