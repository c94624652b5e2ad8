import Foundation
import GraftDevice
import GraftGraph
import GraftTraining
import Testing

/// What Tools/reference/classifiers.py stored.
struct StoredClassifiers: Decodable, Sendable {
  struct Case: Decodable, Sendable, CustomTestStringConvertible {
    struct Ridge: Decodable, Sendable {
      let alphas, errors, decision: [Double]
      let best: Double
    }
    struct Neighbours: Decodable, Sendable {
      let distance: NeighbourDistance
      let k: Int
      let temperature: Double?
      let probabilities: [Double]
      let predictions: [Int]
    }
    let name: String
    let normalisation: FeatureNormalisation
    let classes, dimension: Int
    let x, test: [Float]
    let y, centroid: [Int]
    let ridge: Ridge
    let neighbours: [Neighbours]

    var testDescription: String { name }
    var names: [String] { (0..<classes).map { "class \($0)" } }
    var metadata: HeadMetadata {
      HeadMetadata(
        classes: names, cut: nil, backboneSHA256: nil, backboneFile: nil, preprocessing: nil, featureNormalisation: .none, l2: 0, graftVersion: "1")
    }
    func data(validation: LabelledFeatures? = nil) throws -> LinearTrainingData {
      LinearTrainingData(train: try labelled(x, y), validation: validation, classes: names)
    }
    func testFeatures() throws -> ArrayFeatures { try ArrayFeatures(test, rowCount: test.count / dimension, dimension: dimension, chunkRowCount: 7) }
  }
  struct Weighted: Decodable, Sendable, CustomTestStringConvertible {
    let name: String
    let l2, objective: Double
    let classes, dimension: Int
    let x: [Float]
    let y: [Int]
    let weight: [Double]
    var testDescription: String { "\(name), λ \(l2)" }
  }
  struct Quantile: Decodable, Sendable {
    let degrees: Int
    let p, t: Double
  }
  let cases: [Case]
  let weighted: [Weighted]
  let quantiles: [Quantile]

  static let all = try? Fixture.load("classifiers.json", as: StoredClassifiers.self)
}

func logits(_ head: any FeatureClassifier, _ features: any FeatureSource, backend: any LinearBackend = HostLinearBackend()) throws -> [Float] {
  var all: [Float] = []
  try head.forEachLogits(of: features, file: "h", backend: backend) { first, part in
    #expect(first * head.classCount == all.count)
    all += part
  }
  return all
}

private func predictions(_ logits: [Float], classes: Int) -> [Int] {
  (0..<logits.count / classes).map { row in
    let own = Array(logits[row * classes..<(row + 1) * classes])
    return own.firstIndex(of: own.max()!)!
  }
}

private func softmax(_ logits: ArraySlice<Float>) -> [Double] {
  let values = logits.map(Double.init), largest = values.max()!
  let exponentials = values.map { exp($0 - largest) }
  return exponentials.map { $0 / exponentials.reduce(0, +) }
}

@Suite struct ClassifierTests {
  private static let cases = StoredClassifiers.all?.cases ?? []

