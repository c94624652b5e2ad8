import Foundation

/// Fits heads of several λ and picks the one that does best on validation data.
///
/// From the strongest λ down, each from where the curve through the stronger ones leads (`HeadCurve`): most are then within the
/// tolerance, or an iteration or two from it. Where heads have few outputs, as many as make an efficient product train together.
///
/// Of strengths close to each other some are solved for, and those between lie on the curve through these (`InterpolatedHead`), which
/// costs no product; where it is not known well enough, more are solved for. The one that is chosen always is.
///
/// Weak penalties take by far the most iterations and seldom win. Once heads fit the training data more closely and do worse on the
/// validation data by both measures, weaker ones get a single iteration, and only those that may still win go on from there.
struct Sweep {
  /// A relative gap that suffices to choose among strengths; the head that is kept is then fitted to the full one.
  static let relativeGap = 1e-4, gradientTolerance = 1e-4
  /// From one strength that is solved for to the next, where there are others between.
  static let knotRatio = 4.0
  /// So few iterations that strengths may lie further apart.
  static let fewIterations = 1
  /// How far one between them may be from its minimum, as far as that shows.
  static let interpolatedGap = 2e-4
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
    /// What it says about the validation samples; empty where nothing is interpolated.
    let logits: [Float]
    /// `nil` for one that was solved for; else its parameters are not there, and the objective is unknown.
    var interpolated: InterpolatedHead?

    var isSolved: Bool { interpolated == nil }

    /// The order of merit: top-1, then the lower log loss, then the larger λ.
    static func isWorse(_ a: Candidate, _ b: Candidate) -> Bool {
      (a.score.top1, -a.score.logLoss, a.l2) < (b.score.top1, -b.score.logLoss, b.l2)
    }

