import Foundation
import GraftGraph

/// Reads files whole, one after the other, into one buffer. Used by one thread.
///
/// Files are read, not mapped: one that another program cuts short meanwhile must not end the process.
final class ImageFileReader {
  private var buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
  private let largestByteCount: Int

  /// A larger buffer is given back after use.
  private static let keptByteCount = 16 << 20
  /// A file changed so shortly before it was read may change again within the clock's step, and nobody would see.
  private static let settlingNanoseconds = 2_000_000_000

  init(largestByteCount: Int) { self.largestByteCount = largestByteCount }

  deinit { buffer.deallocate() }

  /// Why a file could not be read.
  enum Failure: Error {
    /// The file's fault: it is skipped.
    case file(String)
    /// The system's: no other file could be read either.
    case system(FileError)
  }

  /// - Parameter body: gets the bytes, and the file's state, `nil` if that cannot be trusted to show a later change.
  func withFile<Result>(_ path: String, _ body: (UnsafeRawBufferPointer, SampleRecord.Stamp?) throws -> Result) throws -> Result {
    let descriptor = try check(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), path)
    defer { close(descriptor) }
    let now = Self.now()
    var status = stat()
    _ = try check(fstat(descriptor, &status), path)
    let before = FileStatus(status)
    guard before.isFile else { throw Failure.file("this is not a regular file") }
    guard before.stamp.byteCount <= largestByteCount else {
      throw Failure.file("the file has \(before.stamp.byteCount) bytes, more than the limit of \(largestByteCount)")
    }
    defer { if buffer.count > Self.keptByteCount { resize(1 << 20, keeping: 0) } }

    var filled = 0
    while true {
      if filled == buffer.count {
        guard filled <= largestByteCount else { throw Failure.file("the file grows while it is read") }
        resize(max(2 * buffer.count, min(before.stamp.byteCount, largestByteCount) + 1), keeping: filled)
      } else if filled == 0, buffer.count <= before.stamp.byteCount {
        resize(before.stamp.byteCount + 1, keeping: 0)
      }
      let count = read(descriptor, buffer.baseAddress! + filled, buffer.count - filled)
      if count < 0 && errno == EINTR { continue }
      guard try check(Int32(clamping: count), path) > 0 else { break }
      filled += count
    }
    _ = try check(fstat(descriptor, &status), path)
    let stamp = before.stamp
    let isSettled = max(stamp.modifiedNanoseconds, stamp.changedNanoseconds) < now - Self.settlingNanoseconds
    let isTrusted = isSettled && FileStatus(status).stamp == stamp && filled == stamp.byteCount
    return try body(UnsafeRawBufferPointer(rebasing: buffer[..<filled]), isTrusted ? stamp : nil)
  }

  private func resize(_ byteCount: Int, keeping count: Int) {
    let larger = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: 64)
    larger.copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer[..<count]))
    buffer.deallocate()
    buffer = larger
  }

  private func check(_ result: Int32, _ path: String) throws(Failure) -> Int32 {
    guard result < 0 else { return result }
    let code = errno
    switch code {
    case EMFILE, ENFILE, ENOMEM: throw Failure.system(FileError(path: path, action: "open", code: code))
    default: throw Failure.file(String(cString: strerror(code)))
    }
  }

  private static func now() -> Int {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Int(time.tv_sec) &* 1_000_000_000 &+ Int(time.tv_nsec)
  }
}
