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
    var training = options.training
    if options.balancesClasses { training.classWeights = TrainingOptions.balancedWeights(labels: train.labels, classes: data.classes.count) }
    let found = try PerceptronTraining(options: options, training: training, device: device, onEpoch: onEpoch).run(
      PerceptronSamples(train), held: parts.map { PerceptronSamples($0.held) }, outputs: data.classes.count, onProgress: onProgress)
    var metadata = metadata
    (metadata.kind, metadata.featureNormalisation, metadata.l2) = (.mlp, options.featureNormalisation, training.weightDecay)
    metadata.metrics["epochs"] = Double(found.bestEpoch)
    var head = try PerceptronHead(layers: found.layers, metadata: metadata)
    let held = try parts.map { try head.heldOutScores($0.held, source: $0.source, backend: DeviceLinearBackend(device: device)) }
    let calibration = metadata.calibrate(held)
    if let held { metadata.metrics["validation_top1"] = held.score().top1 }
    head = try head.replacing(metadata: metadata)
    var fitted = FittedHead(head, strength: nil)
    (fitted.validation, fitted.calibration, fitted.history) = (held?.score(), calibration, found.history)
    return fitted
  }
}
