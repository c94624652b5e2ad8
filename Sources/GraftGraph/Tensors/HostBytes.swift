import Foundation

/// Immutable bytes in host memory: owned, or a mapped file.
///
/// `@unchecked Sendable`: nothing writes to the bytes once `init` has returned, and `deinit` runs when the last
/// reference is gone.
public final class HostBytes: @unchecked Sendable {
  /// Where the bytes begin; valid while this object lives.
  package let start: UnsafeRawPointer
  /// How many there are.
  public let count: Int
  private let release: (UnsafeRawPointer, Int) -> Void
  private let isMappedFile: Bool

  /// Takes over `start`; `release` frees it.
  package init(adopting start: UnsafeRawPointer, count: Int, isMappedFile: Bool = false, release: @escaping (UnsafeRawPointer, Int) -> Void) {
    (self.start, self.count, self.isMappedFile, self.release) = (start, count, isMappedFile, release)
  }

  /// `count` bytes (aligned to 64) that `fill` writes.
  public convenience init(count: Int, fill: (UnsafeMutableRawBufferPointer) throws -> Void) rethrows {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: max(count, 1), alignment: 64)
    do {
      try fill(UnsafeMutableRawBufferPointer(rebasing: memory[..<count]))
    } catch {
      memory.deallocate()
      throw error
    }
    self.init(adopting: UnsafeRawPointer(memory.baseAddress!), count: count) { start, _ in start.deallocate() }
  }

  /// A copy of `bytes`.
  public convenience init(copying bytes: some Collection<UInt8>) {
    self.init(count: bytes.count) { $0.copyBytes(from: bytes) }
  }

  /// Maps a file for reading.
  ///
  /// - Throws: `FileError` with the path and what the system said.
  public convenience init(mapping path: String) throws {
    // Without waiting: a named pipe would block here for ever.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw FileError(path: path, action: "open", code: errno) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw FileError(path: path, action: "look at", code: errno) }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw FileError(path: path, action: "read", code: S_IFMT & status.st_mode == S_IFDIR ? EISDIR : ESPIPE)
    }
    let count = Int(status.st_size)
    guard count > 0 else {
      self.init(copying: [])
      return
    }
    guard let start = mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0), start != MAP_FAILED else {
      throw FileError(path: path, action: "map", code: errno)
    }
    self.init(adopting: start, count: count, isMappedFile: true) { munmap(UnsafeMutableRawPointer(mutating: $0), $1) }
  }

  /// Maps a file, or reads what is none, as a pipe, into memory.
  ///
  /// - Throws: `FileError` with the path and what the system said.
  public convenience init(reading path: String) throws {
    var status = stat()
    guard stat(path, &status) == 0, ![S_IFREG, S_IFDIR].contains(status.st_mode & S_IFMT) else {
      try self.init(mapping: path)
      return
    }
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileError(path: path, action: "open", code: errno) }
    defer { close(descriptor) }
    var (content, piece): ([UInt8], [UInt8]) = ([], [UInt8](repeating: 0, count: 1 << 16))
    while true {
      let count = read(descriptor, &piece, piece.count)
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw FileError(path: path, action: "read", code: errno) }
      if count == 0 { break }
      content += piece[..<count]
      // A device may have no end.
      guard content.count <= Self.largestStream else { throw FileError(path: path, action: "read to its end", code: ENOMEM) }
    }
    self.init(copying: content)
  }

  private static let largestStream = 1 << 30

  deinit { release(start, count) }

  /// Gives the memory of a mapped file's whole pages in `range` back; who reads them again reads the file again.
  package func evict(_ range: Range<Int>) {
    guard isMappedFile else { return }
    let page = sysconf(Int32(_SC_PAGESIZE))
    let first = (range.lowerBound + page - 1) / page * page, last = min(range.upperBound, count) / page * page
    if first < last { madvise(UnsafeMutableRawPointer(mutating: start + first), last - first, MADV_DONTNEED) }
  }

  /// The bytes, for as long as `body` runs.
  public func withUnsafeBytes<Result, Failure: Error>(_ body: (UnsafeRawBufferPointer) throws(Failure) -> Result) throws(Failure) -> Result {
    try body(UnsafeRawBufferPointer(start: start, count: count))
  }
}

/// A file that could not be opened, read, written or renamed.
public struct FileError: Error, CustomStringConvertible, Equatable {
  public let path: String
  /// The verb: "open", "write".
  public let action: String
  /// The system's error number.
  public let code: Int32

  public init(path: String, action: String, code: Int32) {
    (self.path, self.action, self.code) = (path, action, code)
  }

  /// What the system says.
  package var reason: String { code == ESPIPE ? "it is no regular file" : String(cString: strerror(code)) }

  public var description: String {
    let remedy =
      switch code {
      case ENOSPC, EDQUOT: " Free some space, then run the same command again."
      case EFBIG: " A file may not grow that large here: raise the limit (ulimit -f), or choose another file system, then run the same command again."
      case EIO: " Check the disk and the limits on space (df, quota, ulimit -f), then run the same command again."
      case EPERM where action == "replace":
        " It is another user's in a folder where each may replace only their own, or may not be changed (lsattr, chattr): choose another name."
      case EBUSY where action == "replace": " Something is mounted there, as containers mount single files: choose another name."
      case EACCES, EPERM, EROFS: " Check the permissions."
      case ENOENT: " Check the path."
      // A pipe, as the shell's <(…) makes one.
      case ESPIPE: " Save what it holds first, and name that file."
      default: ""
      }
    return "cannot \(action) \(path): \(reason).\(remedy)"
  }
}
