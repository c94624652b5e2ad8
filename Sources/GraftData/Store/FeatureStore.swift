import Foundation
import GRDB
import GraftGraph

/// A sample that has features: its label, and where its row lies; of several views, view 0. 24 bytes, so that a million of them are no burden.
public struct StoredSample: Sendable, Equatable {
  /// The `id` in the index.
  public let id: Int64
  /// The class, or the row of the store's targets.
  let labelIndex: Int32
  /// Where the shard is in the store's list, and the row in it.
  let shardIndex: Int32
  fileprivate(set) var rowIndex: Int32

  /// The class, as a place in `FeatureStore.classNames`. Samples of a store of another task have no class: `FeatureStore.targets(of:)`.
  public var label: Int { Int(labelIndex) }
  /// The shard, as a place in the list that the store opened with.
  public var shard: Int { Int(shardIndex) }
  public var row: Int { Int(rowIndex) }
}

/// A folder of features, opened for reading: what trains, evaluates and inspects.
///
/// Opening reads the index in one transaction and maps the shards. What it shows does not change afterwards, even while
/// someone adds to the store. Rows stay on disk until they are asked for.
public final class FeatureStore: Sendable {
  public let path: String
  /// What the features are a function of.
  public let key: FeatureKey
  /// The rule that splits samples whose folder does not.
  public let splitRule: SplitRule
  /// The whole table `store`.
  public let entries: [String: String]
  /// What samples are labelled with.
  public let labelling: Labelling
  /// The classes of samples with features: by bytes, or by value when they came as integers; empty in stores of other tasks.
  public let classNames: [String]
  /// Samples that have features, by split. Within one, sorted by path: the order does not depend on how the store grew.
  public let samplesBySplit: [String: [StoredSample]]
  /// How many images were skipped as unreadable.
  public let skippedCount: Int
  /// How many samples the run that fills the store set out to have, where it is under way or was interrupted; `nil`: it came to its end.
  public var unfinishedCount: Int? { entries[Self.unfinishedKey].flatMap(Int.init) }
  static let unfinishedKey = "unfinished"

  let index: StoreIndex
  let shards: [Shard]
  private let mapped: [(bytes: HostBytes, dataOffset: Int)]
  /// `[rows, T]`, in stores without classes.
  private let targetRows: [Double]

  /// Opens a store for reading.
  ///
  /// Every shard must be there, with the header and size that the index says; `verify` reads all of their bytes too.
  ///
  /// - Throws: `StoreError`, `FileError`.
  public static func open(reading path: String) throws -> FeatureStore { try open(reading: path) {} }

  /// - Parameter onIndexRead: called when the index has been read, and the shards are about to be mapped.
  package static func open(reading path: String, onIndexRead: () throws -> Void) throws -> FeatureStore {
    let first = try Snapshot(path)
    try onIndexRead()
    do { return try FeatureStore(path, first) } catch let error as StoreError where error.kind == .damaged {
      // A rebuild may have put another index in the place of this one meanwhile, and removed its shards.
      guard let second = try? Snapshot(path), second.shards != first.shards else { throw error }
      return try FeatureStore(path, second)
    }
  }

  private init(_ path: String, _ snapshot: Snapshot) throws {
    self.path = path
    (index, entries, key, splitRule) = (snapshot.index, snapshot.entries, snapshot.key, snapshot.splitRule)
    (shards, labelling, targetRows) = (snapshot.shards, snapshot.labelling, snapshot.table.targets)
    (classNames, samplesBySplit, skippedCount) = (snapshot.table.classNames, snapshot.table.bySplit, snapshot.table.skippedCount)
    mapped = try snapshot.shards.map { try $0.map(store: path, key: snapshot.key) }
  }

  /// What one transaction finds in the index.
  private struct Snapshot {
    let index: StoreIndex
    let entries: [String: String]
    let key: FeatureKey
    let splitRule: SplitRule
    let labelling: Labelling
    let shards: [Shard]
    let table: SampleTable

    init(_ path: String) throws {
      let index = try StoreIndex(readingFrom: path)
      self.index = index
      (entries, key, splitRule, labelling, shards, table) = try index.read { db in
        guard let entries = try index.entries(db, store: path) else {
          throw StoreError(.notAStore, path: path, reason: "the store is empty: nothing was ever written to it", remedy: "Run 'graft extract' first.")
        }
        guard let key = FeatureKey(entries: entries), let rule = SplitRule(entries: entries), let labelling = Labelling(entries: entries) else {
          throw StoreError.damagedIndex(index.path, "the table that says what the features are makes no sense")
        }
        let shards = try index.shards(db)
        let table = try SampleTable(
          db, shards: shards, isNumeric: entries[Labelling.orderKey] == "numeric", labelling: labelling, views: key.views, index: index.path)
        return (entries, key, rule, labelling, shards, table)
      }
    }
  }

  // MARK: Samples

  /// Samples with features, of one split or (`nil`) of all: train, then val, then test, then any other.
  public func samples(split: String? = nil) -> [StoredSample] {
    if let split { return samplesBySplit[split] ?? [] }
    let known = ["train", "val", "test"]
    return (known + samplesBySplit.keys.filter { !known.contains($0) }.sorted()).flatMap { samplesBySplit[$0] ?? [] }
  }

