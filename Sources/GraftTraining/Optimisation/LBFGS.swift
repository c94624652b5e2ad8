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
    var heads = (0..<headCount).map { head in
      LBFGSHead(index: head, position: Array(start[head * parameterCount..<(head + 1) * parameterCount]), options: options)
    }
    var parameters = start
    var losses = [Double](repeating: 0, count: headCount)
    var gradients = [Double](repeating: 0, count: headCount * parameterCount)
    var evaluations = 0

    while heads.contains(where: \.isRunning) {
      try objective.evaluate(parameters: parameters, active: heads.map(\.isRunning), losses: &losses, gradients: &gradients)
      evaluations += 1
      for head in heads.indices where heads[head].isRunning {
        let range = head * parameterCount..<(head + 1) * parameterCount
        try heads[head].advance(loss: losses[head], gradient: Array(gradients[range])) { try objective.preconditioner(head: head) }
        if heads[head].isRunning { parameters.replaceSubrange(range, with: heads[head].trialPosition) }
      }
      let running = heads.filter(\.isRunning)
      try onEvaluation?(
        SolverProgress(
          evaluations: evaluations, headCount: headCount, finishedHeads: headCount - running.count,
          gradientMaximum: running.map(\.gradientMaximum).max() ?? 0))
    }
    return heads.map(\.result)
  }
}
