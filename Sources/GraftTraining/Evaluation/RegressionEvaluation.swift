import Foundation
import GraftData

/// How good a head for numbers is on samples with known ones, in scikit-learn's definitions.
public struct RegressionEvaluation: Sendable, Equatable, Encodable {
  /// One target.
  public struct TargetScore: Sendable, Equatable, Encodable {
    public let target: String
    /// Mean of the errors' magnitudes, in the target's units.
    public let mae: Double
    /// Root of the mean squared error, in the target's units.
    public let rmse: Double
    /// Share of the variance that is explained: 1 − Σ(y − ŷ)²/Σ(y − ȳ)²; `nil` of a single sample, which has none.
    public let r2: Double?
  }

  public let task = LabelTask.regression
  public let samples: Int
  /// Means over the targets.
  public let mae, rmse: Double
  public let r2: Double?
  /// 95 %, by drawing the samples again; `nil` where that would take long.
  public let rmseInterval, r2Interval: ConfidenceInterval?
  public let targets: [TargetScore]

  private enum CodingKeys: String, CodingKey {
    case task, samples, mae, rmse, r2, targets
    case rmseInterval = "rmse_interval"
    case r2Interval = "r2_interval"
  }

  /// - Parameters:
  ///   - outputs: `[N, T]`, in the user's units.
  ///   - targets: `[N, T]`
  /// - Throws: `EvaluationError` without samples, for counts that don't fit, or an output that isn't finite.
  public init(outputs: [Float], targets: [Double], names: [String]) throws(EvaluationError) {
    try EvaluationError.check(outputs: outputs, targets: targets, width: names.count)
    let width = names.count, count = outputs.count / width
    let sums = RegressionSums(outputs: outputs, targets: targets, width: width)
    self.targets = names.indices.map {
      TargetScore(target: names[$0], mae: sums.mae[$0], rmse: sums.rmse[$0], r2: count > 1 ? sums.r2[$0] : nil)
    }
    (samples, mae, rmse, r2) = (count, sums.mae.mean, sums.rmse.mean, count > 1 ? sums.r2.mean : nil)
    func interval(_ value: Double, _ part: KeyPath<RegressionSums, [Double]>) -> ConfidenceInterval? {
      Bootstrap.interval(value: value, samples: count, work: 2 * outputs.count) { counts in
        RegressionSums(outputs: outputs, targets: targets, width: width, counts: counts)[keyPath: part].mean
      }
    }
    (rmseInterval, r2Interval) = (interval(rmse, \.rmse), interval(sums.r2.mean, \.r2))
  }

  /// The summary and a line a target.
  public func table() -> String {
    func text(_ value: Double?) -> String { value.map { String(format: "%.5g", $0) } ?? "undefined" }
    func interval(_ interval: ConfidenceInterval?) -> String {
      interval.map { "  95 % interval \(text($0.low)) to \(text($0.high))" } ?? ""
    }
    let means = targets.count > 1 ? "mean " : ""
    let summary = [
      ("samples", "\(samples)", ""), (means + "absolute error", text(mae), ""), (means + "RMSE", text(rmse), interval(rmseInterval)),
      (means + "R²", text(r2), interval(r2Interval)),
    ].map { DisplayWidth.left($0.0, columns: 20) + DisplayWidth.right($0.1, columns: 11) + $0.2 }
    let names = targets.map { DisplayWidth.truncated(DisplayWidth.printable($0.target), to: Evaluation.widestName) }
    let width = max(6, names.map { DisplayWidth.of($0) }.max() ?? 0)
    let rows = zip(names, targets).map { name, score in
      DisplayWidth.left(name, columns: width) + DisplayWidth.right(text(score.mae), columns: 16) + DisplayWidth.right(text(score.rmse), columns: 13)
        + DisplayWidth.right(text(score.r2), columns: 13)
    }
    let header =
      DisplayWidth.left("target", columns: width) + DisplayWidth.right("absolute error", columns: 16) + DisplayWidth.right("RMSE", columns: 13)
      + DisplayWidth.right("R²", columns: 13)
    return (summary + ["", header] + rows).joined(separator: "\n")
  }
}
