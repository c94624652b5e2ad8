import Foundation
import GraftDevice

/// A file that appears under its name whole and on disk, or not at all.
///
/// Bytes go to a hidden temporary file in the same folder; `commit` syncs it, renames it and syncs the folder. A file that
/// was not committed is removed when this object goes, or by `UnfinishedFiles` when the process is asked to end; after a
/// crash it stays behind under a name that ends in `.part`.
///
/// A file that is replaced passes its permissions on, and its owner where the system allows that. A symbolic link is followed, also one
/// to a file that is not there yet, and what is no regular file (a pipe, `/dev/null`) is written to as it is: those can't be
/// replaced by a file without surprising someone.
package final class AtomicFile {
  /// As it was given: what messages say.
  package let path: String
  /// Where the bytes are until `commit`; the name itself for what is no regular file.
  package let temporaryPath: String
  private let target: String
  private let isDirect: Bool
  package private(set) var descriptor: Int32
  private(set) package var byteCount = 0

  /// Opens the temporary file.
  ///
  /// - Parameter temporaryName: the hidden name; by default one that no other process uses.
  /// - Throws: `FileError`.
  package init(replacing path: String, temporaryName: String? = nil) throws {
    self.path = path
    guard !path.isEmpty else { throw FileError(path: "a file without a name", action: "create", code: ENOENT) }
    var status = stat()
    let exists = stat(path, &status) == 0
    // As of a name that is too long, and of links that lead in a circle.
    guard exists || errno == ENOENT else { throw FileError(path: path, action: "create", code: errno) }
    let kind = exists ? status.st_mode & S_IFMT : S_IFREG
    guard kind != S_IFDIR else { throw FileError(path: path, action: "write", code: EISDIR) }
    isDirect = kind != S_IFREG
    target = isDirect ? path : Self.resolved(path)
    if isDirect {
      temporaryPath = path
      descriptor = open(path, O_WRONLY | O_CLOEXEC)
      guard descriptor >= 0 else { throw FileError(path: path, action: "open", code: errno) }
      return
    }
    let (folder, name) = Self.split(target)
    guard !name.isEmpty else { throw FileError(path: path, action: "create", code: EISDIR) }
    // A long name may leave no room for a suffix, and only uniqueness matters.
    let unique = ".\(name.utf8.count < 200 ? name : "file").\(getpid()).\(UInt32.random(in: 0 ... .max)).part"
    temporaryPath = folder + "/" + (temporaryName ?? unique)
    UnfinishedFiles.add(temporaryPath)
    // Nobody reads meanwhile what only the owner may read.
    descriptor = open(temporaryPath, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, exists ? status.st_mode & 0o666 : 0o666)
    guard descriptor >= 0 else {
      let code = errno
      UnfinishedFiles.remove(temporaryPath)
      throw FileError(path: path, action: "create", code: code)
    }
    guard exists else { return }
    // The owner first: a change of it takes permissions away. A file system may know neither.
    if fchown(descriptor, status.st_uid, status.st_gid) != 0 { _ = fchown(descriptor, .max, status.st_gid) }
    _ = fchmod(descriptor, status.st_mode & 0o7777)
  }

  deinit { discard() }

  /// Makes sure that a file of that name could be made, before hours are spent on what is to be in it. What there is stays as it is.
  ///
  /// - Throws: `FileError`.
  package static func check(creating path: String) throws {
    var status = stat()
    // What is no file, as a pipe, is opened when there is something to write.
    if stat(path, &status) == 0 {
      guard [S_IFREG, S_IFDIR].contains(status.st_mode & S_IFMT) else { return }
      if status.st_mode & S_IFMT == S_IFREG, let code = obstacle(toReplacing: resolved(path), status) {
        throw FileError(path: path, action: "replace", code: code)
      }
    }
    try AtomicFile(replacing: path).discard()
  }

  /// Why a file cannot be replaced where a new one could be made, as the system would say when it gets its name; `nil` if nothing is known.
  private static func obstacle(toReplacing target: String, _ status: stat) -> Int32? {
    var folder = stat()
    if geteuid() != 0, stat(split(target).folder, &folder) == 0, folder.st_mode & S_ISVTX != 0, ![status.st_uid, folder.st_uid].contains(geteuid()) {
      return EPERM
    }
    if isMounted(target) { return EBUSY }
    let descriptor = open(target, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    // FS_IOC_GETFLAGS, which fills in an int: immutable is 0x10, only to be appended to 0x20. Not every file system knows them.
    var flags = 0
    return ioctl(descriptor, 0x8008_6601, &flags) == 0 && flags & 0x30 != 0 ? EPERM : nil
  }

  /// Whether a file is a mount point, as containers have them: also one of the same file system, which its device does not tell.
  private static func isMounted(_ path: String) -> Bool {
    guard let file = fopen("/proc/self/mountinfo", "re") else { return false }
    defer { fclose(file) }
    // The fifth field; what would end it is written as a backslash and three octal digits.
    let name = path.utf8.flatMap { byte -> [UInt8] in
      switch byte {
      case 0x20: Array("\\040".utf8)
      case 0x09: Array("\\011".utf8)
      case 0x0A: Array("\\012".utf8)
      case 0x5C: Array("\\134".utf8)
      default: [byte]
      }
    }
    var (line, capacity): (UnsafeMutablePointer<CChar>?, Int) = (nil, 0)
    defer { free(line) }
    while case let count = getline(&line, &capacity, file), count > 0, let line {
      let fields = UnsafeRawBufferPointer(start: line, count: count).split(separator: 0x20, maxSplits: 5)
      if fields.count > 4, fields[4].elementsEqual(name) { return true }
    }
    return false
  }

  package func append(_ bytes: UnsafeRawBufferPointer) throws {
    try write(bytes, at: byteCount)
    byteCount += bytes.count
  }

  /// Writes over bytes, or beyond the end, at a position of its own.
  package func write(_ bytes: UnsafeRawBufferPointer, at position: Int) throws {
    guard let start = bytes.baseAddress else { return }
    var written = 0
    while written < bytes.count {
      let rest = bytes.count - written
      let count =
        isDirect ? Foundation.write(descriptor, start + written, rest) : pwrite(descriptor, start + written, rest, off_t(position + written))
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { throw FileError(path: path, action: "write", code: count == 0 ? ENOSPC : errno) }
      written += count
    }
  }

  /// Puts what was written on the disk, still under the temporary name.
  package func sync() throws {
    guard isDirect || fsync(descriptor) == 0 else { throw FileError(path: path, action: "write", code: errno) }
  }

  /// Syncs, gives the file its name, and syncs the folder that holds the name.
  ///
  /// - Throws: `FileError`; the file that had the name before is untouched then.
  package func commit() throws {
    try sync()
    guard isDirect || rename(temporaryPath, target) == 0 else { throw FileError(path: path, action: "rename to", code: errno) }
    close(descriptor)
    descriptor = -1
    guard !isDirect else { return }
    UnfinishedFiles.remove(temporaryPath)
    try Self.syncFolder(Self.split(target).folder)
  }

  /// Removes the temporary file unless it was committed.
  package func discard() {
    guard descriptor >= 0 else { return }
    close(descriptor)
    descriptor = -1
    guard !isDirect else { return }
    unlink(temporaryPath)
    UnfinishedFiles.remove(temporaryPath)
  }

  /// Makes names created in a folder survive a loss of power.
  package static func syncFolder(_ folder: String) throws {
    let descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileError(path: folder, action: "open", code: errno) }
    defer { close(descriptor) }
    // Some network and fuse file systems cannot sync a folder and say EINVAL: there is nothing more to do there.
    guard fsync(descriptor) == 0 || errno == EINVAL else { throw FileError(path: folder, action: "write", code: errno) }
  }

  /// What tells the file under a name from others, before it is there too; `nil` for what is no regular file.
  package static func file(of path: String) -> String? {
    var status = stat()
    if stat(path, &status) == 0, status.st_mode & S_IFMT != S_IFREG { return nil }
    let (folder, name) = split(resolved(path))
    return FilePath.joined(resolved(folder), name)
  }

  /// The file that a symbolic link leads to, also where there is no such file yet.
  private static func resolved(_ path: String) -> String {
    if let found = realpath(path, nil) {
      defer { free(found) }
      return String(cString: found)
    }
    guard let target = try? FileManager.default.destinationOfSymbolicLink(atPath: path) else { return path }
    // A circle of links has been refused.
    return resolved(target.hasPrefix("/") ? target : FilePath.joined(split(path).folder, target))
  }

  private static func split(_ path: String) -> (folder: String, name: String) {
    guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return (".", path) }
    return (slash == path.startIndex ? "/" : String(path[..<slash]), String(path[path.utf8.index(after: slash)...]))
  }
}
