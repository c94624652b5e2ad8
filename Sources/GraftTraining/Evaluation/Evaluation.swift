/// How good a classifier is on samples with known labels, in scikit-learn's definitions.
public struct Evaluation: Sendable, Equatable, Codable {
  /// One class. A ratio without a denominator is 0 (`zero_division=0`).
  public struct ClassScore: Sendable, Equatable, Codable {
    public let label: String
    public let precision: Double
    public let recall: Double
    public let f1: Double
    /// Samples of this class.
    public let support: Int
  }

  public let samples: Int
  public let top1: Double
  /// 95 %, by Wilson.
  public let top1Interval: ConfidenceInterval
  /// The label is among the best min(5, C).
  public let top5: Double
  /// Averages over the classes that occur among the labels or the predictions: what scikit-learn's `average="macro"`
  /// does unless told the labels. A class that is nowhere changes nothing.
  public let macroPrecision: Double
  public let macroRecall: Double
  public let macroF1: Double
  /// −mean log p(label), p clipped to [ε, 1 − ε] of double precision. Probabilities are those of the temperature.
  public let logLoss: Double
  /// What logits were divided by; 1: nothing was.
  public let temperature: Double
  /// Without a temperature: as without calibration.
  public let uncalibratedLogLoss: Double
  /// How far confidences can be trusted, and how far they could without a temperature.
  public let reliability, uncalibratedReliability: Reliability
  /// Where a precision was asked for.
  public var abstention: Abstention?
  public let classes: [ClassScore]
  /// `confusion[i][j]`: samples of class i predicted as j. Of up to `largestMatrix` classes: the matrix grows with their square.
  public let confusion: [[Int]]?
  /// Of more classes what the matrix holds beside zeros: [i, j, samples], ascending.
  public let confusionEntries: [[Int]]?

  /// The most classes that `confusion` is given for.
  public static let largestMatrix = 1000

  private enum CodingKeys: String, CodingKey {
    case samples, top1, top5, temperature, reliability, abstention
    case top1Interval = "top1_interval"
    case uncalibratedLogLoss = "log_loss_uncalibrated"
    case uncalibratedReliability = "reliability_uncalibrated"
    case macroPrecision = "macro_precision"
    case macroRecall = "macro_recall"
    case macroF1 = "macro_f1"
    case logLoss = "log_loss"
    case classes, confusion
    case confusionEntries = "confusion_entries"
  }

  init(
    accuracy: TopAccuracy, uncalibratedLogLoss: Double, temperature: Double, outcomes: [Outcome], uncalibrated: [Outcome], counts: [Int: Int],
    labels: [String]
  ) throws(EvaluationError) {
    let width = labels.count
    var (actual, predicted, hits) = ([Int](repeating: 0, count: width), [Int](repeating: 0, count: width), [Int](repeating: 0, count: width))
    for (place, count) in counts {
      actual[place / width] += count
      predicted[place % width] += count
      if place / width == place % width { hits[place / width] = count }
    }
    func ratio(_ part: Int, _ whole: Int) -> Double { whole == 0 ? 0 : Double(part) / Double(whole) }
    let scores = labels.indices.map { index in
      ClassScore(
        label: labels[index], precision: ratio(hits[index], predicted[index]), recall: ratio(hits[index], actual[index]),
        f1: ratio(2 * hits[index], predicted[index] + actual[index]), support: actual[index])
    }
    let present = scores.indices.filter { actual[$0] + predicted[$0] > 0 }
    func macro(_ score: KeyPath<ClassScore, Double>) -> Double {
      present.reduce(0) { $0 + scores[$1][keyPath: score] } / Double(max(1, present.count))
    }
    (macroPrecision, macroRecall, macroF1) = (macro(\.precision), macro(\.recall), macro(\.f1))
    classes = scores
    (samples, top1, top5, logLoss) = (accuracy.samples, accuracy.top1, accuracy.top5, accuracy.logLoss)
    if width <= Self.largestMatrix {
      confusion = (0..<width).map { row in (0..<width).map { counts[row * width + $0] ?? 0 } }
      confusionEntries = nil
    } else {
      confusion = nil
      confusionEntries = counts.sorted { $0.key < $1.key }.map { [$0.key / width, $0.key % width, $0.value] }
    }
    (self.temperature, self.uncalibratedLogLoss) = (temperature, uncalibratedLogLoss)
    (reliability, uncalibratedReliability) = (try Reliability(outcomes), try Reliability(uncalibrated))
    top1Interval = try ConfidenceInterval(successes: outcomes.count(where: \.isRight), of: outcomes.count)
  }
}

