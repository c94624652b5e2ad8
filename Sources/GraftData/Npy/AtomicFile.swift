import Foundation
import GraftGraph

/// A file that appears under its name whole and on disk, or not at all.
///
/// Bytes go to a hidden temporary file in the same folder; `commit` syncs it, renames it and syncs the folder. A file that
/// was not committed is removed when this object goes; after a crash it stays behind under a name that ends in `.part`.
package final class AtomicFile {
  package let path: String
  package let temporaryPath: String
  private var descriptor: Int32
  private(set) package var byteCount = 0

  /// Opens the temporary file.
  ///
  /// - Parameter temporaryName: the hidden name; by default one that no other process uses.
  /// - Throws: `FileError`.
  package init(replacing path: String, temporaryName: String? = nil) throws {
    let (folder, name) = Self.split(path)
    self.path = path
    // A long name may leave no room for a suffix, and only uniqueness matters.
    let unique = ".\(name.utf8.count < 200 ? name : "file").\(getpid()).\(UInt32.random(in: 0 ... .max)).part"
    temporaryPath = folder + "/" + (temporaryName ?? unique)
    descriptor = open(temporaryPath, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw FileError(path: path, action: "create", code: errno) }
  }

  deinit { discard() }

  package func append(_ bytes: UnsafeRawBufferPointer) throws {
    try write(bytes, at: byteCount)
    byteCount += bytes.count
  }

  /// Writes over bytes, or beyond the end, at a position of its own.
  package func write(_ bytes: UnsafeRawBufferPointer, at position: Int) throws {
    var written = 0
    while written < bytes.count {
      let count = pwrite(descriptor, bytes.baseAddress! + written, bytes.count - written, off_t(position + written))
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { throw FileError(path: path, action: "write", code: count == 0 ? ENOSPC : errno) }
      written += count
    }
  }

  /// The SHA-256 of what was written, in hexadecimal.
  package func contentHash() throws -> String {
    guard lseek(descriptor, 0, SEEK_SET) == 0 else { throw FileError(path: path, action: "read", code: errno) }
    return try ContentHash.ofFile(descriptor: descriptor, path: temporaryPath)
  }

  /// Puts what was written on the disk, still under the temporary name.
  package func sync() throws {
    guard fsync(descriptor) == 0 else { throw FileError(path: path, action: "write", code: errno) }
  }

  /// Syncs, gives the file its name, and syncs the folder that holds the name.
  ///
  /// - Throws: `FileError`; the file that had the name before is untouched then.
  package func commit() throws {
    try sync()
    guard rename(temporaryPath, path) == 0 else { throw FileError(path: path, action: "rename to", code: errno) }
    close(descriptor)
    descriptor = -1
    try Self.syncFolder(Self.split(path).folder)
  }

  /// Removes the temporary file unless it was committed.
  package func discard() {
    guard descriptor >= 0 else { return }
    close(descriptor)
    unlink(temporaryPath)
    descriptor = -1
  }

  /// Makes names created in a folder survive a loss of power.
  package static func syncFolder(_ folder: String) throws {
    let descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileError(path: folder, action: "open", code: errno) }
    defer { close(descriptor) }
    // Some network and fuse file systems cannot sync a folder and say EINVAL: there is nothing more to do there.
    guard fsync(descriptor) == 0 || errno == EINVAL else { throw FileError(path: folder, action: "write", code: errno) }
  }

  private static func split(_ path: String) -> (folder: String, name: String) {
    guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return (".", path) }
    return (slash == path.startIndex ? "/" : String(path[..<slash]), String(path[path.utf8.index(after: slash)...]))
  }
}
