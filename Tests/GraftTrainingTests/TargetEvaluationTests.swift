import Foundation
import GraftTraining
import Testing

/// What Tools/reference/targets.py stored.
struct TargetFixture: Decodable {
  struct Labels: Decodable, Sendable, CustomTestStringConvertible {
    let name: String
    let width: Int
    let logits, targets: [Double]
    let meanAveragePrecision, microF1, macroF1, subsetAccuracy, hammingLoss, logLoss: Double
    let averagePrecision, f1, precision, recall: [Double]
    let support: [Int]
    var testDescription: String { name }
  }

  struct Numbers: Decodable, Sendable, CustomTestStringConvertible {
    let name: String
    let width: Int
    let outputs, targets, mae, rmse, r2: [Double]
    let meanMAE, meanRMSE, meanR2: Double
    var testDescription: String { name }
  }

  struct Optimum: Decodable, Sendable, CustomTestStringConvertible {
    let name: String
    let rows, dimension, width: Int
    let x, targets, weight, bias: [Double]
    let l2, objective: Double
    var testDescription: String { "\(name), λ \(l2)" }
  }

  struct Ridge: Decodable, Sendable, CustomTestStringConvertible {
    struct Single: Decodable, Sendable {
      let alpha: Double
      let errors: [Double]
    }
    let rows, dimension: Int
    let x, targets, alphas, weight, bias: [Double]
    let single: [Single]
    var testDescription: String { "\(rows) × \(dimension)" }
  }

  struct Huber: Decodable, Sendable {
    let rows, dimension: Int
    let x, targets: [Double]
  }

  struct Neighbours: Decodable, Sendable {
    let rows, queries, dimension: Int
    let x, q, labels, numbers, shares, means: [Double]
  }

  let labels: [Labels]
  let numbers: [Numbers]
  let optima: [Optimum]
  let ridges: [Ridge]
  let huber: Huber
  let neighbours: Neighbours

  static let stored: TargetFixture? = try? Fixture.load("targets.json")
}

private func isNear(_ a: Double, _ b: Double) -> Bool { abs(a - b) <= 1e-6 * max(1, abs(b)) }

@Suite struct TargetEvaluationTests {
  @Test func fixturesAreThere() throws {
    let stored = try #require(TargetFixture.stored)
    #expect(stored.labels.count == 8 && stored.numbers.count == 4 && stored.optima.count == 4 && stored.ridges.count == 2)
  }

  @Test(arguments: TargetFixture.stored?.labels ?? [])
  func labelsAreScoredAsByScikitLearn(stored: TargetFixture.Labels) throws {
    let names = (0..<stored.width).map { "label \($0)" }
    let found = try MultilabelEvaluation(logits: stored.logits.map(Float.init), targets: stored.targets, labels: names)
    for (own, theirs, name) in [
      (found.meanAveragePrecision, stored.meanAveragePrecision, "mean average precision"), (found.microF1, stored.microF1, "micro F1"),
      (found.macroF1, stored.macroF1, "macro F1"), (found.subsetAccuracy, stored.subsetAccuracy, "subset accuracy"),
      (found.hammingLoss, stored.hammingLoss, "Hamming loss"), (found.logLoss, stored.logLoss, "log loss"),
    ] {
      #expect(isNear(own, theirs), "\(name): \(own) against \(theirs)")
    }
    #expect(found.labels.map(\.label) == names && found.labels.map(\.support) == stored.support)
    for (index, label) in found.labels.enumerated() {
      #expect(isNear(label.averagePrecision, stored.averagePrecision[index]) && isNear(label.f1, stored.f1[index]), "\(label)")
      #expect(isNear(label.precision, stored.precision[index]) && isNear(label.recall, stored.recall[index]), "\(label)")
    }
    if found.samples > 1 {
      let interval = try #require(found.meanAveragePrecisionInterval)
      #expect(interval.low <= interval.high && interval.low >= 0 && interval.high <= 1 && interval.value == found.meanAveragePrecision)
    }
    #expect(found.table().contains("label 0"))
  }

