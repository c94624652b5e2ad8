import ArgumentParser
import Foundation
import Graft

struct BenchTrainCommand: ReportingCommand {
  static let configuration = CommandConfiguration(
    commandName: "train", abstract: "Measure how fast a model trains.",
    discussion: """
      A step is forward, backward and SGD with momentum on every parameter, for random pictures that are brought to the device as bytes \
      each time. An architecture of 'graft pretrain' is trained from scratch, its normalisations with each batch's statistics; the model \
      of a file as 'graft finetune --unfreeze all' does, with those that are stored.
      """)

  @Argument(help: ModelToTrain.help) var model: String
  @Option(help: "Images a step.") var batchSize = 16
  @OptionGroup var images: ImageSizeOptions
  @Option(help: ArgumentHelp("Classes that an architecture tells apart.", valueName: "count")) var classes = 1000
  @OptionGroup var measuring: MeasuringOptions
  @Flag(help: "Show the time of every kernel of a step.") var profile = false
  @OptionGroup var format: PrecisionOptions
  @OptionGroup var computing: DeviceOptions
  @OptionGroup var planning: PlanFlags
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard (1...65536).contains(batchSize) else { throw ValidationError("--batch-size takes a number from 1 to 65536, not \(batchSize).") }
    guard (2...1_000_000).contains(classes) else { throw ValidationError("--classes takes a number from 2 to 1000000, not \(classes).") }
  }

  private struct Kernel: Encodable {
    let label, kernel: String
    let milliseconds, gigaflopsPerSecond, gigabytesPerSecond: Double
  }

  private struct Report: Encodable {
    let model, device, precision: String
    let batchSize, steps, parameters, byteCount: Int
    let recomputes: Bool
    let imagesPerSecond: Spread
    let startSeconds: Double
    let profile: [Kernel]?

    enum CodingKeys: String, CodingKey {
      case model, device, precision, steps, parameters, recomputes, profile
      case batchSize = "batch_size"
      case byteCount = "bytes"
      case imagesPerSecond = "images_per_second"
      case startSeconds = "start_seconds"
    }
  }

  func execute() throws {
    let console = output.console, clock = ContinuousClock(), begin = clock.now
    let device = try computing.make(console)
    var options = TrainingOptions(method: .sgd, learningRate: 1e-3, batchSize: batchSize, precision: format.precision)
    options.planOptions = planning.planOptions(format.precision)
    let trained = try ModelToTrain(model, images, classes: classes, options: &options, console)
    let program = try TrainingProgram(trained.network, options: options, device: device)

    var generator = SplitMix(1)
    let images = (0..<batchSize * trained.imageByteCount).map { _ in UInt8(truncatingIfNeeded: generator.next() >> 32) }
    var targets = [Float](repeating: 0, count: batchSize * program.classCount)
    for image in 0..<batchSize { targets[image * program.classCount + image % program.classCount] = 1 }
    let weights = [Float](repeating: 1 / Float(batchSize), count: batchSize)
    var step = 0
    func once() throws -> Double {
      let start = clock.now
      step += 1
      // So small a rate that no number grows out of its format while random labels are learned.
      _ = try images.withUnsafeBytes {
        try program.train($0, targets: targets, sampleWeights: weights, rates: OptimizerRates(learningRate: 1e-6, step: step))
      }
      return (clock.now - start).seconds
    }
    _ = try once()
    let startSeconds = (clock.now - begin).seconds
    let warm = clock.now
    while (clock.now - warm).seconds < measuring.warmUp { _ = try once() }
    var times: [Double] = []
    let start = clock.now
    while (clock.now - start).seconds < measuring.seconds || times.count < 3 { times.append(try once()) }

    let rates = Spread(times.map { Double(batchSize) / $0 })
    let kernels = profile ? try program.profile() : []
    if profile {
      let total = kernels.reduce(0) { $0 + $1.seconds }
      let rows = kernels.map {
        [
          $0.label, $0.kernel, millisecondText($0.seconds), String(format: "%.1f %%", 100 * $0.seconds / total),
          rateText($0.flops / max($0.seconds, 1e-9) / 1e9), rateText($0.bytes / max($0.seconds, 1e-9) / 1e9),
        ]
      }
      console.result(tableText([["operation", "kernel", "ms", "share", "GFLOP/s", "GB/s"]] + rows, rightAligned: [2, 3, 4, 5]))
      console.result("all kernels: \(millisecondText(total)) ms\n")
    }
    console.result(
      String(
        format: "%.2f images/s (from %.2f to %.2f, %d steps of %d)", rates.median, rates.minimum, rates.maximum, times.count, batchSize)
        + ", \(program.parameterCount) numbers trained")
    console.result(
      "\(byteText(program.memory.byteCount)) on the device\(program.recomputes ? ", parts computed twice" : ""), "
        + "first step after \(String(format: "%.2f", startSeconds)) s")
    try console.object(
      Report(
        model: model, device: device.traits.identifier, precision: format.precision.rawValue, batchSize: batchSize, steps: times.count,
        parameters: program.parameterCount, byteCount: program.memory.byteCount, recomputes: program.recomputes, imagesPerSecond: rates,
        startSeconds: startSeconds,
        profile: profile
          ? kernels.map {
            Kernel(
              label: $0.label, kernel: $0.kernel, milliseconds: $0.seconds * 1e3, gigaflopsPerSecond: $0.flops / max($0.seconds, 1e-9) / 1e9,
              gigabytesPerSecond: $0.bytes / max($0.seconds, 1e-9) / 1e9)
          } : nil))
  }
}
