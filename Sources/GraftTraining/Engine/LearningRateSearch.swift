import Foundation
import GraftData
import GraftGraph

/// How a learning rate is searched for: a short training run whose rate grows from step to step (Smith, "Cyclical Learning Rates for
/// Training Neural Networks", 2017).
public struct LearningRateSearch: Sendable, Equatable {
  /// The first step's rate, and the last one's; between them it grows by one factor a step.
  public var lowest = 1e-7, highest = 10.0
  public var steps = 100
  /// Share of what was before in the smoothed loss, an exponential average corrected for its beginning (as fastai's and Lightning's).
  public var smoothing = 0.9
  /// The search ends where the smoothed loss is this many times its lowest.
  public var limit = 4.0

  public init() {}

  /// The rate of step 0, 1, ….
  public func rate(step: Int) -> Double { lowest * pow(highest / lowest, Double(step) / Double(max(1, steps - 1))) }

  /// Steps whose smoothed loss is of too few batches to be compared.
  var leadCount: Int { steps / 10 }

  func validate() throws(TrainingOptionError) {
    guard lowest > 0, highest > lowest, highest.isFinite, (10...100_000).contains(steps), (0..<1).contains(smoothing), limit > 1 else {
      throw TrainingOptionError(
        message:
          "a search from \(lowest) to \(highest) in \(steps) steps, smoothed by \(smoothing), to \(limit) times the lowest loss was asked for; "
          + "rates must be positive and grow, 10 steps are the least, smoothing lies between 0 and 1, and the limit above 1")
    }
  }
}

/// What a search for a learning rate found.
public struct LearningRateFinding: Sendable, Codable, Equatable {
  /// One step of the search.
  public struct Point: Sendable, Codable, Equatable {
    public let learningRate: Double
    /// Mean of the step's samples, before the step.
    public let loss: Double
    public let smoothedLoss: Double

    private enum CodingKeys: String, CodingKey {
      case loss
      case learningRate = "learning_rate"
      case smoothedLoss = "smoothed_loss"
    }
  }

  /// Why the search ended.
  public enum End: String, Sendable, Codable {
    /// At the highest rate.
    case highestRate = "highest rate"
    /// The smoothed loss was a multiple of its lowest.
    case lossRose = "loss rose"
    /// A loss or a gradient was no longer a number.
    case notFinite = "not finite"
  }

  public let points: [Point]
  public let end: End
  /// The rate at the lowest smoothed loss; `nil` where the loss fell by less than a thousandth.
  public let lowestLossRate: Double?
  /// A tenth of that: a rate to train with.
  ///
  /// The lowest point is where falling and rising balance, so the rate there is already too high; a tenth is Smith's margin, and
  /// fastai's. The other rule in use, the steepest descent, is a difference of noisy numbers: where training begins near an optimum, as
  /// with a head that has been fitted, its place is that of the noise.
  public let suggestion: Double?

  private enum CodingKeys: String, CodingKey {
    case points, end, suggestion
    case lowestLossRate = "lowest_loss_rate"
  }

  init(points: [Point], end: End, leadCount: Int) {
    (self.points, self.end) = (points, end)
    let compared = points.dropFirst(leadCount)
    let lowest = compared.min { $0.smoothedLoss < $1.smoothedLoss }
    // Less than a thousandth is what batches differ by and float32 rounds.
    let fell = compared.first.flatMap { first in lowest.map { $0.smoothedLoss < 0.999 * first.smoothedLoss } } ?? false
    lowestLossRate = fell ? lowest?.learningRate : nil
    suggestion = lowestLossRate.map { $0 / 10 }
  }
}

extension Trainer {
  /// Looks for a learning rate by training with one that grows, on the batches that `run` would begin with.
  ///
  /// Parameters, statistics and the optimiser's state are afterwards what they were, whatever came of it; nothing is written.
  ///
  /// - Parameter onStep: is called after each step.
  /// - Throws: `TrainingOptionError`; `TrainingDataError` if the loss is no number from the beginning; `CancelledError`.
  public func findLearningRate(
    _ search: LearningRateSearch = LearningRateSearch(), cancellation: CancellationFlag? = nil, onStep: (LearningRateFinding.Point) -> Void = { _ in }
  ) throws -> LearningRateFinding {
    try search.validate()
    let before = try program.state()
    let found = Result { try sweep(search, cancellation, onStep) }
    try program.restore(Dictionary(uniqueKeysWithValues: before.map { ($0.name, $0.tensor) }))
    return try found.get()
  }

  private func sweep(
    _ search: LearningRateSearch, _ cancellation: CancellationFlag?, _ onStep: (LearningRateFinding.Point) -> Void
  ) throws -> LearningRateFinding {
    var points: [LearningRateFinding.Point] = []
    var (average, lowest) = (0.0, Double.infinity)
    var lossScale: Float = options.precision == .float16 ? 1024 : 1
    func finish(_ end: LearningRateFinding.End) throws -> LearningRateFinding {
      guard points.count > search.leadCount else {
        throw TrainingDataError(
          message: "the loss is no number after \(points.count) steps, at a learning rate of \(search.rate(step: points.count)). "
            + "Look for features or weights that are no numbers or very large.")
      }
      return LearningRateFinding(points: points, end: end, leadCount: search.leadCount)
    }
    var (total, seen) = (0.0, 0)
    for epoch in 1... {
      let (batches, mixes, feed) = batches(epoch: epoch)
      defer { feed.stop() }
      for (index, chosen) in batches.enumerated() {
        if cancellation?.isCancelled == true { throw CancelledError(remedy: "Nothing was kept; run the same command again.") }
        guard let bytes = try feed.next() else { break }
        let place = index % options.accumulatedBatches
        let applies = place + 1 == options.accumulatedBatches || index + 1 == batches.count
        let (targets, weights) = targets(chosen, mixes?[index], lossScale: lossScale)
        let rate = search.rate(step: points.count)
        let result = try program.train(
          bytes, targets: targets, sampleWeights: weights,
          rates: rates(
            rate, step: points.count + 1, lossScale: lossScale, applies: applies, gathered: applies ? place + 1 : options.accumulatedBatches),
          isFirstOfSum: place == 0)
        total += result.losses.prefix(chosen.count).reduce(0) { $0 + Double($1) }
        seen += chosen.count
        guard total.isFinite else { return try finish(.notFinite) }
        guard applies else { continue }
        let loss = total / Double(seen)
        (total, seen) = (0, 0)
        if !result.gradientNorm.isFinite {
          // In the short format that overflows, as in training, the step is left out and the loss scaled less.
          guard lossScale > 1 else { return try finish(.notFinite) }
          lossScale /= 2
          continue
        }
        average = search.smoothing * average + (1 - search.smoothing) * loss
        let smoothed = average / (1 - pow(search.smoothing, Double(points.count + 1)))
        points.append(LearningRateFinding.Point(learningRate: rate, loss: loss, smoothedLoss: smoothed))
        onStep(points[points.count - 1])
        if points.count == search.steps { return try finish(.highestRate) }
        guard points.count > search.leadCount else { continue }
        lowest = min(lowest, smoothed)
        if smoothed > search.limit * lowest { return try finish(.lossRose) }
      }
    }
    return try finish(.highestRate)
  }
}
