import GraftDevice

/// How long a graph would take on a chip, launch by launch, by a model: nothing is run.
public struct TimePrediction: Sendable {
  public enum Limit: String, Sendable, Codable { case arithmetic, memory, launch }

  /// A launch, with those that do the same for other images of the batch.
  public struct Launch: Sendable {
    /// The operation and the node.
    public let label: String
    public let kernel: String
    public let flops: Double
    public let bytes: Double
    /// What the model expects.
    public let seconds: Double
    /// What the chip's limits allow at best, for this arithmetic and these bytes.
    public let limitSeconds: Double
    /// What sets the prediction.
    public let limit: Limit
  }

  public let chip: Chip
  public let launches: [Launch]
  public var seconds: Double { launches.reduce(0) { $0 + $1.seconds } }
  public var limitSeconds: Double { launches.reduce(0) { $0 + $1.limitSeconds } }
  public var flops: Double { launches.reduce(0) { $0 + $1.flops } }
  public var bytes: Double { launches.reduce(0) { $0 + $1.bytes } }

  /// - Throws: what `Plan` throws before it allocates.
  public init(_ graph: Graph, on chip: Chip, options: PlanOptions = PlanOptions()) throws {
    let model = LaunchModel(chip: chip)
    Plan.announce(options.format, on: chip.traits)
    self.chip = chip
    launches = try PlanOutline(graph, traits: chip.traits, options: options).launches.map { launch in
      let (arithmetic, memory) = model.seconds(launch), work = max(arithmetic, memory), count = Double(launch.count)
      let allowed = max(launch.flops / (1e9 * model.peakRate(launch)), launch.bytes / (1e9 * chip.gigabytesPerSecond(byteCount: launch.bytes)))
      return Launch(
        label: launch.label, kernel: launch.kernel.function, flops: count * launch.flops, bytes: count * launch.bytes,
        seconds: count * (work + chip.launchSeconds), limitSeconds: count * allowed,
        limit: work < chip.launchSeconds ? .launch : arithmetic >= memory ? .arithmetic : .memory)
    }
  }
}
