/// Vectors in this process's memory, in double precision.
final class HostVectors: SolverVectors {
  /// Where to evaluate, and what was found there.
  fileprivate(set) var trialPosition: [Double]
  fileprivate var trialGradient: [Double] = []
  private var point: [Double]
  private var gradient: [Double] = []
  private var direction: [Double] = []
  private var history: LBFGSHistory
  private var preconditioner: (any Preconditioner)?
  private let makePreconditioner: () throws -> (any Preconditioner)?

  init(start: [Double], historyCount: Int, preconditioner: @escaping () throws -> (any Preconditioner)?) {
    (trialPosition, point) = (start, start)
    history = LBFGSHistory(capacity: historyCount)
    makePreconditioner = preconditioner
  }

  var isPreconditioned: Bool { preconditioner != nil }
  var historyIsEmpty: Bool { history.isEmpty }

  func measureTrial() -> (gradientMaximum: Double, slope: Double?) {
    (VectorMath.largestMagnitude(trialGradient), direction.isEmpty ? nil : VectorMath.dot(trialGradient, direction))
  }

  func acceptTrial(length: Double?) {
    if length != nil { history.append(step: difference(trialPosition, point), change: difference(trialGradient, gradient)) }
    point = trialPosition
    gradient = trialGradient
  }

  func findDirection() -> Double {
    let descent = history.inverseHessian(times: gradient, preconditioner: preconditioner)
    direction = descent.map { -$0 }
    return -VectorMath.dot(gradient, descent)
  }

  func moveTrial(length: Double) {
    for entry in point.indices { trialPosition[entry] = point[entry] + length * direction[entry] }
  }

  func gradientMagnitude() -> Double { gradient.reduce(0) { $0 + abs($1) } }
  func clearHistory() { history.removeAll() }
  func renewPreconditioner() throws { preconditioner = try makePreconditioner() }
  func dropPreconditioner() { preconditioner = nil }
  func position() -> [Double] { point }

  private func difference(_ a: [Double], _ b: [Double]) -> [Double] { zip(a, b).map { $0 - $1 } }
}

/// An objective that works on arrays, as problems for the solver.
final class HostProblem<Objective: SmoothObjective>: SolverProblem {
  private let objective: Objective
  /// `[H, P]`: the starts, and then what is tried.
  private var parameters: [Double]
  private var losses: [Double]
  private var gradients: [Double]
  private var heads: [Int: HostVectors] = [:]

  /// - Parameter start: `[H, P]`
  init(_ objective: Objective, from start: [Double]) {
    (self.objective, parameters) = (objective, start)
    losses = [Double](repeating: 0, count: objective.headCount)
    gradients = [Double](repeating: 0, count: start.count)
  }

  var headCount: Int { objective.headCount }

  func vectors(of head: Int, options: LBFGSOptions) -> any SolverVectors {
    let vectors = HostVectors(start: Array(parameters[range(head)]), historyCount: options.historyCount) { [objective] in
      try objective.preconditioner(head: head)
    }
    heads[head] = vectors
    return vectors
  }

  func evaluate(_ active: [Int]) throws -> [Double] {
    var isActive = [Bool](repeating: false, count: headCount)
    for head in active {
      isActive[head] = true
      if let vectors = heads[head] { parameters.replaceSubrange(range(head), with: vectors.trialPosition) }
    }
    try objective.evaluate(parameters: parameters, active: isActive, losses: &losses, gradients: &gradients)
    for head in active { heads[head]?.trialGradient = Array(gradients[range(head)]) }
    return active.map { losses[$0] }
  }

  private func range(_ head: Int) -> Range<Int> { head * objective.parameterCount..<(head + 1) * objective.parameterCount }
}
