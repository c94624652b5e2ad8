/// Limited-memory BFGS over H heads in step: every evaluation serves all that still run, and each head keeps a history,
/// a step length and a stop of its own.
///
/// The same input gives the same bits. Vectors and sums are double precision; the gradients may come from float32 GEMMs
/// (then set `lossPrecision`).
///
/// Source: Nocedal and Wright, "Numerical Optimization", 2nd edition, algorithm 7.5; line search: see `LineSearch`.
public struct LBFGS {
  public let options: LBFGSOptions

  public init(options: LBFGSOptions = LBFGSOptions()) { self.options = options }

  /// Minimises every head from `start`.
  ///
  /// - Parameters:
  ///   - objective: H heads of P parameters.
  ///   - start: `[H, P]`
  ///   - onEvaluation: called after each evaluation; what it throws ends the minimisation.
  /// - Returns: a result a head, in their order.
  /// - Throws: `DivergenceError`, `TrainingOptionError`, or what the objective or `onEvaluation` throws.
  public func minimise(
    _ objective: some SmoothObjective, from start: [Double], onEvaluation: ((SolverProgress) throws -> Void)? = nil
  ) throws -> [SolverResult] {
    try options.validate()
    let (headCount, parameterCount) = (objective.headCount, objective.parameterCount)
    guard start.count == headCount * parameterCount else {
      throw TrainingOptionError(message: "\(start.count) starting parameters for \(headCount) heads of \(parameterCount)")
    }
    return try minimise(HostProblem(objective, from: start), onEvaluation: onEvaluation)
  }

  /// Minimises every head from where its problem starts.
  func minimise(_ problem: any SolverProblem, onEvaluation: ((SolverProgress) throws -> Void)? = nil) throws -> [SolverResult] {
    try options.validate()
    var heads = try (0..<problem.headCount).map { LBFGSHead(index: $0, vectors: try problem.vectors(of: $0, options: options), options: options) }
    var evaluations = 0
    while true {
      let active = heads.indices.filter { heads[$0].isRunning }
      if active.isEmpty { break }
      let losses = try problem.evaluate(active)
      evaluations += 1
      for (head, loss) in zip(active, losses) { try heads[head].advance(loss: loss) }
      let running = heads.filter(\.isRunning)
      try onEvaluation?(
        SolverProgress(
          evaluations: evaluations, headCount: heads.count, finishedHeads: heads.count - running.count,
          gradientMaximum: running.map(\.gradientMaximum).max() ?? 0))
    }
    return try heads.map { try $0.result() }
  }
}
