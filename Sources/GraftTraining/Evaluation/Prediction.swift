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
  /// - Throws: `EvaluationError` if logits and classes differ in number, k is below 1, or a logit isn't finite.
  public init(path: String, logits: some Collection<Float>, classes: [String], topK: Int, temperature: Double = 1) throws(EvaluationError) {
    let values = logits.map(Double.init)
    guard values.count == classes.count, !classes.isEmpty else {
      throw EvaluationError(message: "\(path): \(values.count) logits for \(classes.count) classes")
    }
    guard topK >= 1 else { throw EvaluationError(message: "--top-k is \(topK); it must be 1 or more") }
    guard values.allSatisfy(\.isFinite), let largest = values.max() else {
      throw EvaluationError(message: "\(path): the prediction contains NaN or infinity; the picture or the head is damaged")
    }
    let exponentials = values.map { exp(($0 - largest) / temperature) }
    let total = exponentials.reduce(0, +)
    let order = values.indices.sorted { (-values[$0], $0) < (-values[$1], $1) }
    self.init(path: path, predictions: order.prefix(topK).map { Label(label: classes[$0], probability: exponentials[$0] / total) })
  }
}
