import Foundation
import GraftGraph

/// Reads picture files into memory.
///
/// Not mapped: a mapped file that someone shortens meanwhile would kill the process.
enum ImageFile {
  /// More than any picture that may be decoded needs, and what a plain TIFF can address.
  private static let largestByteCount = 4 << 30

  /// All bytes of the file, once its first bytes have shown a known format: a folder of photos may hold huge files of
  /// another kind.
  static func read(path: String) throws(ImageError) -> [UInt8] {
    // without waiting: a named pipe would block here for ever
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw unreadable(path, errno) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw unreadable(path, errno) }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw unreadable(path, status.st_mode & S_IFMT == S_IFDIR ? EISDIR : ESPIPE)
    }
    let start = try bytes(descriptor, count: ImageFormat.signatureLength, path: path)
    // Array's own method would lose the type of the error.
    let unknown = start.withUnsafeBytes { ImageFormat($0) == nil ? ImageError.unknownFormat($0, path: path) : nil }
    if let unknown { throw unknown }
    guard status.st_size <= largestByteCount else {
      throw ImageError(
        path: path, kind: .unsupported, what: "the file has \(status.st_size) bytes, and \(largestByteCount) are read at most",
        remedy: "Cut the picture into smaller ones, or leave it out.")
    }
    return try bytes(descriptor, count: Int(status.st_size), path: path)
  }

  /// Up to `count` bytes; fewer if the file is shorter.
  private static func bytes(_ descriptor: Int32, count: Int, path: String) throws(ImageError) -> [UInt8] {
    var code: Int32 = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: max(count, 0)) { buffer, filled in
      while filled < count {
        let part = pread(descriptor, buffer.baseAddress.map { $0 + filled }, count - filled, off_t(filled))
        if part < 0, errno == EINTR { continue }
        if part < 0 { code = errno }
        if part <= 0 { break }
        filled += part
      }
    }
    if code != 0 { throw unreadable(path, code) }
    return bytes
  }

  private static func unreadable(_ path: String, _ code: Int32) -> ImageError {
    let remedy =
      switch code {
      case EACCES, EPERM: "Check the permissions."
      case ENOENT, ENOTDIR: "Check the path."
      case EISDIR: "Name a file."
      // A pipe, as the shell's <(…) makes one.
      case ESPIPE: "Save what it holds first, and name that file."
      case EMFILE, ENFILE: "Allow more open files (ulimit -n)."
      default: "Check the disk, or get the file again."
      }
    let reason = FileError(path: path, action: "read", code: code).reason
    return ImageError(path: path, kind: .unreadable, what: "cannot read it: \(reason)", remedy: remedy)
  }
}
