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
  /// The label is among the best min(5, C).
  public let top5: Double
  /// Averages over the classes that occur among the labels or the predictions: what scikit-learn's `average="macro"`
  /// does unless told the labels. A class that is nowhere changes nothing.
  public let macroPrecision: Double
  public let macroRecall: Double
  public let macroF1: Double
  /// −mean log p(label), p clipped to [ε, 1 − ε] of double precision.
  public let logLoss: Double
  public let classes: [ClassScore]
  /// `confusion[i][j]`: samples of class i predicted as j.
  public let confusion: [[Int]]

  private enum CodingKeys: String, CodingKey {
    case samples, top1, top5
    case macroPrecision = "macro_precision"
    case macroRecall = "macro_recall"
    case macroF1 = "macro_f1"
    case logLoss = "log_loss"
    case classes, confusion
  }

  init(accuracy: TopAccuracy, confusion: [[Int]], labels: [String]) {
    let actual = confusion.map { $0.reduce(0, +) }
    let predicted = confusion.indices.map { column in confusion.reduce(0) { $0 + $1[column] } }
    func ratio(_ part: Int, _ whole: Int) -> Double { whole == 0 ? 0 : Double(part) / Double(whole) }
    let scores = labels.indices.map { index in
      let hits = confusion[index][index]
      return ClassScore(
        label: labels[index], precision: ratio(hits, predicted[index]), recall: ratio(hits, actual[index]),
        f1: ratio(2 * hits, predicted[index] + actual[index]), support: actual[index])
    }
    let present = scores.indices.filter { actual[$0] + predicted[$0] > 0 }
    func macro(_ score: KeyPath<ClassScore, Double>) -> Double {
      present.reduce(0) { $0 + scores[$1][keyPath: score] } / Double(max(1, present.count))
    }
    (macroPrecision, macroRecall, macroF1) = (macro(\.precision), macro(\.recall), macro(\.f1))
    classes = scores
    (samples, top1, top5, logLoss) = (accuracy.samples, accuracy.top1, accuracy.top5, accuracy.logLoss)
    self.confusion = confusion
  }
}

/// Builds an `Evaluation` from logits that arrive in chunks.
///
/// Classes with equal logits are ranked by index, the lower first.
public struct EvaluationAccumulator {
  private let labels: [String]
  private var accuracy: TopAccuracy
  private var confusion: [[Int]]

  /// - Throws: `EvaluationError` if there is no class.
  public init(classes: [String]) throws(EvaluationError) {
    guard !classes.isEmpty else { throw EvaluationError(message: "there are no classes to evaluate") }
    labels = classes
    accuracy = TopAccuracy(classCount: classes.count)
    confusion = Array(repeating: Array(repeating: 0, count: classes.count), count: classes.count)
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
        guard accuracy.add(own, label: label) else {
          failure = EvaluationError(
            message: "the logits of row \(firstRow + row) contain NaN or infinity. Extract that sample's features again, or leave it out.")
          return
        }
        confusion[label][TopAccuracy.prediction(own)] += 1
      }
    }
    if let failure { throw failure }
  }

  /// - Throws: `EvaluationError` if no sample was added.
  public func finish() throws(EvaluationError) -> Evaluation {
    guard accuracy.samples > 0 else {
      throw EvaluationError(message: "there are no samples to evaluate in this split. Choose another with --split, or add samples.")
    }
    return Evaluation(accuracy: accuracy, confusion: confusion, labels: labels)
  }
}

/// Logits or labels that can't be evaluated.
public struct EvaluationError: Error, CustomStringConvertible, Equatable {
  public let message: String
  public var description: String { message }
}
