import Foundation
import GraftData
import GraftDevice
import GraftGraph

/// One epoch of a training run.
public struct EpochRecord: Sendable, Codable, Equatable {
  /// From 1.
  public let epoch: Int
  /// Steps of the optimiser so far.
  public let steps: Int
  /// Of the last step.
  public let learningRate: Double
  /// Means over the epoch's samples, as they were trained on.
  public let trainLoss: Double
  /// Of samples without classes `nil`, like `validationTop1`.
  public let trainTop1: Double?
  /// On validation data; `nil` without any.
  public let validationLoss: Double?
  public let validationTop1: Double?
  /// The largest norm of a gradient in the epoch.
  public let gradientNorm: Double
  public let seconds: Double

  private enum CodingKeys: String, CodingKey {
    case epoch, steps, seconds
    case learningRate = "learning_rate"
    case trainLoss = "train_loss"
    case trainTop1 = "train_top1"
    case validationLoss = "validation_loss"
    case validationTop1 = "validation_top1"
    case gradientNorm = "gradient_norm"
  }
}

/// How far training is, within an epoch.
public struct TrainingProgress: Sendable {
  public let epoch: Int
  public let step: Int
  public let stepsPerEpoch: Int
  /// Mean over the epoch so far.
  public let loss: Double
  public let samplesPerSecond: Double
}

/// Training whose loss or parameters have left the numbers, or grow without end.
public struct TrainingDivergedError: Error, CustomStringConvertible, Sendable {
  public let step: Int
  public let reason: String
  /// The last checkpoint from before, where there is one.
  public let checkpoint: String?
  /// What to do.
  public var remedy = "Lower --learning-rate, or limit the gradient with --clip-norm."

  public var description: String {
    "training diverged at step \(step): \(reason). \(remedy)"
      + (checkpoint.map { " The last good state is kept in \($0)." } ?? "")
  }
}

/// Trains a network by steps on batches, epoch after epoch.
///
/// The order of samples, everything random and every sum depend on the seed alone: two runs on one device are equal to the bit, and so
/// is one that was interrupted and goes on from its checkpoint.
public final class Trainer {
  public let program: TrainingProgram
  public let options: TrainingOptions
  public private(set) var history: [EpochRecord] = []
  /// The epoch whose parameters are kept; 0: those training began with.
  public private(set) var bestEpoch = 0
  /// On validation data, before the first step; `nil` unless `keepsInitial` holds and there is validation data.
  public private(set) var initialScore: (loss: Double, top1: Double?)?
  /// Whether what training began with is kept where no epoch is better on validation data.
  public var keepsInitial = false
  private var best: [String: HostTensor] = [:]
  private var steps = 0
  /// What the loss is multiplied by in the short format that needs it.
  private var lossScale: Float
  private var stepsSinceOverflow = 0
  let training: any TrainingSamples
  private let validation: (any TrainingSamples)?
  /// Where the run's state goes after each epoch.
  public var checkpointPath: String?
  /// What a checkpoint must agree in to be gone on from: a text.
  public var identity = ""

  /// - Throws: `TrainingDataError` if there are fewer samples than one batch's norm needs, labels or targets are not one a sample, a label is
  ///   no class's, or the classes of all training samples count nothing; `TrainingOptionError` for options that are for classes alone.
  public init(_ program: TrainingProgram, training: any TrainingSamples, validation: (any TrainingSamples)?) throws {
    (self.program, options, self.training, self.validation) = (program, program.options, training, validation)
    lossScale = program.options.precision == .float16 ? 1024 : 1
    guard training.count > 0 else { throw TrainingDataError(message: "there are no samples to train on") }
    for samples in [training, validation].compactMap(\.self) {
      try Self.check(samples, program)
    }
    if let weights = options.classWeights, training.labels.allSatisfy({ weights[$0] == 0 }) {
      throw TrainingDataError(message: "the class weights are 0 for the classes of all training samples, so that there is nothing to train on")
    }
    if options.mixing.isOn, training.imageSize == nil {
      throw TrainingDataError(
        message: "mixup and cutmix mix pictures, and what is trained on here are stored features. Leave out --mixup and --cutmix.")
    }
    if case .batch = options.normalization, training.count < options.batchSize {
      throw TrainingDataError(
        message: "normalisation by batches needs whole batches: there are \(training.count) samples, and a batch has \(options.batchSize)")
    }
  }

