/// The vectors of one head's minimisation, where they are computed with: the point, its gradient, the direction of search, the point
/// that is tried and the gradient there, the history, and a preconditioner if there is one.
///
/// The solver steers by the numbers it asks for; vectors never leave their place.
protocol SolverVectors: AnyObject {
  /// Whether a preconditioner is in use.
  var isPreconditioned: Bool { get }
  /// Whether no step is remembered.
  var historyIsEmpty: Bool { get }

  /// The largest magnitude in the gradient at the trial, not finite if an entry is not, and that gradient's product with the
  /// direction; `nil` before there is one.
  func measureTrial() throws -> (gradientMaximum: Double, slope: Double?)
  /// Makes the trial, `length` along the direction, the point; `nil`: it is where the minimisation starts, and nothing is remembered.
  func acceptTrial(length: Double?) throws
  /// Finds a direction from the gradient, the history and the preconditioner.
  ///
  /// - Returns: its product with the gradient: below 0 if it leads down.
  func findDirection() throws -> Double
  /// Moves the trial `length` along the direction from the point.
  func moveTrial(length: Double) throws
  /// Σ |gradient[i]|
  func gradientMagnitude() throws -> Double
  func clearHistory()
  /// Asks for the preconditioner at the point, which was evaluated last.
  func renewPreconditioner() throws
  func dropPreconditioner()
  /// The point, `[P]`.
  func position() throws -> [Double]
}

/// H independent minimisation problems of the same size that are evaluated together.
protocol SolverProblem: AnyObject {
  /// H
  var headCount: Int { get }

  /// The vectors of a head, its trial at the start; called once a head.
  func vectors(of head: Int, options: LBFGSOptions) throws -> any SolverVectors
  /// The loss at the trial of each of these heads; their gradients go to their vectors.
  func evaluate(_ heads: [Int]) throws -> [Double]
}
