import Foundation
import GraftGraph

/// The names in a folder, as the bytes they are: a name need not be UTF-8.
///
/// They lie one after the other in one block, which a folder of a million files fills with little more than its names.
package struct FolderListing {
  /// In ascending order of bytes (as Python sorts them), without `.` and `..`.
  var names: some Sequence<[UInt8]> { places.lazy.map { place in Array(bytes[place.start..<place.end]) } }

  private struct Place {
    var start: Int
    var end: Int
  }

  private var bytes: [UInt8] = []
  private var places: [Place] = []

  /// - Throws: `FileError` if the folder cannot be read.
  init(path: String) throws { try self.init(path: Array(path.utf8)) }

  init(path: [UInt8]) throws {
    func failure(_ code: Int32) -> FileError { FileError(path: String(decoding: path, as: UTF8.self), action: "read the folder", code: code) }
    guard let folder = (path + [0]).withUnsafeBufferPointer({ $0.withMemoryRebound(to: CChar.self) { opendir($0.baseAddress!) } }) else {
      throw failure(errno)
    }
    defer { closedir(folder) }
    while true {
      errno = 0
      guard let entry = readdir(folder) else {
        guard errno == 0 else { throw failure(errno) }
        break
      }
      // The name may be longer than the field is declared: it is read where it lies.
      let name = UnsafeRawPointer(entry) + MemoryLayout<dirent>.offset(of: \.d_name)!
      let text = UnsafeRawBufferPointer(start: name, count: strlen(name.assumingMemoryBound(to: CChar.self)))
      guard !text.elementsEqual([0x2E]), !text.elementsEqual([0x2E, 0x2E]) else { continue }
      places.append(Place(start: bytes.count, end: bytes.count + text.count))
      bytes.append(contentsOf: text)
    }
    bytes.withUnsafeBufferPointer { bytes in
      places.sort { bytes[$0.start..<$0.end].lexicographicallyPrecedes(bytes[$1.start..<$1.end]) }
    }
  }

  /// Makes a folder, and those above it, where they are not there yet.
  ///
  /// - Throws: `FileError`.
  package static func make(_ path: String) throws {
    if mkdir(path, 0o755) == 0 { return }
    switch errno {
    case EEXIST:
      var status = stat()
      guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
        throw FileError(path: path, action: "create the folder", code: ENOTDIR)
      }
    case ENOENT:
      guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")), slash > path.startIndex else {
        throw FileError(path: path, action: "create the folder", code: ENOENT)
      }
      try make(String(path[..<slash]))
      guard mkdir(path, 0o755) == 0 || errno == EEXIST else { throw FileError(path: path, action: "create the folder", code: errno) }
    case let code: throw FileError(path: path, action: "create the folder", code: code)
    }
  }
}

/// What `stat` says of a name, links followed.
struct FileStatus {
  var isFolder: Bool
  var isFile: Bool
  /// What tells one folder from another.
  var identity: [UInt64]
  var stamp: SampleRecord.Stamp

  /// - Returns: the system's error number if there is nothing.
  static func of(_ path: [UInt8]) -> Swift.Result<FileStatus, FileCode> {
    var status = stat()
    let code = (path + [0]).withUnsafeBufferPointer { $0.withMemoryRebound(to: CChar.self) { stat($0.baseAddress!, &status) } }
    guard code == 0 else { return .failure(FileCode(code: errno)) }
    return .success(FileStatus(status))
  }

  init(_ status: stat) {
    isFolder = status.st_mode & S_IFMT == S_IFDIR
    isFile = status.st_mode & S_IFMT == S_IFREG
    identity = [UInt64(truncatingIfNeeded: status.st_dev), UInt64(truncatingIfNeeded: status.st_ino)]
    func nanoseconds(_ time: timespec) -> Int { Int(time.tv_sec) &* 1_000_000_000 &+ Int(time.tv_nsec) }
    stamp = SampleRecord.Stamp(
      byteCount: Int(status.st_size), modifiedNanoseconds: nanoseconds(status.st_mtim), changedNanoseconds: nanoseconds(status.st_ctim))
  }
}

struct FileCode: Error {
  let code: Int32
  var text: String { String(cString: strerror(code)) }
}