  /// Labels must be classes, one a sample.
  private static func check(_ samples: any TrainingSamples, _ program: TrainingProgram) throws {
    if let targets = samples.targets { return try check(targets, of: samples, program) }
    guard samples.labels.count == samples.count else {
      throw TrainingDataError(message: "there are \(samples.labels.count) labels for \(samples.count) samples")
    }
    guard let label = samples.labels.first(where: { !(0..<program.classCount).contains($0) }) else { return }
    throw TrainingDataError(message: "a sample has label \(label), and there are \(program.classCount) classes")
  }

  /// Targets must be those of the network's outputs, and options must not be for classes.
  private static func check(_ targets: [Float], of samples: any TrainingSamples, _ program: TrainingProgram) throws {
    guard targets.count == samples.count * program.classCount, targets.allSatisfy(\.isFinite) else {
      throw TrainingDataError(message: "\(targets.count) targets for \(samples.count) samples and \(program.classCount) outputs, or not all finite")
    }
    let options = program.options
    guard options.loss != .crossEntropy, options.labelSmoothing == 0, options.classWeights == nil, !options.mixing.isOn else {
      throw TrainingOptionError(message: "cross-entropy, label smoothing, class weights, mixup and cutmix are for samples of one class each")
    }
  }

  /// Batches of an epoch. Normalisation by batches leaves out a last one that is not whole.
  public var batchesPerEpoch: Int {
    if case .batch = options.normalization { return training.count / options.batchSize }
    return (training.count + options.batchSize - 1) / options.batchSize
  }

  public var stepsPerEpoch: Int { (batchesPerEpoch + options.accumulatedBatches - 1) / options.accumulatedBatches }

  private var schedule: RateSchedule {
    RateSchedule(
      options.schedule, totalSteps: options.epochs * stepsPerEpoch, warmupSteps: Int((options.warmupEpochs * Double(stepsPerEpoch)).rounded()))
  }

  /// Trains to the end, or until nothing gets better for `patience` epochs.
  ///
  /// - Returns: the network's tensors by name: of the best epoch by validation loss, or the last where there is no validation data.
  /// - Throws: `TrainingDivergedError`; `CancelledError` once `cancellation` is set, after the state has been kept.
  public func run(
    cancellation: CancellationFlag? = nil, onProgress: (TrainingProgress) -> Void = { _ in }, onEpoch: (EpochRecord) throws -> Void = { _ in }
  ) throws -> [String: HostTensor] {
    if keepsInitial, history.isEmpty, let validation {
      initialScore = try score(validation, cancellation)
      best = try program.networkTensors()
    }
    while history.count < options.epochs {
      if options.patience > 0, validation != nil, history.count - bestEpoch >= options.patience { break }
      let record = try epoch(history.count + 1, cancellation, onProgress)
      let known = history.compactMap(\.validationLoss) + [initialScore?.loss].compactMap(\.self)
      if record.validationLoss.map({ $0 < (known.min() ?? .infinity) }) ?? true {
        best = try finiteTensors()
        bestEpoch = record.epoch
      }
      history.append(record)
      try writeCheckpoint()
      try onEpoch(record)
    }
    return best
  }

  private func epoch(_ number: Int, _ cancellation: CancellationFlag?, _ onProgress: (TrainingProgress) -> Void) throws -> EpochRecord {
    let clock = ContinuousClock(), start = clock.now
    let classes = program.classCount, (batches, mixes, feed) = self.batches(epoch: number)
    defer { feed.stop() }
    var (total, hits, seen, largest, rate) = (0.0, 0, 0, 0.0, 0.0)
    for (index, chosen) in batches.enumerated() {
      try check(cancellation)
      guard let bytes = try feed.next() else { break }
      let last = index + 1 == batchesPerEpoch, place = index % options.accumulatedBatches
      let applies = place + 1 == options.accumulatedBatches || last
      rate = options.learningRate * schedule.factor(step: steps)
      let gathered = applies ? place + 1 : options.accumulatedBatches
      let mix = mixes?[index]
      let (targets, weights) = self.targets(chosen, mix, lossScale: lossScale)
      let result = try program.train(
        bytes, targets: targets, sampleWeights: weights,
        rates: rates(rate, step: steps + 1, lossScale: lossScale, applies: applies, gathered: gathered), isFirstOfSum: place == 0)
      for row in chosen.indices {
        total += Double(result.losses[row])
        guard training.targets == nil else { continue }
        // Of a mixed picture the larger share counts.
        let shown = (mix?.share ?? 1) >= 0.5 ? row : Mixing.Draw.partner(of: row, count: chosen.count)
        let own = result.outputs[row * classes..<(row + 1) * classes]
        if own.indices.max(by: { own[$0] < own[$1] }).map({ $0 - own.startIndex }) == training.labels[chosen[shown]] { hits += 1 }
      }
      seen += chosen.count
      if applies { steps += 1 }
      try check(result, chosen.count, applies: applies)
      if result.gradientNorm.isFinite { largest = max(largest, result.gradientNorm) }
      let seconds = (clock.now - start) / .seconds(1)
      onProgress(
        TrainingProgress(
          epoch: number, step: index + 1, stepsPerEpoch: batchesPerEpoch, loss: total / Double(seen), samplesPerSecond: Double(seen) / seconds))
    }
    let score = try validation.map { try self.score($0, cancellation) }
    if validation == nil { try checkOutputs() }
    return EpochRecord(
      epoch: number, steps: steps, learningRate: rate, trainLoss: total / Double(max(1, seen)),
      trainTop1: training.targets == nil ? Double(hits) / Double(max(1, seen)) : nil,
      validationLoss: score?.loss, validationTop1: score?.top1, gradientNorm: largest, seconds: (clock.now - start) / .seconds(1))
  }

