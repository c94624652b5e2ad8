import Foundation
import GraftGraph

/// A file in the making under a temporary name. It becomes visible whole, or not at all.
struct AtomicFile: ~Copyable {
  private let path: String
  private let temporaryPath: String
  private let descriptor: Int32

  /// Lets `body` write the file, then syncs it and renames it to `path`.
  ///
  /// - Throws: `FileError`, or what `body` throws; the temporary file is then gone and `path` is as it was.
  static func write(to path: String, _ body: (borrowing AtomicFile) throws -> Void) throws {
    let temporaryPath = "\(path).\(getpid())-\(String(UInt32.random(in: 0...UInt32.max), radix: 16)).part"
    let descriptor = open(temporaryPath, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw FileError(path: path, action: "write", code: errno) }
    let file = AtomicFile(path: path, temporaryPath: temporaryPath, descriptor: descriptor)
    do {
      defer { close(descriptor) }
      try body(file)
      guard fsync(descriptor) == 0 else { throw FileError(path: path, action: "write", code: errno) }
    } catch {
      unlink(temporaryPath)
      throw error
    }
    guard rename(temporaryPath, path) == 0 else {
      let code = errno
      unlink(temporaryPath)
      throw FileError(path: path, action: "write", code: code)
    }
    // The name itself is on disk once its folder is. A file system that cannot sync folders has done all it can.
    let folder = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    let folderDescriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if folderDescriptor >= 0 {
      fsync(folderDescriptor)
      close(folderDescriptor)
    }
  }

  /// Writes all of `bytes` at the end.
  func append(_ bytes: UnsafeRawBufferPointer) throws {
    var rest = bytes[...]
    while !rest.isEmpty {
      let chunk = UnsafeRawBufferPointer(rebasing: rest)
      let count = Foundation.write(descriptor, chunk.baseAddress, chunk.count)
      if count < 0 {
        if errno == EINTR { continue }
        throw FileError(path: path, action: "write", code: errno)
      }
      rest = rest.dropFirst(count)
    }
  }
}
