/// How a plan goes about its work.
public struct PlanOptions: Sendable {
  /// Whether passes run first; false is for tests of single operations.
  public var optimizes = true
  /// Whether 3 × 3 convolutions may be computed by Winograd's transforms (CPU family): up to four times fewer products, and
  /// errors of some 1e-6 of the largest value instead of some 1e-7.
  public var usesWinograd = true
  /// Bytes of device memory the plan may take; `nil`: all that the device has.
  public var memoryLimit: Int?
  /// Bytes of the last cache to plan for; `nil`: the device's. 0: the whole batch at once.
  package var lastCacheByteCount: Int?

  public init(memoryLimit: Int? = nil) { self.memoryLimit = memoryLimit }

  /// The graph node by node.
  package static var asWritten: PlanOptions {
    var options = PlanOptions()
    options.optimizes = false
    return options
  }

  package static func planning(forCache byteCount: Int) -> PlanOptions {
    var options = PlanOptions()
    options.lastCacheByteCount = byteCount
    return options
  }
}
