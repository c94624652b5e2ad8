import ArgumentParser
import Foundation
import Graft

struct BenchCommand: ReportingCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench", abstract: "Measure how fast a model runs.",
    discussion:
      "Random images, one plan, as many runs as fit the time. With --profile, the time of each kernel beside its arithmetic and its memory traffic.")

  @Argument(help: "A model file: .onnx, or the .pth or .safetensors of a known architecture.") var model: String
  @Option(help: "Images a run.") var batchSize = 16
  @Option(help: ArgumentHelp("How long to measure, in seconds.", valueName: "seconds")) var seconds = 2.0
  @Flag(help: "Show the time of every kernel.") var profile = false
  @OptionGroup var format: PrecisionOptions
  @OptionGroup var computing: DeviceOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard batchSize > 0 else { throw ValidationError("--batch-size takes a positive number, not \(batchSize).") }
    guard seconds > 0, seconds <= 3600 else { throw ValidationError("--seconds takes a number up to 3600, not \(seconds).") }
  }

  private struct Spread: Encodable {
    let median, minimum, maximum: Double
    init(_ values: [Double]) {
      let sorted = values.sorted()
      median = sorted[sorted.count / 2]
      (minimum, maximum) = (sorted[0], sorted[sorted.count - 1])
    }
  }

  private struct Kernel: Encodable {
    let label, kernel: String
    let milliseconds, gigaflopsPerSecond, gigabytesPerSecond: Double
  }

  private struct Report: Encodable {
    let model, device, precision, kernels: String
    let batchSize, runs, arenaByteCount, weightByteCount: Int
    let gigaflopsPerImage: Double
    let imagesPerSecond: Spread
    let startSeconds: Double
    let profile: [Kernel]?

    enum CodingKeys: String, CodingKey {
      case model, device, precision, kernels, runs, profile
      case batchSize = "batch_size"
      case arenaByteCount = "arena_bytes"
      case weightByteCount = "weight_bytes"
      case gigaflopsPerImage = "gigaflops_per_image"
      case imagesPerSecond = "images_per_second"
      case startSeconds = "start_seconds"
    }
  }

  func execute() throws {
    let console = output.console
    let clock = ContinuousClock()
    let begin = clock.now
    let device = try computing.make(console)
    let (backbone, configuration) = try loadBackbone(model, console)
    let shape = try backbone.inputShape(batchSize: batchSize, height: configuration.fields.inputSize?[1], width: configuration.fields.inputSize?[2])
    let plan = try Plan(try backbone.graph(inputShape: shape), device: device, options: computing.planOptions(format.precision))
    var generator = SystemRandomNumberGenerator()
    let input = plan.graph.inputs[0]
    try plan.write((0..<shape.reduce(1, *)).map { _ in Float.random(in: -2...2, using: &generator) }, to: input)
    try plan.run()
    try device.finish()
    let startSeconds = (clock.now - begin).seconds

    // The clock of a processor that was idle takes a moment to rise.
    let warm = clock.now
    repeat { try plan.run(); try device.finish() } while (clock.now - warm).seconds < min(0.5, seconds / 4)
    var times: [Double] = []
    let start = clock.now
    while (clock.now - start).seconds < seconds || times.count < 3 {
      let before = clock.now
      try plan.run()
      try device.finish()
      times.append((clock.now - before).seconds)
    }
    let rates = Spread(times.map { Double(batchSize) / $0 })
    let flops = plan.graph.nodes.reduce(0.0) { $0 + $1.operation.flops($1.inputs.map { plan.graph.type(of: $0) }, plan.graph.type(of: $1.output)) }
    let timings = profile ? try plan.profile() : []
    let kernels = timings.map {
      Kernel(
        label: $0.label, kernel: $0.kernel, milliseconds: $0.seconds * 1e3, gigaflopsPerSecond: $0.flops / $0.seconds / 1e9,
        gigabytesPerSecond: $0.bytes / $0.seconds / 1e9)
    }
    if profile {
      let total = kernels.reduce(0) { $0 + $1.milliseconds }
      let rows = kernels.map {
        [
          $0.label, $0.kernel, String(format: "%.3f", $0.milliseconds), String(format: "%.1f %%", 100 * $0.milliseconds / total),
          String(format: "%.1f", $0.gigaflopsPerSecond), String(format: "%.1f", $0.gigabytesPerSecond),
        ]
      }
      console.result(tableText([["operation", "kernel", "ms", "share", "GFLOP/s", "GB/s"]] + rows, rightAligned: [2, 3, 4, 5]))
      console.result("")
    }
    console.result(
      String(
        format: "%.1f images/s (from %.1f to %.1f, %d runs of %d), %.2f GFLOP an image, %.1f GFLOP/s", rates.median, rates.minimum, rates.maximum,
        times.count, batchSize, flops / Double(batchSize) / 1e9, flops / Double(batchSize) * rates.median / 1e9))
    console.result(
      "activations \(byteText(plan.arenaByteCount)), weights \(byteText(plan.keptByteCount)), first result after \(String(format: "%.2f", startSeconds)) s"
    )
    try console.object(
      Report(
        model: model, device: device.traits.identifier, precision: format.precision.rawValue, kernels: device.traits.family.rawValue,
        batchSize: batchSize,
        runs: times.count, arenaByteCount: plan.arenaByteCount, weightByteCount: plan.keptByteCount,
        gigaflopsPerImage: flops / Double(batchSize) / 1e9, imagesPerSecond: rates, startSeconds: startSeconds, profile: profile ? kernels : nil))
  }
}

extension Duration {
  var seconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
