import Foundation

/// What a head says about one picture.
public struct ImagePrediction: Sendable, Equatable, Codable {
  /// One class and how likely it is.
  public struct Label: Sendable, Equatable, Codable {
    public let label: String
    public let probability: Double

    public init(label: String, probability: Double) { (self.label, self.probability) = (label, probability) }
  }

  public let path: String
  /// The most likely first.
  public let predictions: [Label]

  public init(path: String, predictions: [Label]) { (self.path, self.predictions) = (path, predictions) }

  /// The k most likely classes by softmax; equal logits in the order of the classes. All classes if k exceeds them.
  ///
  /// - Parameters:
  ///   - logits: `[C]`
  ///   - temperature: what they are divided by.
  /// - Throws: `EvaluationError` if logits and classes differ in number, k is below 1, the temperature isn't positive, or a logit isn't finite.
  public init(path: String, logits: some Collection<Float>, classes: [String], topK: Int, temperature: Double = 1) throws(EvaluationError) {
    let values = logits.map(Double.init)
    guard values.count == classes.count, !classes.isEmpty else {
      throw EvaluationError(message: "\(path): \(values.count) logits for \(classes.count) classes")
    }
    guard topK >= 1 else { throw EvaluationError(message: "--top-k is \(topK); it must be 1 or more") }
    guard temperature > 0, temperature.isFinite else {
      throw EvaluationError(message: "\(path): the temperature is \(temperature); it must be positive")
    }
    guard values.allSatisfy(\.isFinite), let largest = values.max() else {
      throw EvaluationError(message: "\(path): the prediction contains NaN or infinity; the picture or the head is damaged")
    }
    let exponentials = values.map { exp(($0 - largest) / temperature) }
    let total = exponentials.reduce(0, +)
    let order = values.indices.sorted { (-values[$0], $0) < (-values[$1], $1) }
    self.init(path: path, predictions: order.prefix(topK).map { Label(label: classes[$0], probability: exponentials[$0] / total) })
  }
}

extension ImagePrediction {
  /// Probability from which a label counts as said.
  public static let threshold = 0.5

  /// The k most likely of labels that know nothing of each other; equal logits in the order of the labels.
  ///
  /// - Parameter labelLogits: `[T]`; their logistic function is a label's probability.
  /// - Throws: `EvaluationError` if logits and labels differ in number, k is below 1, or a logit isn't finite.
  public init(path: String, labelLogits: some Collection<Float>, labels: [String], topK: Int) throws(EvaluationError) {
    let values = Array(labelLogits)
    guard values.count == labels.count, !labels.isEmpty else {
      throw EvaluationError(message: "\(path): \(values.count) logits for \(labels.count) labels")
    }
    guard topK >= 1 else { throw EvaluationError(message: "--top-k is \(topK); it must be 1 or more") }
    guard values.allSatisfy(\.isFinite) else { throw .notFinite(path) }
    let order = values.indices.sorted { (-values[$0], $0) < (-values[$1], $1) }
    self.init(path: path, predictions: order.prefix(topK).map { Label(label: labels[$0], probability: Sigmoid.of(Double(values[$0]))) })
  }
}

/// The numbers that a head tells of one picture.
public struct ValuePrediction: Sendable, Equatable, Codable {
  /// One target, in the units it was trained in.
  public struct Value: Sendable, Equatable, Codable {
    public let target: String
    public let value: Double
  }

  public let path: String
  /// In the order of the targets.
  public let predictions: [Value]

  /// - Parameter outputs: `[T]`
  /// - Throws: `EvaluationError` if outputs and targets differ in number, or an output isn't finite.
  public init(path: String, outputs: some Collection<Float>, targets: [String]) throws(EvaluationError) {
    guard outputs.count == targets.count, !targets.isEmpty else {
      throw EvaluationError(message: "\(path): \(outputs.count) outputs for \(targets.count) targets")
    }
    guard outputs.allSatisfy(\.isFinite) else { throw .notFinite(path) }
    self.path = path
    predictions = zip(targets, outputs).map { Value(target: $0, value: Double($1)) }
  }
}

extension EvaluationError {
  fileprivate static func notFinite(_ path: String) -> EvaluationError {
    EvaluationError(message: "\(path): the prediction contains NaN or infinity; the picture or the head is damaged")
  }
}
