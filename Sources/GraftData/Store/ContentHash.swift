import Crypto
import Foundation
import GraftGraph

/// SHA-256 as lower-case hexadecimal: the name under which the store knows a file's content.
public enum ContentHash {
  public static func of(_ bytes: UnsafeRawBufferPointer) -> String {
    var hash = SHA256()
    hash.update(bufferPointer: bytes)
    return hexadecimal(hash.finalize())
  }

  public static func of(_ text: String) -> String {
    var text = text
    return text.withUTF8 { of(UnsafeRawBufferPointer($0)) }
  }

  /// The hash of a file, read a piece at a time.
  ///
  /// - Throws: `FileError`.
  public static func ofFile(_ path: String) throws -> String {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileError(path: path, action: "open", code: errno) }
    defer { close(descriptor) }
    return try ofFile(descriptor: descriptor, path: path)
  }

  /// The hash of what an open file holds from where it stands.
  static func ofFile(descriptor: Int32, path: String) throws -> String {
    var hash = SHA256()
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 18, alignment: 64)
    defer { buffer.deallocate() }
    while true {
      let count = read(descriptor, buffer.baseAddress!, buffer.count)
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw FileError(path: path, action: "read", code: errno) }
      guard count > 0 else { return hexadecimal(hash.finalize()) }
      hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: buffer[..<count]))
    }
  }

  /// The hash of what was written to a file so far.
  static func of(_ file: AtomicFile) throws -> String {
    guard lseek(file.descriptor, 0, SEEK_SET) == 0 else { throw FileError(path: file.path, action: "read", code: errno) }
    return try ofFile(descriptor: file.descriptor, path: file.temporaryPath)
  }

  fileprivate static func hexadecimal(_ digest: SHA256.Digest) -> String {
    let digits = Array("0123456789abcdef".utf8)
    return String(unsafeUninitializedCapacity: 64) { target in
      for (index, byte) in digest.enumerated() {
        target[2 * index] = digits[Int(byte >> 4)]
        target[2 * index + 1] = digits[Int(byte & 15)]
      }
      return 64
    }
  }
}

/// The hash of a list of texts, given one after the other: of what a run is trained on, say.
struct TextListHash {
  private var hash = SHA256()

  mutating func add(_ texts: String?...) {
    for text in texts {
      // None of ours has a zero byte: lists that differ stay so.
      var text = (text ?? "") + "\0"
      text.withUTF8 { hash.update(bufferPointer: UnsafeRawBufferPointer($0)) }
    }
  }

  func finish() -> String { ContentHash.hexadecimal(hash.finalize()) }
}
