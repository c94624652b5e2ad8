import Foundation
import GRDB
import GraftGraph

/// The file `index.sqlite` of a store: one connection, with SQLite's errors turned into ours.
///
/// Tables that others rely on:
///
///     sample(id, path, content_sha256, label, split, shard, row, status, message)      status: ok, skipped
///     shard(id, file, rows, sha256)                                                     file: relative to the store
///     store(key, value)
///
/// and one of our own, which remembers rows whose image has gone, so that it costs nothing when it comes back:
///
///     feature(content_sha256, shard, row)
///
/// Where a sample has K views (`views` in the table `store`), `row` is that of view 0, the image as it is, and views 1 to K − 1 are
/// the K − 1 rows after it.
final class StoreIndex: Sendable {
  static let fileName = "index.sqlite"
  /// The index of a store that is rebuilt, until it takes the other one's place.
  static let rebuiltName = "rebuilt.sqlite"
  static let formatVersion = "1"

  let path: String
  private let queue: DatabaseQueue

  /// Opens the index for writing, creating it if it is not there. Only the holder of the store's lock may.
  init(writingInto folder: String, name: String = fileName) throws {
    path = folder + "/" + name
    queue = try Self.open(path, Self.configuration())
  }

  /// Opens the index for reading, while someone may be writing to it.
  init(readingFrom folder: String) throws {
    path = folder + "/" + Self.fileName
    var status = stat()
    guard stat(path, &status) == 0 else {
      guard errno == ENOENT || errno == ENOTDIR else { throw FileError(path: path, action: "open", code: errno) }
      throw StoreError(
        .notAStore, path: folder,
        reason: stat(folder, &status) == 0 ? "this is not a feature store (it has no index.sqlite)" : "there is no such store",
        remedy: "Check the path, or make a store with 'graft extract' or 'graft import'.")
    }
    guard access(path, R_OK) == 0 else { throw FileError(path: path, action: "open", code: errno) }
    if access(folder, W_OK) == 0, access(path, W_OK) == 0 {
      queue = try Self.open(path, Self.configuration())
      return
    }
    var configuration = Self.configuration()
    configuration.readonly = true
    do {
      queue = try Self.open(path, configuration)
    } catch {
      // An empty log is none.
      let hasLog = stat(path + "-wal", &status) == 0 && status.st_size > 0
      guard !hasLog || access(folder, W_OK) == 0 else {
        throw StoreError(
          .locked, path: folder, reason: "its last writer was ended before its time, and what it left in \(Self.fileName)-wal must be taken in first",
          remedy: "Run the same command once by who can write to the folder, or on a copy of it that can be written.")
      }
      // A folder that cannot be written has no place for the write-ahead log's index; without a log, none is needed.
      guard !hasLog, let escaped = Self.absolute(path).addingPercentEncoding(withAllowedCharacters: .urlPathAllowed) else { throw error }
      queue = try Self.open("file:\(escaped)?immutable=1", configuration)
    }
  }

  private static func configuration() -> Configuration {
    var configuration = Configuration()
    configuration.busyMode = .timeout(10)
    configuration.label = "graft.store"
    configuration.prepareDatabase { db in
      // A commit is on the disk when it returns: what it names was put there before it.
      try db.execute(sql: "PRAGMA synchronous = FULL")
      // Pages in memory: every access is by key or in order, so that more would be memory and no speed.
      try db.execute(sql: "PRAGMA cache_size = -512; PRAGMA temp.cache_size = -512")
    }
    return configuration
  }

  private static func open(_ path: String, _ configuration: Configuration) throws -> DatabaseQueue {
    do {
      let queue = try DatabaseQueue(path: path.hasPrefix("file:/") ? path : absolute(path), configuration: configuration)
      guard !configuration.readonly else { return queue }
      try queue.writeWithoutTransaction { db in _ = try String.fetchOne(db, sql: "PRAGMA journal_mode = WAL") }
      return queue
    } catch let error as DatabaseError {
      throw StoreError.translating(error, index: path)
    }
  }

  /// SQLite would take a relative path that begins with `file:` for a URI.
  private static func absolute(_ path: String) -> String {
    path.hasPrefix("/") ? path : FileManager.default.currentDirectoryPath + "/" + path
  }

  func close() throws { try translating { try queue.close() } }

  /// Moves what is in the log into the file, as far as readers allow.
  func checkpoint() throws {
    try translating { try queue.writeWithoutTransaction { db in _ = try Row.fetchOne(db, sql: "PRAGMA wal_checkpoint(TRUNCATE)") } }
  }

  /// Reads in one transaction: a consistent state.
  func read<Result>(_ body: (Database) throws -> Result) throws -> Result {
    try translating { try queue.read(body) }
  }

  /// Commits what `body` writes, or nothing of it.
  func write<Result>(_ body: (Database) throws -> Result) throws -> Result {
    try translating { try queue.write(body) }
  }

  private func translating<Result>(_ body: () throws -> Result) throws -> Result {
    do {
      return try body()
    } catch let error as DatabaseError {
      throw StoreError.translating(error, index: path)
    } catch is RowDecodingError {
      throw StoreError.damagedIndex(path, "the index holds values of the wrong type")
    }
  }

  // MARK: What is in it

  static let schema = """
    CREATE TABLE store(key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL);
    CREATE TABLE shard(id INTEGER PRIMARY KEY, file TEXT NOT NULL UNIQUE, rows INTEGER NOT NULL, sha256 TEXT NOT NULL);
    CREATE TABLE feature(
      content_sha256 TEXT PRIMARY KEY NOT NULL, shard INTEGER NOT NULL REFERENCES shard(id), row INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE sample(
      id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, content_sha256 TEXT, label TEXT, split TEXT,
      shard INTEGER REFERENCES shard(id), row INTEGER, status TEXT NOT NULL, message TEXT,
      -- The file as it was when its content was hashed; NULL if it may have changed since without a trace.
      byte_count INTEGER, modified_ns INTEGER, changed_ns INTEGER);
    CREATE INDEX sample_shard ON sample(shard);
    CREATE INDEX feature_shard ON feature(shard);
    """

  /// The table `store`; `nil` if the index is new and empty.
  ///
  /// - Throws: `StoreError` if it is another program's, or of a format we do not know.
  func entries(_ db: Database, store: String) throws -> [String: String]? {
    let tables = try String.fetchAll(db, sql: "SELECT name FROM sqlite_master WHERE type = 'table'")
    guard !tables.isEmpty else { return nil }
    guard Set(tables).isSuperset(of: ["store", "shard", "feature", "sample"]) else {
      throw StoreError(
        .notAStore, path: path, reason: "this is an SQLite file, but no index of features",
        remedy: "Check the path, or give another --output.")
    }
    var entries: [String: String] = [:]
    for row in try Row.fetchAll(db, sql: "SELECT key, value FROM store") {
      if let key = row.text(0), let value = row.text(1) { entries[key] = value }
    }
    guard entries["format_version"] == Self.formatVersion else {
      throw StoreError(
        .format, path: store,
        reason: "the store has format version \(entries["format_version"] ?? "unknown"), and this program knows version \(Self.formatVersion)",
        remedy: "Use the version of graft that made it, or run the command that made it with --rebuild.")
    }
    return entries
  }
}

extension Row {
  /// A column's text; `nil` for anything else. (GRDB's own subscripts trap on a value of another type.)
  func text(_ column: Int) -> String? { String.fromDatabaseValue(self[column] as DatabaseValue) }

  /// A column's whole number; `nil` for anything else.
  func integer(_ column: Int) -> Int? { Int.fromDatabaseValue(self[column] as DatabaseValue) }
}
