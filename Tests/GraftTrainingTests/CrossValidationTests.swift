import GraftTraining
import Testing

@Suite struct CrossValidationTests {
  private static let classes = ["a", "b", "c"]
  private static let data = syntheticSamples(rows: 60, dimension: 5, classes: 3, seed: 21)

  @Test(arguments: [2, 3, 7])
  func foldsAreStratified(count: Int) {
    let labels = (0..<47).map { $0 % 3 == 0 ? 0 : $0 % 5 == 0 ? 1 : 2 }
    let folds = FoldedSamples.folds(labels, classCount: 3, count: count, seed: 5)
    for fold in 0..<count {
      let own = labels.indices.filter { folds[$0] == fold }
      #expect(own.count == 47 / count || own.count == 47 / count + 1)
      for label in 0..<3 {
        let (all, here) = (labels.count { $0 == label }, own.count { labels[$0] == label })
        #expect(here == all / count || here == all / count + 1)
      }
    }
    #expect(folds == FoldedSamples.folds(labels, classCount: 3, count: count, seed: 5))
    #expect(folds != FoldedSamples.folds(labels, classCount: 3, count: count, seed: 6))
  }

  @Test func meansAreThoseOfTheFolds() throws {
    let (x, y) = Self.data
    let fitting = try RidgeFitting(strengths: [0.1, 1000])
    let found = try CrossValidation(fitting, labelled(x, y), classes: Self.classes, folds: 4, repeats: 2, seed: 9)
    #expect(found.results.map(\.strength) == [0.1, 1000] && found.folds == 4 && found.repeats == 2)
    var values: [[Double]] = [[], []]
    for turn in 0..<2 {
      let folds = FoldedSamples.folds(y, classCount: 3, count: 4, seed: 9 + UInt64(turn))
      for fold in 0..<4 {
        func part(_ isHeld: Bool) throws -> LabelledFeatures {
          let rows = y.indices.filter { (folds[$0] == fold) == isHeld }
          return try labelled(rows.flatMap { x[$0 * 5..<$0 * 5 + 5] }, rows.map { y[$0] })
        }
        let scores = try fitting.scores(train: part(false), held: part(true), classes: Self.classes)
        for index in 0..<2 { values[index].append(scores[index].top1) }
      }
    }
    for index in 0..<2 { #expect(found.results[index].top1 == ConfidenceInterval(mean: values[index])) }
    #expect(found.best.top1.value == found.results.map(\.top1.value).max())
  }

  @Test func linearHeadsAreComparedToo() throws {
    let (x, y) = Self.data
    let found = try CrossValidation(
      LinearFitting(options: LinearTrainingOptions(l2: .sweep([1e-3, 1e-1, 10]))), labelled(x, y), classes: Self.classes, folds: 3)
    #expect(found.results.count == 3 && found.results.contains(found.best))
    let fixed = try CrossValidation(CentroidFitting(), labelled(x, y), classes: Self.classes, folds: 3)
    #expect(fixed.results.count == 1 && fixed.best.top1.low <= fixed.best.top1.value)
  }

  @Test func whatCannotBeFolded() throws {
    let (x, y) = Self.data
    let data = try labelled(x, y)
    #expect(throws: TrainingOptionError.self) { try CrossValidation(CentroidFitting(), data, classes: Self.classes, folds: 1) }
    #expect(throws: TrainingOptionError.self) { try CrossValidation(CentroidFitting(), data, classes: Self.classes, folds: 3, repeats: 0) }
    // Before any fold is fitted.
    var done = 0
    #expect(throws: TrainingDataError.self) {
      try CrossValidation(CentroidFitting(), data, classes: Self.classes, folds: 61) { _, _ in done += 1 }
    }
    #expect(done == 0)
    let rare = try labelled(x, y.enumerated().map { $0 == 0 ? 0 : max(1, $1) })
    let error = #expect(throws: TrainingDataError.self) { try CrossValidation(CentroidFitting(), rare, classes: Self.classes, folds: 3) }
    #expect(error?.message.contains("a has a single") == true)
  }

