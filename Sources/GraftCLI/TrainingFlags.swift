import ArgumentParser
import Foundation
import Graft

/// How a network is trained by steps: the same for every command that does.
struct TrainingFlags: ParsableArguments {
  @Option(help: ArgumentHelp("Passes over the training data.", valueName: "count")) var epochs = 10
  @Option(
    help: ArgumentHelp(
      "The highest learning rate (default: finetune 2e-5, with sgd 1e-3; pretrain 1e-3, with sgd 0.05).", valueName: "rate"))
  var learningRate: Double?
  @Option(help: ArgumentHelp("adamw or sgd.", valueName: "method")) var optimizer = OptimizerStep.Method.adamW
  @Option(help: ArgumentHelp("SGD's momentum, AdamW's first average.", valueName: "number")) var momentum = 0.9
  @Option(help: ArgumentHelp("Weight decay; biases, scales and shifts are left alone.", valueName: "number")) var weightDecay: Double?
  @Option(help: ArgumentHelp("How the rate goes: constant, cosine, one-cycle, step or linear.", valueName: "shape")) var schedule = RateSchedule.Shape
    .cosine
  @Option(help: ArgumentHelp("Epochs in which the rate grows from zero.", valueName: "count")) var warmup = 0.5
  @Option(help: ArgumentHelp("What each block's learning rate is of the next one's.", valueName: "factor")) var layerDecay = 1.0
  @Option(help: ArgumentHelp("Share of each target that goes to all classes alike.", valueName: "share")) var labelSmoothing = 0.0
  @Option(help: ArgumentHelp("What samples count: none (all alike) or balanced (every class alike).", valueName: "kind")) var classWeight = "none"
  @Option(help: ArgumentHelp("The most a gradient's norm may be; 0: no limit.", valueName: "number")) var clipNorm = 0.0
  @Option(help: ArgumentHelp("Batches whose gradients make one step.", valueName: "count")) var accumulate = 1
  @Option(help: ArgumentHelp("Keep a running average of the parameters with this decay, as 0.999.", valueName: "number")) var average = 0.0
  @Option(help: ArgumentHelp("Stop after this many epochs without a lower validation loss; 0: never.", valueName: "count")) var patience = 0
  @Option(help: ArgumentHelp("Decides the order of samples and everything random.", valueName: "number")) var seed: UInt64 = 0
  @Flag(
    name: .customLong("find-lr"),
    help: ArgumentHelp(
      "Look for a learning rate and stop: 100 steps at rates from 1e-7 to 10, in a table, with --plot as a picture. Nothing trained is kept."))
  var findsRate = false
  @OptionGroup var watching: WatchingFlags

  func validate() throws {
    guard !findsRate || (watching.csv == nil && watching.tensorboard == nil) else {
      throw ValidationError("--find-lr trains no epochs, so there are none for --csv or --tensorboard. --plot and --json show what it found.")
    }
    guard classWeight == "none" || classWeight == "balanced" else {
      throw ValidationError("--class-weight takes none or balanced, not '\(classWeight)'.")
    }
  }

  /// What a run must agree in to go on from a checkpoint.
  var identity: String {
    "\(epochs) \(learningRate ?? 0) \(optimizer.rawValue) \(momentum) \(weightDecay ?? -1) \(schedule.rawValue) \(warmup) \(layerDecay) "
      + "\(labelSmoothing) \(classWeight) \(clipNorm) \(accumulate) \(average) \(patience) \(seed)"
  }

  func options(batchSize: Int, precision: ComputeFormat, labels: [Int], classes: Int) throws -> TrainingOptions {
    var options = TrainingOptions(
      method: optimizer, learningRate: learningRate ?? (optimizer == .sgd ? 1e-3 : 2e-5),
      weightDecay: weightDecay ?? (optimizer == .sgd ? 1e-4 : 0.01),
      momentum: momentum, epochs: epochs, batchSize: batchSize, schedule: schedule, warmupEpochs: warmup, labelSmoothing: labelSmoothing,
      gradientNormLimit: clipNorm, layerDecay: layerDecay, patience: patience, precision: precision, seed: seed)
    (options.accumulatedBatches, options.averageDecay) = (accumulate, average)
    guard classWeight == "none" || !labels.isEmpty else { throw ValidationError("--class-weight is for samples of one class each.") }
    if classWeight == "balanced" { options.classWeights = TrainingOptions.balancedWeights(labels: labels, classes: classes) }
    return options
  }
}

extension OptimizerStep.Method: ExpressibleByArgument {}
extension RateSchedule.Shape: ExpressibleByArgument {}

/// What a training run ended with.
struct TrainingOutcome {
  let tensors: [String: HostTensor]
  /// 0: nothing was better than the beginning.
  let bestEpoch: Int
  /// On validation data; accuracy where samples have classes.
  let initial: (loss: Double, top1: Double?)?
  let score: (loss: Double, top1: Double?)?
  let checkpoint: String

  /// After the result has been written.
  func removeCheckpoint() { try? FileManager.default.removeItem(atPath: checkpoint) }
}

/// Where the state of a run goes that writes to `output`.
func checkpointPath(of output: String) -> String { output + ".checkpoint" }

/// Runs a trainer with its checkpoint, its log and its line of progress.
func runTraining(
  _ trainer: Trainer, output: String, identity: String, flags: TrainingFlags, console: Console, keepsInitial: Bool
) throws -> TrainingOutcome {
  let checkpoint = checkpointPath(of: output)
  (trainer.checkpointPath, trainer.identity, trainer.keepsInitial) = (checkpoint, identity, keepsInitial)
  let done = try trainer.resume()
  if done > 0 { console.note("going on after epoch \(done), from \(checkpoint)") }
  let remedy = "The state after the last epoch is in \(checkpoint); the same command goes on from there."
  Interruption.shared.setRemedy(remedy)
  let line = ProgressLine(console), recorder = try flags.watching.recorder()
  defer { line.finish() }
  let tensors = try Interruption.shared.deferring(console, goingOn: remedy) { flag in
    try trainer.run(
      cancellation: flag,
      onProgress: { progress in
        line.show(
          String(
            format: "epoch %d: %d of %d, loss %.4f, %.0f samples/s", progress.epoch, progress.step, progress.stepsPerEpoch, progress.loss,
            progress.samplesPerSecond))
      },
      onEpoch: { record in
        line.finish()
        func accuracy(_ top1: Double?) -> String { top1.map { String(format: ", top-1 %.3f", $0) } ?? "" }
        let held = record.validationLoss.map { String(format: ", validation loss %.4f", $0) + accuracy(record.validationTop1) } ?? ""
        console.note(
          String(format: "epoch %d: loss %.4f%@%@, %.1f s", record.epoch, record.trainLoss, accuracy(record.trainTop1), held, record.seconds))
        try recorder(trainer.history)
      })
  }
  let kept = trainer.history.first { $0.epoch == trainer.bestEpoch }
  let score = kept.flatMap { record in record.validationLoss.map { ($0, record.validationTop1) } } ?? trainer.initialScore
  return TrainingOutcome(
    tensors: tensors, bestEpoch: trainer.bestEpoch, initial: trainer.initialScore, score: score.map { (loss: $0.0, top1: $0.1) },
    checkpoint: checkpoint)
}
