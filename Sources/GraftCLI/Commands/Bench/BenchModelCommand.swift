import ArgumentParser
import Foundation
import Graft

struct BenchModelCommand: ReportingCommand {
  static let configuration = CommandConfiguration(
    commandName: "model", abstract: "Measure how fast a model runs.",
    discussion: """
      Random images, one plan, as many runs as fit the time. With --profile, the time of each kernel (the median of several runs) beside \
      its arithmetic, its memory traffic, and the least time that the device's measured peak allows for them.
      """)

  @Argument(help: "A model file: .onnx, or the .pth or .safetensors of a known architecture.") var model: String
  @Option(help: "Images a run.") var batchSize = 16
  @OptionGroup var images: ImageSizeOptions
  @OptionGroup var measuring: MeasuringOptions
  @Flag(help: "Show the time of every kernel.") var profile = false
  @OptionGroup var format: PrecisionOptions
  @OptionGroup var computing: DeviceOptions
  @OptionGroup var planning: PlanFlags
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard batchSize > 0 else { throw ValidationError("--batch-size takes a positive number, not \(batchSize).") }
  }

  private struct Kernel: Encodable {
    let label, kernel: String
    let milliseconds, gigaflops, megabytes, gigaflopsPerSecond, gigabytesPerSecond, percentOfLimit: Double
    let limit: DevicePeak.Limit
    /// Of the operation, where the kernel's label names one.
    let operation: String?
    let inputShapes: [[Int]]?
    let outputShape: [Int]?
  }

  private struct Report: Encodable {
    let model, device, precision, kernels: String
    let batchSize, runs, arenaByteCount, weightByteCount: Int
    let gigaflopsPerImage: Double
    let imagesPerSecond: Spread
    let startSeconds: Double
    let peak: PeakReport?
    let profile: [Kernel]?

    enum CodingKeys: String, CodingKey {
      case model, device, precision, kernels, runs, peak, profile
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
    let shape = try images.shape(of: backbone, configuration, batchSize: batchSize)
    let graph = try backbone.graph(imageShape: shape)
    let plan = try backbone.namingFile { try Plan(graph, device: device, options: planning.planOptions(format.precision)) }
    let input = plan.graph.inputs[0]
    var generator = SplitMix(1)
    try plan.write((0..<shape.reduce(1, *)).map { _ in 2 * generator.float() }, to: input)
    try plan.run()
    try device.finish()
    let startSeconds = (clock.now - begin).seconds

    let times = try plan.runTimes(seconds: measuring.seconds, warmUp: measuring.warmUp)
    let rates = Spread(times.map { Double(batchSize) / $0 })
    let flops = plan.graph.nodes.reduce(0.0) { $0 + $1.operation.flops($1.inputs.map { plan.graph.type(of: $0) }, plan.graph.type(of: $1.output)) }
    let peak = profile ? try DevicePeak.measure(on: device) : nil
    let kernels = if let peak { try plan.medianProfile(seconds: measuring.seconds).map { kernel($0, of: plan.graph, peak) } } else { [Kernel]() }
    if let peak {
      let total = kernels.reduce(0) { $0 + $1.milliseconds }
      let rows = kernels.map {
        [
          $0.label, $0.kernel, String(format: "%.3f", $0.milliseconds), String(format: "%.1f %%", 100 * $0.milliseconds / total),
          String(format: "%.1f", $0.gigaflopsPerSecond), String(format: "%.1f", $0.gigabytesPerSecond), String(format: "%.0f %%", $0.percentOfLimit),
          $0.limit.rawValue,
        ]
      }
      let heads = ["operation", "kernel", "ms", "share", "GFLOP/s", "GB/s", "of limit", "set by"]
      console.result(tableText([heads] + rows, rightAligned: [2, 3, 4, 5, 6]))
      let allowed = kernels.reduce(0) { $0 + $1.milliseconds * $1.percentOfLimit / 100 }
      console.result(String(format: "all kernels: %.3f ms, %.0f %% of the limit", total, 100 * allowed / max(total, 1e-9)))
      console.result(peak.summary)
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
        gigaflopsPerImage: flops / Double(batchSize) / 1e9, imagesPerSecond: rates, startSeconds: startSeconds, peak: peak.map(PeakReport.init),
        profile: profile ? kernels : nil))
  }

  private func kernel(_ timing: Plan.Timing, of graph: Graph, _ peak: DevicePeak) -> Kernel {
    let node = graph.nodes.first { "\($0.operation.kind) \($0.name)" == timing.label }
    return Kernel(
      label: timing.label, kernel: timing.kernel, milliseconds: timing.seconds * 1e3, gigaflops: timing.flops / 1e9, megabytes: timing.bytes / 1e6,
      gigaflopsPerSecond: timing.flops / max(timing.seconds, 1e-9) / 1e9, gigabytesPerSecond: timing.bytes / max(timing.seconds, 1e-9) / 1e9,
      percentOfLimit: peak.percentOfLimit(flops: timing.flops, bytes: timing.bytes, seconds: timing.seconds),
      limit: peak.allowed(flops: timing.flops, bytes: timing.bytes).limit, operation: node?.operation.kind,
      inputShapes: node?.inputs.map { graph.type(of: $0).shape }, outputShape: node.map { graph.type(of: $0.output).shape })
  }
}

extension Duration {
  var seconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
