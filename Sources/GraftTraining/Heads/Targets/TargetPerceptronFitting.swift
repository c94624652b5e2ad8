import GraftData
import GraftDevice

/// Heads of several layers for labels or numbers, trained by steps until their loss on validation data falls no more.
///
/// The loss is `options.training.loss`. Numbers are trained on in units of their standard deviation; the last layer of the head that is
/// kept gives them in the user's. Of labels that all training samples have, or none, and of numbers that are the same for all, that layer
/// says a constant: steps would leave them near it, and different from sample to sample.
public struct TargetPerceptronFitting: TargetHeadFitting {
  public let options: PerceptronOptions
  private let device: any Device
  private let onEpoch: ([EpochRecord]) throws -> Void

  /// - Parameter onEpoch: gets all epochs so far, after each.
  public init(options: PerceptronOptions, device: any Device, onEpoch: @escaping ([EpochRecord]) throws -> Void = { _ in }) {
    (self.options, self.device, self.onEpoch) = (options, device, onEpoch)
  }

  public var kind: HeadMetadata.Kind { .mlp }
  public var strengths: [Double] { [] }

  /// The samples that decide when to stop are taken from the training samples: the others are not looked at before the end.
  public func scores(_ data: TargetTrainingData) throws -> [TargetStrengthScore] {
    try data.check()
    guard let held = data.validation else { preconditionFailure("scores need validation samples") }
    let train = TargetTrainingData(task: data.task, names: data.names, train: data.train)
    let head = try fit(train, strength: nil, metadata: data.unnamedMetadata) { _ in }.classifier
    let outputs = try head.heldOut(held, source: .folds, backend: DeviceLinearBackend(device: device))
    let loss = outputs.loss(options.training.loss, TargetScaling(data.train, task: data.task))
    return [TargetStrengthScore(strength: 0, score: outputs.score(), loss: loss)]
  }

  public func fit(
    _ data: TargetTrainingData, strength: Double?, metadata: HeadMetadata, onProgress: @escaping (String) throws -> Void
  ) throws -> FittedTargetHead {
    try options.validate()
    try data.check()
    try options.training.loss.check(task: data.task)
    guard !options.balancesClasses, options.training.labelSmoothing == 0 else {
      throw TrainingOptionError(message: "class weights and label smoothing are for samples of one class each")
    }
    let parts = try data.parted(fraction: options.holdoutFraction, seed: options.training.seed)
    let train = parts?.train ?? data.train
    let scaling = TargetScaling(train, task: data.task), backend = DeviceLinearBackend(device: device)
    let found = try PerceptronTraining(options: options, training: options.training, device: device, onEpoch: onEpoch).run(
      PerceptronSamples(train, targets: scaling.scaled(train.targets)),
      held: parts.map { PerceptronSamples($0.held, targets: scaling.scaled($0.held.targets)) }, outputs: data.names.count, onProgress: onProgress)
    var layers = found.layers
    if let last = layers.popLast() {
      var (weight, bias) = scaling.fold(weight: last.weight.map(Double.init), bias: last.bias.map(Double.init))
      let width = last.inputs
      for (output, constant) in data.constants.enumerated() {
        guard let constant else { continue }
        weight.replaceSubrange(output * width..<(output + 1) * width, with: repeatElement(0, count: width))
        bias[output] = constant
      }
      layers.append(PerceptronHead.Layer(weight: weight.map(Float.init), bias: bias.map(Float.init)))
    }
    var metadata = metadata
    (metadata.kind, metadata.featureNormalisation, metadata.l2) = (.mlp, options.featureNormalisation, options.training.weightDecay)
    metadata.metrics["epochs"] = Double(found.bestEpoch)
    let head = try PerceptronHead(layers: layers, metadata: metadata)
    let validation = try parts.map { try head.heldOut($0.held, source: $0.source, backend: backend).score() }
    metadata.record(validation)
    var fitted = FittedTargetHead(try head.replacing(metadata: metadata), strength: nil)
    (fitted.validation, fitted.history) = (validation, found.history)
    return fitted
  }
}
