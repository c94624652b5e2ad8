import Foundation
import GraftTraining
import Testing

/// Logits, labels and what scikit-learn makes of them.
struct StoredMetrics: Decodable, Sendable, CustomTestStringConvertible {
  let name: String
  let classes: Int
  let logits: [Float]
  let labels: [Int]
  let top1, top5, logLoss, macroPrecision, macroRecall, macroF1: Double
  let precision, recall, f1: [Double]
  let support: [Int]
  let confusion: [[Int]]

  private enum CodingKeys: String, CodingKey {
    case name, classes, logits, labels, top1, top5, precision, recall, f1, support, confusion
    case logLoss = "log_loss"
    case macroPrecision = "macro_precision"
    case macroRecall = "macro_recall"
    case macroF1 = "macro_f1"
  }

  var testDescription: String { name }
  static let all: [StoredMetrics] = (try? Fixture.load("metrics.json")) ?? []
}

@Suite struct EvaluationTests {
  @Test func fixturesAreThere() { #expect(StoredMetrics.all.count == 8) }

  @Test(arguments: StoredMetrics.all, [1, 7, 1000])
  func agreesWithScikitLearn(stored: StoredMetrics, chunk: Int) throws {
    let names = (0..<stored.classes).map { "class \($0)" }
    var accumulator = try EvaluationAccumulator(classes: names)
    for first in stride(from: 0, to: stored.labels.count, by: chunk) {
      let last = min(first + chunk, stored.labels.count)
      try accumulator.add(
        logits: Array(stored.logits[first * stored.classes..<last * stored.classes]), labels: stored.labels[first..<last], firstRow: first)
    }
    let found = try accumulator.finish()
    #expect(found.samples == stored.labels.count)
    #expect(found.confusion == stored.confusion)
    #expect(found.classes.map(\.support) == stored.support)
    #expect(found.classes.map(\.label) == names)
    for (mine, theirs) in [
      (found.top1, stored.top1), (found.top5, stored.top5), (found.macroPrecision, stored.macroPrecision),
      (found.macroRecall, stored.macroRecall), (found.macroF1, stored.macroF1),
    ] + zip(found.classes.map(\.precision), stored.precision) + zip(found.classes.map(\.recall), stored.recall)
      + zip(found.classes.map(\.f1), stored.f1)
    {
      #expect(abs(mine - theirs) < 1e-12)
    }
    #expect(abs(found.logLoss - stored.logLoss) < 1e-9 * max(1, stored.logLoss))
  }

  @Test func jsonHasTheNamesThatOthersRead() throws {
    var accumulator = try EvaluationAccumulator(classes: ["a", "b"])
    try accumulator.add(logits: [1, 0, 0, 1, 1, 0], labels: [0, 1, 1])
    let evaluation = try accumulator.finish()
    let data = try JSONEncoder().encode(evaluation)
    let object = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    #expect(
      Set(object.keys) == [
        "top1", "top1_interval", "top5", "macro_f1", "macro_precision", "macro_recall", "log_loss", "log_loss_uncalibrated", "samples", "classes",
        "confusion", "temperature", "reliability", "reliability_uncalibrated",
      ])
    let first = try #require((object["classes"] as? [[String: Any]])?.first)
    #expect(Set(first.keys) == ["label", "precision", "recall", "f1", "support"])
    #expect(object["confusion"] as? [[Int]] == [[1, 0], [1, 1]])
    #expect(try JSONDecoder().decode(Evaluation.self, from: data) == evaluation)
  }

  /// Above a thousand classes the matrix is told by what is in it; everything else is as it was.
  @Test func manyClassesHaveNoMatrix() throws {
    func evaluation(_ count: Int) throws -> Evaluation {
      var accumulator = try EvaluationAccumulator(classes: (0..<count).map { "class \($0)" })
      for (label, predicted) in [(3, 3), (3, 900), (3, 900), (0, 999), (999, 0)] {
        try accumulator.add(logits: (0..<count).map { $0 == predicted ? 5 : 0 }, labels: [label])
      }
      return try accumulator.finish()
    }
    let dense = try evaluation(1000), sparse = try evaluation(1001)
    let matrix = try #require(dense.confusion)
    #expect(matrix.count == 1000 && matrix[3][900] == 2 && matrix.joined().reduce(0, +) == 5 && dense.confusionEntries == nil)
    #expect(sparse.confusion == nil && sparse.confusionEntries == [[0, 999, 1], [3, 3, 1], [3, 900, 2], [999, 0, 1]])
    #expect(dense.classes == Array(sparse.classes.dropLast()) && dense.macroF1 == sparse.macroF1 && sparse.classes[3].recall == 1.0 / 3)
    let data = try JSONEncoder().encode(sparse), object = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    #expect(object["confusion"] == nil && (object["confusion_entries"] as? [[Int]])?.count == 4)
    #expect(try JSONDecoder().decode(Evaluation.self, from: data) == sparse)
    func pairs(_ evaluation: Evaluation) -> [[Substring]] {
      evaluation.table().split(separator: "\n").filter { $0.hasPrefix("class 3 ") && $0.contains("class 900") }.map { $0.split(separator: " ") }
    }
    #expect(pairs(sparse).count == 1 && pairs(sparse) == pairs(dense))
    #expect(Plot.confusion(sparse).source.hasSuffix("</svg>\n"))
  }

