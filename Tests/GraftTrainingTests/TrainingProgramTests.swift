import Foundation
import GraftData
import GraftDevice
import GraftGraph
import GraftTraining
import Testing

/// Training by steps: against the formula in double precision, and to the same bits again.
@Suite struct TrainingProgramTests {
  /// A small network with a convolution, a normalisation and a residual sum, for images of 6 × 6.
  static func network(channels: Int = 8, classes: Int = 3, images: Int? = nil) -> TrainableNetwork {
    TrainableNetwork(makeGraph: { batch in
      var random = SplitMix(5)
      func tensor(_ shape: [Int], _ range: ClosedRange<Float> = -0.5...0.5) -> HostTensor {
        HostTensor(shape, (0..<shape.reduce(1, *)).map { _ in Float.random(in: range, using: &random) })
      }
      var graph = Graph()
      let x = graph.addInput(TensorType([batch, 6, 6, 3]), name: "x")
      func layer(_ x: ValueID, _ inputs: Int, _ name: String) throws -> ValueID {
        let w = graph.addConstant(tensor([channels, inputs, 3, 3]), name: "\(name).weight")
        let y = try graph.add(Conv2D(padding: Padding2D(1)), [x, w], name: name)
        let vectors = [("scale", Float(0.5)...1.5), ("shift", -0.5...0.5), ("mean", -0.1...0.1), ("variance", 0.5...1.5)].map {
          graph.addConstant(tensor([channels], $0.1), name: "\(name).\($0.0)")
        }
        return try graph.add(BatchNorm(epsilon: 1e-5), [y] + vectors, name: "\(name).norm")
      }
      let first = try graph.add(Unary(.relu), [try layer(x, 3, "first")], name: "relu")
      let sum = try graph.add(Binary(.add), [try layer(first, channels, "second"), first], name: "sum")
      let mean = try graph.add(Reduce(.mean, axes: [1, 2], keepsDimensions: false), [try graph.add(Unary(.silu), [sum], name: "silu")], name: "mean")
      let w = graph.addConstant(tensor([classes, channels]), name: "head.weight"), b = graph.addConstant(tensor([classes]), name: "head.bias")
      graph.outputs = [try graph.add(MatMul(transposeB: true, hasBias: true), [mean, w, b], name: "head")]
      return graph
    })
  }

  static func samples(_ count: Int, seed: UInt64 = 1) -> ArrayInputs {
    var random = SplitMix(seed)
    let labels = (0..<count).map { $0 % 3 }
    // A class is a brighter channel.
    let values = labels.flatMap { label in (0..<36 * 3).map { Float.random(in: -1...1, using: &random) + ($0 % 3 == label ? 0.4 : 0) } }
    return ArrayInputs(values, labels: labels)
  }

  static let devices: [any Device] = {
    var devices: [any Device] = []
    if let device = try? CPUDevice() { devices.append(device) }
    for kernels in [KernelChoice.cpu, .gpu] { if let device = try? Devices.choose("opencl", kernels: kernels) { devices.append(device) } }
    return devices
  }()

  // MARK: Mistakes

  @Test(arguments: [[1], [1, 1], [1, 1, 1, 1], [0, 0, 0], [1, .nan, 1], [1, -1, 1], []] as [[Double]])
  func classWeightsThatDoNotFitAreRefused(weights: [Double]) {
    var options = TrainingOptions(epochs: 1, batchSize: 4)
    options.classWeights = weights
    #expect(throws: TrainingOptionError.self) { try TrainingProgram(Self.network(), options: options, device: CPUDevice()) }
  }