  @Test func fixturesAreThere() { #expect(Self.cases.count == 7) }

  @Test(arguments: cases)
  func ridgeIsScikitLearns(stored: StoredClassifiers.Case) throws {
    let path = try RidgePath(try labelled(stored.x, stored.y, chunkRowCount: 9), classCount: stored.classes, normalisation: stored.normalisation)
    for (point, error) in zip(try path.leaveOneOut(stored.ridge.alphas), stored.ridge.errors) {
      #expect(abs(point.error - error) <= 1e-6 * error, "α \(point.alpha): \(point.error), \(error) expected")
    }
    let fitting = try RidgeFitting(strengths: stored.ridge.alphas, featureNormalisation: stored.normalisation)
    let fitted = try fitting.fit(stored.data(), strength: nil, metadata: stored.metadata) { _ in }
    #expect(fitted.strength == stored.ridge.best && fitted.classifier.metadata.kind == .ridge)
    #expect(fitted.validation?.source == .leaveOneOut && fitted.validation?.samples == stored.y.count)
    // Stored weights are float32: what they are multiplied by bounds the rounding.
    let largest = Double(stored.test.map(abs).max()!)
    for (mine, theirs) in zip(try logits(fitted.classifier, stored.testFeatures()), stored.ridge.decision) {
      #expect(abs(Double(mine) - theirs) <= 1e-6 * max(1, largest))
    }
  }

  /// The identity against N fits without one sample each.
  @Test(arguments: [(12, 5), (9, 20)])
  func leavingOutIsWhatItSays(rows: Int, dimension: Int) throws {
    let (x, y) = syntheticSamples(rows: rows, dimension: dimension, classes: 3, seed: 4)
    let point = try RidgePath(try labelled(x, y), classCount: 3, normalisation: .none).leaveOneOut([0.7])[0]
    for row in 0..<rows {
      let others = (0..<rows).filter { $0 != row }
      let part = try labelled(others.flatMap { x[$0 * dimension..<($0 + 1) * dimension] }, others.map { y[$0] })
      let layer = try RidgePath(part, classCount: 3, normalisation: .none).layer(alpha: 0.7)
      for output in 0..<3 {
        let value = (0..<dimension).reduce(layer.bias[output]) { $0 + layer.weight[output * dimension + $1] * Double(x[row * dimension + $1]) }
        #expect(abs(Double(point.predictions[row * 3 + output]) - value) < 1e-5)
      }
    }
  }

  @Test(arguments: cases, [0, 1])
  func neighboursAreScikitLearns(stored: StoredClassifiers.Case, backend: Int) throws {
    let backend: any LinearBackend = backend == 0 ? HostLinearBackend() : DeviceLinearBackend(device: try CPUDevice())
    for expected in stored.neighbours {
      let fitting = try NeighbourFitting(
        neighbours: [expected.k], distance: expected.distance, voteTemperature: expected.temperature, featureNormalisation: stored.normalisation,
        backend: backend)
      let fitted = try fitting.fit(stored.data(), strength: nil, metadata: stored.metadata) { _ in }
      let found = try logits(fitted.classifier, stored.testFeatures(), backend: backend)
      for row in 0..<found.count / stored.classes {
        let own = softmax(found[row * stored.classes..<(row + 1) * stored.classes])
        for (mine, theirs) in zip(own, expected.probabilities[(row * stored.classes)...]) {
          #expect(abs(mine - theirs) < 1e-6, "\(expected.distance) k \(expected.k): \(mine), \(theirs) expected")
        }
      }
      #expect(predictions(found, classes: stored.classes) == expected.predictions)
    }
  }

  @Test(arguments: cases)
  func centroidsAreScikitLearns(stored: StoredClassifiers.Case) throws {
    let fitted = try CentroidFitting(featureNormalisation: stored.normalisation).fit(stored.data(), strength: nil, metadata: stored.metadata) { _ in }
    #expect(predictions(try logits(fitted.classifier, stored.testFeatures()), classes: stored.classes) == stored.centroid)
    #expect(fitted.calibration?.source == .holdout && fitted.classifier.metadata.temperature == fitted.calibration?.temperature)
  }

  @Test(arguments: StoredClassifiers.all?.weighted ?? [])
  func balancedClassesAreScikitLearns(stored: StoredClassifiers.Weighted) throws {
    var options = LinearTrainingOptions(l2: .fixed(stored.l2))
    options.balancesClasses = true
    let classes = (0..<stored.classes).map { "\($0)" }
    let result = try LinearHeadTrainer(options: options).train(LinearTrainingData(train: try labelled(stored.x, stored.y), classes: classes))
    #expect(abs(result.objective - stored.objective) <= 1e-6 * stored.objective, "\(result.objective), \(stored.objective) expected")
    let largest = stored.weight.map(abs).max()!
    for (mine, theirs) in zip(result.weight, stored.weight) { #expect(abs(Double(mine) - theirs) < 3e-3 * largest) }
  }

  /// With smoothing the gradient at the minimum is that of the formula: 0.
  @Test func smoothingIsInTheObjective() throws {
    let (x, y) = syntheticSamples(rows: 40, dimension: 4, classes: 3, seed: 9)
    let (l2, smoothing) = (0.05, 0.2)
    var options = LinearTrainingOptions(l2: .fixed(l2))
    options.labelSmoothing = smoothing
    let result = try LinearHeadTrainer(options: options).train(LinearTrainingData(train: try labelled(x, y), classes: ["a", "b", "c"]))
    let parameters = (result.weight + result.bias).map(Double.init)
    let naive = NaiveSoftmax(x: (0..<40).map { row in x[row * 4..<(row + 1) * 4].map(Double.init) }, y: y, classCount: 3, l2: l2)
    var (loss, gradient) = (0.0, parameters.indices.map { $0 < 12 ? l2 * parameters[$0] : 0 })
    for row in 0..<40 {
      for (c, p) in naive.probabilities(parameters, row: row).enumerated() {
        let target = smoothing / 3 + (c == y[row] ? 1 - smoothing : 0)
        loss -= target * log(p) / 40
        for d in 0..<4 { gradient[c * 4 + d] += (p - target) * naive.x[row][d] / 40 }
        gradient[12 + c] += (p - target) / 40
      }
    }
    #expect(gradient.allSatisfy { abs($0) < 1e-4 })
    #expect(abs(result.objective - loss - l2 / 2 * parameters[..<12].reduce(0) { $0 + $1 * $1 }) < 1e-6)
  }

  @Test(arguments: StoredClassifiers.all?.quantiles ?? [])
  func studentsQuantiles(stored: StoredClassifiers.Quantile) {
    #expect(abs(StudentT.quantile(stored.p, degrees: stored.degrees) - stored.t) < 1e-9 * stored.t)
    #expect(abs(StudentT.quantile(1 - stored.p, degrees: stored.degrees) + stored.t) < 1e-6 * stored.t)
  }

  // MARK: Files

  private static func fittings() throws -> [any HeadFitting] {
    var perceptron = PerceptronOptions(hidden: [8, 5], featureNormalisation: .standardise)
    perceptron.training.epochs = 3
    return [
      LinearFitting(options: LinearTrainingOptions(l2: .fixed(0.1), featureNormalisation: .l2)), try RidgeFitting(featureNormalisation: .standardise),
      CentroidFitting(), try NeighbourFitting(featureNormalisation: .standardise), try NeighbourFitting(storesFloat16: true),
      try NeighbourFitting(distance: .euclidean, voteTemperature: 0.5, featureNormalisation: .l2),
      PerceptronFitting(options: perceptron, device: try CPUDevice()),
    ]
  }

  @Test(arguments: 0..<7)
  func everyHeadIsTheSameFromItsFile(index: Int) throws {
    let fitting = try Self.fittings()[index]
    let stored = Self.cases[5]
    let fitted = try fitting.fit(stored.data(), strength: nil, metadata: stored.metadata) { _ in }
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("head-\(UUID().uuidString).safetensors").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    try fitted.classifier.write(to: path)
    let read = try HeadFile.read(path)
    #expect(type(of: read) == type(of: fitted.classifier) && read.metadata == fitted.classifier.metadata && read.dimension == stored.dimension)
    #expect(read.metadata.kind == fitting.kind)
    #expect(try logits(read, stored.testFeatures()) == logits(fitted.classifier, stored.testFeatures()))
    if fitting.kind.isLinear {
      #expect(try Head(path: path).metadata == read.metadata)
    } else {
      let error = #expect(throws: HeadError.self) { try Head(path: path) }
      #expect(error?.description.contains("--head linear") == true)
    }
    let narrow = try ArrayFeatures([1, 2], rowCount: 1, dimension: 2)
    #expect(throws: HeadError.self) { try logits(read, narrow) }
  }

  /// Damaged headers and tensors of the kinds that are no layer.
  @Test func damagedFilesAreRefused() throws {
    let stored = Self.cases[5]
    func parts(_ fitting: any HeadFitting) throws -> (tensors: [String: HostTensor], strings: [String: String]) {
      let fitted = try fitting.fit(stored.data(), strength: nil, metadata: stored.metadata) { _ in }
      let (tensors, strings) = try fitted.classifier.encoded()
      return (Dictionary(uniqueKeysWithValues: tensors), strings)
    }
    let neighbours = try parts(try Self.fittings()[3]), perceptron = try parts(try Self.fittings()[6])
    #expect(throws: Never.self) { try NeighbourHead(tensors: neighbours.tensors, metadata: neighbours.strings, file: "h") }
    #expect(throws: Never.self) { try PerceptronHead(tensors: perceptron.tensors, metadata: perceptron.strings, file: "h") }
    for (key, value) in [
      ("neighbours", "0"), ("neighbours", "many"), ("neighbours", nil), ("distance", "taxi"), ("distance", nil), ("vote_temperature", "x"),
      ("vote_temperature", "-1"), ("kind", "mlp"), ("temperature", "0"), ("temperature", "hot"), ("temperature", "nan"),
    ] as [(String, String?)] {
      var strings = neighbours.strings
      strings[key] = value
      #expect(throws: HeadError.self, "\(key)") { try NeighbourHead(tensors: neighbours.tensors, metadata: strings, file: "h") }
    }
    let (rows, width) = (stored.y.count, stored.dimension)
    for (name, tensor) in [
      ("features", nil), ("features", HostTensor([width], [Float](repeating: 0, count: width))), ("labels", nil),
      ("labels", HostTensor([rows], integers: [Int64](repeating: 3, count: rows))),
      ("labels", HostTensor([rows], integers: [Int64](repeating: .min, count: rows))), ("labels", HostTensor([1], integers: [0])),
      ("labels", HostTensor([rows], [Float](repeating: 0, count: rows))), ("features", HostTensor([rows, 0], [])),
      ("features", HostTensor([rows, width], [Float](repeating: .nan, count: rows * width))), ("mean", nil), ("mean", HostTensor([1], [0])),
      ("inverse_deviation", HostTensor([width], integers: [Int64](repeating: 0, count: width))),
    ] as [(String, HostTensor?)] {
      var tensors = neighbours.tensors
      tensors[name] = tensor
      #expect(throws: HeadError.self, "\(name)") { try NeighbourHead(tensors: tensors, metadata: neighbours.strings, file: "h") }
    }
    for (name, tensor) in [
      ("layers.0.weight", nil), ("layers.1.bias", nil), ("layers.2.weight", nil),
      ("layers.1.weight", HostTensor([5, 7], [Float](repeating: 0, count: 35))),
      ("layers.0.bias", HostTensor([8], [Float](repeating: .infinity, count: 8))), ("layers.0.weight", HostTensor([8, 0], [])),
    ] as [(String, HostTensor?)] {
      var tensors = perceptron.tensors
      tensors[name] = tensor
      #expect(throws: HeadError.self, "\(name)") { try PerceptronHead(tensors: tensors, metadata: perceptron.strings, file: "h") }
    }
  }

  // MARK: Hidden layers

  @Test func hiddenLayersLearnWhatALineCannot() throws {
    var random = Random(6)
    let points = (0..<400).map { _ in (random.normal(), random.normal()) }
    let x = points.flatMap { [Float($0.0), Float($0.1)] }, y = points.map { ($0.0 * $0.1 > 0) ? 1 : 0 }
    let data = LinearTrainingData(train: try labelled(x, y), classes: ["no", "yes"])
    let metadata = HeadMetadata(
      classes: ["no", "yes"], cut: nil, backboneSHA256: nil, backboneFile: nil, preprocessing: nil, featureNormalisation: .none, l2: 0,
      graftVersion: "1")
    var options = PerceptronOptions(hidden: [32], dropout: 0.1)
    (options.training.learningRate, options.training.batchSize, options.training.seed) = (1e-2, 32, 3)
    let fitting = PerceptronFitting(options: options, device: try CPUDevice())
    let first = try fitting.fit(data, strength: nil, metadata: metadata) { _ in }
    #expect(try #require(first.validation).top1 > 0.9 && first.history.count > 1)
    let straight = try LinearFitting().fit(data, strength: 0.01, metadata: metadata) { _ in }
    #expect(try straight.classifier.heldOutScores(data.train, source: .split).score().top1 < 0.7)
    // The same seed gives the same bits.
    let second = try fitting.fit(data, strength: nil, metadata: metadata) { _ in }
    #expect((first.classifier as? PerceptronHead)?.layers == (second.classifier as? PerceptronHead)?.layers)
    #expect(first.history.map(\.trainLoss) == second.history.map(\.trainLoss))
  }

  /// Layers with one input and one output have one weight.
  @Test func hiddenLayersMayHaveOneUnit() throws {
    var random = Random(8)
    let x = (0..<120).map { _ in Float(random.normal()) }
    let data = LinearTrainingData(train: try labelled(x, x.map { $0 > 0 ? 1 : 0 }), classes: ["below", "above"])
    let metadata = HeadMetadata(
      classes: ["below", "above"], cut: nil, backboneSHA256: nil, backboneFile: nil, preprocessing: nil, featureNormalisation: .none, l2: 0,
      graftVersion: "1")
    let options = PerceptronOptions(hidden: [1, 1])
    let fitted = try PerceptronFitting(options: options, device: try CPUDevice()).fit(data, strength: nil, metadata: metadata) { _ in }
    let layers = try #require((fitted.classifier as? PerceptronHead)?.layers)
    #expect(layers.map(\.weight.count) == [1, 1, 2])
  }

  @Test func whatCannotBeTrainedIsRefused() throws {
    let stored = Self.cases[0]
    var damaged = stored.x
    damaged[17] = .nan
    for fitting in try Self.fittings() {
      let data = LinearTrainingData(train: try labelled(damaged, stored.y), classes: stored.names)
      let error = #expect(throws: TrainingDataError.self) { try fitting.fit(data, strength: nil, metadata: stored.metadata) { _ in } }
      #expect(error?.message.contains("NaN") == true, "\(fitting.kind): \(error?.message ?? "")")
      let single = LinearTrainingData(train: try labelled(stored.x, stored.y.map { _ in 0 }), classes: ["only"])
      #expect(throws: TrainingDataError.self) { try fitting.fit(single, strength: nil, metadata: stored.metadata) { _ in } }
      let unknown = LinearTrainingData(train: try labelled(stored.x, stored.y.map { $0 == 0 ? 9 : $0 }), classes: stored.names)
      #expect(throws: TrainingDataError.self) { try fitting.fit(unknown, strength: nil, metadata: stored.metadata) { _ in } }
      let absent = LinearTrainingData(train: try labelled(stored.x, stored.y), classes: stored.names + ["nowhere"])
      let missing = #expect(throws: TrainingDataError.self) { try fitting.fit(absent, strength: nil, metadata: stored.metadata) { _ in } }
      #expect(missing?.message.contains("nowhere") == true)
    }
    #expect(throws: TrainingOptionError.self) { try RidgeFitting(strengths: []) }
    #expect(throws: TrainingOptionError.self) { try RidgeFitting(strengths: [-1]) }
    #expect(throws: TrainingOptionError.self) { try NeighbourFitting(neighbours: [0]) }
    #expect(throws: TrainingOptionError.self) { try NeighbourFitting(voteTemperature: 0) }
    let many = try NeighbourFitting(neighbours: [1000])
    #expect(throws: TrainingDataError.self) { try many.fit(stored.data(), strength: nil, metadata: stored.metadata) { _ in } }
    for options in [PerceptronOptions(hidden: []), PerceptronOptions(hidden: [0]), PerceptronOptions(dropout: 1), PerceptronOptions(dropout: .nan)] {
      let fitting = PerceptronFitting(options: options, device: try CPUDevice())
      #expect(throws: TrainingOptionError.self) { try fitting.fit(stored.data(), strength: nil, metadata: stored.metadata) { _ in } }
    }
    // Without a penalty a feature that is there twice leaves weights open.
    let twice = stored.y.indices.flatMap { row in Array(stored.x[row * 7..<row * 7 + 7]) + [stored.x[row * 7]] }
    let path = try RidgePath(try labelled(twice, stored.y), classCount: 4, normalisation: .none)
    #expect(throws: TrainingOptionError.self) { try path.leaveOneOut([0]) }
    #expect(throws: Never.self) { try path.leaveOneOut([1e-3]) }
  }
}
