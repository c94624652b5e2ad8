import GRDB

/// The samples of an index in memory: classes numbered, rows checked.
struct SampleTable {
  private(set) var classNames: [String] = []
  private(set) var bySplit: [String: [StoredSample]] = [:]
  private(set) var skippedCount = 0

  /// - Parameters:
  ///   - isNumeric: classes are integers, and in the order of their values.
  ///   - views: rows a sample.
  /// - Throws: `StoreError` if a sample points to a row that is not there.
  init(_ db: Database, shards: [Shard], isNumeric: Bool, views: Int, index: String) throws {
    // SQLite compares text by its bytes, as Python does; a Swift String would find two spellings of é equal.
    let names = try Row.fetchAll(db, sql: "SELECT DISTINCT label FROM sample WHERE status = 'ok' AND label IS NOT NULL ORDER BY label")
      .map { $0.text(0) ?? "" }
    if isNumeric {
      let numbers = names.compactMap(Int64.init)
      guard numbers.count == names.count else { throw StoreError.damagedIndex(index, "labels that should be numbers are none") }
      classNames = numbers.sorted().map(String.init)
    } else {
      classNames = names
    }
    var classIndices: [[UInt8]: Int32] = [:]
    for (place, name) in classNames.enumerated() { classIndices[Array(name.utf8)] = Int32(clamping: place) }
    let shardIndices = Dictionary(shards.enumerated().map { ($1.id, $0) }) { first, _ in first }

    skippedCount = try Int.fetchOne(db, sql: "SELECT count(*) FROM sample WHERE status <> 'ok'") ?? 0
    let samples = try Row.fetchCursor(db, sql: "SELECT id, label, split, shard, row, path FROM sample WHERE status = 'ok' ORDER BY path")
    while let row = try samples.next() {
      guard let id = row.integer(0), let label = row.text(1), let split = row.text(2), let shard = row.integer(3).flatMap({ shardIndices[$0] }),
        let place = row.integer(4), (0..<max(0, shards[shard].rows - views + 1)).contains(place), let rowIndex = Int32(exactly: place),
        let classIndex = classIndices[Array(label.utf8)]
      else {
        throw StoreError.damagedIndex(index, "the row of sample '\(row.text(5) ?? "?")' is not there, or its label or split is missing")
      }
      bySplit[split, default: []].append(
        StoredSample(id: Int64(id), classIndex: classIndex, shardIndex: Int32(clamping: shard), rowIndex: rowIndex))
    }
  }
}
