import GraftData

/// How good a head for many labels is on samples with known ones, in scikit-learn's definitions.
///
/// A label counts as said where its probability is 0.5 or more. A ratio without a denominator is 0, and so is everything about a label
/// that no sample has: it weighs on the macro averages as it does in scikit-learn.
public struct MultilabelEvaluation: Sendable, Equatable, Encodable {
  /// One label.
  public struct LabelScore: Sendable, Equatable, Encodable {
    public let label: String
    /// Samples that have it.
    public let support: Int
    public let averagePrecision: Double
    public let precision: Double
    public let recall: Double
    public let f1: Double

    private enum CodingKeys: String, CodingKey {
      case label, support, precision, recall, f1
      case averagePrecision = "average_precision"
    }
  }

  public let task = LabelTask.multilabel
  public let samples: Int
  /// Mean over the labels of their average precision.
  public let meanAveragePrecision: Double
  /// 95 %, by drawing the samples again; `nil` where that would take long.
  public let meanAveragePrecisionInterval: ConfidenceInterval?
  /// Over all samples and labels together.
  public let microF1: Double
  /// Mean over the labels.
  public let macroF1: Double
  /// Share of the samples all of whose labels are right.
  public let subsetAccuracy: Double
  /// Share of samples' labels that are wrong.
  public let hammingLoss: Double
  /// −mean log p over samples and labels, p clipped to [ε, 1 − ε] of double precision.
  public let logLoss: Double
  public let labels: [LabelScore]

  private enum CodingKeys: String, CodingKey {
    case task, samples, labels
    case meanAveragePrecision = "mean_average_precision"
    case meanAveragePrecisionInterval = "mean_average_precision_interval"
    case microF1 = "micro_f1"
    case macroF1 = "macro_f1"
    case subsetAccuracy = "subset_accuracy"
    case hammingLoss = "hamming_loss"
    case logLoss = "log_loss"
  }

  /// - Parameters:
  ///   - logits: `[N, T]`; their logistic function is a label's probability.
  ///   - targets: `[N, T]`, 0 or 1.
  /// - Throws: `EvaluationError` without samples, for counts that don't fit, or a logit that isn't finite.
  public init(logits: [Float], targets: [Double], labels names: [String]) throws(EvaluationError) {
    try EvaluationError.check(outputs: logits, targets: targets, width: names.count)
    let width = names.count, count = logits.count / width
    var (hits, said, had) = ([Int](repeating: 0, count: width), [Int](repeating: 0, count: width), [Int](repeating: 0, count: width))
    var (whole, wrong) = (0, 0)
    for row in 0..<count {
      var errors = 0
      for column in 0..<width {
        let isSaid = logits[row * width + column] >= 0, isTrue = targets[row * width + column] == 1
        if isSaid { said[column] += 1 }
        if isTrue { had[column] += 1 }
        if isSaid, isTrue { hits[column] += 1 }
        if isSaid != isTrue { errors += 1 }
      }
      wrong += errors
      if errors == 0 { whole += 1 }
    }
    func ratio(_ part: Int, _ total: Int) -> Double { total == 0 ? 0 : Double(part) / Double(total) }
    let ranked = (0..<width).map { RankedScores(outputs: logits, targets: targets, width: width, column: $0) }
    labels = names.indices.map {
      LabelScore(
        label: names[$0], support: had[$0], averagePrecision: ranked[$0].averagePrecision(), precision: ratio(hits[$0], said[$0]),
        recall: ratio(hits[$0], had[$0]), f1: ratio(2 * hits[$0], said[$0] + had[$0]))
    }
    samples = count
    meanAveragePrecision = labels.map(\.averagePrecision).mean
    meanAveragePrecisionInterval = Bootstrap.interval(value: meanAveragePrecision, samples: count, work: logits.count) { counts in
      ranked.map { $0.averagePrecision(counts: counts) }.mean
    }
    microF1 = ratio(2 * hits.reduce(0, +), said.reduce(0, +) + had.reduce(0, +))
    macroF1 = labels.map(\.f1).mean
    (subsetAccuracy, hammingLoss) = (ratio(whole, count), ratio(wrong, logits.count))
    logLoss = LabelLoss.mean(outputs: logits, targets: targets)
  }

  /// The summary and a line a label.
  public func table() -> String {
    func decimal(_ value: Double) -> String { Evaluation.decimal(value) }
    var lines = [
      ("samples", "\(samples)", ""),
      (
        "mean average precision", decimal(meanAveragePrecision),
        meanAveragePrecisionInterval.map { "  95 % interval \(decimal($0.low)) to \(decimal($0.high))" } ?? ""
      ),
      ("micro F1", decimal(microF1), "  labels of a probability of 0.5 or more"), ("macro F1", decimal(macroF1), ""),
      ("all labels right", decimal(subsetAccuracy), ""), ("Hamming loss", decimal(hammingLoss), ""), ("log loss", decimal(logLoss), ""),
    ]
    let missing = labels.count { $0.support == 0 }
    if missing > 0 { lines.append(("labels not shown", "\(missing)", "  by any of these samples; they count 0 in the macro averages")) }
    let summary = lines.map { DisplayWidth.left($0.0, columns: 23) + DisplayWidth.right($0.1, columns: 8) + $0.2 }
    let names = labels.map { DisplayWidth.truncated(DisplayWidth.printable($0.label), to: Evaluation.widestName) }
    let width = max(5, names.map { DisplayWidth.of($0) }.max() ?? 0)
    let rows = zip(names, labels).map { name, score in
      DisplayWidth.left(name, columns: width) + DisplayWidth.right(decimal(score.averagePrecision), columns: 19)
        + DisplayWidth.right(decimal(score.precision), columns: 11) + DisplayWidth.right(decimal(score.recall), columns: 8)
        + DisplayWidth.right(decimal(score.f1), columns: 8) + DisplayWidth.right("\(score.support)", columns: 9)
    }
    let header = DisplayWidth.left("label", columns: width) + "  average precision  precision  recall      F1  samples"
    return (summary + ["", header] + rows).joined(separator: "\n")
  }
}

extension EvaluationError {
  static func check(outputs: [Float], targets: [Double], width: Int) throws(EvaluationError) {
    guard width > 0, outputs.count == targets.count, outputs.count % width == 0 else {
      throw EvaluationError(message: "\(outputs.count) outputs for \(targets.count) targets of \(width) a sample")
    }
    guard !outputs.isEmpty else {
      throw EvaluationError(message: "there are no samples to evaluate in this split. Choose another with --split, or add samples.")
    }
    guard let wrong = outputs.firstIndex(where: { !$0.isFinite }) else { return }
    throw EvaluationError(
      message: "what the head says of row \(wrong / width) contains NaN or infinity. Extract that sample's features again, or leave it out.")
  }
}
