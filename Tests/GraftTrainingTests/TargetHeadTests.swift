import Foundation
import GraftBackbones
import GraftData
import GraftDevice
import GraftTraining
import Testing

private func targeted(_ x: [Double], _ targets: [Double], width: Int, rows: Int) throws -> TargetedFeatures {
  try TargetedFeatures(
    features: ArrayFeatures(x.map(Float.init), rowCount: rows, dimension: x.count / rows, chunkRowCount: 37), targets: targets, targetCount: width)
}

private func names(_ count: Int) -> [String] { (0..<count).map { "output \($0)" } }

private func metadata(_ task: LabelTask, _ count: Int) -> HeadMetadata {
  HeadMetadata(
    task: task, classes: names(count), cut: nil, backboneSHA256: nil, backboneFile: nil, preprocessing: nil, featureNormalisation: .none, l2: 0,
    graftVersion: "test")
}

private func outputs(_ head: any FeatureClassifier, _ x: [Double], rows: Int) throws -> [Float] {
  var all: [Float] = []
  try head.forEachLogits(of: ArrayFeatures(x.map(Float.init), rowCount: rows, dimension: x.count / rows), file: "head") { all += $1 }
  return all
}

/// Labels that follow from features, and numbers that do.
private struct Synthetic {
  let x: [Double]
  let labels, numbers: [Double]
  let rows: Int

  init(rows: Int, seed: UInt64) {
    var random = Random(seed)
    // The same rule for every seed of samples.
    var rule = Random(99)
    let dimension = 8, w = (0..<3 * dimension).map { _ in rule.normal() }
    var (x, labels, numbers): ([Double], [Double], [Double]) = ([], [], [])
    for _ in 0..<rows {
      let row = (0..<dimension).map { _ in Double(Float(random.normal())) }
      x += row
      let sums = (0..<3).map { output in (0..<dimension).reduce(0) { $0 + w[output * dimension + $1] * row[$1] } }
      labels += sums.map { $0 + 0.1 * random.normal() > 0 ? 1 : 0 }
      numbers += [500 + 20 * sums[0] + 0.2 * random.normal(), 0.01 * sums[1] * sums[1]]
    }
    (self.x, self.labels, self.numbers, self.rows) = (x, labels, numbers, rows)
  }
}

@Suite struct TargetHeadTests {
  // MARK: Folds

