import Foundation
import GRDB
import GraftDevice
import GraftGraph

/// What a writer does with a store that is already there.
public enum StoreOpening: String, Sendable {
  /// Adds to it; refuses one that is damaged or of another key.
  case resuming
  /// Forgets the shards that are damaged, so that their rows are computed again, and adds to the rest.
  case repairing
  /// Computes all features anew beside those that are there, which go when that has come to its end.
  case rebuilding
}

/// Where a row of features lies.
struct FeaturePlace: Equatable {
  var shard: Int
  var row: Int
}

/// What the index says of one sample.
struct SampleRecord {
  /// The file as it was when its content was hashed.
  struct Stamp: Equatable {
    var byteCount: Int
    var modifiedNanoseconds: Int
    var changedNanoseconds: Int
  }

  var path: String
  var contentHash: String?
  var label: String?
  /// `nil`: by the store's rule, from the content.
  var split: String?
  /// `nil` for a skipped sample.
  var place: FeaturePlace?
  /// Why it was skipped.
  var message: String?
  var stamp: Stamp?
}

/// The one process that adds to a store.
///
/// Rows go to a shard's temporary file. When it is full, or its first row half a minute old, `commit` syncs and renames it
/// and then names it, with its samples, in one transaction: whenever the process ends, the index names only files that are
/// whole and on the disk, and the next writer removes what no transaction names. Used by one thread; `isKnown` by any.
///
/// A store that is rebuilt has a second index meanwhile, `rebuilt.sqlite`, whose shards have numbers behind the others'. `close` puts it
/// in the place of the first, and then the old shards go. Until then the store is what it was, and another rebuild with the same key, device
/// and version goes on with what an interrupted one has committed; any other writer removes it. Samples stay in their splits: the rule is the
/// old store's, where that can be read and no other is given.
final class FeatureStoreWriter {
  let path: String
  let key: FeatureKey
  let splitRule: SplitRule
  let index: StoreIndex
  /// Rows a shard.
  let shardRows: Int
  /// How old a row may grow before it is committed: the most work that a kill can cost.
  var longestWait = ExtractionOptions().longestUncommitted
  /// Called at each step of a commit.
  var onStep: ((StoreStep) throws -> Void)?

  /// Whether another index is there until this one takes its place.
  let isReplacing: Bool
  private let lock: StoreLock
  /// Whether there was no index, and the folders that were not there, the innermost first.
  private let isNew: Bool
  private let madeFolders: [String]
  private var promised = Promised()
  private var nextShard: Int
  private var shard: ShardWriter?
  private var shardStart = ContinuousClock.now
  /// Rows of the open shard, by content.
  private var pendingPlaces: [String: FeaturePlace] = [:]
  /// Samples whose rows are in the open shard, and samples that wait for nothing.
  private var pendingSamples: [SampleRecord] = []
  private var settledSamples: [SampleRecord] = []

  static let largestShardByteCount = 64 << 20
  private static let mostSamplesWaiting = 1024

