/// Damage as it happens to files, and as an attacker would do it.
enum Mutation: CaseIterable {
  case flipBits, setBytes, truncate, splice, duplicate, hugeNumber

  /// A damaged copy; the same for the same seed.
  ///
  /// - Parameter structure: where the bytes that say how to read the others lie; nine of ten mutations go there.
  static func apply(to original: [UInt8], structure: [Range<Int>], seed: UInt64) -> [UInt8] {
    var random = Generator(seed &* 0x2545_F491_4F6C_DD1D &+ 1)
    var bytes = original
    // Most damage is single; some files have several.
    for _ in 0..<([1, 1, 2, 5].randomElement(using: &random) ?? 1) where !bytes.isEmpty {
      let window = structure.filter { $0.upperBound <= bytes.count }.randomElement(using: &random)
      let range = Int.random(in: 0..<10, using: &random) > 0 ? window ?? bytes.indices : bytes.indices
      allCases.randomElement(using: &random)?.apply(to: &bytes, at: Int.random(in: range, using: &random), &random)
    }
    return bytes
  }

  private func apply(to bytes: inout [UInt8], at position: Int, _ random: inout Generator) {
    let length = Int.random(in: 0...min(32, bytes.count - position), using: &random)
    switch self {
    case .flipBits: bytes[position] ^= 1 << UInt8.random(in: 0..<8, using: &random)
    case .setBytes: for index in position..<position + length { bytes[index] = .random(in: 0...255, using: &random) }
    case .truncate: bytes.removeSubrange(position...)
    case .splice: bytes.removeSubrange(position..<position + length)
    case .duplicate: bytes.insert(contentsOf: bytes[position..<position + length], at: position)
    case .hugeNumber:
      // Lengths, counts and extents near the limits of their types.
      let width = [1, 2, 4, 8].randomElement(using: &random) ?? 1
      let value = [0xFF, 0x7F, 0x80, 0x00].randomElement(using: &random) ?? 0xFF
      for index in position..<min(position + width, bytes.count) { bytes[index] = UInt8(value) }
    }
  }
}
