import Foundation
import GraftData
import GraftTraining
import Testing

/// Heads of samples that are far fewer than features.
@Suite struct RowSpaceTests {
  private static let rows = 60, narrow = 60, copies = 16

  /// Features, and the same written `copies` times: with a factor of 1/4 their products are the same, so that a head of the many does
  /// what one of the few does, with weights that are a quarter in every place. 60 features for 60 samples are trained on as they are,
  /// 960 by coordinates.
  private static func data(isRepeated: Bool, hasTwins: Bool) throws -> LabelledFeatures {
    var random = Random(17)
    var values = (0..<rows * narrow).map { _ in Float(random.normal()) }
    // The same picture twice, once with another label: the rows span less than their number.
    if hasTwins { for index in 0..<10 * narrow { values[(rows - 10) * narrow + index] = values[index] } }
    let labels = (0..<rows).map { row in (values[row * narrow] + 0.3 * Float(random.normal()) > 0 ? 1 : 0) + (row % 7 == 0 ? 1 : 0) }
    guard isRepeated else {
      return try LabelledFeatures(features: ArrayFeatures(values, rowCount: rows, dimension: narrow, chunkRowCount: 7), labels: labels)
    }
    let wide = (0..<rows).flatMap { row in (0..<copies).flatMap { _ in values[row * narrow..<(row + 1) * narrow].map { $0 / 4 } } }
    return try LabelledFeatures(features: ArrayFeatures(wide, rowCount: rows, dimension: narrow * copies, chunkRowCount: 7), labels: labels)
  }

  @Test(arguments: [FeatureNormalisation.none, .l2, .standardise], [1e-5, 1e-2, 1])
  func aHeadIsTheSameInFewerDimensions(_ normalisation: FeatureNormalisation, l2: Double) throws {
    for hasTwins in [false, true] {
      let results = try [false, true].map { isRepeated in
        // Standardised features lose the factor, so that their squares are 16 times as many.
        let strength = isRepeated && normalisation == .standardise ? 16 * l2 : l2
        let options = LinearTrainingOptions(
          l2: .fixed(strength), featureNormalisation: normalisation, solver: LBFGSOptions(gradientTolerance: 1e-8, relativeGap: 1e-9))
        return try LinearHeadTrainer(options: options).train(
          LinearTrainingData(train: Self.data(isRepeated: isRepeated, hasTwins: hasTwins), classes: ["a", "b", "c"]))
      }
      #expect(
        abs(results[1].objective - results[0].objective) <= 1e-6 * results[0].objective, "\(results[1].objective), \(results[0].objective) expected")
      #expect(results[1].dimension == Self.narrow * Self.copies)
      let largest = results[0].weight.map(abs).max() ?? 0
      // Folded back, standardised features' weights have the factor that the features lost, 4, and a 16th of the size.
      for output in 0..<3 {
        for column in 0..<results[1].dimension {
          let expected = results[0].weight[output * Self.narrow + column % Self.narrow] / 4
          #expect(abs(results[1].weight[output * results[1].dimension + column] - expected) <= 3e-3 * largest)
        }
      }
    }
  }

  @Test func aSweepComesToTheSame() throws {
    let results = try [false, true].map { isRepeated in
      try LinearHeadTrainer(options: LinearTrainingOptions(l2: .sweep([1e-4, 1e-3, 1e-2, 1e-1, 1, 10]))).train(
        LinearTrainingData(train: Self.data(isRepeated: isRepeated, hasTwins: true), classes: ["a", "b", "c"]))
    }
    #expect(results[0].l2 == results[1].l2 && results[0].sweep.map(\.l2) == results[1].sweep.map(\.l2))
    for (one, other) in zip(results[0].sweep, results[1].sweep) {
      #expect(abs(one.logLoss - other.logLoss) <= 0.02 * one.logLoss && one.top1 == other.top1)
    }
    #expect(abs(results[0].objective - results[1].objective) <= 1e-5 * results[0].objective)
  }

  @Test(arguments: [LabelTask.multilabel, .regression], [1e-3, 1])
  func headsForTargetsAreTheSame(_ task: LabelTask, l2: Double) throws {
    let results = try [false, true].map { isRepeated in
      let data = try Self.data(isRepeated: isRepeated, hasTwins: true)
      let targets: [Double] = data.labels.enumerated().flatMap { row, label -> [Double] in
        task == .multilabel ? [label > 0 ? 1 : 0, row % 3 == 0 ? 1 : 0] : [Double(label) * 100, Double(row % 5)]
      }
      let train = try TargetedFeatures(features: data.features, targets: targets, targetCount: 2)
      let fitting = try TargetLinearFitting(
        loss: task == .multilabel ? .binaryCrossEntropy : .huber(1),
        options: LinearTrainingOptions(l2: .fixed(l2), solver: LBFGSOptions(gradientTolerance: 1e-8, relativeGap: 1e-9)))
      let metadata = HeadMetadata(
        task: task, classes: ["a", "b"], cut: nil, backboneSHA256: nil, backboneFile: nil, preprocessing: nil, featureNormalisation: .none, l2: 0,
        graftVersion: "test")
      return try fitting.fit(TargetTrainingData(task: task, names: ["a", "b"], train: train), metadata: metadata) { _ in }
    }
    let objectives = try results.map { try #require($0.objective) }
    #expect(abs(objectives[1] - objectives[0]) <= 1e-6 * objectives[0], "\(objectives)")
    let heads = try results.map { try #require($0.classifier as? Head) }, largest = heads[0].weight.map(abs).max() ?? 0
    for output in 0..<2 {
      for column in 0..<Self.narrow * Self.copies {
        let expected = heads[0].weight[output * Self.narrow + column % Self.narrow] / 4
        #expect(abs(heads[1].weight[output * Self.narrow * Self.copies + column] - expected) <= 3e-3 * largest)
      }
    }
  }

  /// Rows of zeros span nothing; what is learned of them is how often the classes are.
  @Test func rowsOfZeros() throws {
    let data = try LabelledFeatures(features: ArrayFeatures([Float](repeating: 0, count: 4 * 64), rowCount: 4, dimension: 64), labels: [0, 1, 1, 1])
    let result = try LinearHeadTrainer(options: LinearTrainingOptions(l2: .fixed(0.1))).train(LinearTrainingData(train: data, classes: ["a", "b"]))
    #expect(result.weight.allSatisfy { $0 == 0 })
    #expect(abs(Double(result.bias[1] - result.bias[0]) - log(3)) < 1e-5)
  }
}