  /// Locks the store, makes it if it is not there, and removes what an interrupted run left.
  ///
  /// - Parameters:
  ///   - split: the rule to use from now on; `nil` keeps the store's, also of one that is rebuilt.
  ///   - shardRows: rows committed at a time; `nil`: 2048. Never more than 64 MiB.
  ///   - facts: further rows of the table `store`, which features do not depend on.
  ///   - advice: how messages call the option that names the store, and what replaces one that holds other features.
  /// - Throws: `StoreError`, `FileError`.
  init(
    path: String, key: FeatureKey, opening: StoreOpening = .resuming, split: SplitRule? = nil, shardRows: Int? = nil, facts: [String: String] = [:],
    advice: (option: String, replacing: String) = ExtractionOptions().advice
  ) throws {
    guard key.isUsable else {
      throw StoreError(
        .values, path: path, reason: "features of shape \(key.cutShape) in \(key.featureType) cannot be stored",
        remedy: "Store float32 or float16, with every extent above 0.")
    }
    if let split, !(0...1).contains(split.testFraction) {
      throw StoreError(.values, path: path, reason: "a test fraction of \(split.testFraction) is none", remedy: "Give a number from 0 to 1.")
    }
    (self.path, self.key) = (path, key)
    madeFolders = Self.missingFolders(path)
    try Self.makeFolder(path, option: advice.option)
    lock = try StoreLock(folder: path, option: advice.option)
    isReplacing = opening == .rebuilding && access(path + "/" + StoreIndex.fileName, F_OK) == 0
    let old = isReplacing ? Self.contents(of: path, StoreIndex.fileName) : nil
    let begun = isReplacing ? Self.contents(of: path, StoreIndex.rebuiltName) : nil
    if isReplacing, begun.map({ Self.canGoOn($0, store: path, key, facts) }) != true { try Self.removeIndex(path, StoreIndex.rebuiltName) }
    index = try StoreIndex(writingInto: path, name: isReplacing ? StoreIndex.rebuiltName : StoreIndex.fileName)
    let rowByteCount = key.featureCount * key.featureType.byteCount
    self.shardRows = max(1, min(shardRows ?? 2048, Self.largestShardByteCount / rowByteCount))
    let index = index
    let stored = try index.read { db in try index.entries(db, store: path) }
    // A store without a single row holds features of nothing: a run that failed must not stand in the way of the next one.
    var isReplaced = false
    isNew = stored == nil
    if let stored {
      let differences = key.differences(from: stored)
      isReplaced = try !differences.isEmpty && index.shards().isEmpty
      guard differences.isEmpty || isReplaced else {
        throw StoreError(
          .stale, path: path, reason: "the store holds other features: \(differences.joined(separator: "; "))",
          remedy: "Give another \(advice.option) to keep both, or \(advice.replacing) to replace these.")
      }
      guard let rule = SplitRule(entries: stored) else { throw StoreError.damagedIndex(index.path, "the rule of the split is missing") }
      splitRule = split ?? rule
    } else {
      splitRule = split ?? old.flatMap { SplitRule(entries: $0.entries) } ?? .default
    }
    let entries = [("format_version", StoreIndex.formatVersion)] + key.entries.map { ($0.key, $0.value) } + splitRule.entries + facts.map { ($0, $1) }
    nextShard = 0
    if stored == nil {
      try index.write { db in
        try db.execute(sql: StoreIndex.schema)
        for (name, value) in entries { try index.set(name, value, db) }
      }
    } else {
      promised = Promised(entries: entries, isReplacing: isReplaced)
    }
    let shards = try index.shards()
    promised.damaged = try damaged(shards, repairing: opening == .repairing)
    nextShard = (shards.last?.id ?? -1) + 1
    if isReplacing {
      // What earlier rebuilds have left goes at once: one that fails each time must not fill the disk. Of an index that cannot be read the
      // shards may be needed again; those of rebuilds have numbers behind theirs.
      let first = begun?.entries[Self.firstShardKey].flatMap(Int.init)
      if old != nil || first != nil { try removeOrphans(besides: (old?.shards ?? []) + shards, from: old == nil ? first ?? 0 : 0) }
      // No number that a file has is given again.
      nextShard = try max(nextShard, (shardFiles().map(Shard.id).max() ?? -1) + 1)
      if stored == nil { try index.write { db in try index.set(Self.firstShardKey, String(nextShard), db) } }
    } else {
      try Self.removeIndex(path, StoreIndex.rebuiltName)
      try removeOrphans(besides: shards)
    }
  }

  /// In the index of a store that is rebuilt, until it is done: the number of its first shard.
  private static let firstShardKey = "first_shard"

  /// The table `store` and the shards of an index; `nil` if there is none that can be read.
  private static func contents(of store: String, _ name: String) -> (entries: [String: String], shards: [Shard])? {
    guard access(store + "/" + name, F_OK) == 0, let index = try? StoreIndex(writingInto: store, name: name) else { return nil }
    defer { try? index.close() }
    return try? index.read { db in
      guard let entries = try index.entries(db, store: store) else { return nil }
      return (entries, try index.shards(db))
    }
  }

  /// Whether an interrupted rebuild can be gone on with. Who rebuilds because a device or a version computed badly wants none of its rows.
  private static func canGoOn(
    _ begun: (entries: [String: String], shards: [Shard]), store: String, _ key: FeatureKey, _ facts: [String: String]
  ) -> Bool {
    key.differences(from: begun.entries).isEmpty && ["device", "graft_version"].allSatisfy { begun.entries[$0] == facts[$0] }
      && begun.shards.allSatisfy { (try? $0.map(store: store, key: key)) != nil }
  }

