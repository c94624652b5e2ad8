import GraftDevice
import GraftGraph

/// How a head of several layers is trained.
public struct PerceptronOptions: Sendable {
  /// Units of the hidden layers.
  public var hidden: [Int]
  /// Share of the hidden units that a step leaves out.
  public var dropout: Double
  public var featureNormalisation: FeatureNormalisation
  /// The share of the training samples that decides when to stop, when there is no validation split.
  public var holdoutFraction = 0.2
  public var balancesClasses = false
  /// Steps, rates and losses; the batch is made smaller where there are fewer samples.
  public var training: TrainingOptions

  public init(
    hidden: [Int] = [512], dropout: Double = 0.2, featureNormalisation: FeatureNormalisation = .none,
    training: TrainingOptions = TrainingOptions(learningRate: 1e-3, weightDecay: 0.01, epochs: 100, batchSize: 128, warmupEpochs: 1, patience: 10)
  ) {
    (self.hidden, self.dropout, self.featureNormalisation, self.training) = (hidden, dropout, featureNormalisation, training)
  }

  func validate() throws(TrainingOptionError) {
    guard !hidden.isEmpty, hidden.count <= 16, hidden.allSatisfy({ (1...65536).contains($0) }) else {
      throw TrainingOptionError(message: "the hidden layers are \(hidden); each must have between 1 and 65536 units, such as 512")
    }
    guard (0..<1).contains(dropout) else { throw TrainingOptionError(message: "the dropout is \(dropout); it must be at least 0 and below 1") }
    guard holdoutFraction > 0, holdoutFraction < 1 else {
      throw TrainingOptionError(message: "the share of samples held out is \(holdoutFraction); it must lie between 0 and 1, such as 0.2")
    }
    try training.validate()
  }
}

/// Heads of several layers, trained by steps until they get no better on validation data.
public struct PerceptronFitting: HeadFitting {
  public let options: PerceptronOptions
  private let device: any Device
  private let onEpoch: ([EpochRecord]) throws -> Void

  /// - Parameter onEpoch: gets all epochs so far, after each.
  public init(options: PerceptronOptions = PerceptronOptions(), device: any Device, onEpoch: @escaping ([EpochRecord]) throws -> Void = { _ in }) {
    (self.options, self.device, self.onEpoch) = (options, device, onEpoch)
  }

  public var kind: HeadMetadata.Kind { .mlp }
  public var strengths: [Double] { [] }

  /// The samples that decide when to stop are taken from `train`: `held` is not looked at before the end.
  public func scores(train: LabelledFeatures, held: LabelledFeatures, classes: [String]) throws -> [StrengthScore] {
    let data = LinearTrainingData(train: train, classes: classes)
    let fitted = try fit(data, strength: nil, metadata: HeadMetadata(unnamed: classes)) { _ in }
    let score = try fitted.classifier.heldOutScores(held, source: .folds, backend: DeviceLinearBackend(device: device)).score()
    return [StrengthScore(strength: 0, top1: score.top1, logLoss: score.logLoss)]
  }

  public func fit(
    _ data: LinearTrainingData, strength: Double?, metadata: HeadMetadata, onProgress: @escaping (String) throws -> Void
  ) throws -> FittedHead {
    try options.validate()
    try data.check()
    let parts = try data.parted(fraction: options.holdoutFraction, seed: options.training.seed)
    let train = parts?.train ?? data.train
    let statistics = try FeatureStatistics(train, sampleLimit: 0)
    guard options.featureNormalisation != .none || statistics.largestMagnitude <= LinearProblem.largestFeature else {
      throw TrainingDataError.tooLarge(statistics.largestMagnitude)
    }
    let transform = FeatureTransform(options.featureNormalisation, statistics: statistics)
    var training = options.training
    training.batchSize = min(training.batchSize, train.rowCount)
    if options.balancesClasses { training.classWeights = TrainingOptions.balancedWeights(labels: train.labels, classes: data.classes.count) }
    let network = network(inputs: train.features.dimension, classes: data.classes.count)
    let program = try TrainingProgram(network, options: training, device: device)
    let trainer = try Trainer(
      program, training: try inputs(train, transform), validation: try parts.map { try inputs($0.held, transform) })
    var failure: (any Error)?
    let tensors = try trainer.run(
      onProgress: { progress in
        do {
          try onProgress("epoch \(progress.epoch): \(progress.step) of \(progress.stepsPerEpoch)")
        } catch { failure = failure ?? error }
      },
      onEpoch: { _ in
        if let failure { throw failure }
        try onEpoch(trainer.history)
      })
    var metadata = metadata
    (metadata.kind, metadata.featureNormalisation, metadata.l2) = (.mlp, options.featureNormalisation, training.weightDecay)
    metadata.metrics["epochs"] = Double(trainer.bestEpoch)
    let layers = try layers(tensors, count: options.hidden.count + 1, transform)
    var head = try PerceptronHead(layers: layers, metadata: metadata)
    let held = try parts.map { try head.heldOutScores($0.held, source: $0.source, backend: DeviceLinearBackend(device: device)) }
    let calibration = metadata.calibrate(held)
    if let held { metadata.metrics["validation_top1"] = held.score().top1 }
    head = try head.replacing(metadata: metadata)
    var fitted = FittedHead(head, strength: nil)
    (fitted.validation, fitted.calibration, fitted.history) = (held?.score(), calibration, trainer.history)
    return fitted
  }

