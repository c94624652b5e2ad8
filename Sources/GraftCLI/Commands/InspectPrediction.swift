import ArgumentParser
import Foundation
import Graft

/// What `inspect --predict` shows: how long a model would take on a chip that need not be there.
struct PredictionOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Predict, by a model and without running anything, how fast it would be on a GPU: \(Chip.known.map(\.identifier).joined(separator: ", ")).",
      valueName: "chip"))
  var predict: String?
  @Option(name: .customLong("batch-size"), help: ArgumentHelp("With --predict: images a run (default: 64).", valueName: "batch-size"))
  var givenBatchSize: Int?
  @OptionGroup var format: PrecisionOptions

  var batchSize: Int { givenBatchSize ?? 64 }

  func validate() throws {
    guard batchSize > 0 else { throw ValidationError("--batch-size takes a positive number, not \(batchSize).") }
    guard predict == nil else { return }
    if givenBatchSize != nil { throw ValidationError("--batch-size goes with --predict.") }
    if format.precision != .float32 { throw ValidationError("--precision goes with --predict.") }
  }

  /// - Throws: `ChipError`; what a plan throws before it allocates.
  func prediction(_ backbone: Backbone, shape: [Int]) throws -> TimePrediction? {
    guard let predict else { return nil }
    let chip = try Chip.named(predict), graph = try backbone.graph(imageShape: [batchSize] + shape.dropFirst())
    return try backbone.namingFile { try TimePrediction(graph, on: chip, options: PlanOptions(format: format.precision)) }
  }
}

/// A prediction as text and as JSON.
struct PredictionReport: Encodable {
  struct Launch: Encodable {
    let label, kernel: String
    let milliseconds, limitMilliseconds, gigaflops, megabytes: Double
    let limit: TimePrediction.Limit
    enum CodingKeys: String, CodingKey {
      case label, kernel, gigaflops, megabytes, limit
      case milliseconds = "predicted_milliseconds"
      case limitMilliseconds = "limit_milliseconds"
    }
  }

  let chip, precision: String
  let batchSize: Int
  let imagesPerSecond, limitImagesPerSecond, milliseconds: Double
  let launches: [Launch]
  enum CodingKeys: String, CodingKey {
    case chip, precision, launches
    case batchSize = "batch_size"
    case imagesPerSecond = "predicted_images_per_second"
    case limitImagesPerSecond = "limit_images_per_second"
    case milliseconds = "predicted_milliseconds"
  }

  init(_ prediction: TimePrediction, batchSize: Int, precision: ComputeFormat) {
    (chip, self.precision, self.batchSize) = (prediction.chip.identifier, precision.rawValue, batchSize)
    imagesPerSecond = Double(batchSize) / prediction.seconds
    limitImagesPerSecond = Double(batchSize) / prediction.limitSeconds
    milliseconds = 1e3 * prediction.seconds
    launches = prediction.launches.map {
      Launch(
        label: $0.label, kernel: $0.kernel, milliseconds: 1e3 * $0.seconds, limitMilliseconds: 1e3 * $0.limitSeconds, gigaflops: $0.flops / 1e9,
        megabytes: $0.bytes / 1e6, limit: $0.limit)
    }
  }

  func show(_ console: Console, on chip: Chip) {
    let rows = launches.map {
      [
        $0.label, $0.kernel, String(format: "%.3f", $0.milliseconds), String(format: "%.1f %%", 100 * $0.milliseconds / milliseconds),
        String(format: "%.2f", $0.gigaflops), String(format: "%.1f", $0.megabytes), String(format: "%.3f", $0.limitMilliseconds), $0.limit.rawValue,
      ]
    }
    let heads = ["operation", "kernel", "predicted ms", "share", "GFLOP", "MB", "limit ms", "set by"]
    console.result(tableText([heads] + rows, rightAligned: [2, 3, 4, 5, 6]))
    console.result(
      String(
        format: "\npredicted, not measured, for %@ in %@: %.0f images/s, %.3f ms for %d images; its limits allow %.0f images/s", chip.name, precision,
        imagesPerSecond, milliseconds, batchSize, limitImagesPerSecond))
    console.result(
      String(
        format: "limits: %.1f TFLOP/s, %.0f GB/s; a launch is taken to cost %.0f µs", chip.gigaflopsPerSecond / 1e3,
        chip.gigabytesPerSecond(byteCount: .infinity), 1e6 * chip.launchSeconds))
  }
}
