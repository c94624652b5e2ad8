import Crypto
import Foundation
import Synchronization

/// Compiled programs on disk, so that only the first start on a machine pays for the driver's compiler.
///
/// An entry is named by the SHA-256 of all it depends on and begins with a magic number, the length and the SHA-256 of the
/// driver's binary; one that is torn or altered is refused and replaced. Entries are written to a temporary name and
/// renamed. A directory that cannot be used turns the cache off, with one note, and nothing else.
package final class ProgramCache: Sendable {
  /// Where the entries are; `nil` when the cache is off.
  package let directory: URL?
  /// Entries beyond this many go, oldest first.
  private let maximumEntryCount: Int

  private enum State { case unopened, usable, off }
  private let state: Mutex<State>

  /// Changes whenever entries of an older layout must not be read.
  private static let formatVersion = 1
  private static let magic = Array("GRAFTPRG".utf8)
  private static let headerByteCount = magic.count + 8 + SHA256.byteCount

  package init(directory: URL?, maximumEntryCount: Int = 1024) {
    self.directory = directory
    self.maximumEntryCount = maximumEntryCount
    state = Mutex(directory == nil ? .off : .unopened)
  }

  /// The cache of the environment: `$GRAFT_CACHE/programs`, else `$XDG_CACHE_HOME/graft/programs`, else
  /// `~/.cache/graft/programs`; off with `GRAFT_PROGRAM_CACHE=off`.
  package convenience init(environment: [String: String]) {
    self.init(directory: Self.directory(environment: environment))
  }

  static func directory(environment: [String: String]) -> URL? {
    if environment["GRAFT_PROGRAM_CACHE"]?.lowercased() == "off" { return nil }
    return CacheFolder.url("programs", environment: environment)
  }

  /// Whether what is stored may be kept.
  var isOn: Bool { state.withLock { $0 != .off } }

  /// The name of the entry that depends on `parts`, in order.
  package static func key(_ parts: [String]) -> String {
    var hash = SHA256()
    for part in ["graft program \(formatVersion)"] + parts {
      let bytes = Array(part.utf8)
      // Lengths keep ("ab", "c") and ("a", "bc") apart.
      withUnsafeBytes(of: UInt64(bytes.count).littleEndian) { hash.update(bufferPointer: $0) }
      hash.update(data: bytes)
    }
    return hexadecimal(hash.finalize())
  }

  /// The binary stored under `key`, or `nil`: none there, or one that is damaged.
  package func load(_ key: String) -> [UInt8]? {
    guard let url = entry(key), let data = try? Data(contentsOf: url) else { return nil }
    guard let binary = Self.unwrap([UInt8](data)) else {
      try? FileManager.default.removeItem(at: url)
      return nil
    }
    // What is in use is young, so that the oldest entries are the ones to drop.
    try? FileManager.default.setAttributes([.modificationDate: Date()], ofItemAtPath: url.path)
    return binary
  }

  /// Stores a driver's binary.
  package func store(_ binary: [UInt8], under key: String) {
    guard open(), let url = entry(key), let directory else { return }
    do {
      try AtomicFile.write(Self.wrap(binary), to: url.path)
      dropOldEntries(in: directory)
    } catch {
      turnOff(because: error.reason)
    }
  }

  /// Removes an entry the driver refused.
  package func remove(_ key: String) {
    guard let url = entry(key) else { return }
    try? FileManager.default.removeItem(at: url)
  }

  private func entry(_ key: String) -> URL? {
    guard isOn else { return nil }
    return directory?.appendingPathComponent("\(key).bin", isDirectory: false)
  }

  /// Makes the directory the first time something is stored.
  private func open() -> Bool {
    let known = state.withLock { $0 }
    guard known == .unopened, let directory else { return known == .usable }
    do {
      try AtomicFile.makeDirectory(directory.path)
      state.withLock { if $0 == .unopened { $0 = .usable } }
      return true
    } catch {
      turnOff(because: error.reason)
      return false
    }
  }

  private func turnOff(because reason: String) {
    let isFirst = state.withLock { state in
      defer { state = .off }
      return state != .off
    }
    guard isFirst, let directory else { return }
    DeviceNotes.note(
      "compiled kernels are not kept, because \(directory.path) cannot be written (\(reason)); "
        + "starting takes longer. Set GRAFT_CACHE to a writable folder, or GRAFT_PROGRAM_CACHE=off.")
  }

  /// Leaves the youngest `maximumEntryCount`; also temporary files that a process killed while writing has left.
  private func dropOldEntries(in directory: URL) {
    let keys: Set<URLResourceKey> = [.contentModificationDateKey]
    let files = (try? FileManager.default.contentsOfDirectory(at: directory, includingPropertiesForKeys: Array(keys))) ?? []
    let aged = files.map { (url: $0, date: (try? $0.resourceValues(forKeys: keys))?.contentModificationDate ?? .now) }
    let entries = aged.filter { $0.url.pathExtension == "bin" }.sorted { $0.date < $1.date }
    let abandoned = aged.filter { $0.url.pathExtension == "tmp" && $0.date.timeIntervalSinceNow < -3600 }
    for file in entries.prefix(max(0, entries.count - maximumEntryCount)) + abandoned[...] {
      try? FileManager.default.removeItem(at: file.url)
    }
  }

  private static func wrap(_ binary: [UInt8]) -> [UInt8] {
    let count = withUnsafeBytes(of: UInt64(binary.count).littleEndian) { Array($0) }
    return magic + count + Array(SHA256.hash(data: binary)) + binary
  }

  private static func unwrap(_ file: [UInt8]) -> [UInt8]? {
    guard file.count > headerByteCount, file.starts(with: magic) else { return nil }
    let count = file[magic.count..<(magic.count + 8)].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    let binary = file[headerByteCount...]
    guard count == UInt64(binary.count), Array(SHA256.hash(data: binary)) == Array(file[(magic.count + 8)..<headerByteCount]) else { return nil }
    return Array(binary)
  }

  private static func hexadecimal(_ digest: SHA256.Digest) -> String {
    digest.map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined()
  }
}