  /// Rows of one key never lie on both sides: with views that are copies, parting them would make every neighbour right.
  @Test func viewsOfASampleStayTogether() throws {
    var random = Random(8)
    let (x, y) = ((0..<60 * 4).map { _ in Float(random.normal()) }, (0..<60).map { $0 % 3 })
    let twice = try LabelledFeatures(
      features: ArrayFeatures(x + x, rowCount: 120, dimension: 4), labels: y + y, keys: (0..<120).map { "sample \($0 % 60)" })
    let fitting = try NeighbourFitting(neighbours: [1])
    let folded = try CrossValidation(fitting, twice, classes: Self.classes, folds: 5)
    #expect(folded.best.top1.value < 0.7, "labels are random")
    let curve = try LearningCurve(
      LinearTrainingData(train: twice, classes: Self.classes), test: labelled(x, y), shots: [5, nil], seeds: 1
    ) { _ in CentroidFitting() }
    #expect(curve.points.map(\.samples) == [15, 60])
  }

  // MARK: Learning curves

  @Test func drawsAreNestedAndBalanced() {
    let labels = (0..<50).map { $0 % 3 == 0 ? 0 : $0 % 7 == 0 ? 1 : 2 }
    let draws = [1, 2, 5, nil].map { LearningCurve.draw(labels, classCount: 3, shots: $0, seed: 4) }
    for (small, large) in zip(draws, draws.dropFirst()) { #expect(Set(small).isSubset(of: large)) }
    for (shots, draw) in zip([1, 2, 5], draws) {
      for label in 0..<3 { #expect(draw.count { labels[$0] == label } == min(shots, labels.count { $0 == label })) }
      #expect(draw == draw.sorted())
    }
    #expect(draws[3] == Array(0..<50))
    #expect(LearningCurve.draw(labels, classCount: 3, shots: 2, seed: 5) != draws[1])
  }

  @Test func moreSamplesHelp() throws {
    let (x, y) = syntheticSamples(rows: 400, dimension: 12, classes: 3, seed: 2)
    func part(_ rows: Range<Int>) throws -> LabelledFeatures {
      try labelled(Array(x[rows.lowerBound * 12..<rows.upperBound * 12]), Array(y[rows]))
    }
    let data = LinearTrainingData(train: try part(0..<200), classes: Self.classes)
    for fitting in [LinearFitting(), try RidgeFitting(), try NeighbourFitting(), CentroidFitting()] as [any HeadFitting] {
      let curve = try LearningCurve(data, test: part(200..<400), shots: [nil, 10, 1, 1000, 10], seeds: 3) { _ in fitting }
      #expect(curve.points.map(\.shots) == [1, 10, nil] && curve.skipped == [1000] && curve.points.map(\.samples) == [3, 30, 200])
      #expect(curve.points.allSatisfy { $0.values.count == 3 })
      #expect(curve.points[..<2].allSatisfy { $0.top1 == ConfidenceInterval(mean: $0.values) })
      // Three draws of all samples are one: what may differ is the test samples.
      let whole = curve.points[2].top1, wilson = try ConfidenceInterval(successes: Int((whole.value * 200).rounded()), of: 200)
      #expect(whole.low == wilson.low && whole.high == wilson.high && whole.low < whole.value && whole.value < whole.high)
      #expect(curve.points[2].top1.value > curve.points[0].top1.value, "\(fitting.kind)")
      let rows = curve.csv().split(separator: "\n").map { $0.split(separator: ",") }
      #expect(rows.count == 4 && rows[1...].allSatisfy { (0...1).contains(Double($0[3]) ?? -1) && (0...1).contains(Double($0[4]) ?? -1) })
      _ = try Plot.learningCurve(curve.points, title: "test")
    }
    let once = try LearningCurve(data, test: part(200..<400), shots: [1], seeds: 1) { _ in CentroidFitting() }.points[0]
    #expect(try once.top1 == ConfidenceInterval(successes: Int((once.values[0] * 200).rounded()), of: 200))
    let none = #expect(throws: TrainingDataError.self) {
      try LearningCurve(data, test: part(0..<3), shots: [1000, 2000], seeds: 1) { _ in CentroidFitting() }
    }
    #expect(none?.message.contains("no class has as many as 1000 training samples: the largest has ") == true)
    #expect(throws: TrainingOptionError.self) { try LearningCurve(data, test: part(0..<3), shots: [0], seeds: 1) { _ in CentroidFitting() } }
    #expect(throws: TrainingOptionError.self) { try LearningCurve(data, test: part(0..<3), shots: [nil], seeds: 0) { _ in CentroidFitting() } }
    let empty = try LabelledFeatures(features: ArrayFeatures([], rowCount: 0, dimension: 12), labels: [])
    #expect(throws: TrainingDataError.self) { try LearningCurve(data, test: empty, shots: [nil], seeds: 1) { _ in CentroidFitting() } }
  }
}
