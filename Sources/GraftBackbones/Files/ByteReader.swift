import GraftGraph

/// Reads a stretch of bytes front to back; every step past the end is an error, never a trap.
struct ByteReader {
  let file: String
  let bytes: HostBytes
  private(set) var position: Int
  let end: Int

  /// Reads `bytes` from `start` to their end.
  init(file: String, bytes: HostBytes, from start: Int = 0) {
    (self.file, self.bytes) = (file, bytes)
    self.end = bytes.count
    self.position = min(max(start, 0), bytes.count)
  }

  var remaining: Int { end - position }

  /// Skips `count` bytes and says where they lie.
  mutating func take(_ count: Int, _ what: String) throws -> Range<Int> {
    guard count >= 0, count <= remaining else {
      throw ImportError(
        file: file, what: "\(what) at byte \(position) needs \(count) bytes, and the file has \(remaining) left", remedy: ImportError.fetchAgain)
    }
    defer { position += count }
    return position..<position + count
  }

  /// A little-endian integer.
  mutating func integer<Value: FixedWidthInteger & BitwiseCopyable>(_: Value.Type, _ what: String) throws -> Value {
    let range = try take(MemoryLayout<Value>.size, what)
    return bytes.withUnsafeBytes { Value(littleEndian: $0.loadUnaligned(fromByteOffset: range.lowerBound, as: Value.self)) }
  }

  /// The next `count` bytes, copied.
  mutating func array(_ count: Int, _ what: String) throws -> [UInt8] {
    let range = try take(count, what)
    return bytes.withUnsafeBytes { Array($0[range]) }
  }

  /// The next `count` bytes as text; bytes that are not UTF-8 become U+FFFD.
  mutating func text(_ count: Int, _ what: String) throws -> String {
    let range = try take(count, what)
    return bytes.withUnsafeBytes { String(decoding: $0[range], as: UTF8.self) }
  }

  /// Text up to the next line feed, which is skipped; at most `limit` bytes.
  mutating func line(limit: Int, _ what: String) throws -> String {
    let window = position..<position + min(limit, remaining)
    guard let feed = bytes.withUnsafeBytes({ $0[window].firstIndex(of: 0x0A) }) else {
      throw ImportError(file: file, what: "\(what) at byte \(position) does not end", remedy: ImportError.fetchAgain)
    }
    let text = try self.text(feed - position, what)
    position += 1
    return text
  }
}
