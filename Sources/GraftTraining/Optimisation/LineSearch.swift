/// A step length that satisfies the Wolfe conditions or their approximate form, asked for one evaluation at a time so
/// that the searches of many heads advance in step.
///
/// φ(α) is the loss at step α along the direction. The search keeps a bracket [a, b] with φ'(a) < 0 and
/// φ(a) ≤ φ(0) + ε, and at b either φ' ≥ 0 or a loss that is too high. Trials inside come from the secant of φ', since
/// near a minimum the differences of φ drown in rounding long before those of φ' do.
///
/// Source: Hager and Zhang, "A new conjugate gradient method with guaranteed descent and an efficient line search", 2005.
struct LineSearch {
  enum Step: Equatable {
    /// Evaluate at this α next.
    case evaluate(Double)
    /// The last α is accepted.
    case accepted
    /// No acceptable step exists within what rounding shows.
    case failed(Failure)
  }

  enum Failure: Equatable {
    /// The bracket shrank to nothing: the loss is as low as its precision tells.
    case exhausted
    /// No finite value was found along the direction.
    case notFinite
    /// The loss still falls at enormous steps.
    case unbounded
  }

  /// δ and σ: sufficient decrease and curvature.
  static let decrease = 0.1
  static let curvature = 0.9
  /// A bracket that two trials don't shrink by this much is halved.
  static let shrink = 0.66

  private let startLoss: Double
  private let startSlope: Double
  private let lossNoise: Double
  private let evaluationLimit: Int
  private var evaluations = 0
  private var foundFinite = false

  private(set) var trial: Double
  private var low: (step: Double, slope: Double)
  /// `slope` is nil where the loss was too high or not finite, so that a secant would mislead.
  private var high: (step: Double, slope: Double?)?
  private var lastWidth = Double.infinity

  /// - Parameters:
  ///   - loss: φ(0)
  ///   - slope: φ'(0), negative
  ///   - firstStep: the first α to try
  ///   - lossNoise: ε, how far two evaluations of an equal loss may lie apart
  init(loss: Double, slope: Double, firstStep: Double, lossNoise: Double, evaluationLimit: Int) {
    (startLoss, startSlope, trial, self.lossNoise, self.evaluationLimit) = (loss, slope, firstStep, lossNoise, evaluationLimit)
    low = (0, slope)
  }

  /// Takes φ(α) and φ'(α) at `trial`, and says what is next.
  mutating func advance(loss: Double, slope: Double) -> Step {
    evaluations += 1
    let isFinite = loss.isFinite && slope.isFinite
    foundFinite = foundFinite || isFinite
    if isFinite, isAcceptable(loss: loss, slope: slope) { return .accepted }
    if evaluations >= evaluationLimit { return .failed(high == nil ? .unbounded : foundFinite ? .exhausted : .notFinite) }

    if !isFinite {
      high = (trial, nil)
    } else if slope >= 0 {
      high = (trial, slope)
    } else if loss > startLoss + lossNoise {
      high = (trial, nil)
    } else {
      low = (trial, slope)
    }

    guard let high else {
      let secant = trial - slope * (trial / (slope - startSlope))
      trial = slope > startSlope && secant.isFinite ? min(max(secant, 2 * trial), 10 * trial) : 4 * trial
      return trial.isFinite ? .evaluate(trial) : .failed(.unbounded)
    }
    let width = high.step - low.step
    guard width > 1e-15 * high.step, width > 0 else { return .failed(foundFinite ? .exhausted : .notFinite) }
    trial = nextInside(high, width: width)
    lastWidth = width
    return .evaluate(trial)
  }

  private func nextInside(_ high: (step: Double, slope: Double?), width: Double) -> Double {
    guard let highSlope = high.slope else { return low.step + (foundFinite ? 0.5 : 0.1) * width }
    guard width <= Self.shrink * lastWidth || lastWidth.isInfinite else { return low.step + 0.5 * width }
    let secant = (low.step * highSlope - high.step * low.slope) / (highSlope - low.slope)
    guard secant.isFinite else { return low.step + 0.5 * width }
    return min(max(secant, low.step + 0.01 * width), high.step - 0.01 * width)
  }

  private func isAcceptable(loss: Double, slope: Double) -> Bool {
    guard slope >= Self.curvature * startSlope else { return false }
    if loss <= startLoss + Self.decrease * trial * startSlope { return true }
    return loss <= startLoss + lossNoise && slope <= (2 * Self.decrease - 1) * startSlope
  }
}