  /// Says what labels are from now on, and writes, in the same transaction, what depends on it and what opening has put off.
  ///
  /// - Parameters:
  ///   - facts: further rows of the table `store` that go with the labels; `nil`: there is none of that name.
  ///   - body: gets whether labels were something else before.
  func declare<Result>(
    _ labelling: Labelling, facts: [String: String?] = [Labelling.fileKey: nil], _ body: (Database, _ hasChanged: Bool) throws -> Result
  ) throws -> Result {
    let result = try index.write { db in
      try keepPromises(db)
      let known = try index.entries(db, store: path) ?? [:]
      let entries = [Labelling.taskKey: nil, Labelling.namesKey: nil].merging(labelling.entries) { $1 }.merging(facts) { $1 }
      for (name, value) in entries.sorted(by: { $0.key < $1.key }) { try index.set(name, value, db) }
      // A label of another kind is no label in the order of this one.
      let isReordered = facts[Labelling.orderKey].map { $0 != known[Labelling.orderKey] } ?? false
      return try body(db, isReordered || Labelling(entries: known) != labelling)
    }
    let hadDamage = !promised.damaged.isEmpty
    promised = Promised()
    if hadDamage { try removeOrphans(besides: index.shards()) }
    return result
  }

  /// What opening a store that is there will change: a run that finds nothing to do, or is interrupted in its walk, leaves all as it was.
  private struct Promised {
    var entries: [(String, String)] = []
    /// Whether the store, which has no rows, becomes one of another key.
    var isReplacing = false
    /// The shards to forget.
    var damaged: [Shard] = []
  }

  private func keepPromises(_ db: Database) throws {
    if promised.isReplacing { try db.execute(sql: "DELETE FROM store; DELETE FROM sample") }
    for (name, value) in promised.entries { try index.set(name, value, db) }
    guard !promised.damaged.isEmpty else { return }
    // From now on samples lack, until they are computed again.
    let count = try Int.fetchOne(db, sql: "SELECT count(*) FROM sample WHERE status = 'ok'") ?? 0
    for shard in promised.damaged {
      for sql in ["DELETE FROM sample WHERE shard = ?", "DELETE FROM feature WHERE shard = ?", "DELETE FROM shard WHERE id = ?"] {
        try db.execute(sql: sql, arguments: [shard.id])
      }
    }
    try markUnfinished(db, count: count)
  }

  /// Says, until `close`, that samples are on their way: readers see what is there so far, and it may lack whole classes.
  func markUnfinished(_ db: Database, count: Int) throws {
    try index.set(FeatureStore.unfinishedKey, String(count), db)
  }

  /// Ends the writing of a run that came to its end; what was not committed is lost.
  ///
  /// - Parameter isUsable: whether what was rebuilt may replace what is there; if not, that stays.
  func close(isUsable: Bool = true) throws {
    shard = nil
    guard !isReplacing || isUsable else {
      try index.close()
      return try Self.removeIndex(path, StoreIndex.rebuiltName)
    }
    try index.write { db in
      for name in [FeatureStore.unfinishedKey, Self.firstShardKey] { try index.set(name, nil, db) }
    }
    guard isReplacing else { return try index.close() }
    let shards = try index.shards()
    try index.checkpoint()
    try index.close()
    try replaceIndex()
    try removeOrphans(besides: shards)
  }

  /// Puts the rebuilt index, which is whole and closed, in the place of the one that is there.
  private func replaceIndex() throws {
    // A log must never lie beside an index that it is not of. What the old one's holds goes into its index first, so that the store is
    // whole also if the process ends here.
    if let old = try? StoreIndex(writingInto: path) {
      try? old.checkpoint()
      try? old.close()
    }
    try Self.removeIndex(path, suffixes: ["-wal", "-shm", "-journal"])
    let (source, target) = (path + "/" + StoreIndex.rebuiltName, path + "/" + StoreIndex.fileName)
    guard rename(source, target) == 0 else { throw FileError(path: target, action: "replace", code: errno) }
    try AtomicFile.syncFolder(path)
  }