  /// The batches of an epoch, how each is mixed, and the feed that brings them.
  func batches(epoch number: Int) -> (batches: [[Int]], mixes: [Mixing.Draw]?, feed: BatchFeed) {
    var generator = SplitMix(options.seed &* 0x9E37_79B9_7F4A_7C15 &+ UInt64(number))
    let order = Array(0..<training.count).shuffled(using: &generator), batch = options.batchSize
    let batches = (0..<batchesPerEpoch).map { Array(order[$0 * batch..<min(($0 + 1) * batch, order.count)]) }
    let mixes = mixing(batches.count, epoch: number), width = training.imageSize?.width ?? 0
    let feed = BatchFeed(training, batches: batches, batchSize: batch, epoch: number) { index, filled in
      mixes?[index].apply(to: filled, count: batches[index].count, width: width)
    }
    return (batches, mixes, feed)
  }

  /// - Parameters:
  ///   - step: counts from 1.
  ///   - gathered: batches whose gradients make the step.
  func rates(_ rate: Double, step: Int, lossScale: Float, applies: Bool, gathered: Int) -> OptimizerRates {
    OptimizerRates(
      learningRate: Float(rate), weightDecay: Float(options.weightDecay), beta1: Float(options.momentum), step: step,
      gradientScale: 1 / (lossScale * Float(gathered)), normLimit: Float(options.gradientNormLimit), applies: applies)
  }

  /// How each batch of an epoch is mixed; `nil`: none is.
  package func mixing(_ count: Int, epoch: Int) -> [Mixing.Draw]? {
    guard options.mixing.isOn, let size = training.imageSize else { return nil }
    var random = SplitMix(options.seed &* 0xD1B5_4A32_D192_ED03 &+ UInt64(epoch))
    return (0..<count).map { _ in options.mixing.draw(width: size.width, height: size.height, using: &random) ?? Mixing.Draw(share: 1) }
  }

  /// Targets [batch, C] and what each sample counts; rows beyond a short batch count nothing.
  func targets(_ chosen: [Int], _ mix: Mixing.Draw?, lossScale: Float) -> (targets: [Float], weights: [Float]) {
    let (batch, classes) = (options.batchSize, program.classCount)
    if let wanted = training.targets {
      let own = chosen.flatMap { wanted[$0 * classes..<($0 + 1) * classes] }, counted = chosen.count
      return (
        own + [Float](repeating: 0, count: batch * classes - own.count),
        [Float](repeating: lossScale / Float(counted), count: counted) + [Float](repeating: 0, count: batch - counted)
      )
    }
    let other = Float(options.labelSmoothing) / Float(classes)
    var targets = [Float](repeating: other, count: batch * classes), weights = [Float](repeating: 0, count: batch)
    let ones = chosen.map { options.classWeights?[training.labels[$0]] ?? 1 }, share = mix?.share ?? 1
    let counts = ones.indices.map { share * ones[$0] + (1 - share) * ones[Mixing.Draw.partner(of: $0, count: ones.count)] }
    let total = counts.reduce(0, +)
    for (row, sample) in chosen.enumerated() {
      let certain = 1 - Float(options.labelSmoothing)
      targets[row * classes + training.labels[sample]] += certain * Float(share)
      if share < 1 {
        let partner = chosen[Mixing.Draw.partner(of: row, count: chosen.count)]
        targets[row * classes + training.labels[partner]] += certain * Float(1 - share)
      }
      weights[row] = total > 0 ? lossScale * Float(counts[row] / total) : 0
    }
    return (targets, weights)
  }

