import Foundation
import GraftGraph

/// The right to write to a store: held by one process at a time, and let go by the system however that process ends.
///
/// An exclusive `flock` on the file `lock`. Readers need none.
final class StoreLock {
  static let fileName = "lock"
  private let descriptor: Int32

  /// - Throws: `StoreError` if another writer holds it, `FileError` if the file cannot be made.
  init(folder: String, option: String = "--output") throws {
    let path = folder + "/" + Self.fileName
    descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw FileError(path: path, action: "open", code: errno) }
    while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
      if errno == EINTR { continue }
      let code = errno
      defer { close(descriptor) }
      guard code == EWOULDBLOCK else { throw FileError(path: path, action: "lock", code: code) }
      throw StoreError(
        .locked, path: folder, reason: "another process is writing to this store\(Self.holder(descriptor))",
        remedy: "Wait for it to end, or give another \(option).")
    }
    // For the message above only; a name that cannot be written does no harm.
    let holder = Array("\(getpid())\n".utf8)
    if ftruncate(descriptor, 0) == 0 { _ = pwrite(descriptor, holder, holder.count, 0) }
  }

  deinit {
    // Closing alone would leave the lock with a process that is being started at this moment, until its `exec` closes its copy.
    _ = flock(descriptor, LOCK_UN)
    close(descriptor)
  }

  private static func holder(_ descriptor: Int32) -> String {
    var bytes = [UInt8](repeating: 0, count: 20)
    let count = pread(descriptor, &bytes, bytes.count, 0)
    guard count > 1, let process = Int32(String(decoding: bytes[..<(count - 1)], as: UTF8.self)) else { return "" }
    return " (process \(process))"
  }
}