  /// Takes back what opening has made, where there was no store before: a run that found nothing leaves nothing.
  func removeIfNew() {
    guard isNew, (try? index.close()) != nil else { return }
    if isReplacing {
      try? Self.removeIndex(path, StoreIndex.rebuiltName)
      return
    }
    try? Self.removeIndex(path)
    rmdir(path + "/" + Shard.folderName)
    unlink(path + "/" + StoreLock.fileName)
    // Folders that hold something stay.
    for folder in madeFolders { rmdir(folder) }
  }

  // MARK: Rows and samples

  /// The row of a content, committed or not.
  func place(ofContent hash: String) throws -> FeaturePlace? {
    if let pending = pendingPlaces[hash] { return pending }
    return try index.read { db in
      guard let row = try Row.fetchOne(db.cachedStatement(sql: "SELECT shard, row FROM feature WHERE content_sha256 = ?"), arguments: [hash]),
        let shard = row.integer(0), let place = row.integer(1)
      else { return nil }
      return FeaturePlace(shard: shard, row: place)
    }
  }

  /// Adds the rows of a content that has none: one a view, which lie one after the other in one shard.
  ///
  /// - Returns: the place of the first.
  func append(_ rows: UnsafeBufferPointer<Float>, contentHash: String) throws -> FeaturePlace {
    let target: ShardWriter
    if let shard {
      target = shard
    } else {
      target = try ShardWriter(store: path, id: nextShard, key: key)
      (shard, shardStart) = (target, .now)
    }
    precondition(rows.count == key.views * key.featureCount, "\(rows.count) numbers for \(key.views) rows of \(key.featureCount)")
    for view in 0..<key.views {
      try target.append(UnsafeBufferPointer(rebasing: rows[view * key.featureCount..<(view + 1) * key.featureCount]))
    }
    let place = FeaturePlace(shard: target.id, row: target.rows - key.views)
    pendingPlaces[contentHash] = place
    try onStep?(.rowsWritten)
    return place
  }

  /// Takes note of a sample, and commits when enough has come together.
  func record(_ sample: SampleRecord) throws {
    if let place = sample.place, place.shard == shard?.id { pendingSamples.append(sample) } else { settledSamples.append(sample) }
    if let shard,
      shard.rows >= shardRows || shardStart.duration(to: .now) >= longestWait || pendingSamples.count >= 2 * shardRows + Self.mostSamplesWaiting
    {
      try commit()
    } else if settledSamples.count >= Self.mostSamplesWaiting {
      try insertSettled()
    }
  }

  /// Puts everything so far on the disk and into the index.
  func commit() throws {
    guard let shard else { return try insertSettled() }
    let step: (StoreStep) throws -> Void = { [onStep] in try onStep?($0) }
    let finished = try shard.finish(step: step)
    try index.write { db in
      try db.execute(
        sql: "INSERT INTO shard VALUES (?, ?, ?, ?)", arguments: [finished.id, finished.file, finished.rows, finished.sha256])
      let statement = try db.cachedStatement(sql: "INSERT INTO feature VALUES (?, ?, ?)")
      for (hash, place) in pendingPlaces { try statement.execute(arguments: [hash, place.shard, place.row]) }
      try insert(settledSamples, db)
      try insert(pendingSamples, db)
      try step(.insideTransaction)
    }
    self.shard = nil
    nextShard += 1
    pendingPlaces.removeAll(keepingCapacity: true)
    pendingSamples.removeAll(keepingCapacity: true)
    settledSamples.removeAll(keepingCapacity: true)
    try step(.afterCommit)
  }

  private func insertSettled() throws {
    guard !settledSamples.isEmpty else { return }
    try index.write { db in try insert(settledSamples, db) }
    settledSamples.removeAll(keepingCapacity: true)
  }

  private func insert(_ samples: [SampleRecord], _ db: Database) throws {
    let statement = try db.cachedStatement(
      sql: """
        INSERT INTO sample(path, content_sha256, label, split, shard, row, status, message, byte_count, modified_ns, changed_ns)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT(path) DO UPDATE SET content_sha256 = excluded.content_sha256, label = excluded.label, split = excluded.split,
          shard = excluded.shard, row = excluded.row, status = excluded.status, message = excluded.message,
          byte_count = excluded.byte_count, modified_ns = excluded.modified_ns, changed_ns = excluded.changed_ns
        """)
    for sample in samples {
      try statement.execute(arguments: [
        sample.path, sample.contentHash, sample.label, sample.split ?? sample.contentHash.map(splitRule.split), sample.place?.shard,
        sample.place?.row, sample.place == nil ? "skipped" : "ok", sample.message, sample.stamp?.byteCount, sample.stamp?.modifiedNanoseconds,
        sample.stamp?.changedNanoseconds,
      ])
    }
  }

