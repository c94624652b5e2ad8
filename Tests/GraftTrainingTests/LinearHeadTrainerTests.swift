import Foundation
import GraftTraining
import Testing

/// A problem and its optima, as Tools/reference/heads.py stored them.
struct StoredProblem: Decodable, Sendable, CustomTestStringConvertible {
  struct Optimum: Decodable, Sendable {
    let l2, objective: Double
    let weight, bias: [Double]
  }
  let name: String
  let rows, dimension, classes: Int
  let standardise: Bool
  let x: [Double]
  let y: [Int]
  let optima: [Optimum]

  var testDescription: String { name }
  var names: [String] { (0..<classes).map { "class \($0)" } }
  static let all: [StoredProblem] = (try? Fixture.load("optima.json")) ?? []

  func naive(_ l2: Double) -> NaiveSoftmax {
    NaiveSoftmax(x: stride(from: 0, to: x.count, by: dimension).map { Array(x[$0..<$0 + dimension]) }, y: y, classCount: classes, l2: l2)
  }
}

@Suite struct LinearHeadTrainerTests {
  @Test func fixturesAreThere() { #expect(StoredProblem.all.count == 7) }

  @Test(arguments: StoredProblem.all)
  func reachesScikitLearnsOptimum(problem: StoredProblem) throws {
    for optimum in problem.optima {
      let options = LinearTrainingOptions(l2: .fixed(optimum.l2), featureNormalisation: problem.standardise ? .standardise : .none)
      let data = try LinearTrainingData(train: labelled(problem.x.map(Float.init), problem.y, chunkRowCount: 37), classes: problem.names)
      let result = try LinearHeadTrainer(options: options).train(data)
      #expect(result.objective <= optimum.objective * (1 + 1e-6), "λ \(optimum.l2): \(result.objective) against \(optimum.objective)")
      #expect(result.objective >= optimum.objective * (1 - 1e-6))
      #expect(result.status != .iterationLimit)
      if !problem.standardise {
        // The head that is stored has that objective too, in double precision and after rounding to float32.
        let stored = problem.naive(optimum.l2).loss((result.weight + result.bias).map(Double.init))
        #expect(stored <= optimum.objective * (1 + 1e-6))
      } else {
        // Logits agree: the standardisation was folded into weight and bias.
        let naive = problem.naive(0)
        for row in 0..<problem.rows {
          let mine = naive.probabilities((result.weight + result.bias).map(Double.init), row: row)
          let theirs = naive.probabilities(optimum.weight + optimum.bias, row: row)
          #expect(zip(mine, theirs).allSatisfy { abs($0 - $1) < 2e-3 })
        }
      }
    }
  }

  @Test func theSameInputGivesTheSameBits() throws {
    let (x, y) = syntheticSamples(rows: 400, dimension: 30, classes: 6, seed: 2)
    let data = try LinearTrainingData(train: labelled(x, y), classes: (0..<6).map { "\($0)" })
    let runs = try (0..<2).map { _ in try LinearHeadTrainer().train(data) }
    #expect(runs[0].weight == runs[1].weight)
    #expect(runs[0].bias == runs[1].bias)
    #expect(runs[0].sweep == runs[1].sweep)
    #expect(runs[0].objective == runs[1].objective)
  }

  @Test func chosenStrengthIsTheBestOnTheValidationSplit() throws {
    // Few noisy samples: the weakest penalty overfits, the strongest underfits.
    let (x, y) = noisySamples(rows: 60, seed: 1)
    let (validationX, validationY) = noisySamples(rows: 400, seed: 2)
    let data = try LinearTrainingData(train: labelled(x, y), validation: labelled(validationX, validationY), classes: ["a", "b", "c"])
    let result = try LinearHeadTrainer().train(data)
    #expect(result.sweep.map(\.l2) == result.sweep.map(\.l2).sorted())
    #expect(result.sweep.count == 9)
    let best = try #require(result.sweep.max { ($0.top1, -$0.logLoss, $0.l2) < ($1.top1, -$1.logLoss, $1.l2) })
    #expect(result.l2 == best.l2)
    #expect(best.top1 > result.sweep[0].top1)
    let score = try #require(result.validation)
    #expect(score.source == .split)
    #expect(score.samples == 400)
    // The split was not trained on: the head is the one that λ alone gives on the training samples.
    let alone = try LinearHeadTrainer(options: LinearTrainingOptions(l2: .fixed(result.l2))).train(
      LinearTrainingData(train: data.train, classes: data.classes))
    #expect(abs(alone.objective - result.objective) < 1e-6 * alone.objective)
    #expect(alone.validation == nil)
    #expect(alone.sweep.isEmpty)
  }

  /// Heads given up early change nothing: each λ fitted to its end on its own leads to the same choice.
  @Test func givingUpHopelessStrengthsLeavesTheChoice() throws {
    let (x, y) = syntheticSamples(rows: 1000, dimension: 50, classes: 8, seed: 11)
    let noisyLabels = y.enumerated().map { $0.offset % 5 == 0 ? ($0.element + 3) % 8 : $0.element }
    let rows = { (range: Range<Int>) in try labelled(Array(x[range.lowerBound * 50..<range.upperBound * 50]), Array(noisyLabels[range])) }
    let data = try LinearTrainingData(train: rows(0..<400), validation: rows(400..<1000), classes: (0..<8).map { "\($0)" })
    let swept = try LinearHeadTrainer().train(data)
    #expect(swept.sweep.contains { !$0.converged })
    let alone = try swept.sweep.map { point in
      try LinearHeadTrainer(options: LinearTrainingOptions(l2: .fixed(point.l2))).train(data)
    }
    let scores = try alone.map { (l2: $0.l2, score: try #require($0.validation)) }
    let best = try #require(scores.max { ($0.score.top1, -$0.score.logLoss, $0.l2) < ($1.score.top1, -$1.score.logLoss, $1.l2) })
    #expect(swept.l2 == best.l2)
    #expect(swept.sweep.reduce(0) { $0 + $1.iterations } < alone.reduce(0) { $0 + $1.iterations })
  }

  @Test func withoutAValidationSplitTrainingSamplesAreHeldOutThenTrainedOn() throws {
    let (x, y) = noisySamples(rows: 150, seed: 3)
    let data = try LinearTrainingData(train: labelled(x, y), classes: ["a", "b", "c"])
    let result = try LinearHeadTrainer().train(data)
    let score = try #require(result.validation)
    #expect(score.source == .holdout)
    #expect((15...50).contains(score.samples))
    let refit = try LinearHeadTrainer(options: LinearTrainingOptions(l2: .fixed(result.l2))).train(data)
    #expect(abs(refit.objective - result.objective) < 1e-6 * refit.objective)
  }

  @Test func groupsOfASweepGiveWhatTheWholeGives() throws {
    let (x, y) = noisySamples(rows: 120, seed: 4)
    let data = try LinearTrainingData(train: labelled(x, y), classes: ["a", "b", "c"])
    let together = try LinearHeadTrainer().train(data)
    let oneByOne = try LinearHeadTrainer(options: LinearTrainingOptions(solverByteLimit: 1)).train(data)
    #expect(together.l2 == oneByOne.l2)
    #expect(abs(together.objective - oneByOne.objective) < 1e-6 * together.objective)
    #expect(together.sweep.count == oneByOne.sweep.count)
    // What was given up before it converged is wherever it was by then.
    // And a weak penalty leaves a rough fit room.
    let converged = zip(together.sweep, oneByOne.sweep).filter { $0.converged && $1.converged && $0.l2 >= 0.1 }
    #expect(converged.count == 4)
    for (one, other) in converged { #expect(abs(one.logLoss - other.logLoss) < 0.02, "\(one), \(other)") }
  }

  @Test(arguments: FeatureNormalisation.allCases)
  func normalisationIsPartOfTheHead(normalisation: FeatureNormalisation) throws {
    var (x, y) = noisySamples(rows: 200, seed: 5)
    for index in x.indices where index % 20 == 4 { x[index] = 3 }  // a constant feature
    for index in x.indices where index % 20 == 5 { x[index] = x[index] * 2000 + 10_000 }
    let data = try labelled(x, y)
    let options = LinearTrainingOptions(l2: .fixed(1e-2), featureNormalisation: normalisation)
    let result = try LinearHeadTrainer(options: options).train(LinearTrainingData(train: data, validation: data, classes: ["a", "b", "c"]))
    let metadata = HeadMetadata(
      classes: ["a", "b", "c"], cut: nil, backboneSHA256: nil, backboneFile: nil, preprocessing: nil, featureNormalisation: normalisation,
      l2: 1e-2, graftVersion: "0")
    let head = try Head(result, metadata: metadata)
    var accumulator = try EvaluationAccumulator(classes: metadata.classes)
    try head.forEachLogits(of: data.features, file: "store") { first, logits in
      try accumulator.add(logits: logits, labels: data.labels[first..<first + logits.count / 3], firstRow: first)
    }
    let evaluation = try accumulator.finish()
    let score = try #require(result.validation)
    #expect(abs(evaluation.top1 - score.top1) < 0.006)
    #expect(abs(evaluation.logLoss - score.logLoss) < 1e-3)
    #expect(evaluation.top1 > 0.5)
  }

  @Test func separableSamplesWithoutAPenaltyEnd() throws {
    let x: [Float] = [-2, -1, 1, 2]
    for l2 in [0, 1e-9] {
      let result = try LinearHeadTrainer(options: LinearTrainingOptions(l2: .fixed(l2))).train(
        LinearTrainingData(train: labelled(x, [0, 0, 1, 1]), classes: ["a", "b"]))
      #expect(result.weight.allSatisfy { $0.isFinite })
      #expect(result.objective < 1e-3)
    }
  }

  @Test func progressReportsBothStagesAndStops() throws {
    struct Stop: Error {}
    let (x, y) = noisySamples(rows: 60, seed: 6)
    let data = try LinearTrainingData(train: labelled(x, y), classes: ["a", "b", "c"])
    var stages: Set<String> = []
    _ = try LinearHeadTrainer().train(data) { stages.insert($0.stage.rawValue) }
    #expect(stages == ["sweep", "fit"])
    #expect(throws: Stop.self) { try LinearHeadTrainer().train(data) { _ in throw Stop() } }
  }
}

/// Three classes that overlap, in 20 features of which most say nothing.
func noisySamples(rows: Int, seed: UInt64) -> (x: [Float], y: [Int]) {
  var random = Random(seed)
  var (x, y): ([Float], [Int]) = ([], [])
  for row in 0..<rows {
    y.append(row % 3)
    for column in 0..<20 { x.append(Float(random.normal() + (column < 3 && column == row % 3 ? 1.5 : 0))) }
  }
  return (x, y)
}
