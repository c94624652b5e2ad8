import ArgumentParser
import Foundation
import Graft

/// What the benchmarks of single operations share: they run one, compare a sample of its results with double precision, and
/// report its speed beside the device's limits.
struct OperationBenchmarkOptions: ParsableArguments {
  @OptionGroup var measuring: MeasuringOptions
  @Option(help: ArgumentHelp("Number format of the operands and the result; sums are float32.", valueName: "format"))
  var precision = ComputeFormat.float32
  @OptionGroup var computing: DeviceOptions
  @OptionGroup var planning: PlanFlags
  @OptionGroup var output: OutputOptions

  /// - Parameters:
  ///   - what: the operation and its sizes in words.
  ///   - sizes: the same for JSON, by the options' names.
  /// - Throws: `WrongResultError` if a result is further from double precision than rounding explains.
  func run(_ benchmark: OperationBenchmark, _ what: String, operation: String, sizes: [String: OperationReport.Setting]) throws {
    let console = output.console
    let device = try computing.make(console)
    let prepared = try benchmark.prepare(on: device, options: planning.planOptions(precision))
    let accuracy = try prepared.accuracy()
    let times = try prepared.plan.runTimes(seconds: measuring.seconds, warmUp: measuring.warmUp)
    let peak = try DevicePeak.measure(on: device)
    let spread = Spread(times)
    let report = OperationReport(
      operation: operation, sizes: sizes, device: device.traits, precision: precision.rawValue, benchmark: benchmark, times: times,
      accuracy: accuracy, peak: peak)
    console.result(precision == .float32 ? what : "\(what), \(precision.rawValue)")
    console.result(
      "\(millisecondText(spread.median)) ms (from \(millisecondText(spread.minimum)) to \(millisecondText(spread.maximum)), \(times.count) runs), "
        + "\(rateText(report.gigaflopsPerSecond)) GFLOP/s, \(rateText(report.gigabytesPerSecond)) GB/s")
    console.result(String(format: "%.1f %% of the limit, which is set by \(report.limit.rawValue)", report.percentOfLimit))
    console.result(peak.summary)
    console.result(
      String(format: "largest error %.1e of the largest result", accuracy.largestRelativeError)
        + ", \(accuracy.checkedCount) of \(benchmark.outputShape.reduce(1, *)) results compared with double precision")
    try console.object(report)
    guard accuracy.isWithinBound else {
      throw WrongResultError(operation: what, device: device.traits.identifier, error: accuracy.largestRelativeError, bound: accuracy.bound)
    }
  }
}

/// A benchmark whose result is wrong: its speed means nothing.
struct WrongResultError: Error, CustomStringConvertible {
  let operation, device: String
  let error, bound: Double
  var description: String {
    String(format: "\(device): \(operation) is off by %.1e of the largest result, more than %.1e: ", error, bound)
      + "the device or its driver computes wrongly, or graft does. Compare with --device cpu, and report this."
  }
}

/// A benchmark of an operation as JSON.
struct OperationReport: Encodable {
  enum Setting: Encodable {
    case number(Int)
    case pair(Int, Int)
    case flag(Bool)

    func encode(to encoder: any Encoder) throws {
      var container = encoder.singleValueContainer()
      switch self {
      case .number(let value): try container.encode(value)
      case .pair(let h, let w): try container.encode([h, w])
      case .flag(let value): try container.encode(value)
      }
    }
  }

  let operation: String
  let sizes: [String: Setting]
  let outputShape: [Int]
  let device, kernels, instructionSet, precision: String
  let threadCount, runs: Int
  let milliseconds: Spread
  let gigaflops, gigaflopsPerSecond, gigabytesPerSecond: Double
  let peak: PeakReport
  let limit: DevicePeak.Limit
  let percentOfLimit: Double
  let largestRelativeError: Double
  let checkedCount: Int

  enum CodingKeys: String, CodingKey {
    case operation, sizes, device, kernels, precision, runs, milliseconds, gigaflops, peak, limit
    case outputShape = "output_shape"
    case instructionSet = "instruction_set"
    case threadCount = "threads"
    case gigaflopsPerSecond = "gigaflops_per_second"
    case gigabytesPerSecond = "gigabytes_per_second"
    case percentOfLimit = "percent_of_limit"
    case largestRelativeError = "largest_relative_error"
    case checkedCount = "checked_results"
  }

  init(
    operation: String, sizes: [String: Setting], device: DeviceTraits, precision: String, benchmark: OperationBenchmark, times: [Double],
    accuracy: PreparedOperationBenchmark.Accuracy, peak: DevicePeak
  ) {
    let spread = Spread(times)
    (self.operation, self.sizes, self.precision, outputShape) = (operation, sizes, precision, benchmark.outputShape)
    (self.device, kernels, instructionSet) = (device.identifier, device.family.rawValue, device.instructionSet)
    (threadCount, runs) = (device.threadCount, times.count)
    milliseconds = Spread(times.map { $0 * 1e3 })
    gigaflops = benchmark.flops / 1e9
    gigaflopsPerSecond = benchmark.flops / spread.median / 1e9
    gigabytesPerSecond = benchmark.byteCount / spread.median / 1e9
    self.peak = PeakReport(peak)
    limit = peak.allowed(flops: benchmark.flops, bytes: benchmark.byteCount).limit
    percentOfLimit = peak.percentOfLimit(flops: benchmark.flops, bytes: benchmark.byteCount, seconds: spread.median)
    (largestRelativeError, checkedCount) = (accuracy.largestRelativeError, accuracy.checkedCount)
  }
}