  @Test(arguments: TargetFixture.stored?.numbers ?? [])
  func numbersAreScoredAsByScikitLearn(stored: TargetFixture.Numbers) throws {
    let names = (0..<stored.width).map { "target \($0)" }
    // What is stored is what float32 holds.
    let found = try RegressionEvaluation(outputs: stored.outputs.map(Float.init), targets: stored.targets, names: names)
    #expect(isNear(found.mae, stored.meanMAE) && isNear(found.rmse, stored.meanRMSE) && isNear(found.r2 ?? .nan, stored.meanR2), "\(found)")
    for (index, target) in found.targets.enumerated() {
      #expect(
        isNear(target.mae, stored.mae[index]) && isNear(target.rmse, stored.rmse[index]) && isNear(target.r2 ?? .nan, stored.r2[index]), "\(target)")
    }
    let interval = try #require(found.rmseInterval)
    #expect(interval.low <= found.rmse && found.rmse <= interval.high)
    #expect(found.table().contains("target 0"))
  }

  /// As scikit-learn's, which is NaN then.
  @Test func aSingleSampleHasNoShareOfVariance() throws {
    let found = try RegressionEvaluation(outputs: [1.5, 2], targets: [1, 2], names: ["a", "b"])
    #expect(found.r2 == nil && found.targets.allSatisfy { $0.r2 == nil } && found.rmse == 0.25)
    #expect(found.table().contains("undefined"))
    let fields = try #require(JSONSerialization.jsonObject(with: JSONEncoder().encode(found)) as? [String: Any])
    #expect(fields["r2"] == nil && fields["rmse"] is Double)
  }

  /// An interval is narrower where there are more samples like these, and the same in every run.
  @Test func intervalsNarrow() throws {
    let stored = try #require(TargetFixture.stored?.labels.first)
    func interval(_ times: Int) throws -> ConfidenceInterval {
      let logits = (0..<times).flatMap { _ in stored.logits.map(Float.init) }, targets = (0..<times).flatMap { _ in stored.targets }
      return try #require(
        MultilabelEvaluation(logits: logits, targets: targets, labels: (0..<stored.width).map { "\($0)" }).meanAveragePrecisionInterval)
    }
    let (one, nine) = (try interval(1), try interval(9))
    #expect(abs((nine.high - nine.low) / (one.high - one.low) - 1.0 / 3) < 0.08)
    #expect(one == (try interval(1)))
  }

  @Test func refusesWhatCannotBeScored() {
    #expect(throws: EvaluationError.self) { try MultilabelEvaluation(logits: [], targets: [], labels: ["a"]) }
    #expect(throws: EvaluationError.self) { try MultilabelEvaluation(logits: [0, 1], targets: [0], labels: ["a"]) }
    #expect(throws: EvaluationError.self) { try RegressionEvaluation(outputs: [], targets: [], names: []) }
    let error = #expect(throws: EvaluationError.self) { try RegressionEvaluation(outputs: [0, 1, .nan], targets: [0, 1, 2], names: ["a"]) }
    #expect(error?.message.contains("row 2") == true)
    #expect(throws: EvaluationError.self) { try ImagePrediction(path: "p", labelLogits: [.nan], labels: ["a"], topK: 1) }
    #expect(throws: EvaluationError.self) { try ImagePrediction(path: "p", labelLogits: [1], labels: ["a"], topK: 0) }
    #expect(throws: EvaluationError.self) { try ValuePrediction(path: "p", outputs: [1], targets: ["a", "b"]) }
  }

  @Test func predictsEachLabelByItself() throws {
    let found = try ImagePrediction(path: "p", labelLogits: [0, 2, -1, 2], labels: ["a", "b", "c", "d"], topK: 3)
    #expect(found.predictions.map(\.label) == ["b", "d", "a"])
    #expect(found.predictions[2].probability == 0.5 && abs(found.predictions[0].probability - 1 / (1 + exp(-2))) < 1e-15)
    let values = try ValuePrediction(path: "p", outputs: [1.5, -3], targets: ["age", "weight"])
    #expect(values.predictions.map(\.target) == ["age", "weight"] && values.predictions.map(\.value) == [1.5, -3])
  }
}
