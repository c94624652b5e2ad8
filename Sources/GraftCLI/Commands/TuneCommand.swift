import ArgumentParser
import Foundation
import Graft

struct TuneCommand: ReportingCommand {
  static let configuration = CommandConfiguration(
    commandName: "tune", abstract: "Find the fastest kernels for a model on a GPU, by trying.",
    discussion: """
      For every product and convolution of the model, the most expensive first, kernels with other tiles and other cuts of long sums are \
      measured in turns with the one that graft would choose. One whose result is wrong is reported and never used. The winners are \
      kept beside the compiled kernels (~/.cache/graft/tuning; GRAFT_CACHE moves it) and used from then on, for this device, driver \
      and version; GRAFT_TUNING=off leaves them alone. Ctrl-C ends the search and keeps what was found.

      Tune with the --precision and --batch-size the model is going to be run with. Another place to cut a sum changes its last bits, \
      so tune before features are extracted, not in between.

      With --train the shapes are those of a training step, forward and backward, as 'graft bench train' runs it; MODEL may then be the \
      name of an architecture of 'graft pretrain' too. 'graft finetune --unfreeze all' and 'graft pretrain' use what is found \
      where batch and pictures have the same sizes: those of the network's own input here.

      The kernels of CPUs have nothing to tune.
      """)

  @Argument(help: "A model file: .onnx, or the .pth or .safetensors of a known architecture.") var model: String
  @Option(help: "Images a run or step.") var batchSize = 16
  @OptionGroup var images: ImageSizeOptions
  @Flag(help: "Tune a training step.") var train = false
  @Option(help: ArgumentHelp("With --train, the classes that an architecture tells apart (default: 1000).", valueName: "count")) var classes: Int?
  @Option(help: ArgumentHelp("How long to try; a candidate that has begun is finished.", valueName: "seconds")) var seconds = 60.0
  @OptionGroup var format: PrecisionOptions
  @OptionGroup var computing: DeviceOptions
  @OptionGroup var planning: PlanFlags
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard (1...65536).contains(batchSize) else { throw ValidationError("--batch-size takes a number from 1 to 65536, not \(batchSize).") }
    if let classes {
      guard train else { throw ValidationError("--classes goes with --train and the name of an architecture.") }
      guard (2...1_000_000).contains(classes) else { throw ValidationError("--classes takes a number from 2 to 1000000, not \(classes).") }
    }
    guard seconds > 0, seconds <= 86400 else { throw ValidationError("--seconds takes a number up to 86400, not \(seconds).") }
  }

  private struct Report: Encodable {
    struct Shape: Encodable {
      let shape, defaultKernel, kernel: String
      let uses, tried: Int
      let defaultMicroseconds, microseconds, speedUp: Double
      let excluded: [String]
      let failure: String?
      enum CodingKeys: String, CodingKey {
        case shape, kernel, uses, tried, microseconds, excluded, failure
        case defaultKernel = "default_kernel"
        case defaultMicroseconds = "default_microseconds"
        case speedUp = "speed_up"
      }
    }
    let model, device, kernels, precision: String
    let batchSize, shapeCount: Int
    let file: String?
    let shapes: [Shape]
    enum CodingKeys: String, CodingKey {
      case model, device, kernels, precision, file, shapes
      case batchSize = "batch_size"
      case shapeCount = "shape_count"
    }
  }

  func execute() throws {
    let console = output.console
    let device = try computing.make(console)
    let tune = try tuning(on: device, console)
    func report(_ outcome: KernelTuner.Outcome?) -> Report {
      Report(
        model: model, device: device.traits.identifier, kernels: device.traits.family.rawValue, precision: format.precision.rawValue,
        batchSize: batchSize, shapeCount: outcome?.shapeCount ?? 0, file: outcome?.path,
        shapes: (outcome?.results ?? []).map {
          Report.Shape(
            shape: $0.shape, defaultKernel: $0.defaultKernel, kernel: $0.kernel, uses: $0.useCount, tried: $0.triedCount,
            defaultMicroseconds: $0.defaultSeconds * 1e6, microseconds: $0.seconds * 1e6, speedUp: $0.speedUp, excluded: $0.excluded,
            failure: $0.failure)
        })
    }
    guard device.traits.family == .gpu else {
      console.result("\(device.traits.identifier) runs the kernels of CPUs, which have nothing to tune.")
      return try console.object(report(nil))
    }
    let line = ProgressLine(console)
    let (outcome, isCancelled) = try Interruption.shared.deferring(console) { flag in
      defer { line.finish() }
      let outcome = try tune({ flag.isCancelled }) { number, count, shape in line.show("shape \(number) of \(count): \(shape)") }
      return (outcome, flag.isCancelled)
    }
    for result in outcome.results {
      if let failure = result.failure { console.warn("\(result.shape): \(failure)") }
      for text in result.excluded { console.warn("\(result.shape): \(text)") }
    }
    let rows = outcome.results.filter { $0.failure == nil }.map { result in
      [
        result.shape, "\(result.useCount)", result.defaultKernel, String(format: "%.1f", result.defaultSeconds * 1e6), result.kernel,
        String(format: "%.1f", result.seconds * 1e6), String(format: "%.2f", result.speedUp),
      ]
    }
    console.result(tableText([["shape", "uses", "default", "µs", "fastest", "µs", "speed-up"]] + rows, rightAligned: [1, 3, 5, 6]))
    let (before, after) = outcome.results.reduce((0.0, 0.0)) {
      ($0.0 + Double($1.useCount) * $1.defaultSeconds, $0.1 + Double($1.useCount) * $1.seconds)
    }
    console.result(
      String(
        format: "%d of %d shapes in %.1f ms instead of %.1f; kept in %@", outcome.results.count, outcome.shapeCount, after * 1e3, before * 1e3,
        outcome.path))
    if outcome.results.count < outcome.shapeCount, !isCancelled { console.note("the time was up: --seconds gives it more") }
    try console.object(report(outcome))
    if isCancelled { throw CancelledError(remedy: "What was found is kept in \(outcome.path).") }
  }

  private typealias Tuning = (_ isCancelled: () -> Bool, _ progress: (Int, Int, String) -> Void) throws -> KernelTuner.Outcome

  /// Reads the model; what comes back does the work.
  private func tuning(on device: any Device, _ console: Console) throws -> Tuning {
    let planOptions = planning.planOptions(format.precision)
    if train {
      var options = TrainingOptions(method: .sgd, batchSize: batchSize, precision: format.precision)
      options.planOptions = planOptions
      let trained = try ModelToTrain(model, images, classes: classes ?? 1000, options: &options, console)
      return { [options] in
        try KernelTuner.tune(trained.network, options: options, device: device, seconds: seconds, isCancelled: $0, progress: $1)
      }
    }
    let (backbone, configuration) = try loadBackbone(model, console)
    let shape = try images.shape(of: backbone, configuration, batchSize: batchSize)
    let tuner = KernelTuner(device: device, options: planOptions, seconds: seconds)
    return { isCancelled, progress in
      try backbone.namingFile { try tuner.tune(try backbone.graph(imageShape: shape), isCancelled: isCancelled, progress: progress) }
    }
  }
}