  /// Divergence, and the scale of the loss: halved where a gradient overflows, doubled after 1000 steps without.
  private func check(_ result: TrainingProgram.StepResult, _ count: Int, applies: Bool) throws {
    if let loss = result.losses.prefix(count).first(where: { !$0.isFinite }) {
      throw TrainingDivergedError(step: steps, reason: "the loss of a sample is \(loss)", checkpoint: goodCheckpoint)
    }
    guard applies else { return }
    if result.gradientNorm.isFinite {
      stepsSinceOverflow += 1
      if lossScale > 1, stepsSinceOverflow >= 1000, lossScale < 65536 { (lossScale, stepsSinceOverflow) = (lossScale * 2, 0) }
    } else if lossScale > 1 {
      (lossScale, stepsSinceOverflow) = (lossScale / 2, 0)
    } else {
      throw TrainingDivergedError(
        step: steps, reason: "the gradient's norm is \(result.gradientNorm)", checkpoint: goodCheckpoint)
    }
  }

  /// - Throws: `CancelledError` once `cancellation` is set.
  private func check(_ cancellation: CancellationFlag?) throws {
    guard cancellation?.isCancelled == true else { return }
    throw CancelledError(
      remedy: history.isEmpty
        ? "No epoch was done yet; run the same command again."
        : checkpointPath.map { "The state after epoch \(history.count) is in \($0); the same command goes on from there." } ?? "Nothing was kept.")
  }

  /// Mean loss (without smoothing or class weights) of the network in training, with averages where they are kept, and its accuracy
  /// where samples have classes.
  ///
  /// - Throws: `TrainingDataError` for samples that `init` would refuse; `TrainingDivergedError` for an output that isn't finite;
  ///   `CancelledError` once `cancellation` is set.
  public func score(_ samples: any TrainingSamples, _ cancellation: CancellationFlag? = nil) throws -> (loss: Double, top1: Double?) {
    try program.withAverages { try scoreAsIs(samples, checkpoint: goodCheckpoint, cancellation) }
  }

  /// The same of the network that `run` returned, which the program's numbers are from here on: averages, where they are kept, may be
  /// another epoch's.
  ///
  /// - Throws: `TrainingDataError` for samples that `init` would refuse; `TrainingDivergedError` for an output that isn't finite.
  public func score(_ samples: any TrainingSamples, of tensors: [String: HostTensor]) throws -> (loss: Double, top1: Double?) {
    try program.restore(tensors)
    return try scoreAsIs(samples, checkpoint: nil, nil)
  }

  private func scoreAsIs(_ samples: any TrainingSamples, checkpoint: String?, _ cancellation: CancellationFlag?) throws -> (
    loss: Double, top1: Double?
  ) {
    let classes = program.classCount
    try Self.check(samples, program)
    var (total, hits) = (0.0, 0)
    try program.forEachOutputs(of: samples) { first, outputs in
      try check(cancellation)
      try check(outputs: outputs, checkpoint: checkpoint)
      for row in 0..<outputs.count / classes {
        let own = outputs[row * classes..<(row + 1) * classes]
        if let targets = samples.targets {
          total += options.loss.value(outputs: own, targets: targets[(first + row) * classes..<(first + row + 1) * classes])
          continue
        }
        let label = samples.labels[first + row]
        total += options.loss.value(outputs: own, label: label)
        if own.indices.max(by: { own[$0] < own[$1] }).map({ $0 - own.startIndex }) == label { hits += 1 }
      }
    }
    let count = Double(max(1, samples.count))
    return (total / count, samples.targets == nil ? Double(hits) / count : nil)
  }

  // MARK: Divergence

  /// The checkpoint of the epoch before, where there is one.
  private var goodCheckpoint: String? { history.isEmpty ? nil : checkpointPath }

  private func check(outputs: [Float], checkpoint: String?) throws(TrainingDivergedError) {
    guard let wrong = outputs.first(where: { !$0.isFinite }) else { return }
    throw TrainingDivergedError(step: steps, reason: "an output of the network is \(wrong)", checkpoint: checkpoint)
  }

