import GraftData
import GraftDevice
import GraftGraph
import GraftTraining
import Testing

/// Training by steps goes on with the objective that a head was fitted to: its gradient is nothing there.
@Suite struct HeadPenaltyTests {
  private static let (rows, width) = (120, 6)

  /// Features whose columns have scales from 0.01 to 100.
  private static func features() -> [Float] {
    var random = Random(31)
    let scales: [Double] = [0.01, 0.3, 1, 5, 20, 100]
    return (0..<rows * width).map { Float(scales[$0 % width] * (random.normal() + 0.5)) }
  }

  /// The norm of the objective's gradient at a head, over all samples at once.
  private func gradientNorm(_ head: Head, penalty: Penalty, targets: [Float], loss: Loss) throws -> Double {
    var options = TrainingOptions(method: .sgd, learningRate: 1e-9, weightDecay: 0, epochs: 1, batchSize: Self.rows)
    (options.loss, options.penalties) = (loss, ["head.weight": penalty])
    let network = TrainableNetwork(makeGraph: { batch in
      var graph = Graph()
      let x = graph.addInput(TensorType([batch, Self.width]), name: "x")
      let w = graph.addConstant(HostTensor([head.classCount, Self.width], head.weight), name: "head.weight")
      let b = graph.addConstant(HostTensor([head.classCount], head.bias), name: "head.bias")
      graph.outputs = [try graph.add(MatMul(transposeB: true, hasBias: true), [x, w, b], name: "head")]
      return graph
    })
    let program = try TrainingProgram(network, options: options, device: CPUDevice())
    return try Self.features().withUnsafeBytes {
      try program.train(
        $0, targets: targets, sampleWeights: Array(repeating: 1 / Float(Self.rows), count: Self.rows), rates: OptimizerRates(learningRate: 1e-9))
    }.gradientNorm
  }

  private func metadata(_ task: LabelTask, _ names: [String]) -> HeadMetadata {
    HeadMetadata(
      task: task, classes: names, cut: nil, backboneSHA256: nil, backboneFile: nil, preprocessing: nil, featureNormalisation: .none, l2: 0,
      graftVersion: "test")
  }

  @Test(arguments: [FeatureNormalisation.none, .standardise]) func ofClasses(_ normalisation: FeatureNormalisation) throws {
    let x = Self.features()
    let labels: [Int] = (0..<Self.rows).map { row in
      let isHigh = x[row * Self.width + 2] > 0.5, isFar = x[row * Self.width + 5] > 90
      return (isHigh ? 1 : 0) + (isFar ? 1 : 0)
    }
    let features = try ArrayFeatures(x, rowCount: Self.rows, dimension: Self.width), classes = ["a", "b", "c"]
    var options = LinearTrainingOptions(l2: .fixed(0.1), featureNormalisation: normalisation)
    (options.solver.gradientTolerance, options.solver.relativeGap, options.solver.maximumIterations) = (1e-7, .infinity, 5000)
    let data = LinearTrainingData(train: try LabelledFeatures(features: features, labels: labels), classes: classes)
    let fitted = try LinearFitting(options: options).fit(data, strength: nil, metadata: metadata(.classification, classes)) { _ in }
    let head = try #require(fitted.classifier as? Head), penalty = try head.tuningPenalty(training: features) { "\($0)" }
    var targets = [Float](repeating: 0, count: 3 * labels.count)
    for (row, label) in labels.enumerated() { targets[3 * row + label] = 1 }
    let norm = try gradientNorm(head, penalty: penalty, targets: targets, loss: .crossEntropy)
    // Float32 products of features of 100.
    #expect(norm < 1e-4, "\(norm)")
    #expect(penalty.strength == 0.1 && (penalty.columnFactors != nil) == (normalisation == .standardise))
  }

  /// α belongs to a sum of squares over the rows, and training by steps minimises half their mean.
  @Test(arguments: [FeatureNormalisation.none, .standardise], [HeadMetadata.Kind.ridge, .linear])
  func ofNumbers(_ normalisation: FeatureNormalisation, _ kind: HeadMetadata.Kind) throws {
    var random = Random(7)
    let x = Self.features()
    var numbers: [Double] = []
    for row in 0..<Self.rows {
      let (one, other) = (Double(x[row * Self.width + 2]), Double(x[row * Self.width + 5]))
      numbers += [300 + 40 * one + random.normal(), 0.001 * other + 0.01 * random.normal()]
    }
    let features = try ArrayFeatures(x, rowCount: Self.rows, dimension: Self.width), names = ["a", "b"]
    let data = TargetTrainingData(
      task: .regression, names: names, train: try TargetedFeatures(features: features, targets: numbers, targetCount: 2))
    var options = LinearTrainingOptions(featureNormalisation: normalisation)
    (options.solver.gradientTolerance, options.solver.relativeGap, options.solver.maximumIterations) = (1e-7, .infinity, 5000)
    let fitting: any TargetHeadFitting
    if kind == .ridge {
      fitting = try TargetRidgeFitting(strengths: [50], featureNormalisation: normalisation)
    } else {
      fitting = try TargetLinearFitting(loss: .squared, options: options)
    }
    let strength = kind == .ridge ? 50 : 0.3
    let fitted = try fitting.fit(data, strength: strength, metadata: metadata(.regression, names)) { _ in }
    let tuning = try TuningTargets(numbers, width: 2, task: .regression, loss: .squared)
    let base = try tuning.begin(FineTunedModel(head: try #require(fitted.classifier as? Head), cut: nil, parameters: [:])).head
    let penalty = try base.tuningPenalty(training: features) { "\($0)" }
    let norm = try gradientNorm(base, penalty: penalty, targets: tuning.scaled(numbers), loss: .squared)
    #expect(norm < 1e-4, "\(norm)")
    if kind == .ridge { #expect(penalty.strength == 50 / Double(Self.rows)) }
  }

  /// Squares of ±1 give way to cross-entropy, for which α says nothing.
  @Test func ridgeOfClassesHasNone() throws {
    var ridge = metadata(.classification, ["a", "b"])
    (ridge.kind, ridge.l2) = (.ridge, 10)
    let head = try Head(weight: [1, 2, 3, 4], bias: [0, 0], metadata: ridge)
    #expect(try head.tuningPenalty(training: ArrayFeatures([1, 2], rowCount: 1, dimension: 2)) { "\($0)" } == Penalty(0))
  }
}
