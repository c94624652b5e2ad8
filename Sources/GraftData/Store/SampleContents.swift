import GRDB
import GraftGraph

extension FeatureStore {
  /// Samples of this store with the rows that another store has of the same pictures, at another cut say: what they are labelled with
  /// and which split they belong to is this store's, whatever the other one remembers.
  ///
  /// - Parameter remedy: what to do where the other store has no row of a picture.
  /// - Returns: samples in the same order, for reading rows of `other`; their labels are places in this store's lists.
  /// - Throws: `StoreError` if a picture has no row there.
  public func samples(_ samples: [StoredSample], withRowsOf other: FeatureStore, remedy: String) throws -> [StoredSample] {
    let shardPlaces = Dictionary(uniqueKeysWithValues: other.shards.enumerated().map { ($1.id, $0) })
    var (result, missing, first): ([StoredSample], Int, String?) = ([], 0, nil)
    result.reserveCapacity(samples.count)
    try index.read { own in
      try other.index.read { db in
        let contents = try own.cachedStatement(sql: "SELECT content_sha256, path FROM sample WHERE id = ?")
        let places = try db.cachedStatement(sql: "SELECT shard, row FROM feature WHERE content_sha256 = ?")
        for sample in samples {
          let content = try Row.fetchOne(contents, arguments: [sample.id])
          // Rows that were added after the other store was opened are not mapped.
          guard let hash = content?.text(0), let place = try Row.fetchOne(places, arguments: [hash]),
            let shard = place.integer(0).flatMap({ shardPlaces[$0] }), let row = place.integer(1),
            (0..<max(0, other.shards[shard].rows - other.key.views + 1)).contains(row), let rowIndex = Int32(exactly: row)
          else {
            missing += 1
            first = first ?? content?.text(1)
            continue
          }
          result.append(
            StoredSample(id: sample.id, labelIndex: sample.labelIndex, shardIndex: Int32(clamping: shard), rowIndex: rowIndex))
        }
      }
    }
    guard missing == 0 else {
      throw StoreError(
        .values, path: other.path,
        reason: "it has no rows of \(missing) of \(samples.count) pictures that \(path) holds now; the first is '\(first ?? "?")'", remedy: remedy)
    }
    return result
  }

  /// A hash of what training on some samples depends on besides their rows: contents, labels and splits, in order.
  public func identity(of samples: some Collection<StoredSample>) throws -> String {
    var hash = TextListHash()
    try index.read { db in
      let statement = try db.cachedStatement(sql: "SELECT content_sha256, label, split FROM sample WHERE id = ?")
      for sample in samples {
        let row = try Row.fetchOne(statement, arguments: [sample.id])
        hash.add(row?.text(0), row?.text(1), row?.text(2))
      }
    }
    return hash.finish()
  }

  /// Visits samples with features, by path, with what the index says of them.
  func forEachSample(_ body: (_ path: String, _ label: String?, _ split: String?) throws -> Void) throws {
    try index.read { db in
      let rows = try Row.fetchCursor(db, sql: "SELECT path, label, split FROM sample WHERE status = 'ok' ORDER BY path")
      while let row = try rows.next() { try body(row.text(0) ?? "", row.text(1), row.text(2)) }
    }
  }

  /// The file that a sample was made of: its path in the data set and its content's hash; `nil` if the sample has gone since.
  public func source(of sample: StoredSample) throws -> (path: String, contentHash: String)? {
    try index.read { db in
      let statement = try db.cachedStatement(sql: "SELECT path, content_sha256 FROM sample WHERE id = ?")
      guard let row = try Row.fetchOne(statement, arguments: [sample.id]), let path = row.text(0), let hash = row.text(1) else { return nil }
      return (path, hash)
    }
  }
}
