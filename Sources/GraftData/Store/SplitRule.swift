import Crypto
import GraftGraph

/// Which part of the data a sample belongs to, as a function of its group key alone.
///
/// The group key is the SHA-256 of the file's content, so that copies of one picture land on the same side, a renamed file
/// stays where it is, and adding samples moves none. A sample is in the test part when
///
///     SHA-256("graft split 1\n" seed "\n" key), its first 64 bits as a fraction of 1  <  testFraction
///
/// Validation data is taken out of the training part when a head is trained.
public struct SplitRule: Sendable, Equatable {
  public var seed: UInt64
  public var testFraction: Double

  public static let `default` = SplitRule(seed: 0, testFraction: 0.2)

  public init(seed: UInt64, testFraction: Double) { (self.seed, self.testFraction) = (seed, testFraction) }

  /// `train` or `test`.
  public func split(groupKey: String) -> String {
    var hash = SHA256()
    for part in ["graft split 1\n\(seed)\n", groupKey] {
      var part = part
      part.withUTF8 { hash.update(bufferPointer: UnsafeRawBufferPointer($0)) }
    }
    let high = hash.finalize().prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    // 53 bits: every value is a Double, and never 1.
    return Double(high >> 11) * 0x1p-53 < testFraction ? "test" : "train"
  }

  var entries: [(key: String, value: String)] {
    [("split_seed", String(seed)), ("split_test_fraction", "\(testFraction)")]
  }

  init?(entries: [String: String]) {
    guard let seed = entries["split_seed"].flatMap(UInt64.init), let fraction = entries["split_test_fraction"].flatMap(Double.init),
      (0...1).contains(fraction)
    else { return nil }
    self.init(seed: seed, testFraction: fraction)
  }
}
