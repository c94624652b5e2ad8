import Foundation
import GRDB
import GraftGraph

/// A feature store that cannot be used as asked: what is wrong with it, and what to do.
public struct StoreError: Error, CustomStringConvertible, Equatable {
  public enum Kind: Sendable, Equatable {
    /// There is no store, or something that is none.
    case notAStore
    /// Another process writes to it.
    case locked
    /// Its features are a function of something else.
    case stale
    /// A shard or the index is not what was written.
    case damaged
    /// Written by a version that does things differently.
    case format
    /// Values that cannot be stored or used.
    case values
  }

  public let kind: Kind
  /// The store's folder, or the file in it that is meant.
  public let path: String
  public let reason: String
  public let remedy: String

  public init(_ kind: Kind, path: String, reason: String, remedy: String) {
    (self.kind, self.path, self.reason, self.remedy) = (kind, path, reason, remedy)
  }

  public var description: String { "\(path): \(reason). \(remedy)" }

  /// A damaged shard; the remedy is that of the command that made it.
  static func damaged(_ path: String, _ reason: String, source: FeatureKey.Source) -> StoreError {
    StoreError(
      .damaged, path: path, reason: reason,
      remedy: source == .extraction
        ? "Run the 'graft extract' that made it again, with --repair to compute only what is damaged, or with --rebuild to start over."
        : "Run the 'graft import' that made it again, with --rebuild.")
  }

  static func damagedIndex(_ path: String, _ reason: String) -> StoreError {
    StoreError(
      .damaged, path: path, reason: reason,
      remedy: "Restore the file from a copy, or run the 'graft extract' or 'graft import' that made it again with --rebuild.")
  }
}

extension StoreError {
  /// Says what SQLite said in terms of files.
  static func translating(_ error: DatabaseError, index: String) -> any Error {
    switch error.resultCode {
    case .SQLITE_FULL: FileError(path: index, action: "write", code: ENOSPC)
    case .SQLITE_CANTOPEN: FileError(path: index, action: "open", code: access(index, R_OK) == 0 ? EIO : errno)
    case .SQLITE_READONLY, .SQLITE_PERM: FileError(path: index, action: "write", code: EACCES)
    case .SQLITE_IOERR: FileError(path: index, action: "read or write", code: EIO)
    case .SQLITE_BUSY, .SQLITE_LOCKED:
      StoreError(
        .locked, path: index, reason: "another program holds the index open for writing", remedy: "Close it, then run the same command again.")
    case .SQLITE_NOTADB, .SQLITE_CORRUPT, .SQLITE_FORMAT, .SQLITE_ERROR, .SQLITE_SCHEMA, .SQLITE_CONSTRAINT, .SQLITE_MISMATCH:
      damagedIndex(index, "the index is damaged (SQLite: \(error.message ?? "\(error.resultCode)"))")
    default: damagedIndex(index, "the index cannot be used (SQLite: \(error.message ?? "\(error.resultCode)"))")
    }
  }
}