    /// Whether going on with this one can't make it better than `best`.
    func isHopeless(against best: Candidate) -> Bool {
      best.isConverged && best.isSolved && best.l2 > l2 && objective < best.objective && score.top1 < best.score.top1
        && score.logLoss > best.score.logLoss
    }
  }

  /// Bytes of validation features that are kept in memory, as they are looked at once a group, and of each head's logits for them.
  private static let validationByteLimit = 256 << 20, logitsByteLimit = 64 << 20

  let problem: LinearProblem
  private let validation: LabelledFeatures
  private let source: ValidationScore.Source
  private let options: LinearTrainingOptions
  private let keepsLogits: Bool

  init(problem: LinearProblem, validation: LabelledFeatures, source: ValidationScore.Source, options: LinearTrainingOptions) throws {
    (self.problem, self.source, self.options) = (problem, source, options)
    self.validation = try validation.loaded(byteLimit: Self.validationByteLimit)
    let (count, overflow) = validation.rowCount.multipliedReportingOverflow(by: problem.classCount)
    keepsLogits = !overflow && count <= Self.logitsByteLimit / MemoryLayout<Float>.size
  }

  /// - Returns: the best, and all in ascending order of λ.
  func run(
    _ strengths: [Double], onProgress: ((LinearTrainingProgress) throws -> Void)?
  ) throws -> (best: Candidate, points: [SweepPoint]) {
    let descending = Set(strengths).sorted(by: >)
    var candidates: [Candidate] = []
    var (limit, next, stride) = (Self.firstRound, 0, 1)
    while next < descending.count {
      var places = [next]
      while places.count < groupSize, let place = place(after: places[places.count - 1], stride: stride, among: descending) { places.append(place) }
      let group = places.map { descending[$0] }
      let found = try fit(zip(group, starts(group, after: candidates)).map { ($0, $1, 0) }, limit: limit, onProgress: onProgress)
      candidates += found
      if let best = candidates.max(by: Candidate.isWorse), found.allSatisfy({ $0.isHopeless(against: best) }) { limit = Self.roundPastTheBest }
      // As far as the curve leads close to the minimum.
      let iterations = found.map(\.iterations).max() ?? 0
      stride = iterations <= Self.fewIterations ? stride * 2 : iterations > 2 * Self.fewIterations ? max(1, stride / 2) : stride
      let last = places[places.count - 1]
      next = place(after: last, stride: stride, among: descending) ?? descending.count
      // No further than it went.
      stride = min(stride, next - last)
    }
    try interpolate(descending.filter { l2 in !candidates.contains { $0.l2 == l2 } }, among: &candidates, onProgress: onProgress)
    try settle(&candidates, onProgress: onProgress)
    while let place = candidates.indices.max(by: { Candidate.isWorse(candidates[$0], candidates[$1]) }), let found = candidates[place].interpolated {
      let head = (candidates[place].l2, found.parameters(of: candidates), 0)
      candidates[place] = try fit([head], limit: options.solver.maximumIterations, onProgress: onProgress)[0]
    }
    guard let best = candidates.max(by: Candidate.isWorse) else { throw TrainingOptionError(message: "a sweep needs at least one λ") }
    let points = candidates.reversed().map {
      SweepPoint(
        l2: $0.l2, top1: $0.score.top1, logLoss: $0.score.logLoss, iterations: $0.iterations, converged: $0.isConverged,
        interpolated: !$0.isSolved)
    }
    return (best, points)
  }

  private var groupSize: Int { min(headLimit, problem.efficientHeadCount) }

  /// The next strength that is solved for: `stride` further on, but no further than `knotRatio`.
  private func place(after place: Int, stride: Int, among descending: [Double]) -> Int? {
    guard place + 1 < descending.count else { return nil }
    guard keepsLogits else { return place + 1 }
    let last = min(place + stride, descending.count - 1)
    return (place + 1...last).last { descending[place] <= Self.knotRatio * descending[$0] } ?? place + 1
  }

  /// Adds heads for strengths between those that were solved for: where the curve through these is known well enough on it, or where
  /// both neighbours are hopeless; else the middle one of those between two is solved for, and so on.
  private func interpolate(
    _ strengths: [Double], among candidates: inout [Candidate], onProgress: ((LinearTrainingProgress) throws -> Void)?
  ) throws {
    var missing = strengths
    while !missing.isEmpty {
      let known = candidates.filter(\.isSolved), found = InterpolatedHead.find(missing, among: known, problem: problem, labels: validation.labels)
      guard let best = known.max(by: Candidate.isWorse) else { return }
      var unsure: [Int: [(l2: Double, head: InterpolatedHead)]] = [:]
      for (l2, head) in zip(missing, found) {
        let next = known.firstIndex { $0.l2 < l2 } ?? known.count, ends = known[max(0, next - 1)..<min(next + 1, known.count)]
        let isKnown = head.gap <= Self.interpolatedGap * (ends.map { abs($0.objective) }.min() ?? 0)
        guard isKnown || ends.allSatisfy({ $0.isHopeless(against: best) }) else {
          unsure[next, default: []].append((l2, head))
          continue
        }
        candidates.append(
          Candidate(
            l2: l2, parameters: [], objective: .nan, iterations: 0, isConverged: isKnown && ends.allSatisfy(\.isConverged),
            score: ValidationScore(top1: head.top1, logLoss: head.logLoss, samples: validation.rowCount, source: source), logits: [],
            interpolated: head))
      }
      let middles = unsure.keys.sorted().compactMap { unsure[$0].map { $0[$0.count / 2] } }
      missing = unsure.values.flatMap { $0.map(\.l2) }.filter { l2 in !middles.contains { $0.l2 == l2 } }.sorted(by: >)
      for first in stride(from: 0, to: middles.count, by: groupSize) {
        let group = middles[first..<min(first + groupSize, middles.count)].map { ($0.l2, $0.head.parameters(of: known), 0) }
        candidates += try fit(group, limit: Self.firstRound, onProgress: onProgress)
      }
      candidates.sort { $0.l2 > $1.l2 }
    }
  }

  /// Heads whose vectors fit in memory together.
  private var headLimit: Int { max(1, options.solverByteLimit / max(1, problem.byteCountPerHead(options: options.solver))) }

  /// Where the heads of a group begin: on the curve through the next stronger ones, or where the last of them came to.
  private func starts(_ strengths: [Double], after stronger: [Candidate]) -> [[Double]] {
    let known = stronger.suffix(HeadCurve.pointCount)
    let curve = known.allSatisfy({ $0.isConverged && $0.l2 > 0 }) ? HeadCurve(known.map { ($0.l2, $0.parameters) }) : nil
    return strengths.map { l2 in curve.flatMap { l2 > 0 ? $0.head(at: l2) : nil } ?? stronger.last?.parameters ?? [] }
  }

  /// Goes on with what hasn't converged and may still win, round by round.
  private func settle(_ candidates: inout [Candidate], onProgress: ((LinearTrainingProgress) throws -> Void)?) throws {
    var limit = Self.firstRound
    while let best = candidates.filter(\.isSolved).max(by: Candidate.isWorse) {
      let pending = candidates.indices.filter {
        candidates[$0].isSolved && !candidates[$0].isConverged && candidates[$0].iterations < options.solver.maximumIterations
          && !candidates[$0].isHopeless(against: best)
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
    let scores = try problem.score(solutions.map(\.parameters), on: validation, source: source, keepsLogits: keepsLogits)
    return zip(heads, zip(solutions, scores)).map { head, found in
      Candidate(
        l2: head.l2, parameters: found.0.parameters, objective: found.0.loss, iterations: head.iterations + found.0.iterations,
        isConverged: found.0.status != .iterationLimit, score: found.1.score, logits: found.1.logits)
    }
  }
}