  @Test func refusesWhatItCannotScore() throws {
    #expect(throws: EvaluationError.self) { try EvaluationAccumulator(classes: []) }
    var accumulator = try EvaluationAccumulator(classes: ["a", "b"])
    #expect(throws: EvaluationError.self) { try accumulator.finish() }
    #expect(throws: EvaluationError.self) { try accumulator.add(logits: [1, 2, 3], labels: [0]) }
    let wrongLabel = #expect(throws: EvaluationError.self) { try accumulator.add(logits: [1, 2], labels: [2], firstRow: 41) }
    #expect(wrongLabel?.description.contains("row 41 has label 2") == true)
    let notANumber = #expect(throws: EvaluationError.self) { try accumulator.add(logits: [1, 2, .nan, 1], labels: [0, 1], firstRow: 41) }
    #expect(notANumber?.description.contains("row 42") == true)
  }

  @Test(arguments: [2, 5, 12, 50])
  func tableIsReadableWithAnyNumberOfClasses(classes: Int) throws {
    var random = Random(1)
    let names = (0..<classes).map {
      $0 % 3 == 0 ? "猫の写真 \($0)" : $0 % 3 == 1 ? "naïve café \($0)" : "a very long name of a class that goes on and on \($0)"
    }
    var accumulator = try EvaluationAccumulator(classes: names)
    for _ in 0..<300 { try accumulator.add(logits: (0..<classes).map { _ in Float(random.normal()) }, labels: [random.index(classes)]) }
    let evaluation = try accumulator.finish()
    let table = evaluation.table(columns: 100)
    let lines = table.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    #expect(lines.allSatisfy { DisplayWidth.of($0) <= 100 })
    #expect(table.contains("confusion matrix") == (classes <= 12))
    #expect(table.contains("confused most often") == (classes > 12))
    // Lines of the class table, and of the matrix, end in the same column.
    let header = try #require(lines.firstIndex { $0.hasPrefix("class ") })
    #expect(Set(lines[header...header + classes].map(DisplayWidth.of)).count == 1)
    if classes <= 12 {
      let matrix = try #require(lines.firstIndex { $0.hasPrefix("confusion matrix") })
      #expect(Set(lines[(matrix + 1)...(matrix + 1 + classes)].map(DisplayWidth.of)).count == 1)
    } else {
      #expect(lines.contains { $0.hasSuffix("more pairs") })
    }
  }

  @Test func tableOfAFlawlessClassifierWithManyClasses() throws {
    var accumulator = try EvaluationAccumulator(classes: (0..<60).map { "class \($0)" })
    for label in 0..<60 { try accumulator.add(logits: (0..<60).map { $0 == label ? 1 : 0 }, labels: [label]) }
    #expect(try accumulator.finish().table().contains("no sample was confused"))
  }

  @Test func tableInFull() throws {
    var accumulator = try EvaluationAccumulator(classes: ["bird", "犬"])
    try accumulator.add(logits: [2, 0, 0, 0, 0, 2, 0, 2], labels: [0, 1, 1, 1])
    let expected = """
      samples                 4
      top-1              0.7500  95 % interval 0.3006 to 0.9544
      macro precision    0.7500
      macro recall       0.8333
      macro F1           0.7333
      log loss           0.2685
      calibration error  0.2144

      class    precision  recall      F1  samples
      1 bird      0.5000  1.0000  0.6667        1
      2 犬        1.0000  0.6667  0.8000        3

      confusion matrix: rows are the true classes, columns the predicted ones
               1  2
      1 bird   1  ·
      2 犬     1  2
      """
    let table = try accumulator.finish().table()
    #expect(table == expected)
  }

  @Test(arguments: [
    ("abc", 3), ("", 0), ("猫", 2), ("ｆ", 2), ("한글", 4), ("e\u{301}", 1), ("👩‍👩‍👧", 2), ("☂️", 2), ("🇩🇪", 2), ("a\u{200B}b", 2), ("naïve", 5),
  ])
  func displayWidths(text: String, width: Int) {
    #expect(DisplayWidth.of(text) == width)
  }

  @Test func cutTextKeepsItsWidth() {
    #expect(DisplayWidth.truncated("abcdef", to: 6) == "abcdef")
    #expect(DisplayWidth.truncated("abcdef", to: 4) == "abc…")
    #expect(DisplayWidth.truncated("猫猫猫", to: 4) == "猫…")
    #expect(DisplayWidth.truncated("abc", to: 0) == "")
    #expect(DisplayWidth.printable("a\u{1B}[31m\nb") == "a\u{FFFD}[31m\u{FFFD}b")
  }
}
