/// One head's minimisation, fed one evaluation at a time.
struct LBFGSHead {
  /// Iterations after which the preconditioner is asked for again: early and ever more rarely, as the point, and with it
  /// the Hessian, moves less and less.
  static let refreshIterations: Set<Int> = [3, 8, 20, 50, 125]
  /// After how many iterations without progress, or what share of all, what is left is rounding.
  static let patience = (iterations: 20, share: 0.25)

  private let index: Int
  private let options: LBFGSOptions
  private let vectors: any SolverVectors
  private var loss = Double.nan
  private var startLoss = Double.nan
  private var lineSearch: LineSearch?
  private var lowestLoss = Double.infinity
  private var lowestGradient = Double.infinity
  private var lastProgress = 0
  private var iterations = 0
  private var evaluations = 0
  private var status: SolverStatus?
  private var isBoundByPrecision = false
  private(set) var gradientMaximum = Double.infinity

  init(index: Int, vectors: any SolverVectors, options: LBFGSOptions) { (self.index, self.vectors, self.options) = (index, vectors, options) }

  var isRunning: Bool { status == nil }

  func result() throws -> SolverResult {
    SolverResult(
      parameters: try vectors.position(), loss: loss, gradientMaximum: gradientMaximum, iterations: iterations, evaluations: evaluations,
      status: status ?? .iterationLimit, isBoundByPrecision: isBoundByPrecision)
  }

  /// Takes the value at the trial, whose gradient the vectors have, then either moves the trial or stops.
  mutating func advance(loss newLoss: Double) throws {
    evaluations += 1
    let trial = try vectors.measureTrial()
    guard var search = lineSearch else {
      guard newLoss.isFinite, trial.gradientMaximum.isFinite else {
        throw DivergenceError(head: index, reason: "the loss is \(newLoss) at the starting point, or its gradient isn't finite")
      }
      startLoss = newLoss
      try accept(loss: newLoss, gradientMaximum: trial.gradientMaximum, length: nil)
      try vectors.renewPreconditioner()
      return try startSearch()
    }
    // A gradient with an infinite entry next to a zero direction must not look like a usable slope.
    let length = search.trial, slope = trial.gradientMaximum.isFinite ? trial.slope ?? .nan : .nan
    let step = search.advance(loss: newLoss, slope: slope)
    lineSearch = search
    switch step {
    case .evaluate(let length):
      try vectors.moveTrial(length: length)
    case .accepted:
      iterations += 1
      try accept(loss: newLoss, gradientMaximum: trial.gradientMaximum, length: length)
      if Self.refreshIterations.contains(iterations) { try vectors.renewPreconditioner() }
      try startSearch()
    case .failed(let failure):
      try recover(from: failure)
    }
  }

  private mutating func accept(loss newLoss: Double, gradientMaximum newMaximum: Double, length: Double?) throws {
    try vectors.acceptTrial(length: length)
    (loss, gradientMaximum) = (newLoss, newMaximum)
    let isLower = loss < lowestLoss - 0.01 * options.lossPrecision * abs(loss)
    let isFlatter = gradientMaximum < 0.9 * lowestGradient
    if isLower { lowestLoss = loss }
    if isFlatter { lowestGradient = gradientMaximum }
    if isLower || isFlatter { lastProgress = iterations }
  }

  private mutating func startSearch() throws {
    if gradientMaximum == 0 { return status = .converged }
    let knowsCurvature = vectors.isPreconditioned || !vectors.historyIsEmpty
    // The product of a gradient next to nothing with itself is 0 where numbers end: there is nothing left to descend.
    guard let slope = try slopeOfDescent() else { return stopShortOfTheGap() }
    // A quadratic with this Hessian falls by half the slope on the way to its minimum.
    let gap = -slope / 2
    let scale = max(abs(loss), 0.01 * abs(startLoss))
    if isFlat, options.relativeGap.isInfinite || (knowsCurvature && gap <= options.relativeGap * scale) {
      return status = .converged
    }
    if iterations >= options.maximumIterations { return status = .iterationLimit }
    if isStalled { return stopShortOfTheGap() }

    let firstStep = knowsCurvature ? 1 : min(1, 1 / (try vectors.gradientMagnitude()))
    lineSearch = LineSearch(
      loss: loss, slope: slope, firstStep: firstStep, lossNoise: options.lossPrecision * abs(loss),
      evaluationLimit: options.maximumLineSearchEvaluations)
    try vectors.moveTrial(length: firstStep)
  }

  /// The slope along a direction that leads down: with all that is known, without the history, or along the gradient; `nil` where even
  /// that one's is too small for a number.
  private func slopeOfDescent() throws -> Double? {
    var slope = try vectors.findDirection()
    func leadsDown() -> Bool { slope < 0 && slope.isFinite }
    if !leadsDown(), !vectors.historyIsEmpty {
      vectors.clearHistory()
      slope = try vectors.findDirection()
    }
    if !leadsDown(), vectors.isPreconditioned {
      vectors.dropPreconditioner()
      slope = try vectors.findDirection()
    }
    guard leadsDown() else {
      if slope == 0, gradientMaximum < 1 { return nil }
      throw DivergenceError(head: index, reason: "the gradient is as large as \(gradientMaximum) and gives no direction of descent")
    }
    return slope
  }

  private mutating func stopShortOfTheGap() {
    status = isFlat ? .converged : .precisionReached
    isBoundByPrecision = true
  }

  private var isFlat: Bool { gradientMaximum <= options.gradientTolerance * (options.gradientFollowsLoss ? min(1, abs(loss)) : 1) }

  /// Neither the loss nor the gradient has got lower for a while. Slow problems, which have taken long already, get longer.
  private var isStalled: Bool {
    iterations - lastProgress > max(Self.patience.iterations, Int(Self.patience.share * Double(iterations)))
  }

  /// A failed search is tried once more without the history, which rounding may have spoilt.
  private mutating func recover(from failure: LineSearch.Failure) throws {
    if !vectors.historyIsEmpty {
      vectors.clearHistory()
      return try startSearch()
    }
    switch failure {
    case .exhausted:
      stopShortOfTheGap()
    case .notFinite:
      throw DivergenceError(head: index, reason: "from a loss of \(loss) every step leads to one that isn't a number")
    case .unbounded:
      throw DivergenceError(head: index, reason: "the loss falls without bound")
    }
  }
}
