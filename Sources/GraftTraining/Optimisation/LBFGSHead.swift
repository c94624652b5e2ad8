/// One head's minimisation, fed one evaluation at a time.
struct LBFGSHead {
  /// Iterations after which the preconditioner is asked for again: early and ever more rarely, as the point, and with it
  /// the Hessian, moves less and less.
  static let refreshIterations: Set<Int> = [3, 8, 20, 50, 125]
  /// After how many iterations without progress, or what share of all, what is left is rounding.
  static let patience = (iterations: 20, share: 0.25)

  private let index: Int
  private let options: LBFGSOptions
  private var position: [Double]
  private var gradient: [Double] = []
  private var loss = Double.nan
  private var startLoss = Double.nan
  private var direction: [Double] = []
  private var history: LBFGSHistory
  private var preconditioner: (any Preconditioner)?
  private var lineSearch: LineSearch?
  private var lowestLoss = Double.infinity
  private var lowestGradient = Double.infinity
  private var lastProgress = 0
  private var iterations = 0
  private var evaluations = 0
  private var status: SolverStatus?

  /// Where to evaluate next.
  private(set) var trialPosition: [Double]
  private(set) var gradientMaximum = Double.infinity

  init(index: Int, position: [Double], options: LBFGSOptions) {
    (self.index, self.position, self.options) = (index, position, options)
    trialPosition = position
    history = LBFGSHistory(capacity: options.historyCount)
  }

  var isRunning: Bool { status == nil }

  var result: SolverResult {
    SolverResult(
      parameters: position, loss: loss, gradientMaximum: gradientMaximum, iterations: iterations, evaluations: evaluations,
      status: status ?? .iterationLimit)
  }

  /// Takes the value and the gradient at `trialPosition`, then either sets the next trial or stops.
  mutating func advance(loss newLoss: Double, gradient newGradient: [Double], preconditionerHere: () throws -> (any Preconditioner)?) throws {
    evaluations += 1
    guard var search = lineSearch else {
      guard newLoss.isFinite, VectorMath.largestMagnitude(newGradient).isFinite else {
        throw DivergenceError(head: index, reason: "the loss is \(newLoss) at the starting point, or its gradient isn't finite")
      }
      startLoss = newLoss
      preconditioner = try preconditionerHere()
      accept(loss: newLoss, gradient: newGradient)
      return try startSearch()
    }
    // A gradient with an infinite entry next to a zero direction must not look like a usable slope.
    let slope = VectorMath.largestMagnitude(newGradient).isFinite ? VectorMath.dot(newGradient, direction) : .nan
    let step = search.advance(loss: newLoss, slope: slope)
    lineSearch = search
    switch step {
    case .evaluate(let length):
      move(length)
    case .accepted:
      iterations += 1
      history.append(step: difference(trialPosition, position), change: difference(newGradient, gradient))
      position = trialPosition
      accept(loss: newLoss, gradient: newGradient)
      if Self.refreshIterations.contains(iterations) { preconditioner = try preconditionerHere() }
      try startSearch()
    case .failed(let failure):
      try recover(from: failure)
    }
  }

  private mutating func accept(loss newLoss: Double, gradient newGradient: [Double]) {
    loss = newLoss
    gradient = newGradient
    gradientMaximum = VectorMath.largestMagnitude(newGradient)
    let isLower = loss < lowestLoss - 0.01 * options.lossPrecision * abs(loss)
    let isFlatter = gradientMaximum < 0.9 * lowestGradient
    if isLower { lowestLoss = loss }
    if isFlatter { lowestGradient = gradientMaximum }
    if isLower || isFlatter { lastProgress = iterations }
  }

  private mutating func startSearch() throws {
    if gradientMaximum == 0 { return status = .converged }
    let knowsCurvature = preconditioner != nil || !history.isEmpty
    var descent = history.inverseHessian(times: gradient, preconditioner: preconditioner)
    var slope = -VectorMath.dot(gradient, descent)
    if !(slope < 0 && slope.isFinite), !history.isEmpty {
      history.removeAll()
      descent = history.inverseHessian(times: gradient, preconditioner: preconditioner)
      slope = -VectorMath.dot(gradient, descent)
    }
    guard slope < 0, slope.isFinite else {
      throw DivergenceError(head: index, reason: "the gradient is as large as \(gradientMaximum) and gives no direction of descent")
    }
    // A quadratic with this Hessian falls by half the slope on the way to its minimum.
    let gap = -slope / 2
    let scale = max(abs(loss), 0.01 * abs(startLoss))
    if gradientMaximum <= options.gradientTolerance, options.relativeGap.isInfinite || (knowsCurvature && gap <= options.relativeGap * scale) {
      return status = .converged
    }
    if iterations >= options.maximumIterations { return status = .iterationLimit }
    if isStalled { return status = gradientMaximum <= options.gradientTolerance ? .converged : .precisionReached }

    direction = descent.map { -$0 }
    let firstStep = knowsCurvature ? 1 : min(1, 1 / gradient.reduce(0) { $0 + abs($1) })
    lineSearch = LineSearch(
      loss: loss, slope: slope, firstStep: firstStep, lossNoise: options.lossPrecision * abs(loss),
      evaluationLimit: options.maximumLineSearchEvaluations)
    move(firstStep)
  }

  /// Neither the loss nor the gradient has got lower for a while. Slow problems, which have taken long already, get longer.
  private var isStalled: Bool {
    iterations - lastProgress > max(Self.patience.iterations, Int(Self.patience.share * Double(iterations)))
  }

  /// A failed search is tried once more without the history, which rounding may have spoilt.
  private mutating func recover(from failure: LineSearch.Failure) throws {
    if !history.isEmpty {
      history.removeAll()
      return try startSearch()
    }
    switch failure {
    case .exhausted:
      status = gradientMaximum <= options.gradientTolerance ? .converged : .precisionReached
    case .notFinite:
      throw DivergenceError(head: index, reason: "from a loss of \(loss) every step leads to one that isn't a number")
    case .unbounded:
      throw DivergenceError(head: index, reason: "the loss falls without bound")
    }
  }

  private mutating func move(_ length: Double) {
    for entry in position.indices { trialPosition[entry] = position[entry] + length * direction[entry] }
  }

  private func difference(_ a: [Double], _ b: [Double]) -> [Double] { zip(a, b).map { $0 - $1 } }
}