  /// What samples of a store without classes are labelled with, `[N, T]`: 1 for labels that a sample has and 0 for the others, or numbers.
  ///
  /// Our own invariant: the store is not one of classes, and the samples are its own.
  public func targets(of samples: some Collection<StoredSample>) -> [Double] {
    let width = labelling.names.count
    return samples.flatMap { targetRows[$0.label * width..<($0.label + 1) * width] }
  }

  /// The path of a sample relative to the data set's folder, or what stands for it (`row 000123`); `nil` if it has gone since.
  public func path(of sample: StoredSample) throws -> String? {
    try index.read { db in try Row.fetchOne(db.cachedStatement(sql: "SELECT path FROM sample WHERE id = ?"), arguments: [sample.id])?.text(0) }
  }

  /// Images that were skipped, and why: the first `limit`, by path.
  public func skipped(limit: Int = 100) throws -> [SkippedImage] {
    try index.read { db in
      try Row.fetchAll(db, sql: "SELECT path, message FROM sample WHERE status <> 'ok' ORDER BY path LIMIT ?", arguments: [limit])
        .map { SkippedImage(path: $0.text(0) ?? "", reason: $0.text(1) ?? "") }
    }
  }

  /// Another view of a sample: its row is that view's.
  ///
  /// Our own invariant: `0 ≤ number < key.views`, and `sample` is view 0 as `samples` gives it.
  public func view(_ number: Int, of sample: StoredSample) -> StoredSample {
    precondition((0..<key.views).contains(number), "view \(number) of \(key.views)")
    var view = sample
    view.rowIndex += Int32(number)
    return view
  }

  /// All views of samples, those of one next to each other and view 0 first.
  public func allViews(of samples: some Collection<StoredSample>) -> [StoredSample] {
    key.views == 1 ? Array(samples) : samples.flatMap { sample in (0..<key.views).map { view($0, of: sample) } }
  }

  // MARK: Rows

  /// Numbers a row.
  public var featureCount: Int { key.featureCount }

  /// The bytes of a sample's row in the mapped shard, little endian in `key.featureType`, for as long as `body` runs.
  public func withRow<Result>(_ sample: StoredSample, _ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
    let byteCount = featureCount * key.featureType.byteCount
    let (bytes, offset) = mapped[sample.shard]
    return try bytes.withUnsafeBytes { content in
      let start = offset + sample.row * byteCount
      return try body(UnsafeRawBufferPointer(rebasing: content[start..<start + byteCount]))
    }
  }

  /// Copies rows as float32, one after the other: `target: [samples.count, featureCount]`.
  public func gather(_ samples: some Collection<StoredSample>, into target: UnsafeMutableBufferPointer<Float>) {
    let width = featureCount
    precondition(target.count == samples.count * width, "\(target.count) places for \(samples.count) rows of \(width)")
    var destination = target.baseAddress
    for sample in samples {
      guard let place = destination else { return }
      withRow(sample) { row in
        if key.featureType == .float16 {
          Self.widen(row, to: place)
        } else {
          UnsafeMutableRawPointer(place).copyMemory(from: row.baseAddress!, byteCount: row.count)
        }
      }
      destination = place + width
    }
  }

  /// Half to single precision without a branch, so that the compiler makes vectors of it: the bits are moved to where float32
  /// has them and scaled by 2^112, which is exact for subnormal numbers too; infinity and NaN then get float32's exponent.
  private static func widen(_ row: UnsafeRawBufferPointer, to target: UnsafeMutablePointer<Float>) {
    for index in 0..<row.count / 2 {
      let half = UInt32(row.loadUnaligned(fromByteOffset: index &* 2, as: UInt16.self))
      let magnitude = (half & 0x7FFF) << 13
      let scaled = (Float(bitPattern: magnitude) * 0x1p112).bitPattern
      let special: UInt32 = magnitude >= 0x0F80_0000 ? 0x7F80_0000 : 0
      target[index] = Float(bitPattern: scaled | special | (half & 0x8000) << 16)
    }
  }

  // MARK: Verification

  /// Reads every shard and compares it with the hash in the index, and has SQLite check the index itself.
  ///
  /// - Throws: `StoreError` that names the first damaged file.
  public func verify() throws {
    try index.read { db in
      let verdict = try String.fetchOne(db, sql: "PRAGMA integrity_check(1)") ?? ""
      guard verdict == "ok" else { throw StoreError.damagedIndex(index.path, "the index is damaged (\(verdict))") }
    }
    for shard in shards where try ContentHash.ofFile(path + "/" + shard.file) != shard.sha256 {
      throw StoreError.damaged(path + "/" + shard.file, "the shard is not what was written: its SHA-256 differs", source: key.source)
    }
  }
}

/// An image without features, and why.
public struct SkippedImage: Sendable, Equatable {
  public let path: String
  public let reason: String

  public init(path: String, reason: String) { (self.path, self.reason) = (path, reason) }
}
