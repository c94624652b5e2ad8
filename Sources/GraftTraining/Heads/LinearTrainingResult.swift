/// A trained linear head and how it came about.
public struct LinearTrainingResult: Sendable {
  /// W, `[C, D]`, for features as they are (`none`, `standardise`) or divided by their length (`l2`).
  public let weight: [Float]
  /// b, `[C]`
  public let bias: [Float]
  public let classCount: Int
  public let dimension: Int
  public let featureNormalisation: FeatureNormalisation
  /// λ
  public let l2: Double
  /// L-BFGS iterations of the head that was kept, the sweep's share included if it goes on from there.
  public let iterations: Int
  /// Mean cross-entropy + λ/2·‖W‖² on all training samples.
  public let objective: Double
  /// The gradient's largest magnitude where the solver stopped.
  public let gradientMaximum: Double
  public let status: SolverStatus
  /// How well λ does on samples not trained on; nil where λ was given and there is no validation split.
  public let validation: ValidationScore?
  /// What a head that had not seen them says about the validation samples; `nil` where there were none.
  public let heldOut: HeldOutScores?
  /// The sweep's strengths in ascending order; empty where λ was given.
  public let sweep: [SweepPoint]
  public let seconds: Double
}

/// Accuracy on samples that were not trained on.
public struct ValidationScore: Sendable, Equatable, Codable {
  public enum Source: String, Sendable, Codable {
    /// The data set's own validation split.
    case split = "val"
    /// Training samples held out; the head that is kept has been trained on them since.
    case holdout
    /// Each training sample by a fit without it.
    case leaveOneOut = "leave-one-out"
    /// Each training sample by a fit without its fold.
    case folds
  }
  public let top1: Double
  public let logLoss: Double
  public let samples: Int
  public let source: Source

  public init(top1: Double, logLoss: Double, samples: Int, source: Source) {
    (self.top1, self.logLoss, self.samples, self.source) = (top1, logLoss, samples, source)
  }

  private enum CodingKeys: String, CodingKey {
    case top1
    case logLoss = "log_loss"
    case samples, source
  }
}

/// One λ of a sweep.
public struct SweepPoint: Sendable, Equatable, Codable {
  public let l2: Double
  public let top1: Double
  public let logLoss: Double
  public let iterations: Int
  /// False for a strength that was given up before its minimum, being worse than a stronger one already.
  public let converged: Bool
  /// Whether it was not solved for, but lies on the curve through neighbouring strengths that were.
  public let interpolated: Bool

  private enum CodingKeys: String, CodingKey {
    case l2, top1
    case logLoss = "log_loss"
    case iterations, converged, interpolated
  }
}
