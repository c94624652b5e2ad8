import Foundation

/// Fits heads of several λ and picks the one that does best on validation data.
///
/// From the strongest λ down, each from where the curve through the stronger ones leads (`HeadCurve`): most are then within the
/// tolerance, or an iteration or two from it. Where heads have few outputs, as many as make an efficient product train together.
///
/// Weak penalties take by far the most iterations and seldom win. Once heads fit the training data more closely and do worse on the
/// validation data by both measures, weaker ones get a single iteration, and only those that may still win go on from there.
struct Sweep {
  /// A relative gap that suffices to choose among strengths; the head that is kept is then fitted to the full one.
  static let relativeGap = 1e-4, gradientTolerance = 1e-4
  /// Iterations until heads are compared for the first time, and where stronger ones already were past the best; each further round
  /// has four times as many.
  static let firstRound = 25, roundPastTheBest = 1

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

  /// Bytes of validation features that are kept in memory: they are looked at once a group.
  private static let validationByteLimit = 256 << 20

  let problem: LinearProblem
  private let validation: LabelledFeatures
  private let source: ValidationScore.Source
  private let options: LinearTrainingOptions

  init(problem: LinearProblem, validation: LabelledFeatures, source: ValidationScore.Source, options: LinearTrainingOptions) throws {
    (self.problem, self.source, self.options) = (problem, source, options)
    self.validation = try validation.loaded(byteLimit: Self.validationByteLimit)
  }

  /// - Returns: the best, and all in ascending order of λ.
  func run(
    _ strengths: [Double], onProgress: ((LinearTrainingProgress) throws -> Void)?
  ) throws -> (best: Candidate, points: [SweepPoint]) {
    let descending = Set(strengths).sorted(by: >)
    let groupSize = min(headLimit, problem.efficientHeadCount)
    var candidates: [Candidate] = []
    var limit = Self.firstRound
    for first in stride(from: 0, to: descending.count, by: groupSize) {
      let group = descending[first..<min(first + groupSize, descending.count)]
      let found = try fit(zip(group, starts(group, after: candidates)).map { ($0, $1, 0) }, limit: limit, onProgress: onProgress)
      candidates += found
      if let best = candidates.max(by: Candidate.isWorse), found.allSatisfy({ $0.isHopeless(against: best) }) { limit = Self.roundPastTheBest }
    }
    try settle(&candidates, onProgress: onProgress)
    guard let best = candidates.max(by: Candidate.isWorse) else { throw TrainingOptionError(message: "a sweep needs at least one λ") }
    let points = candidates.reversed().map {
      SweepPoint(l2: $0.l2, top1: $0.score.top1, logLoss: $0.score.logLoss, iterations: $0.iterations, converged: $0.isConverged)
    }
    return (best, points)
  }

  /// Heads whose vectors fit in memory together.
  private var headLimit: Int { max(1, options.solverByteLimit / max(1, problem.byteCountPerHead(options: options.solver))) }

  /// Where the heads of a group begin: on the curve through the next stronger ones, or where the last of them came to.
  private func starts(_ strengths: ArraySlice<Double>, after stronger: [Candidate]) -> [[Double]] {
    let known = stronger.suffix(HeadCurve.pointCount)
    let curve = known.allSatisfy({ $0.isConverged && $0.l2 > 0 }) ? HeadCurve(known.map { ($0.l2, $0.parameters) }) : nil
    return strengths.map { l2 in curve.flatMap { l2 > 0 ? $0.head(at: l2) : nil } ?? stronger.last?.parameters ?? [] }
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
      for first in stride(from: 0, to: pending.count, by: headLimit) {
        let group = pending[first..<min(first + headLimit, pending.count)]
        let continued = try fit(
          group.map { (candidates[$0].l2, candidates[$0].parameters, candidates[$0].iterations) }, limit: limit, onProgress: onProgress)
        for (index, candidate) in zip(group, continued) { candidates[index] = candidate }
      }
    }
  }

  private func fit(
    _ heads: [(l2: Double, start: [Double], iterations: Int)], limit: Int, onProgress: ((LinearTrainingProgress) throws -> Void)?
  ) throws -> [Candidate] {
    var solver = options.solver
    solver.relativeGap = max(solver.relativeGap, Self.relativeGap)
    // Where samples are separated the gap looks smaller than it is: the gradient has to be small too.
    solver.gradientTolerance = max(solver.gradientTolerance, Self.gradientTolerance)
    solver.gradientFollowsLoss = true
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
