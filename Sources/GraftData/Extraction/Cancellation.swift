import Synchronization

/// Asks a long run to end cleanly; safe to set from a signal handler.
public final class CancellationFlag: Sendable {
  private let flag = Atomic<Bool>(false)

  public init() {}

  public func cancel() { flag.store(true, ordering: .relaxed) }

  public var isCancelled: Bool { flag.load(ordering: .relaxed) }
}

/// A run that was asked to end: what was finished is kept.
public struct CancelledError: Error, CustomStringConvertible {
  /// What is kept, and how to go on.
  public let remedy: String

  public init(remedy: String) { self.remedy = remedy }

  public var description: String { "stopped. \(remedy)" }
}

extension ContinuousClock.Instant {
  /// Seconds from this moment to now.
  var secondsSince: Double { (ContinuousClock.now - self) / .seconds(1) }
}
