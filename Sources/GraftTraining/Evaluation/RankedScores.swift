import Foundation
import GraftData
import GraftGraph

/// Samples in the order of one label's scores, the highest first: what the average precision is of.
///
///     AP = Σₙ (Rₙ − Rₙ₋₁)·Pₙ
///
/// over the distinct scores, where precision and recall count the samples with that score or a higher one, as scikit-learn's
/// `average_precision_score`. A label that no sample has gets 0.
struct RankedScores {
  /// Samples, the highest score first.
  private let order: [Int32]
  /// Whether the sample at this place of the order is the last of its score.
  private let endsScore: [Bool]
  /// Whether the sample at this place of the order has the label.
  private let hasLabel: [Bool]

  /// - Parameters:
  ///   - outputs: `[N, width]`
  ///   - targets: `[N, width]`, 0 or 1.
  init(outputs: [Float], targets: [Double], width: Int, column: Int) {
    let count = outputs.count / width
    let scores = (0..<count).map { outputs[$0 * width + column] }
    let order = (0..<count).sorted { (scores[$0], $1) > (scores[$1], $0) }
    endsScore = order.indices.map { $0 == order.count - 1 || scores[order[$0 + 1]] != scores[order[$0]] }
    hasLabel = order.map { targets[$0 * width + column] == 1 }
    self.order = order.map { Int32(clamping: $0) }
  }

  /// - Parameter counts: how often each sample counts; `nil`: once.
  func averagePrecision(counts: [Int]? = nil) -> Double {
    var (seen, found, foundBefore, sum) = (0, 0, 0, 0.0)
    for place in order.indices {
      let count = counts?[Int(order[place])] ?? 1
      seen += count
      if hasLabel[place] { found += count }
      guard endsScore[place], found > foundBefore else { continue }
      sum += Double(found - foundBefore) * (Double(found) / Double(seen))
      foundBefore = found
    }
    return found == 0 ? 0 : sum / Double(found)
  }
}

/// Binary cross-entropy of logits.
enum LabelLoss {
  /// Mean over samples and labels; probabilities are clipped to [ε, 1 − ε] of double precision, as scikit-learn's `log_loss`.
  static func mean(outputs: [Float], targets: [Double]) -> Double {
    var sum = 0.0
    for (output, target) in zip(outputs, targets) {
      let probability = min(max(Sigmoid.of(target == 1 ? Double(output) : -Double(output)), .ulpOfOne), 1 - .ulpOfOne)
      sum -= log(probability)
    }
    return sum / Double(max(1, outputs.count))
  }
}

enum Sigmoid {
  /// 1 / (1 + e⁻ᶻ)
  static func of(_ logit: Double) -> Double {
    guard logit < 0 else { return 1 / (1 + exp(-logit)) }
    let exponential = exp(logit)
    return exponential / (1 + exponential)
  }
}

/// Errors of numbers that a head tells, a target at a time, in scikit-learn's definitions.
struct RegressionSums {
  /// `[T]` each.
  private(set) var mae, rmse, r2: [Double]

  /// - Parameters:
  ///   - outputs: `[N, width]`
  ///   - targets: `[N, width]`
  ///   - counts: how often each sample counts; `nil`: once.
  init(outputs: [Float], targets: [Double], width: Int, counts: [Int]? = nil) {
    let rows = targets.count / width
    var (mean, absolute, squared) = ([Double](repeating: 0, count: width), [Double](repeating: 0, count: width), [Double](repeating: 0, count: width))
    // Where all targets are equal their mean, being rounded, need not be.
    var (spread, least, most) = (mean, [Double](repeating: .infinity, count: width), [Double](repeating: -.infinity, count: width))
    let total = Double(max(1, counts?.reduce(0, +) ?? rows))
    for row in 0..<rows {
      let weight = Double(counts?[row] ?? 1)
      guard weight > 0 else { continue }
      for column in 0..<width {
        let target = targets[row * width + column], error = Double(outputs[row * width + column]) - target
        mean[column] += weight * target / total
        (least[column], most[column]) = (min(least[column], target), max(most[column], target))
        absolute[column] += weight * abs(error)
        squared[column] += weight * error * error
      }
    }
    for row in 0..<rows {
      let weight = Double(counts?[row] ?? 1)
      for column in 0..<width {
        let deviation = targets[row * width + column] - mean[column]
        if least[column] < most[column] { spread[column] += weight * deviation * deviation }
      }
    }
    mae = absolute.map { $0 / total }
    rmse = squared.map { ($0 / total).squareRoot() }
    // Where all targets are equal there is nothing to explain: 1 for a head that hits them, else 0.
    r2 = zip(squared, spread).map { squared, spread in spread > 0 ? 1 - squared / spread : squared == 0 ? 1 : 0 }
  }
}

/// Percentile intervals by drawing the samples again.
///
/// Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993.
enum Bootstrap {
  static let draws = 1000
  /// Additions that all draws together may take; fewer than 200 draws say too little.
  private static let workLimit = 1_000_000_000, fewestDraws = 200

  /// The interval of `value` over draws of `samples` samples with replacement; `nil` where it would take long, or there is one sample.
  ///
  /// - Parameters:
  ///   - work: additions that computing a value takes.
  ///   - measure: a value where each sample counts so often.
  static func interval(value: Double, samples: Int, work: Int, measure: (_ counts: [Int]) -> Double) -> ConfidenceInterval? {
    let draws = min(draws, workLimit / max(1, work))
    guard samples > 1, draws >= fewestDraws else { return nil }
    var random = SplitMix(0xB007)
    var values: [Double] = []
    values.reserveCapacity(draws)
    for _ in 0..<draws {
      var counts = [Int](repeating: 0, count: samples)
      for _ in 0..<samples { counts[random.below(samples)] += 1 }
      values.append(measure(counts))
    }
    values.sort()
    func quantile(_ share: Double) -> Double {
      let place = share * Double(draws - 1), below = Int(place)
      return values[below] + (place - Double(below)) * (values[min(below + 1, draws - 1)] - values[below])
    }
    return ConfidenceInterval(value: value, low: quantile(0.025), high: quantile(0.975))
  }
}
