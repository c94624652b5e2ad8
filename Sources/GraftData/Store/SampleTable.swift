import GRDB

/// The samples of an index in memory: classes numbered, or targets read, and rows checked.
struct SampleTable {
  private(set) var classNames: [String] = []
  /// Of stores without classes: `[rows, T]`, where a sample's label is its row; samples of the same labels share one.
  private(set) var targets: [Double] = []
  private(set) var bySplit: [String: [StoredSample]] = [:]
  private(set) var skippedCount = 0

  /// - Parameters:
  ///   - isNumeric: classes are integers, and in the order of their values.
  ///   - labelling: what labels are.
  ///   - views: rows a sample.
  /// - Throws: `StoreError` if a sample points to a row that is not there.
  init(_ db: Database, shards: [Shard], isNumeric: Bool, labelling: Labelling, views: Int, index: String) throws {
    var classIndices: [[UInt8]: Int32] = [:]
    if labelling.task == .classification {
      classNames = try Self.classNames(db, isNumeric: isNumeric, index: index)
      for (place, name) in classNames.enumerated() { classIndices[Array(name.utf8)] = Int32(clamping: place) }
    }
    try read(db, classIndices, labelling, shards: shards, views: views, index: index)
  }

  private static func classNames(_ db: Database, isNumeric: Bool, index: String) throws -> [String] {
    // SQLite compares text by its bytes, as Python does; a Swift String would find two spellings of é equal.
    let names = try Row.fetchAll(db, sql: "SELECT DISTINCT label FROM sample WHERE status = 'ok' AND label IS NOT NULL ORDER BY label")
      .map { $0.text(0) ?? "" }
    if isNumeric {
      let numbers = names.compactMap(Int64.init)
      guard numbers.count == names.count else { throw StoreError.damagedIndex(index, "labels that should be numbers are none") }
      return numbers.sorted().map(String.init)
    }
    return names
  }

  private mutating func read(
    _ db: Database, _ classIndices: [[UInt8]: Int32], _ labelling: Labelling, shards: [Shard], views: Int, index: String
  ) throws {
    let places = Dictionary(uniqueKeysWithValues: labelling.names.enumerated().map { ($1, $0) })
    var (rowsOfText, rowCount): ([String: Int32], Int32) = ([:], 0)
    /// The place of a label among the classes, or the row of its targets.
    func targetPlace(_ label: String) throws -> Int32? {
      if labelling.task == .classification { return classIndices[Array(label.utf8)] }
      if let known = rowsOfText[label] { return known }
      guard let values = labelling.values(of: label, places: places) else { return nil }
      targets += values
      // Numbers seldom repeat, and their texts are longer than they are.
      if labelling.task == .multilabel { rowsOfText[label] = rowCount }
      rowCount += 1
      return rowCount - 1
    }
    let shardIndices = Dictionary(shards.enumerated().map { ($1.id, $0) }) { first, _ in first }

    skippedCount = try Int.fetchOne(db, sql: "SELECT count(*) FROM sample WHERE status <> 'ok'") ?? 0
    let samples = try Row.fetchCursor(db, sql: "SELECT id, label, split, shard, row, path FROM sample WHERE status = 'ok' ORDER BY path")
    while let row = try samples.next() {
      guard let id = row.integer(0), let label = row.text(1), let split = row.text(2), let shard = row.integer(3).flatMap({ shardIndices[$0] }),
        let place = row.integer(4), (0..<max(0, shards[shard].rows - views + 1)).contains(place), let rowIndex = Int32(exactly: place),
        let labelIndex = try targetPlace(label)
      else {
        throw StoreError.damagedIndex(
          index, "the row of sample '\(row.text(5) ?? "?")' is not there, or its label or split is missing or makes no sense")
      }
      bySplit[split, default: []].append(
        StoredSample(id: Int64(id), labelIndex: labelIndex, shardIndex: Int32(clamping: shard), rowIndex: rowIndex))
    }
  }
}