  // MARK: Opening

  private static func makeFolder(_ path: String, option: String) throws {
    try FolderListing.make(path)
    let names = try FolderListing(path: path).names.map { String(decoding: $0, as: UTF8.self) }
    let indices = [StoreIndex.fileName, StoreIndex.rebuiltName].flatMap { name in ["", "-wal", "-shm", "-journal"].map { name + $0 } }
    let ours = indices + [StoreLock.fileName, Shard.folderName]
    guard names.contains(StoreIndex.fileName) || names.allSatisfy(ours.contains) else {
      throw StoreError(
        .notAStore, path: path, reason: "the folder is not empty and is not a feature store", remedy: "Give \(option) a new or an empty folder.")
    }
    let shards = path + "/" + Shard.folderName
    try FolderListing.make(shards)
  }

  private static func missingFolders(_ path: String) -> [String] {
    var (missing, folder): ([String], String) = ([], path)
    while !folder.isEmpty, access(folder, F_OK) != 0 {
      missing.append(folder)
      folder = FilePath.folder(of: folder)
    }
    return missing
  }

  // The log goes first: an index without its log is older, a log without its index is nothing.
  private static func removeIndex(
    _ store: String, _ name: String = StoreIndex.fileName, suffixes: [String] = ["-wal", "-shm", "-journal", ""]
  ) throws {
    for suffix in suffixes {
      let file = store + "/" + name + suffix
      guard unlink(file) == 0 || errno == ENOENT else { throw FileError(path: file, action: "remove", code: errno) }
    }
  }

  /// Every shard must be there and have the right size; when repairing, the right content too, and those that don't are given.
  private func damaged(_ shards: [Shard], repairing: Bool) throws -> [Shard] {
    try shards.filter { shard in
      do {
        let (bytes, _) = try shard.map(store: path, key: key)
        return repairing && bytes.withUnsafeBytes { ContentHash.of($0) } != shard.sha256
      } catch let error as StoreError where repairing && error.kind == .damaged {
        return true
      }
    }
  }

  private func shardFiles() throws -> [String] {
    try FolderListing(path: path + "/" + Shard.folderName).names.map { String(decoding: $0, as: UTF8.self) }.filter(Shard.isOurs)
  }

  /// Removes shards, of that number or a higher one, that were written and never named, or are no longer.
  private func removeOrphans(besides shards: [Shard], from first: Int = 0) throws {
    let named = Set(shards.map(\.file))
    for name in try shardFiles() where Shard.id(name) >= first && !named.contains("\(Shard.folderName)/\(name)") {
      let file = "\(path)/\(Shard.folderName)/\(name)"
      guard unlink(file) == 0 || errno == ENOENT else { throw FileError(path: file, action: "remove", code: errno) }
    }
  }
}

extension StoreIndex {
  /// Writes a row of the table `store`, or, with `nil`, removes it.
  func set(_ name: String, _ value: String?, _ db: Database) throws {
    if let value {
      try db.execute(sql: "INSERT INTO store VALUES (?, ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value", arguments: [name, value])
    } else {
      try db.execute(sql: "DELETE FROM store WHERE key = ?", arguments: [name])
    }
  }

  /// The table `shard`, by id.
  ///
  /// - Throws: `StoreError` if a row makes no sense.
  func shards() throws -> [Shard] { try read(shards) }

  func shards(_ db: Database) throws -> [Shard] {
    try Row.fetchAll(db, sql: "SELECT id, file, rows, sha256 FROM shard ORDER BY id").map { row in
      // A file outside the store's own folder is never ours to read, or to remove.
      guard let id = row.integer(0), let file = row.text(1), let rows = row.integer(2), let sha256 = row.text(3), (0..<1 << 40).contains(id),
        rows > 0,
        file == "\(Shard.folderName)/\(Shard.fileName(id: id))"
      else { throw StoreError.damagedIndex(path, "the table of shards makes no sense") }
      return Shard(id: id, file: file, rows: rows, sha256: sha256)
    }
  }
}
