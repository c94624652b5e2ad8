import Crypto
import Foundation
import GraftGraph

/// The identity of a backbone: a hash over every byte of its files, so that changed weights are never taken for the old
/// ones.
public enum BackboneHash {
  /// SHA-256, in hexadecimal, of a model file followed by its external data files in the order given.
  ///
  /// For a model in one file this is what `sha256sum` prints; with external data, what `cat FILES | sha256sum` prints.
  /// The files are streamed: memory does not grow with them.
  ///
  /// - Throws: `FileError` naming the file that cannot be read.
  public static func sha256(path: String, externalFiles: [String] = []) throws -> String {
    var hash = SHA256()
    for file in [path] + externalFiles { try update(&hash, file) }
    return hash.finalize().map { byte in
      let digits = String(byte, radix: 16)
      return digits.count == 1 ? "0" + digits : digits
    }.joined()
  }

  private static func update(_ hash: inout SHA256, _ path: String) throws {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileError(path: path, action: "open", code: errno) }
    defer { close(descriptor) }
    let chunk = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
    defer { chunk.deallocate() }
    while true {
      let count = read(descriptor, chunk.baseAddress, chunk.count)
      if count == 0 { return }
      if count < 0 {
        if errno == EINTR { continue }
        throw FileError(path: path, action: "read", code: errno)
      }
      hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: chunk[..<count]))
    }
  }
}