extension Evaluation {
  /// What each class was predicted as, ascending and without zeros.
  var predictions: [[(predicted: Int, count: Int)]] {
    if let confusion { return confusion.map { row in row.indices.filter { row[$0] > 0 }.map { ($0, row[$0]) } } }
    var rows = [[(predicted: Int, count: Int)]](repeating: [], count: classes.count)
    // A file may say anything.
    for entry in confusionEntries ?? [] where entry.count == 3 && rows.indices.contains(entry[0]) && rows.indices.contains(entry[1]) {
      rows[entry[0]].append((entry[1], entry[2]))
    }
    return rows
  }
}

/// Builds an `Evaluation` from logits that arrive in chunks.
///
/// Classes with equal logits are ranked by index, the lower first.
public struct EvaluationAccumulator {
  private let labels: [String]
  private let temperature: Double
  private var accuracy, uncalibrated: TopAccuracy
  /// Samples of class i predicted as j, at i·C + j; without zeros, which are most where classes are many.
  private var confusion: [Int: Int] = [:]
  /// What became of every sample, with the temperature and without.
  public private(set) var outcomes: [Outcome] = []
  private var uncalibratedOutcomes: [Outcome] = []

  /// - Parameter temperature: what logits are divided by before softmax.
  /// - Throws: `EvaluationError` if there is no class, or the temperature isn't positive.
  public init(classes: [String], temperature: Double = 1) throws(EvaluationError) {
    guard temperature > 0, temperature.isFinite else { throw EvaluationError(message: "the temperature is \(temperature); it must be positive") }
    self.temperature = temperature
    guard !classes.isEmpty else { throw EvaluationError(message: "there are no classes to evaluate") }
    labels = classes
    accuracy = TopAccuracy(classCount: classes.count)
    uncalibrated = accuracy
  }

  /// Adds samples.
  ///
  /// - Parameters:
  ///   - logits: `[rows, C]`
  ///   - labels: `[rows]`, indices of classes
  ///   - firstRow: what the first of them is called in messages
  /// - Throws: `EvaluationError` that names the row whose label isn't a class or whose logits aren't finite.
  public mutating func add(logits: [Float], labels samples: some Collection<Int>, firstRow: Int = 0) throws(EvaluationError) {
    let classCount = labels.count
    guard logits.count == samples.count * classCount else {
      throw EvaluationError(message: "\(logits.count) logits for \(samples.count) samples and \(classCount) classes")
    }
    var failure: EvaluationError?
    logits.withUnsafeBufferPointer { logits in
      for (row, label) in samples.enumerated() {
        let own = UnsafeBufferPointer(rebasing: logits[row * classCount..<(row + 1) * classCount])
        guard labels.indices.contains(label) else {
          failure = EvaluationError(message: "row \(firstRow + row) has label \(label), and the head knows \(classCount) classes")
          return
        }
        guard accuracy.add(own, label: label, temperature: temperature), uncalibrated.add(own, label: label) else {
          failure = EvaluationError(
            message: "the logits of row \(firstRow + row) contain NaN or infinity. Extract that sample's features again, or leave it out.")
          return
        }
        confusion[label * classCount + TopAccuracy.prediction(own), default: 0] += 1
        outcomes.append(Outcome(own, label: label, temperature: temperature))
        uncalibratedOutcomes.append(Outcome(own, label: label, temperature: 1))
      }
    }
    if let failure { throw failure }
  }

  /// - Throws: `EvaluationError` if no sample was added.
  public func finish() throws(EvaluationError) -> Evaluation {
    guard accuracy.samples > 0 else {
      throw EvaluationError(message: "there are no samples to evaluate in this split. Choose another with --split, or add samples.")
    }
    return try Evaluation(
      accuracy: accuracy, uncalibratedLogLoss: uncalibrated.logLoss, temperature: temperature, outcomes: outcomes, uncalibrated: uncalibratedOutcomes,
      counts: confusion, labels: labels)
  }
}

/// Logits or labels that can't be evaluated.
public struct EvaluationError: Error, CustomStringConvertible, Equatable {
  public let message: String
  public var description: String { message }
}