  /// The network's numbers, to be kept: a last step may have left the numbers without a loss that shows it.
  private func finiteTensors() throws -> [String: HostTensor] {
    let tensors = try program.networkTensors()
    for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
      guard let wrong = tensor.floats().first(where: { !$0.isFinite }) else { continue }
      throw TrainingDivergedError(step: steps, reason: "\(name) contains \(wrong)", checkpoint: goodCheckpoint)
    }
    return tensors
  }

  /// Looks at the outputs for a batch of training samples, where there is no validation data whose outputs are looked at anyway.
  private func checkOutputs() throws {
    let chosen = Array(0..<min(options.batchSize, training.count))
    let feed = BatchFeed(training, batches: [chosen], batchSize: options.batchSize, epoch: nil)
    defer { feed.stop() }
    guard let bytes = try feed.next() else { return }
    let outputs = try program.withAverages { try program.evaluate(bytes) }
    try check(outputs: Array(outputs[..<(chosen.count * program.classCount)]), checkpoint: goodCheckpoint)
  }

  // MARK: Checkpoints

  private struct CheckpointHeader: Codable {
    var format = 1
    var identity: String
    var steps: Int
    var lossScale: Float
    var stepsSinceOverflow: Int
    var bestEpoch: Int
    var initialLoss, initialTop1: Double?
    var history: [EpochRecord]
  }

  private func writeCheckpoint() throws {
    guard let path = checkpointPath else { return }
    let header = CheckpointHeader(
      identity: identity, steps: steps, lossScale: lossScale, stepsSinceOverflow: stepsSinceOverflow, bestEpoch: bestEpoch,
      initialLoss: initialScore?.loss, initialTop1: initialScore?.top1, history: history)
    try Checkpoint.write(try program.state(), best: best, header: try JSONEncoder().encode(header), to: path)
  }

  /// Goes on from a checkpoint, if there is one of this very run.
  ///
  /// - Returns: the epochs that are done already; 0 without a checkpoint.
  /// - Throws: `CheckpointError` for one that is damaged or belongs to another run.
  public func resume() throws -> Int {
    guard let path = checkpointPath, FileManager.default.fileExists(atPath: path) else { return 0 }
    let (state, best, data) = try Checkpoint.read(path)
    guard let header = try? JSONDecoder().decode(CheckpointHeader.self, from: data) else {
      throw CheckpointError(path: path, problem: "its header makes no sense")
    }
    guard header.identity == identity else {
      throw CheckpointError(path: path, problem: "it belongs to a run with other data or options", remedy: "Remove it, or name another output.")
    }
    try program.restore(state)
    (steps, lossScale, stepsSinceOverflow) = (header.steps, header.lossScale, header.stepsSinceOverflow)
    (bestEpoch, history, self.best) = (header.bestEpoch, header.history, best)
    if let loss = header.initialLoss { initialScore = (loss, header.initialTop1) }
    return history.count
  }
}

extension TrainingProgram {
  /// The outputs of all samples, a batch at a time and in order.
  public func forEachOutputs(of samples: any TrainingSamples, _ body: (_ first: Int, _ outputs: [Float]) throws -> Void) throws {
    let starts = Array(stride(from: 0, to: samples.count, by: batchSize))
    let batches = starts.map { Array($0..<min($0 + batchSize, samples.count)) }
    let feed = BatchFeed(samples, batches: batches, batchSize: batchSize, epoch: nil)
    defer { feed.stop() }
    for (first, chosen) in zip(starts, batches) {
      guard let bytes = try feed.next() else { break }
      try body(first, Array(try evaluate(bytes)[..<(chosen.count * classCount)]))
    }
  }
}

extension Loss {
  /// The loss of one sample of that class, in double precision.
  package func value(outputs: ArraySlice<Float>, label: Int) -> Double {
    value(outputs: outputs, targets: outputs.indices.map { $0 - outputs.startIndex == label ? 1 : 0 }[...])
  }

  /// The loss of one sample, in double precision.
  func value(outputs: ArraySlice<Float>, targets: ArraySlice<Float>) -> Double {
    guard self == .crossEntropy else { return zip(outputs, targets).reduce(0) { $0 + term(Double($1.0), Double($1.1)).value } }
    let greatest = Double(outputs.max() ?? 0)
    let total = log(outputs.reduce(0) { $0 + exp(Double($1) - greatest) }) + greatest
    return zip(outputs, targets).reduce(0) { $0 + Double($1.1) * (total - Double($1.0)) }
  }
}
