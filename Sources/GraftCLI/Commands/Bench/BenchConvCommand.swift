import ArgumentParser
import Graft

/// Two extents, height and width: "3", or "1x7".
struct ExtentPair: ExpressibleByArgument, CustomStringConvertible {
  let h, w: Int

  init(_ both: Int) { self.init(h: both, w: both) }
  init(h: Int, w: Int) { (self.h, self.w) = (h, w) }

  init?(argument: String) {
    let parts = argument.split(separator: "x", omittingEmptySubsequences: false).map { Int($0) }
    guard (1...2).contains(parts.count), let first = parts[0], let last = parts[parts.count - 1] else { return nil }
    (h, w) = (first, last)
  }

  var description: String { h == w ? "\(h)" : "\(h)x\(w)" }
  var defaultValueDescription: String { description }
  var pair: Pair { Pair(h, w) }
  var setting: OperationReport.Setting { .pair(h, w) }
}

struct BenchConvCommand: ReportingCommand {
  static let configuration = CommandConfiguration(
    commandName: "conv", abstract: "Measure a convolution.",
    discussion: """
      Images of batch-size × height × width × channels, random numbers in float32; the weights are constant and packed before, as a \
      network's are. --groups equal to --channels is a depthwise convolution. Speed is counted in the operations of the definition, of \
      which a fast algorithm may do fewer. With another --precision, the conversion of the images and the result is part of the time. A \
      sample of the results is compared with double precision.
      """)

  @Option(help: "Images.") var batchSize = 1
  @Option(help: "Rows of an image.") var height: Int
  @Option(help: "Columns of an image (default: as many as rows).") var width: Int?
  @Option(help: "Channels of an image.") var channels: Int
  @Option(help: "Channels of the result (default: as many as the image has).") var outputs: Int?
  @Option(help: ArgumentHelp("Extents of the kernel: 3, or 1x7.", valueName: "extent")) var kernel = ExtentPair(3)
  @Option(help: ArgumentHelp("Steps between places: 2, or 2x1.", valueName: "extent")) var stride = ExtentPair(1)
  @Option(help: ArgumentHelp("Zeros around the image (default: as many as keep the extents at a stride of 1).", valueName: "extent"))
  var padding: ExtentPair?
  @Option(help: ArgumentHelp("Steps between the kernel's taps.", valueName: "extent")) var dilation = ExtentPair(1)
  @Option(help: "Groups that channels and outputs are cut into.") var groups = 1
  @OptionGroup var options: OperationBenchmarkOptions

  func validate() throws {
    let counts = [
      ("batch-size", batchSize), ("height", height), ("width", width ?? 1), ("channels", channels), ("outputs", outputs ?? 1), ("groups", groups),
    ]
    for (name, value) in counts where value < 1 { throw ValidationError("--\(name) takes a positive number, not \(value).") }
    for (name, value) in [("kernel", kernel), ("stride", stride), ("dilation", dilation)] where value.h < 1 || value.w < 1 {
      throw ValidationError("--\(name) takes positive numbers, not \(value).")
    }
    if let padding, padding.h < 0 || padding.w < 0 { throw ValidationError("--padding takes no negative number, as in \(padding).") }
  }

  func execute() throws {
    let (width, outputs) = (width ?? height, outputs ?? channels)
    let padding = padding ?? BenchConvCommand.keeping(kernel, dilation)
    let benchmark = try OperationBenchmark(
      input: [batchSize, height, width, channels], outputs: outputs, kernel: kernel.pair, stride: stride.pair,
      padding: Padding2D(top: padding.h, left: padding.w, bottom: padding.h, right: padding.w), dilation: dilation.pair, groups: groups)
    let what =
      "conv \(kernel) over \(batchSize) × \(height) × \(width) × \(channels), \(outputs) outputs, stride \(stride), padding \(padding)"
      + (dilation.h > 1 || dilation.w > 1 ? ", dilation \(dilation)" : "") + (groups > 1 ? ", \(groups) groups" : "")
    try options.run(
      benchmark, what, operation: "conv",
      sizes: [
        "batch_size": .number(batchSize), "height": .number(height), "width": .number(width), "channels": .number(channels),
        "outputs": .number(outputs), "kernel": kernel.setting, "stride": stride.setting, "padding": padding.setting,
        "dilation": dilation.setting, "groups": .number(groups),
      ])
  }

  /// Half of what the kernel spans beyond one place.
  private static func keeping(_ kernel: ExtentPair, _ dilation: ExtentPair) -> ExtentPair {
    func half(_ extent: Int, _ step: Int) -> Int {
      let (span, overflow) = (extent - 1).multipliedReportingOverflow(by: step)
      return overflow ? .max : span / 2
    }
    return ExtentPair(h: half(kernel.h, dilation.h), w: half(kernel.w, dilation.w))
  }
}