  /// A weight of 0 is what a class without samples has; that of all samples leaves nothing to train on.
  @Test func classesThatCountNothing() throws {
    var options = TrainingOptions(epochs: 1, batchSize: 3)
    options.classWeights = [1, 0, 0]
    let program = try TrainingProgram(Self.network(), options: options, device: CPUDevice()), samples = Self.samples(6)
    #expect(throws: Never.self) { try Trainer(program, training: samples, validation: nil) }
    #expect(throws: TrainingDataError.self) {
      try Trainer(program, training: Chosen(base: samples, chosen: [1, 2, 4], labels: [1, 2, 1]), validation: nil)
    }
  }

  /// Some of other samples, under labels of their own.
  private struct Chosen: TrainingSamples {
    let base: ArrayInputs
    let chosen: [Int]
    let labels: [Int]
    var count: Int { chosen.count }
    var sampleByteCount: Int { base.sampleByteCount }
    func write(_ samples: [Int], epoch: Int?, into target: UnsafeMutableRawBufferPointer) throws {
      try base.write(samples.map { chosen[$0] }, epoch: epoch, into: target)
    }
  }

  @Test(arguments: [[0, 1], [], [0, 1, 2, 0], [0, 1, 3], [0, 1, -1]] as [[Int]]) func labelsMustBeOneASample(labels: [Int]) throws {
    let samples = Self.samples(6), wrong = Chosen(base: samples, chosen: [0, 1, 2], labels: labels)
    let program = try TrainingProgram(Self.network(), options: TrainingOptions(epochs: 1, batchSize: 3), device: CPUDevice())
    #expect(throws: TrainingDataError.self) { try Trainer(program, training: wrong, validation: nil) }
    #expect(throws: TrainingDataError.self) { try Trainer(program, training: samples, validation: wrong) }
    let trainer = try Trainer(program, training: samples, validation: nil)
    #expect(throws: TrainingDataError.self) { try trainer.score(wrong) }
    #expect(throws: TrainingDataError.self) { try trainer.score(wrong, of: [:]) }
  }

  /// What would be passed over in silence, or break a kernel's shapes.
  @Test func penaltiesThatDoNotFitAreRefused() {
    let wrong: [(String, Penalty)] = [
      ("nope", Penalty(0.1)), ("head.weight", Penalty(-1)), ("head.weight", Penalty(.nan)), ("head.weight", Penalty(1, columnFactors: [1])),
      ("head.weight", Penalty(1, columnFactors: [1, 1, 1, 1, 1, 1, 1, .infinity])),
    ]
    for (name, penalty) in wrong {
      var options = TrainingOptions(epochs: 1, batchSize: 4)
      options.penalties[name] = penalty
      let error = #expect(throws: TrainingOptionError.self) { try TrainingProgram(Self.network(), options: options, device: CPUDevice()) }
      #expect(error?.message.contains("'\(name)'") == true)
    }
    var options = TrainingOptions(epochs: 1, batchSize: 4)
    options.penalties["first.weight"] = Penalty(0.1)
    let head = TrainableNetwork(makeGraph: Self.network().makeGraph, isTrained: { $0.hasPrefix("head") })
    let error = #expect(throws: TrainingOptionError.self) { try TrainingProgram(head, options: options, device: CPUDevice()) }
    #expect(error?.message.contains("the last ones are 'head.weight', 'head.bias'") == true)
  }

  @Test func aNetworkWithoutOutputsIsRefused() {
    let error = #expect(throws: ShapeError.self) {
      try TrainingProgram(Self.network(classes: 0), options: TrainingOptions(epochs: 1, batchSize: 4), device: CPUDevice())
    }
    #expect("\(error!)".contains("no classes"))
  }

  // MARK: Steps

  /// What k steps do to a linear layer, written down with the formulas.
  @Test(arguments: OptimizerStep.Method.allCases, 0..<devices.count)
  func followsTheFormula(_ method: OptimizerStep.Method, _ device: Int) throws {
    let (rows, width, classes) = (6, 5, 3)
    let (x, y) = syntheticSamples(rows: rows, dimension: width, classes: classes, seed: 3)
    let network = TrainableNetwork(makeGraph: { batch in
      var graph = Graph()
      let x = graph.addInput(TensorType([batch, width]), name: "x")
      let w = graph.addConstant(HostTensor([classes, width], (0..<classes * width).map { Float($0 % 4) * 0.1 - 0.15 }), name: "weight")
      let b = graph.addConstant(HostTensor([classes], [0.1, 0, -0.1]), name: "bias")
      graph.outputs = [try graph.add(MatMul(transposeB: true, hasBias: true), [x, w, b], name: "layer")]
      return graph
    })
    var options = TrainingOptions(method: method, learningRate: 0.05, weightDecay: 0.1, epochs: 1, batchSize: rows)
    options.isNesterov = true
    let program = try TrainingProgram(network, options: options, device: Self.devices[device])
    var parameters = (0..<classes * width).map { Double(Float($0 % 4) * 0.1 - 0.15) } + [0.1, 0, -0.1].map { Double(Float($0)) }
    var (m, v) = ([Double](repeating: 0, count: parameters.count), [Double](repeating: 0, count: parameters.count))
    let naive = NaiveSoftmax(
      x: (0..<rows).map { row in x[row * width..<(row + 1) * width].map(Double.init) }, y: y, classCount: classes, l2: 0)
    var targets = [Float](repeating: 0, count: rows * classes)
    for (row, label) in y.enumerated() { targets[row * classes + label] = 1 }
    for step in 1...5 {
      let gradient = naive.gradient(parameters)
      let rates = OptimizerRates(learningRate: 0.05, weightDecay: 0.1, step: step)
      let result = try x.withUnsafeBytes {
        try program.train($0, targets: targets, sampleWeights: Array(repeating: 1 / Float(rows), count: rows), rates: rates)
      }
      #expect(abs(result.losses.reduce(0) { $0 + Double($1) } / Double(rows) - naive.loss(parameters)) < 1e-5)
      #expect(abs(result.gradientNorm - gradient.reduce(0) { $0 + $1 * $1 }.squareRoot()) < 1e-5)
      for i in parameters.indices {
        // Weight decay leaves biases alone.
        let decay = i < classes * width ? 0.1 : 0
        switch method {
        case .sgd:
          let g = gradient[i] + decay * parameters[i]
          m[i] = 0.9 * m[i] + g
          parameters[i] -= 0.05 * (g + 0.9 * m[i])
        case .adamW:
          m[i] = 0.9 * m[i] + 0.1 * gradient[i]
          v[i] = 0.999 * v[i] + 0.001 * gradient[i] * gradient[i]
          let corrected = (v[i] / (1 - pow(0.999, Double(step)))).squareRoot() + 1e-8
          parameters[i] = parameters[i] * (1 - 0.05 * decay) - 0.05 * m[i] / (1 - pow(0.9, Double(step))) / corrected
        }
      }
    }
    let found = try program.networkTensors()
    let all = found["weight"]!.doubles() + found["bias"]!.doubles()
    #expect(zip(all, parameters).allSatisfy { abs($0 - $1) < 2e-5 }, "\(all) \(parameters)")
  }

  /// The gradient that a step follows is that of the loss, through normalisations in both modes: by central differences of the loss
  /// that the program itself reports.
  @Test(arguments: [NormalizationMode.frozen, .batch(momentum: 0.1)])
  func descendsTheLoss(_ mode: NormalizationMode) throws {
    let batch = 9
    var options = TrainingOptions(method: .sgd, learningRate: 1e-3, weightDecay: 0, momentum: 0, epochs: 1, batchSize: batch)
    options.normalization = mode
    let program = try TrainingProgram(Self.network(), options: options, device: CPUDevice())
    let samples = Self.samples(batch)
    var bytes = [UInt8](repeating: 0, count: batch * samples.sampleByteCount)
    try bytes.withUnsafeMutableBytes { try samples.write(Array(0..<batch), epoch: nil, into: $0) }
    var targets = [Float](repeating: 0, count: batch * 3)
    for (row, label) in samples.labels.enumerated() { targets[row * 3 + label] = 1 }
    func step(rate: Float) throws -> Double {
      let rates = OptimizerRates(learningRate: rate, beta1: 0)
      let result = try bytes.withUnsafeBytes {
        try program.train($0, targets: targets, sampleWeights: Array(repeating: 1 / Float(batch), count: batch), rates: rates)
      }
      return result.losses.reduce(0) { $0 + Double($1) } / Double(batch)
    }
    let start = try program.state().map { ($0.name, $0.tensor) }
    // w − rate · g: the difference to where it was, divided by the rate, is the gradient.
    _ = try step(rate: 1)
    let moved = try program.networkTensors()
    let before = Dictionary(uniqueKeysWithValues: start)
    for name in program.parameterNames {
      let gradient = zip(before[name]!.doubles(), moved[name]!.doubles()).map { $0 - $1 }
      let norm = gradient.reduce(0) { $0 + $1 * $1 }.squareRoot(), size = 0.01 / norm
      guard norm > 1e-4 else { continue }
      func loss(_ sign: Double) throws -> Double {
        try program.restore(before)
        let shifted = zip(before[name]!.doubles(), gradient).map { Float($0 + sign * size * $1) }
        try program.restore([name: HostTensor(before[name]!.shape, shifted)])
        return try step(rate: 0)
      }
      let slope = (try loss(1) - loss(-1)) / (2 * 0.01)
      #expect(abs(slope - norm) < 0.01 * norm + 2e-4, "\(name): \(slope) by differences, \(norm) by the step")
    }
  }

  /// Stored statistics follow the batches': with momentum 1 they are the last batch's, its variance unbiased.
  @Test func statisticsFollow() throws {
    var options = TrainingOptions(method: .sgd, learningRate: 1e-9, weightDecay: 0, momentum: 0, epochs: 1, batchSize: 8)
    options.normalization = .batch(momentum: 1)
    var graph = Graph()
    let x = graph.addInput(TensorType([8, 2]), name: "x")
    let vectors = [("scale", [Float(1), 1]), ("shift", [0, 0]), ("mean", [7, 7]), ("variance", [9, 9])].map {
      graph.addConstant(HostTensor([2], $0.1), name: $0.0)
    }
    graph.outputs = [try graph.add(BatchNorm(epsilon: 1e-5), [x] + vectors, name: "norm")]
    let finished = graph
    let program = try TrainingProgram(TrainableNetwork(makeGraph: { _ in finished }), options: options, device: CPUDevice())
    let values: [Float] = (0..<16).map { Float($0 * $0 % 11) + ($0 % 2 == 0 ? 1000 : 0) }
    _ = try values.withUnsafeBytes {
      try program.train(
        $0, targets: Array(repeating: 0.5, count: 16), sampleWeights: Array(repeating: 1, count: 8), rates: OptimizerRates(learningRate: 1e-9))
    }
    let found = try program.networkTensors()
    for channel in 0..<2 {
      let own = stride(from: channel, to: 16, by: 2).map { Double(values[$0]) }, mean = own.reduce(0, +) / 8
      let variance = own.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 7
      #expect(abs(found["mean"]!.doubles()[channel] - mean) < 1e-4 && abs(found["variance"]!.doubles()[channel] - variance) < 1e-4)
    }
  }

  /// A penalty is part of the objective: the gradient has λ w more.
  @Test func penaltiesAreInTheGradient() throws {
    func moved(_ penalty: Double) throws -> (from: [Double], to: [Double]) {
      var options = TrainingOptions(method: .sgd, learningRate: 1, weightDecay: 0, momentum: 0, epochs: 1, batchSize: 6)
      options.penalties = ["head.weight": Penalty(penalty)]
      let program = try TrainingProgram(Self.network(), options: options, device: CPUDevice())
      let samples = Self.samples(6), before = try program.networkTensors()["head.weight"]!.doubles()
      var bytes = [UInt8](repeating: 0, count: 6 * samples.sampleByteCount)
      try bytes.withUnsafeMutableBytes { try samples.write(Array(0..<6), epoch: nil, into: $0) }
      var targets = [Float](repeating: 0, count: 18)
      for (row, label) in samples.labels.enumerated() { targets[row * 3 + label] = 1 }
      _ = try bytes.withUnsafeBytes {
        try program.train(
          $0, targets: targets, sampleWeights: Array(repeating: 1.0 / 6, count: 6), rates: OptimizerRates(learningRate: 1, beta1: 0))
      }
      return (before, try program.networkTensors()["head.weight"]!.doubles())
    }
    let plain = try moved(0), penalised = try moved(0.25)
    for (index, start) in plain.from.enumerated() {
      #expect(abs(plain.to[index] - penalised.to[index] - 0.25 * start) < 1e-6)
    }
  }

  /// Samples of which a batch of validation data asks to end.
  private struct EndingInputs: TrainingSamples {
    let inputs: ArrayInputs
    let flag: CancellationFlag
    var count: Int { inputs.count }
    var sampleByteCount: Int { inputs.sampleByteCount }
    var labels: [Int] { inputs.labels }

    func write(_ samples: [Int], epoch: Int?, into target: UnsafeMutableRawBufferPointer) throws {
      if epoch == nil { flag.cancel() }
      try inputs.write(samples, epoch: epoch, into: target)
    }
  }

  /// A pass over much validation data ends when it is asked to, before the first epoch and after it.
  @Test(arguments: [true, false]) func scoringEndsWhenAsked(_ keepsInitial: Bool) throws {
    let options = TrainingOptions(learningRate: 0.01, epochs: 1, batchSize: 8), flag = CancellationFlag()
    let trainer = try Trainer(
      TrainingProgram(Self.network(), options: options, device: CPUDevice()), training: Self.samples(16),
      validation: EndingInputs(inputs: Self.samples(800), flag: flag))
    trainer.keepsInitial = keepsInitial
    let error = #expect(throws: CancelledError.self) { try trainer.run(cancellation: flag) }
    #expect(error?.remedy.contains("No epoch was done yet") == true && trainer.history.isEmpty && trainer.initialScore == nil)
  }

  /// Gathering two halves of a batch is the whole batch.
  @Test func gatheredBatchesAreOne() throws {
    func train(batch: Int, gathered: Int) throws -> [String: HostTensor] {
      var options = TrainingOptions(method: .sgd, learningRate: 0.1, epochs: 2, batchSize: batch, warmupEpochs: 0)
      options.accumulatedBatches = gathered
      let trainer = try Trainer(
        TrainingProgram(Self.network(), options: options, device: CPUDevice()), training: Self.samples(24), validation: nil)
      return try trainer.run()
    }
    let whole = try train(batch: 12, gathered: 1), halves = try train(batch: 6, gathered: 2)
    for (name, tensor) in whole {
      #expect(zip(tensor.doubles(), halves[name]!.doubles()).allSatisfy { abs($0 - $1) < 1e-5 }, "\(name)")
    }
  }

  /// Two runs are equal to the bit, and so is one that stops after each epoch and goes on from its checkpoint.
  @Test(arguments: [NormalizationMode.frozen, .batch(momentum: 0.1)], [0, 0.9])
  func theSameBitsAgain(_ mode: NormalizationMode, _ average: Double) throws {
    func trainer(epochs: Int = 3) throws -> Trainer {
      var options = TrainingOptions(learningRate: 0.01, epochs: epochs, batchSize: 8, labelSmoothing: 0.1, gradientNormLimit: 1)
      (options.normalization, options.averageDecay) = (mode, average)
      return try Trainer(
        TrainingProgram(Self.network(), options: options, device: CPUDevice()), training: Self.samples(29), validation: Self.samples(11, seed: 2))
    }
    let first = try trainer(), once = try first.run(), twice = try trainer().run()
    #expect(once.keys == twice.keys && once.allSatisfy { $0.value.floats() == twice[$0.key]!.floats() })
    #expect(first.history[0].trainLoss > first.history[2].trainLoss)

    let path = FileManager.default.temporaryDirectory.appendingPathComponent("graft-\(UUID().uuidString).checkpoint").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    struct Stop: Error {}
    var result: [String: HostTensor]?
    for epoch in 0..<3 {
      let part = try trainer()
      (part.checkpointPath, part.identity) = (path, "test")
      #expect(try part.resume() == epoch)
      do {
        result = try part.run(onEpoch: { _ in if part.history.count < 3 { throw Stop() } })
      } catch is Stop {}
    }
    let resumed = try #require(result)
    #expect(once.allSatisfy { $0.value.floats() == resumed[$0.key]!.floats() })

    let other = try trainer()
    (other.checkpointPath, other.identity) = (path, "another run")
    #expect(throws: CheckpointError.self) { try other.resume() }
    try Data("no checkpoint".utf8).write(to: URL(fileURLWithPath: path))
    #expect(throws: (any Error).self) { try other.resume() }
  }

  /// A rate that is far too high ends with the step and the remedy, not with numbers that are none.
  @Test func divergenceIsAnError() throws {
    var options = TrainingOptions(method: .sgd, learningRate: 1e30, epochs: 5, batchSize: 8, schedule: .constant, warmupEpochs: 0)
    options.normalization = .frozen
    let trainer = try Trainer(TrainingProgram(Self.network(), options: options, device: CPUDevice()), training: Self.samples(24), validation: nil)
    let error = #expect(throws: TrainingDivergedError.self) { try trainer.run() }
    #expect(error?.description.contains("--learning-rate") == true)
  }

  /// The last step of an epoch may leave the numbers without a loss that shows it: its outputs do, and nothing is kept of it.
  @Test(arguments: [1e30, 3e38], [false, true]) func divergenceInTheLastStepIsAnError(_ rate: Double, _ isValidated: Bool) throws {
    let options = TrainingOptions(method: .sgd, learningRate: rate, epochs: 1, batchSize: 24, schedule: .constant, warmupEpochs: 0)
    let trainer = try Trainer(
      TrainingProgram(Self.network(), options: options, device: CPUDevice()), training: Self.samples(24),
      validation: isValidated ? Self.samples(11, seed: 2) : nil)
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("graft-\(UUID().uuidString).checkpoint").path
    trainer.checkpointPath = path
    let error = #expect(throws: TrainingDivergedError.self) { try trainer.run() }
    #expect(error?.checkpoint == nil && !FileManager.default.fileExists(atPath: path))
    #expect(trainer.history.isEmpty)
  }

  /// What is kept has the score of its epoch, whatever the averages have become since.
  @Test func scoresWhatIsKept() throws {
    var options = TrainingOptions(learningRate: 0.02, epochs: 4, batchSize: 8)
    options.averageDecay = 0.9
    let held = Self.samples(11, seed: 2), program = try TrainingProgram(Self.network(), options: options, device: CPUDevice())
    let trainer = try Trainer(program, training: Self.samples(24), validation: held)
    var first: [String: HostTensor] = [:]
    _ = try trainer.run(onEpoch: { record in if record.epoch == 1 { first = try program.networkTensors() } })
    let losses = trainer.history.map(\.validationLoss)
    #expect(losses[0] != losses[3])
    #expect(try trainer.score(held, of: first).loss == losses[0])
  }

  /// A warm-up is a part of the training.
  @Test(arguments: [.nan, .infinity, 1e30, -1, 10.5] as [Double]) func refusesAWarmUp(_ epochs: Double) {
    let error = #expect(throws: TrainingOptionError.self) { try TrainingOptions(epochs: 10, warmupEpochs: epochs).validate() }
    #expect(error?.message.contains("warm-up") == true)
    #expect(throws: Never.self) { try TrainingOptions(epochs: 10, warmupEpochs: 10).validate() }
  }

  /// The shorter formats learn what float32 does, with float32 parameters.
  @Test(arguments: [ComputeFormat.tf32, .bfloat16, .float16])
  func shortFormatsLearn(_ precision: ComputeFormat) throws {
    func loss(_ precision: ComputeFormat) throws -> Double {
      let options = TrainingOptions(learningRate: 0.01, epochs: 6, batchSize: 8, precision: precision)
      let trainer = try Trainer(TrainingProgram(Self.network(), options: options, device: CPUDevice()), training: Self.samples(48), validation: nil)
      _ = try trainer.run()
      return trainer.history.last!.trainLoss
    }
    let (wide, short) = (try loss(.float32), try loss(precision))
    #expect(abs(wide - short) < 0.03, "\(wide) \(short)")
  }
}

