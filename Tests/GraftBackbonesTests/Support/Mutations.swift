import Foundation
import Testing

/// A small generator with a seed, so that a failing mutation can be made again.
struct SplitMix64: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}

/// Damage as it happens to files, and as an attacker would do it.
enum Mutation: CaseIterable {
  case flipBits, setBytes, truncate, splice, duplicate, hugeNumber

  static func apply(to original: [UInt8], seed: UInt64) -> [UInt8] {
    var random = SplitMix64(seed: seed)
    var bytes = original
    // Most damage is single; some files have several.
    for _ in 0..<[1, 1, 2, 5].randomElement(using: &random)! where !bytes.isEmpty {
      allCases.randomElement(using: &random)!.apply(to: &bytes, &random)
    }
    return bytes
  }

  private func apply(to bytes: inout [UInt8], _ random: inout SplitMix64) {
    let position = Int.random(in: bytes.indices, using: &random)
    let length = Int.random(in: 0...min(32, bytes.count - position), using: &random)
    switch self {
    case .flipBits: bytes[position] ^= 1 << UInt8.random(in: 0..<8, using: &random)
    case .setBytes: for index in position..<position + length { bytes[index] = .random(in: 0...255, using: &random) }
    case .truncate: bytes.removeSubrange(position...)
    case .splice: bytes.removeSubrange(position..<position + length)
    case .duplicate: bytes.insert(contentsOf: bytes[position..<position + length], at: Int.random(in: 0...bytes.count, using: &random))
    case .hugeNumber:
      // Lengths, counts and extents near the limits of their types.
      let width = [1, 2, 4, 8].randomElement(using: &random)!
      let value: [UInt8] = [[0xFF], [0x7F], [0x80], [0x00]].randomElement(using: &random)!
      for index in position..<min(position + width, bytes.count) { bytes[index] = value[0] }
    }
  }
}

/// The most memory this process has had, in bytes. It means something in a process of the test's own only: the other tests
/// run in this one. (Not `getrusage`, whose maximum a new process takes over from the one that started it.)
func peakByteCount() throws -> Int {
  let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
  let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
  return try #require(Int((line ?? "").filter(\.isNumber)), "no VmHWM") * 1024
}