  /// All rows in memory, normalised.
  private func inputs(_ data: LabelledFeatures, _ transform: FeatureTransform) throws -> DropoutInputs {
    var values: [Float] = []
    values.reserveCapacity(data.rowCount * data.features.dimension)
    try NormalisedFeatures(base: data.features, transform: transform).forEachChunk { chunk in
      if let place = chunk.values.firstIndex(where: { !$0.isFinite }) {
        throw TrainingDataError.notFinite(chunk.values[place], row: data.name(ofRow: chunk.firstRow + place / chunk.dimension))
      }
      values.append(contentsOf: chunk.values)
    }
    return DropoutInputs(
      values: values, dimension: data.features.dimension, labels: data.labels, unitCount: options.dropout > 0 ? options.hidden.reduce(0, +) : 0,
      rate: options.dropout, seed: options.training.seed)
  }

  /// From rows of features, and masks after them, to logits. Weights begin as He et al., "Delving deep into rectifiers", 2015, have it.
  private func network(inputs: Int, classes: Int) -> TrainableNetwork {
    let (hidden, hasDropout, seed) = (options.hidden, options.dropout > 0, options.training.seed)
    return TrainableNetwork { batch in
      var generator = SplitMix(seed &+ 0x5EED)
      var graph = Graph()
      let row = graph.addInput(TensorType([batch, inputs + (hasDropout ? hidden.reduce(0, +) : 0)]), name: "features and masks")
      func columns(_ first: Int, _ count: Int, _ name: String) throws -> ValueID {
        try graph.add(Slice(starts: [0, first], sizes: [batch, count], steps: [1, 1]), [row], name: name)
      }
      var (x, width, place) = (hasDropout ? try columns(0, inputs, "features") : row, inputs, inputs)
      for (index, units) in (hidden + [classes]).enumerated() {
        let isLast = index == hidden.count
        // Uniform with the variance 2/width; the last layer begins with small logits.
        let bound = Float(((isLast ? 0.03 : 6) / Double(width)).squareRoot())
        let weight = (0..<units * width).map { _ in Float.random(in: -bound...bound, using: &generator) }
        let parameters = [
          graph.addConstant(HostTensor([units, width], weight), name: PerceptronHead.name(index, "weight")),
          graph.addConstant(HostTensor([units], [Float](repeating: 0, count: units)), name: PerceptronHead.name(index, "bias")),
        ]
        x = try graph.add(MatMul(transposeB: true, hasBias: true), [x] + parameters, name: "layer \(index)")
        width = units
        if isLast { break }
        x = try graph.add(Unary(.relu), [x], name: "relu \(index)")
        if hasDropout {
          x = try graph.add(Binary(.multiply), [x, try columns(place, units, "mask \(index)")], name: "dropout \(index)")
          place += units
        }
      }
      graph.outputs = [x]
      return graph
    }
  }

  private func layers(_ tensors: [String: HostTensor], count: Int, _ transform: FeatureTransform) throws -> [PerceptronHead.Layer] {
    try (0..<count).map { index in
      guard let weight = tensors[PerceptronHead.name(index, "weight")], let bias = tensors[PerceptronHead.name(index, "bias")] else {
        throw HeadError(file: nil, problem: "training gave no layer \(index)")
      }
      guard index == 0 else { return PerceptronHead.Layer(weight: weight.floats(), bias: bias.floats()) }
      let folded = transform.fold(weight: weight.floats().map(Double.init), bias: bias.floats().map(Double.init))
      return PerceptronHead.Layer(weight: folded.weight.map(Float.init), bias: folded.bias.map(Float.init))
    }
  }
}