@Suite struct RateScheduleTests {
  @Test(arguments: RateSchedule.Shape.allCases)
  func staysWithinItsBounds(_ shape: RateSchedule.Shape) {
    let schedule = RateSchedule(shape, totalSteps: 100, warmupSteps: 10)
    let factors = (0..<100).map(schedule.factor)
    #expect(factors.allSatisfy { $0 > 0 || shape == .linear && $0 >= 0 } && factors.max()! <= 1 + 1e-12)
    #expect(zip(factors[..<9], factors[1..<10]).allSatisfy { $0 < $1 })
    if shape != .constant { #expect(factors[99] < 0.05) }
    if shape == .step { #expect(abs(factors[60] - 0.1) < 1e-12) }
  }
}

@Suite struct LossTests {
  /// Each loss by its formula, and its gradient by differences.
  @Test(arguments: [Loss.crossEntropy, .binaryCrossEntropy, .squared, .huber(0.5)])
  func agreesWithItsFormula(_ loss: Loss) throws {
    let (rows, classes) = (4, 3)
    var random = SplitMix(8)
    let outputs = (0..<rows * classes).map { _ in Float.random(in: -2...2, using: &random) }
    var targets = [Float](repeating: 0, count: rows * classes)
    for row in 0..<rows { targets[row * classes + row % classes] = 1 }
    var graph = Graph()
    let x = graph.addInput(TensorType([rows, classes]), name: "x"), t = graph.addInput(TensorType([rows, classes]), name: "t")
    let result = try loss.add(to: &graph, outputs: x, targets: t)
    let gradient = try graph.addGradients(of: result, withRespectTo: [x])[0]
    graph.outputs = [result, try #require(gradient)]
    let plan = try Plan(graph, device: CPUDevice())
    try plan.write(outputs, to: plan.graph.inputs[0])
    try plan.write(targets, to: plan.graph.inputs[1])
    try plan.run()
    let found = try plan.read(plan.graph.outputs[0]), slopes = try plan.read(plan.graph.outputs[1])
    for row in 0..<rows {
      let own = outputs[row * classes..<(row + 1) * classes]
      #expect(abs(Double(found[row]) - loss.value(outputs: own, label: row % classes)) < 1e-5)
      for place in own.indices {
        func moved(_ step: Float) -> Double {
          var moved = own
          moved[place] += step
          return loss.value(outputs: moved, label: row % classes)
        }
        #expect(abs((moved(1e-3) - moved(-1e-3)) / 2e-3 - Double(slopes[place])) < 2e-3)
      }
    }
  }
}
