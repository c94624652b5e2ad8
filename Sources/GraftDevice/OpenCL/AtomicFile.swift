import Foundation

/// Files that are there whole or not at all, with the system's own reason when they are not.
enum AtomicFile {
  /// A system call that failed.
  struct Failure: Error {
    let code: Int32
    var reason: String { String(cString: strerror(code)) }
  }

  /// Makes a directory and those it lies in.
  static func makeDirectory(_ path: String) throws(Failure) {
    if mkdir(path, 0o777) == 0 { return }
    let code = errno
    switch code {
    case EEXIST:
      guard isDirectory(path) else { throw Failure(code: ENOTDIR) }
    case ENOENT:
      let parent = FilePath.folder(of: path)
      guard !parent.isEmpty, parent != path else { throw Failure(code: code) }
      try makeDirectory(parent)
      // Another process may have been quicker.
      guard mkdir(path, 0o777) == 0 || (errno == EEXIST && isDirectory(path)) else { throw Failure(code: errno) }
    default:
      throw Failure(code: code)
    }
  }

  /// Writes to a temporary name beside `path`, then renames.
  ///
  /// - Parameter isDurable: whether it has to be on the disk when this returns, whatever happens to the machine then.
  static func write(_ bytes: [UInt8], to path: String, isDurable: Bool = false) throws(Failure) {
    let temporary = "\(path).\(UUID().uuidString).tmp"
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw Failure(code: errno) }
    var code = writeAll(bytes, to: descriptor)
    if isDurable, code == 0, fsync(descriptor) != 0 { code = errno }
    if close(descriptor) != 0, code == 0 { code = errno }
    if code == 0, rename(temporary, path) != 0 { code = errno }
    guard code == 0 else {
      unlink(temporary)
      throw Failure(code: code)
    }
  }

  /// 0, or the system's error number.
  private static func writeAll(_ bytes: [UInt8], to descriptor: Int32) -> Int32 {
    bytes.withUnsafeBytes { buffer in
      var rest = buffer[...]
      while !rest.isEmpty {
        let slice = UnsafeRawBufferPointer(rebasing: rest)
        let count = Foundation.write(descriptor, slice.baseAddress, slice.count)
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { return count < 0 ? errno : EIO }
        rest = rest.dropFirst(count)
      }
      return 0
    }
  }

  private static func isDirectory(_ path: String) -> Bool {
    var isDirectory: ObjCBool = false
    return FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) && isDirectory.boolValue
  }
}