  /// Each fold's figures are those of a head that is fitted to the other folds by itself and evaluated by itself; the strength is the one
  /// of the least loss, and the head that is kept has it.
  @Test(arguments: [LabelTask.multilabel, .regression])
  func foldsAreFitsWithoutThem(task: LabelTask) throws {
    let data = Synthetic(rows: 90, seed: 21), width = task == .multilabel ? 3 : 2, dimension = data.x.count / data.rows
    let targets = task == .multilabel ? data.labels : data.numbers
    func part(_ rows: [Int]) throws -> TargetedFeatures {
      try targeted(
        rows.flatMap { data.x[$0 * dimension..<($0 + 1) * dimension] }, rows.flatMap { targets[$0 * width..<($0 + 1) * width] }, width: width,
        rows: rows.count)
    }
    let whole = TargetTrainingData(task: task, names: names(width), train: try part(Array(0..<data.rows)))
    var fittings: [any TargetHeadFitting] = [
      try TargetLinearFitting(
        loss: task == .multilabel ? .binaryCrossEntropy : .huber(1),
        options: LinearTrainingOptions(l2: .sweep([1e-3, 10]), solver: LBFGSOptions(gradientTolerance: 1e-7))),
      try TargetNeighbourFitting(neighbours: [3, 59, 60, 61], distance: .euclidean),
    ]
    if task == .regression { fittings.append(try TargetRidgeFitting(strengths: [0.1, 1000])) }
    for fitting in fittings {
      let found = try TargetCrossValidation(fitting, whole, folds: 3, repeats: 2, seed: 5)
      // A fold's training samples are 60.
      #expect(found.results.map(\.strength) == fitting.strengths.filter { fitting.kind != .knn || $0 <= 60 })
      for result in found.results {
        var (measures, errors): ([Double], [Double]) = ([], [])
        for turn in 0..<2 {
          let folds = FoldedSamples.folds([Int](repeating: 0, count: data.rows), classCount: 1, count: 3, seed: 5 + UInt64(turn))
          for fold in 0..<3 {
            let train = folds.indices.filter { folds[$0] != fold }, held = folds.indices.filter { folds[$0] == fold }
            #expect(held.count == 30)
            let alone = TargetTrainingData(task: task, names: names(width), train: try part(train))
            let head = try fitting.fit(alone, strength: result.strength, metadata: metadata(task, width)) { _ in }.classifier
            let own = try outputs(head, held.flatMap { data.x[$0 * dimension..<($0 + 1) * dimension] }, rows: held.count)
            let wanted = held.flatMap { targets[$0 * width..<($0 + 1) * width] }
            if task == .multilabel {
              let scores = try MultilabelEvaluation(logits: own, targets: wanted, labels: names(width))
              (measures, errors) = (measures + [scores.meanAveragePrecision], errors + [scores.logLoss])
            } else {
              let scores = try RegressionEvaluation(outputs: own, targets: wanted, names: names(width))
              (measures, errors) = (measures + [try #require(scores.r2)], errors + [scores.rmse])
            }
          }
        }
        for (mine, other) in [(result.measure, ConfidenceInterval(mean: measures)), (result.error, ConfidenceInterval(mean: errors))] {
          for (a, b) in [(mine.value, other.value), (mine.low, other.low), (mine.high, other.high)] {
            #expect(abs(a - b) <= 2e-3 * max(1, abs(b)), "\(fitting.kind) \(result.strength): \(mine), \(other) expected")
          }
        }
      }
      #expect(found.best.loss.value == found.results.map(\.loss.value).min())
      let kept = try fitting.fit(whole, strength: found.best.strength, metadata: metadata(task, width)) { _ in }
      #expect(kept.strength == found.best.strength)
    }
    let fitting = try TargetNeighbourFitting(neighbours: [3])
    #expect(throws: TrainingOptionError.self) { try TargetCrossValidation(fitting, whole, folds: 1) }
    #expect(throws: TrainingOptionError.self) { try TargetCrossValidation(fitting, whole, folds: 3, repeats: 0) }
    #expect(throws: TrainingDataError.self) { try TargetCrossValidation(fitting, whole, folds: 91) }
    let many = try TargetNeighbourFitting(neighbours: [80])
    #expect(throws: TrainingOptionError.self) { try TargetCrossValidation(many, whole, folds: 3) }
  }

  // MARK: Linear

  @Test(arguments: TargetFixture.stored?.optima ?? [])
  func labelsReachScikitLearnsOptima(stored: TargetFixture.Optimum) throws {
    let train = try targeted(stored.x, stored.targets, width: stored.width, rows: stored.rows)
    let data = TargetTrainingData(task: .multilabel, names: names(stored.width), train: train)
    let fitted = try TargetLinearFitting(loss: .binaryCrossEntropy, options: LinearTrainingOptions(l2: .fixed(stored.l2)))
      .fit(data, metadata: metadata(.multilabel, stored.width)) { _ in }
    let objective = try #require(fitted.objective)
    #expect(abs(objective - stored.objective) <= 1e-6 * stored.objective, "\(objective) against \(stored.objective)")
    // What the head holds has that objective too, as the formula says, in double precision.
    let head = try #require(fitted.classifier as? Head)
    var loss = stored.l2 / 2 * head.weight.reduce(0) { $0 + Double($1) * Double($1) }
    for row in 0..<stored.rows {
      for output in 0..<stored.width {
        let logit = (0..<stored.dimension).reduce(Double(head.bias[output])) {
          $0 + Double(head.weight[output * stored.dimension + $1]) * stored.x[row * stored.dimension + $1]
        }
        loss += (max(logit, 0) + log1p(exp(-abs(logit))) - stored.targets[row * stored.width + output] * logit) / Double(stored.rows)
      }
    }
    #expect(loss <= stored.objective * (1 + 1e-6) && fitted.status != SolverStatus.iterationLimit.rawValue)
  }

  /// Least squares and Huber's loss: at the minimum the gradient, in double precision and in the units of training, is nothing.
  @Test(arguments: [Loss.squared, .huber(1)]) func numbersReachTheOptimum(loss: Loss) throws {
    let stored = try #require(TargetFixture.stored?.huber), l2 = 0.01
    let train = try targeted(stored.x, stored.targets, width: 1, rows: stored.rows)
    let fitted = try TargetLinearFitting(loss: loss, options: LinearTrainingOptions(l2: .fixed(l2)))
      .fit(TargetTrainingData(task: .regression, names: names(1), train: train), metadata: metadata(.regression, 1)) { _ in }
    let head = try #require(fitted.classifier as? Head), count = Double(stored.rows)
    let mean = stored.targets.reduce(0, +) / count
    let deviation = (stored.targets.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / count).squareRoot()
    var gradient = head.weight.map { l2 * Double($0) / deviation } + [0]
    var large = 0
    for row in 0..<stored.rows {
      let own = stored.x[row * stored.dimension..<(row + 1) * stored.dimension]
      let told = zip(own, head.weight).reduce(Double(head.bias[0])) { $0 + $1.0 * Double($1.1) }
      var error = (told - stored.targets[row]) / deviation
      if loss != .squared, abs(error) > 1 { (error, large) = (error < 0 ? -1 : 1, large + 1) }
      for (column, value) in own.enumerated() { gradient[column] += error * value / count }
      gradient[stored.dimension] += error / count
    }
    #expect(gradient.allSatisfy { abs($0) < 2e-5 }, "\(gradient)")
    #expect(loss == .squared || large >= 6, "the outliers lie beyond δ")
  }

  @Test func theStrengthWithTheLeastLossIsTaken() throws {
    let (train, held) = (Synthetic(rows: 60, seed: 1), Synthetic(rows: 200, seed: 2))
    for (task, loss, width) in [(LabelTask.multilabel, Loss.binaryCrossEntropy, 3), (.regression, .squared, 2)] {
      func data(_ samples: Synthetic) throws -> TargetedFeatures {
        try targeted(samples.x, task == .multilabel ? samples.labels : samples.numbers, width: width, rows: samples.rows)
      }
      let fitted = try TargetLinearFitting(loss: loss, options: LinearTrainingOptions(l2: .sweep([1e-4, 1e-3, 1e-2, 1e-1, 1, 10])))
        .fit(
          TargetTrainingData(task: task, names: names(width), train: data(train), validation: data(held)), metadata: metadata(task, width)
        ) { _ in }
      let best = try #require(fitted.sweep.min { $0.loss < $1.loss })
      #expect(best.strength == fitted.strength && fitted.validation?.source == .split && fitted.validation?.samples == 200)
      #expect(fitted.sweep.map(\.strength) == fitted.sweep.map(\.strength).sorted() && fitted.sweep.count >= 3)
      // Without a split a share of the training samples is held out, the same in every run.
      let again = try (0..<2).map { _ in
        try TargetLinearFitting(loss: loss).fit(
          TargetTrainingData(task: task, names: names(width), train: data(train)), metadata: metadata(task, width)
        ) { _ in }
      }
      #expect(again[0].validation?.source == .holdout && again[0].validation == again[1].validation && again[0].sweep == again[1].sweep)
      #expect(try outputs(again[0].classifier, held.x, rows: 200) == outputs(again[1].classifier, held.x, rows: 200))
    }
  }

  /// A label that every sample has, and one that none has, are told as constants; the others are what they are without them.
  @Test func constantLabelsAreLeftAlone() throws {
    let samples = Synthetic(rows: 80, seed: 3)
    let wider: [Double] = (0..<80).flatMap { row -> [Double] in Array(samples.labels[row * 3..<row * 3 + 3]) + [1, 0] }
    let options = LinearTrainingOptions(l2: .fixed(0.01))
    func fitted(_ targets: [Double], _ width: Int) throws -> (head: FittedTargetHead, constant: [String]) {
      let data = TargetTrainingData(
        task: .multilabel, names: names(width), train: try targeted(samples.x, targets, width: width, rows: 80))
      return (
        try TargetLinearFitting(loss: .binaryCrossEntropy, options: options).fit(data, metadata: metadata(.multilabel, width)) { _ in },
        data.constantOutputs
      )
    }
    let (narrow, none) = try fitted(samples.labels, 3), (wide, constant) = try fitted(wider, 5)
    #expect(none.isEmpty && constant == ["output 3", "output 4"])
    let (three, five) = (try outputs(narrow.classifier, samples.x, rows: 80), try outputs(wide.classifier, samples.x, rows: 80))
    for row in 0..<80 {
      for label in 0..<3 { #expect(abs(three[row * 3 + label] - five[row * 5 + label]) < 2e-3) }
      #expect(abs(five[row * 5 + 3] - Float(log(80.5 / 0.5))) < 1e-3 && abs(five[row * 5 + 4] + Float(log(80.5 / 0.5))) < 1e-3)
    }
  }

  /// Of numbers that are all the same rounding is left, and gradients vanish among the smallest numbers.
  @Test func constantNumbersAreTold() throws {
    let samples = Synthetic(rows: 60, seed: 5)
    for device in [nil, try CPUDevice()] as [CPUDevice?] {
      let backend: any LinearBackend = device.map { DeviceLinearBackend(device: $0) } ?? HostLinearBackend()
      for (loss, l2) in [(Loss.squared, 1e-6), (.squared, 1e-2), (.squared, 100), (.huber(1), 1)] {
        let data = TargetTrainingData(
          task: .regression, names: names(1), train: try targeted(samples.x, [Double](repeating: 3.7, count: 60), width: 1, rows: 60))
        #expect(data.constantOutputs == names(1))
        let fitted = try TargetLinearFitting(loss: loss, options: LinearTrainingOptions(l2: .fixed(l2)), backend: backend)
          .fit(data, metadata: metadata(.regression, 1)) { _ in }
        #expect(fitted.status == "converged", "\(loss), λ \(l2)")
        #expect(try outputs(fitted.classifier, samples.x, rows: 60).allSatisfy { abs($0 - 3.7) < 1e-6 }, "\(loss), λ \(l2)")
      }
    }
  }

  // MARK: Ridge and neighbours

  @Test(arguments: TargetFixture.stored?.ridges ?? [])
  func ridgeIsScikitLearns(stored: TargetFixture.Ridge) throws {
    let train = try targeted(stored.x, stored.targets, width: 2, rows: stored.rows)
    let fitted = try TargetRidgeFitting(strengths: [10])
      .fit(TargetTrainingData(task: .regression, names: names(2), train: train), metadata: metadata(.regression, 2)) { _ in }
    let head = try #require(fitted.classifier as? Head)
    for (own, theirs) in zip(head.weight + head.bias, stored.weight + stored.bias) {
      #expect(abs(Double(own) - theirs) <= 1e-5 * max(abs(theirs), 0.1), "\(own) against \(theirs)")
    }
    // One number: the strength with the least leave-one-out error, and that error.
    for (column, single) in stored.single.enumerated() {
      let own = (0..<stored.rows).map { stored.targets[$0 * 2 + column] }
      let data = TargetTrainingData(task: .regression, names: names(1), train: try targeted(stored.x, own, width: 1, rows: stored.rows))
      let fitted = try TargetRidgeFitting(strengths: stored.alphas).fit(data, metadata: metadata(.regression, 1)) { _ in }
      #expect(fitted.strength == single.alpha && fitted.validation?.source == .leaveOneOut)
      for (point, error) in zip(fitted.sweep, single.errors) {
        guard case .regression(let rmse, _) = point.score.measures else { throw EvaluationFailure() }
        #expect(abs(rmse * rmse - error) <= 1e-5 * error, "α \(point.strength): \(rmse * rmse) against \(error)")
      }
    }
  }

  @Test func neighboursAreScikitLearns() throws {
    let stored = try #require(TargetFixture.stored?.neighbours)
    for (task, targets, wanted, width) in [
      (LabelTask.multilabel, stored.labels, stored.shares, 3), (.regression, stored.numbers, stored.means, 2),
    ] {
      let train = try targeted(stored.x, targets, width: width, rows: stored.rows)
      let fitted = try TargetNeighbourFitting(neighbours: [5], distance: .euclidean)
        .fit(TargetTrainingData(task: task, names: names(width), train: train), metadata: metadata(task, width)) { _ in }
      #expect(fitted.strength == 5 && fitted.validation?.source == .leaveOneOut)
      let found = try outputs(fitted.classifier, stored.q, rows: stored.queries)
      for (own, theirs) in zip(found, wanted) {
        let value = task == .multilabel ? 1 / (1 + exp(-Double(own))) : Double(own)
        #expect(abs(value - theirs) <= 1e-6 * max(1, abs(theirs)), "\(value) against \(theirs)")
      }
    }
  }

  // MARK: Layers

  /// On the CPU and on both families of an OpenCL device: what a linear head can't tell, and numbers in their own units.
  @Test(arguments: TrainingDevices.all) func layersLearn(device: TrainingDevice) throws {
    let (train, test) = (Synthetic(rows: 400, seed: 4), Synthetic(rows: 200, seed: 5))
    var options = PerceptronOptions(hidden: [32], dropout: 0)
    (options.training.epochs, options.training.learningRate, options.training.batchSize) = (60, 0.01, 32)
    for (task, loss, width) in [(LabelTask.multilabel, Loss.binaryCrossEntropy, 3), (.regression, .squared, 2), (.regression, .huber(1), 2)] {
      func wanted(_ samples: Synthetic) -> [Double] { task == .multilabel ? samples.labels : samples.numbers }
      options.training.loss = loss
      let data = TargetTrainingData(
        task: task, names: names(width), train: try targeted(train.x, wanted(train), width: width, rows: train.rows))
      let fitted = try TargetPerceptronFitting(options: options, device: device.device).fit(data, metadata: metadata(task, width)) { _ in }
      #expect(fitted.history.allSatisfy { $0.trainTop1 == nil && $0.validationTop1 == nil && $0.validationLoss != nil })
      let told = try outputs(fitted.classifier, test.x, rows: test.rows)
      if task == .multilabel {
        let score = try MultilabelEvaluation(logits: told, targets: wanted(test), labels: names(width))
        #expect(score.meanAveragePrecision > 0.97 && score.microF1 > 0.9, "\(score)")
      } else {
        // The second is a square, of which a straight line tells nothing.
        let score = try RegressionEvaluation(outputs: told, targets: wanted(test), names: names(width))
        #expect(score.targets.allSatisfy { $0.r2 ?? 0 > 0.85 }, "\(score)")
      }
    }
  }

  /// What training says nothing of is a constant here as well: whatever the sample, the same number.
  @Test(arguments: [LabelTask.multilabel, .regression])
  func layersLeaveConstantsAlone(task: LabelTask) throws {
    let (samples, others) = (Synthetic(rows: 80, seed: 3), Synthetic(rows: 40, seed: 4))
    var options = PerceptronOptions(hidden: [8], featureNormalisation: .standardise)
    (options.training.epochs, options.training.learningRate) = (5, 0.01)
    options.training.loss = task == .multilabel ? .binaryCrossEntropy : .squared
    let targets = (0..<80).flatMap { (row: Int) -> [Double] in
      if task == .multilabel { [samples.labels[row * 3], 1, 0] } else { [3.7, samples.numbers[row * 2], 0.1] }
    }
    let constants: [Int: Double] = task == .multilabel ? [1: log(80.5 / 0.5), 2: -log(80.5 / 0.5)] : [0: 3.7, 2: 0.1]
    let data = TargetTrainingData(task: task, names: names(3), train: try targeted(samples.x, targets, width: 3, rows: 80))
    #expect(data.constantOutputs == constants.keys.sorted().map { "output \($0)" })
    let fitted = try TargetPerceptronFitting(options: options, device: CPUDevice()).fit(data, metadata: metadata(task, 3)) { _ in }
    let told = try outputs(fitted.classifier, others.x, rows: 40)
    for (output, constant) in constants {
      for row in 0..<40 { #expect(told[row * 3 + output] == Float(constant)) }
    }
    let learned = try #require((0..<3).first { constants[$0] == nil })
    #expect(Set((0..<40).map { told[$0 * 3 + learned] }).count > 30)
  }

  // MARK: Files

  @Test func headsComeBackFromTheirFiles() throws {
    let samples = Synthetic(rows: 60, seed: 6), device = try Devices.choose("cpu")
    let folder = NSTemporaryDirectory() + "graft-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    var layers = PerceptronOptions(hidden: [8])
    layers.training.epochs = 3
    for (task, width) in [(LabelTask.multilabel, 3), (.regression, 2)] {
      layers.training.loss = task == .multilabel ? .binaryCrossEntropy : .squared
      let data = TargetTrainingData(
        task: task, names: names(width),
        train: try targeted(samples.x, task == .multilabel ? samples.labels : samples.numbers, width: width, rows: 60))
      var fittings: [any TargetHeadFitting] = [
        try TargetLinearFitting(
          loss: layers.training.loss, options: LinearTrainingOptions(l2: .fixed(0.01), featureNormalisation: .standardise)),
        try TargetNeighbourFitting(neighbours: [1, 3], featureNormalisation: .standardise),
        TargetPerceptronFitting(options: layers, device: device),
      ]
      if task == .regression { fittings.append(try TargetRidgeFitting(featureNormalisation: .l2)) }
      for fitting in fittings {
        let head = try fitting.fit(data, metadata: metadata(task, width)) { _ in }.classifier, path = folder + "/\(task)-\(fitting.kind).safetensors"
        try head.write(to: path)
        let read = try HeadFile.read(path)
        #expect(read.metadata == head.metadata && read.metadata.task == task && read.metadata.classes == names(width))
        #expect(try outputs(read, samples.x, rows: 60) == outputs(head, samples.x, rows: 60), "\(task) \(fitting.kind)")
        // A Graft that knows no tasks looks for classes, and finds none.
        let header = try SafetensorsFile(path: path).metadata
        #expect(header["task"] == task.rawValue && header["classes"] == nil && header[task == .multilabel ? "labels" : "targets"] != nil)
      }
    }
  }

  @Test func damagedHeadersAreRefused() throws {
    let head = try Head(weight: [1, 2], bias: [0], metadata: metadata(.regression, 1))
    let (tensors, strings) = try head.encoded()
    let named = Dictionary(uniqueKeysWithValues: tensors)
    for (key, value) in [
      ("task", "guess"), ("targets", "none"), ("targets", "[\"a\",\"a\"]"), ("targets", "[]"), ("kind", "centroid"), ("temperature", "2"),
    ] {
      var damaged = strings
      damaged[key] = value
      #expect(throws: HeadError.self, "\(key) \(value)") { try Head(tensors: named, metadata: damaged, file: "h") }
    }
    var nameless = strings
    nameless["targets"] = nil
    #expect(throws: HeadError.self) { try Head(tensors: named, metadata: nameless, file: "h") }
    #expect(throws: HeadError.self) { try Head(weight: [1, 2], bias: [0, 0], metadata: metadata(.regression, 1)) }
    #expect(throws: HeadError.self) { try Head(weight: [1, 2], bias: [0], metadata: metadata(.classification, 1)) }
  }

  // MARK: Bad input

  @Test func refusesWhatCannotBeTrainedOn() throws {
    let x = ArrayFeaturesOf(4)
    #expect(throws: TrainingDataError.self) { try TargetedFeatures(features: x.source, targets: [1, 2, 3], targetCount: 1) }
    #expect(throws: TrainingDataError.self) { try TargetedFeatures(features: x.source, targets: [1, 2, 3, .nan], targetCount: 1) }
    #expect(throws: TrainingDataError.self) { try TargetedFeatures(features: x.source, targets: [], targetCount: 0) }
    func fit(_ task: LabelTask, _ targets: [Double], _ loss: Loss? = nil) throws {
      let data = TargetTrainingData(
        task: task, names: names(targets.count / 4), train: try TargetedFeatures(features: x.source, targets: targets, targetCount: targets.count / 4)
      )
      let loss = loss ?? (task == .multilabel ? .binaryCrossEntropy : .squared)
      _ = try TargetLinearFitting(loss: loss).fit(data, metadata: metadata(task, targets.count / 4)) { _ in }
    }
    #expect(throws: TrainingDataError.self, "half a label") { try fit(.multilabel, [0, 1, 0.5, 0]) }
    #expect(throws: TrainingDataError.self, "nothing to learn") { try fit(.multilabel, [1, 0, 1, 0, 1, 0, 1, 0]) }
    #expect(throws: TrainingDataError.self, "classes") { try fit(.classification, [1, 0, 1, 0], .squared) }
    #expect(throws: TrainingDataError.self, "too large") { try fit(.regression, [1, 0, 1e300, 0]) }
    #expect(throws: TrainingOptionError.self, "another task's loss") { try fit(.multilabel, [1, 0, 1, 0], .squared) }
    #expect(throws: TrainingOptionError.self, "another task's loss") { try fit(.regression, [1, 0, 1, 0], .binaryCrossEntropy) }
    #expect(throws: TrainingOptionError.self) { try TargetLinearFitting(loss: .crossEntropy) }
    var balanced = LinearTrainingOptions()
    balanced.balancesClasses = true
    #expect(throws: TrainingOptionError.self) { try TargetLinearFitting(loss: .squared, options: balanced) }
    // What is strange and can be trained on: one number throughout, and a single sample.
    try fit(.regression, [7, 7, 7, 7])
    let single = TargetTrainingData(
      task: .regression, names: names(1),
      train: try TargetedFeatures(features: ArrayFeatures([1, 2], rowCount: 1, dimension: 2), targets: [3], targetCount: 1))
    let one = try TargetLinearFitting(loss: .squared, options: LinearTrainingOptions(l2: .fixed(1))).fit(single, metadata: metadata(.regression, 1)) {
      _ in
    }
    #expect(try outputs(one.classifier, [1, 2], rows: 1) == [3])
    #expect(throws: TrainingDataError.self) { try TargetLinearFitting(loss: .squared).fit(single, metadata: metadata(.regression, 1)) { _ in } }
  }
}

private struct EvaluationFailure: Error {}

private struct ArrayFeaturesOf {
  let source: ArrayFeatures
  init(_ rows: Int) { source = try! ArrayFeatures((0..<rows * 2).map { Float(sin(Double($0))) }, rowCount: rows, dimension: 2) }
}

/// The CPU, and both families of kernels on an OpenCL device where there is one.
struct TrainingDevice: Sendable, CustomTestStringConvertible {
  let name: String
  let device: any Device
  var testDescription: String { name }
}

enum TrainingDevices {
  static let all: [TrainingDevice] =
    [(try? Devices.choose("cpu")).map { TrainingDevice(name: "cpu", device: $0) }].compactMap(\.self)
    + [KernelChoice.cpu, .gpu].compactMap { kernels in
      (try? Devices.choose("opencl", kernels: kernels)).map { TrainingDevice(name: "opencl, \(kernels) kernels", device: $0) }
    }
}
