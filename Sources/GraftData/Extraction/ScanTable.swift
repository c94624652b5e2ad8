import Foundation
import GRDB
import GraftDevice
import GraftGraph

/// What the data set holds now, as a temporary table of the index's connection, compared there with what the index says.
///
/// SQLite keeps such a table in a file of its own once it is large: a million images take no more memory than a hundred.
struct ScanTable {
  private let writer: FeatureStoreWriter
  let tally: ImageFolder.Tally
  /// Images whose file is, by size and times, the one that was hashed.
  private(set) var unchanged = 0
  /// Samples whose file has gone.
  private(set) var removed = 0

  private static let pageSize = 256

  /// Walks the data set, drops what has gone from the index, and gives unchanged samples the label and split they have now.
  ///
  /// - Throws: `FileError`, `DataSetError`, `StoreError`, `CancelledError`. The index is untouched then.
  init(_ data: ImageFolder, writer: FeatureStoreWriter, strict: Bool = false, cancellation: CancellationFlag) throws {
    self.writer = writer
    let rule = writer.splitRule
    let file = data.table.map { FilePath.absolute($0.path) }
    (tally, unchanged, removed) = try writer.declare(data.labelling, facts: [Labelling.fileKey: file]) { db, hasChanged in
      db.add(function: DatabaseFunction("graft_split", argumentCount: 1, pure: true) { String.fromDatabaseValue($0[0]).map(rule.split) })
      try db.execute(
        sql: """
          DROP TABLE IF EXISTS temp.scan;
          CREATE TEMP TABLE scan(
            position INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, label TEXT, split TEXT, byte_count INTEGER, modified_ns INTEGER,
            changed_ns INTEGER, problem TEXT, unchanged INTEGER NOT NULL DEFAULT 0)
          """)
      let insertion = try db.cachedStatement(
        sql: "INSERT OR IGNORE INTO temp.scan(path, label, split, byte_count, modified_ns, changed_ns, problem) VALUES (?, ?, ?, ?, ?, ?, ?)")
      let tally = try data.forEachImage { entry in
        guard !cancellation.isCancelled else { throw CancelledError(remedy: "Nothing was changed. Run the same command again to go on.") }
        try insertion.execute(arguments: [
          entry.path, entry.label, entry.split, entry.stamp?.byteCount, entry.stamp?.modifiedNanoseconds, entry.stamp?.changedNanoseconds,
          entry.problem,
        ])
      }
      try Self.check(tally, of: data, strict: strict)
      try db.execute(
        sql: """
          UPDATE temp.scan SET unchanged = 1 WHERE problem IS NULL AND EXISTS (
            SELECT 1 FROM sample WHERE sample.path = scan.path AND sample.status = 'ok' AND sample.byte_count = scan.byte_count
              AND sample.modified_ns = scan.modified_ns AND sample.changed_ns = scan.changed_ns)
          """)
      let unchanged = db.changesCount
      try db.execute(sql: "DELETE FROM sample WHERE path NOT IN (SELECT path FROM temp.scan)")
      let removed = db.changesCount
      try db.execute(
        sql: """
          UPDATE sample SET label = scan.label, split = coalesce(scan.split, graft_split(sample.content_sha256)) FROM temp.scan
          WHERE scan.path = sample.path AND scan.unchanged
            AND (sample.label IS NOT scan.label OR sample.split IS NOT coalesce(scan.split, graft_split(sample.content_sha256)))
          """)
      // What a label is has changed: of images that are looked at again, too, no label of the other kind may stay until then.
      if hasChanged { try db.execute(sql: "UPDATE sample SET label = scan.label FROM temp.scan WHERE scan.path = sample.path") }
      if unchanged < tally.images { try writer.markUnfinished(db, count: tally.images) }
      return (tally, unchanged, removed)
    }
  }

  /// - Throws: `DataSetError` where there is nothing to extract, or, if `strict`, images without labels or links that lead nowhere.
  private static func check(_ tally: ImageFolder.Tally, of data: ImageFolder, strict: Bool) throws(DataSetError) {
    guard let table = data.table else {
      if strict, let link = tally.deadLinks.first {
        throw DataSetError(
          path: data.path, reason: "the link '\(link)' leads nowhere, and may have been a class",
          remedy: "Restore what it leads to, remove it, or run the same command without --strict to pass over it.")
      }
      guard tally.images == 0 else { return }
      throw DataSetError(
        path: data.path, reason: "there is not a single image in its \(data.classNames.count) class folders",
        remedy: "Check the path. Images are known by their extension: .jpg, .png, .webp, .tiff.")
    }
    guard tally.images > 0 else {
      throw DataSetError(
        path: data.path,
        reason: "none of its \(tally.unlabelled.count) images has a row in \(table.path), whose first is '\(tally.missing.first.first ?? "")'"
          + (tally.unlabelled.first.first.map { "; the first image is '\($0)'" } ?? ""),
        remedy: "Write paths relative to the folder, with their extension.")
    }
    guard strict else { return }
    for (paths, what) in [(tally.unlabelled, "without a row in \(table.path)"), (tally.missing, "that \(table.path) names and are not there")] {
      guard let first = paths.first.first else { continue }
      throw DataSetError(
        path: data.path, reason: "images \(what): \(paths.count); the first is '\(first)'",
        remedy: "Correct the file, or run the same command without --strict to pass over them.")
    }
  }

  /// The next images that must be looked at, in the data set's order, after `position`.
  func page(after position: Int) throws -> [(position: Int, job: DecodingPool.Job)] {
    try writer.index.read { db in
      let statement = try db.cachedStatement(
        sql: "SELECT position, path, label, split, problem FROM temp.scan WHERE position > ? AND NOT unchanged ORDER BY position LIMIT ?")
      return try Row.fetchAll(statement, arguments: [position, Self.pageSize]).map { row in
        (row.integer(0) ?? .max, DecodingPool.Job(path: row.text(1) ?? "", label: row.text(2), split: row.text(3), problem: row.text(4)))
      }
    }
  }
}
