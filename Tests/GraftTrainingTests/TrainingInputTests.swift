import GraftTraining
import Testing

@Suite struct TrainingInputTests {
  private func train(
    _ x: [Float], _ y: [Int], keys: [String] = [], classes: [String] = ["cat", "dog"], validation: LabelledFeatures? = nil,
    options: LinearTrainingOptions = LinearTrainingOptions(l2: .fixed(0.1))
  ) throws -> LinearTrainingResult {
    let features = try ArrayFeatures(x, rowCount: y.count, dimension: y.isEmpty ? 1 : x.count / y.count)
    let data = try LinearTrainingData(train: LabelledFeatures(features: features, labels: y, keys: keys), validation: validation, classes: classes)
    return try LinearHeadTrainer(options: options).train(data)
  }

  private func message(_ body: () throws -> some Any) -> String {
    do {
      _ = try body()
      return "no error"
    } catch {
      return "\(error)"
    }
  }

  @Test(arguments: [Float.nan, .infinity, -.infinity])
  func namesTheRowThatIsNotANumber(value: Float) {
    let text = message { try train([1, 2, 3, value, 5, 6], [0, 1, 0], keys: ["a.png", "b.png", "c.png"]) }
    #expect(text.contains("row 1 (b.png)"))
    #expect(text.contains(value.isNaN ? "NaN" : "infinity"))
  }

  @Test func namesClassesWithoutSamples() {
    let text = message { try train([1, 2, 3], [0, 2, 0], classes: ["cat", "dog", "elk", "fox"]) }
    #expect(text.contains("dog, fox"))
    #expect(!text.contains("elk"))
  }

  @Test func refusesFewerThanTwoClasses() {
    #expect(message { try train([1, 2], [0, 0], classes: ["cat"]) }.contains("a single class, cat"))
    #expect(message { try train([], [], classes: []) }.contains("no class"))
    #expect(message { try train([1, 2], [0, 1], classes: ["cat", "cat"]) }.contains("two classes are called cat"))
    let twins = message { try train([1, 2], [0, 1], classes: ["\u{E9}", "e\u{301}"]) }
    #expect(twins.contains("two spellings") && twins.contains("Label the samples alike"))
  }

  @Test func refusesLabelsOutsideTheClasses() {
    #expect(message { try train([1, 2, 3], [0, 1, 2], keys: ["a", "b", "c"]) }.contains("row 2 (c) has label 2"))
    #expect(message { try train([1, 2], [0, -1]) }.contains("label -1"))
  }

  @Test func refusesFeaturesTooLargeForFloat32UnlessStandardised() throws {
    let (x, y): ([Float], [Int]) = ([1e30, 2e30, -1e30, -3e30], [0, 0, 1, 1])
    #expect(message { try train(x, y) }.contains("--normalise standardise"))
    let result = try train(x, y, options: LinearTrainingOptions(l2: .fixed(0.1), featureNormalisation: .standardise))
    #expect(result.weight.allSatisfy { $0.isFinite && $0 != 0 })
  }

  @Test func refusesAValidationSplitThatDoesNotFit() throws {
    let narrow = try LabelledFeatures(features: ArrayFeatures([1, 2], rowCount: 2, dimension: 1), labels: [0, 1])
    #expect(message { try train([1, 2, 3, 4], [0, 1], validation: narrow) }.contains("validation samples have 1 features"))
    let empty = try LabelledFeatures(features: ArrayFeatures([], rowCount: 0, dimension: 2), labels: [])
    #expect(message { try train([1, 2, 3, 4], [0, 1], validation: empty) }.contains("validation split is empty"))
  }

  @Test func aSweepNeedsASampleToHoldOut() {
    #expect(message { try train([1, 2], [0, 1], options: LinearTrainingOptions()) }.contains("--l2"))
  }

  @Test(arguments: [L2Strength.fixed(-1), .fixed(.nan), .fixed(.infinity), .sweep([]), .sweep([1, -0.5])])
  func refusesStrengthsThatAreNone(strength: L2Strength) {
    #expect(throws: TrainingOptionError.self) { try train([1, 2], [0, 1], options: LinearTrainingOptions(l2: strength)) }
  }

  @Test func refusesAHoldoutOfNothingOrEverything() {
    for fraction in [0, 1, -1, Double.nan] {
      #expect(throws: TrainingOptionError.self) { try train([1, 2], [0, 1], options: LinearTrainingOptions(holdoutFraction: fraction)) }
    }
  }

  @Test func countsMustAgree() {
    #expect(throws: TrainingDataError.self) { try ArrayFeatures([1, 2, 3], rowCount: 2, dimension: 2) }
    #expect(throws: TrainingDataError.self) { try ArrayFeatures([], rowCount: .max, dimension: 3) }
    #expect(throws: TrainingDataError.self) { try LabelledFeatures(features: ArrayFeatures([1, 2], rowCount: 2, dimension: 1), labels: [0]) }
  }

  @Test func holdoutIsStratifiedAndStable() throws {
    let labels = (0..<500).map { $0 % 5 } + [5, 5, 6]
    let keys = labels.indices.map { "photo \($0)" }
    func holdout(_ count: Int, seed: UInt64 = 0) throws -> Holdout {
      let features = try ArrayFeatures([Float](repeating: 0, count: count), rowCount: count, dimension: 1)
      let data = try LabelledFeatures(features: features, labels: Array(labels[..<count]), keys: Array(keys[..<count]))
      return Holdout(data, classCount: 7, fraction: 0.2, seed: seed)
    }
    let all = try holdout(503)
    #expect((all.training + all.validation).sorted() == Array(0..<503))
    #expect(Set(all.training.map { labels[$0] }) == Set(0...6))
    #expect(Set(all.validation.map { labels[$0] }) == Set(0...5))
    #expect((70...130).contains(all.validation.count))
    // Samples added later move none.
    #expect(try holdout(400).validation == all.validation.filter { $0 < 400 })
    #expect(try holdout(503, seed: 1).validation != all.validation)
  }
}
