/// When L-BFGS stops and how much it remembers.
public struct LBFGSOptions: Sendable, Equatable {
  /// Converged once no entry of the gradient is larger; scikit-learn's `tol`.
  public var gradientTolerance: Double
  /// Whether that entry is compared with `gradientTolerance` times the loss where the loss is below 1: where it nearly vanishes, so do
  /// gradients, far from the minimum too.
  public var gradientFollowsLoss = false
  /// Converged only if, besides, the loss is expected to lie no more than this share above its minimum. The gradient
  /// alone says little when λ is small: an entry of 1e-4 may hide a tenth of the loss.
  public var relativeGap: Double
  /// Steps; 0: the start is measured and kept.
  public var maximumIterations: Int
  /// How many steps the approximate Hessian remembers.
  public var historyCount: Int
  /// How far, relative to the loss, two evaluations of an equal loss may lie apart: about 1e-13 for double precision
  /// throughout, 1e-7 where logits are float32.
  public var lossPrecision: Double
  public var maximumLineSearchEvaluations: Int

  public init(
    gradientTolerance: Double = 1e-4, relativeGap: Double = .infinity, maximumIterations: Int = 1000, historyCount: Int = 10,
    lossPrecision: Double = 1e-13, maximumLineSearchEvaluations: Int = 40
  ) {
    self.gradientTolerance = gradientTolerance
    self.relativeGap = relativeGap
    self.maximumIterations = maximumIterations
    self.historyCount = historyCount
    self.lossPrecision = lossPrecision
    self.maximumLineSearchEvaluations = maximumLineSearchEvaluations
  }

  /// - Throws: `TrainingOptionError` for a value that means nothing.
  func validate() throws(TrainingOptionError) {
    guard gradientTolerance > 0, relativeGap > 0, lossPrecision > 0 else {
      throw TrainingOptionError(message: "tolerances must be positive; the gradient's default is 1e-4")
    }
    guard maximumIterations >= 0, historyCount > 0, maximumLineSearchEvaluations > 0 else {
      throw TrainingOptionError(message: "the iteration limit must not be negative; the default is 1000")
    }
  }
}

extension LBFGSOptions {
  /// The same for what goes on where others ended, whose iterations count.
  func following(_ iterations: [Int]) -> LBFGSOptions {
    var options = self
    options.maximumIterations = max(0, maximumIterations - (iterations.max() ?? 0))
    return options
  }
}

/// How a minimisation ended without an error.
public enum SolverStatus: String, Sendable, Codable {
  /// Within the tolerances.
  case converged
  /// No further decrease shows in the precision of the loss, and the gradient is still above its tolerance.
  case precisionReached = "precision_reached"
  case iterationLimit = "iteration_limit"
}

/// One head's minimum.
public struct SolverResult: Sendable, Equatable {
  /// `[P]`
  public let parameters: [Double]
  public let loss: Double
  /// The gradient's largest magnitude at `parameters`.
  public let gradientMaximum: Double
  public let iterations: Int
  public let evaluations: Int
  public let status: SolverStatus
  /// Whether it ended because no further decrease showed: `relativeGap` may not have been reached, the gradient's tolerance may.
  public let isBoundByPrecision: Bool
}

extension SolverResult {
  /// The same with parameters in other coordinates.
  func replacing(parameters: [Double]) -> SolverResult {
    SolverResult(
      parameters: parameters, loss: loss, gradientMaximum: gradientMaximum, iterations: iterations, evaluations: evaluations, status: status,
      isBoundByPrecision: isBoundByPrecision)
  }

  /// The same, with what an earlier minimisation took to come to the start.
  func following(_ earlier: SolverResult) -> SolverResult {
    SolverResult(
      parameters: parameters, loss: loss, gradientMaximum: gradientMaximum, iterations: earlier.iterations + iterations,
      evaluations: earlier.evaluations + evaluations, status: status,
      isBoundByPrecision: isBoundByPrecision)
  }
}

/// How far a minimisation is.
public struct SolverProgress: Sendable {
  /// Evaluations of the objective so far; each serves all heads.
  public let evaluations: Int
  public let headCount: Int
  public let finishedHeads: Int
  /// The largest entry of a gradient among the heads still running; 0 when all are done.
  public let gradientMaximum: Double
}

/// A loss that stopped being a number, or that falls for ever.
public struct DivergenceError: Error, CustomStringConvertible, Equatable {
  /// Which of the heads.
  public let head: Int
  public let reason: String

  public init(head: Int, reason: String) { (self.head, self.reason) = (head, reason) }

  public var description: String {
    "training diverged: \(reason). Raise --l2, or train with --normalise standardise; if the features come from "
      + "elsewhere, check them for enormous values."
  }
}

/// An option that no training can follow.
public struct TrainingOptionError: Error, CustomStringConvertible, Equatable {
  public let message: String
  public var description: String { message }
}
