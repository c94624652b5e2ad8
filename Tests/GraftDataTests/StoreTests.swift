import Foundation
import GRDB
import GraftData
import GraftGraph
import Testing

@Suite struct StoreTests {
  @Test func othersReadTheIndexByItsColumns() throws {
    let (_, store, folder) = try filled()
    defer { _ = folder }
    #expect(try sqlite(store, "SELECT count(*) FROM sample JOIN shard ON sample.shard = shard.id") == "12")
    for column in ["id", "path", "content_sha256", "label", "split", "shard", "row", "status"] {
      #expect(try sqlite(store, "SELECT count(\(column)) FROM sample") == "12", "sample.\(column)")
    }
    let file = try #require(try sqlite(store, "SELECT file FROM shard ORDER BY id")?.trimmingCharacters(in: ["\""]))
    #expect(file == "shards/000000.npy")
    #expect(try Npy.tensor(of: store + "/" + file).shape == [8, 5])
    #expect(try sqlite(store, "SELECT value FROM store WHERE key = 'cut'") == "\"features\"")
    #expect(try sqlite(store, "SELECT journal_mode FROM pragma_journal_mode") == "\"wal\"")
  }

  @Test func rowsThatWaitedLongEnoughAreCommitted() throws {
    let (photos, folder) = (try TestPhotos(), try TemporaryFolder())
    try photos.fill(5)
    var options = testOptions(shardRows: 8)
    options.longestUncommitted = .zero
    try extract(photos, to: folder.path + "/store", options: options)
    #expect(try sqlite(folder.path + "/store", "SELECT group_concat(rows) FROM shard") == "\"1,1,1,1,1\"")
  }

  @Test func refusesOtherFeaturesAndNamesWhatDiffers() throws {
    let (photos, store, folder) = try filled()
    defer { _ = folder }
    let changes: [(String, (inout FeatureKey) -> Void)] = [
      ("the backbone is 'abababababab…' there and 'cdcdcdcdcdcd…' now", { $0.backboneSHA256 = String(repeating: "cd", count: 32) }),
      ("the cut is 'features' there and 'logits' now", { $0.cut = "logits" }),
      ("the cut's shape is '5' there and '5x2' now", { $0.cutShape = [5, 2] }),
      ("the preprocessing", { $0.preprocessing = "bicubic" }), ("the precision", { $0.precision = "float16" }),
      ("the number of views", { $0.views = 3 }), ("the features' number format", { $0.featureType = .float16 }),
      ("the way the features came here", { $0.source = .imported }),
    ]
    for (words, change) in changes {
      var key = testKey()
      change(&key)
      let error = try #require(throws: StoreError.self) { try extract(photos, to: store, key: key) }
      #expect(error.kind == .stale && error.description.contains(words) && error.description.contains("--rebuild"), "\(error)")
    }
    #expect(try extract(photos, to: store).summary.reused == 12)
    let (summary, _) = try extract(photos, to: store, key: testKey(shape: [2, 2]), options: testOptions(opening: .rebuilding))
    #expect(summary.extracted == 12)
    #expect(try FeatureStore.open(reading: store).key.cutShape == [2, 2])
    #expect(try FileManager.default.contentsOfDirectory(atPath: store + "/shards").sorted() == ["000002.npy", "000003.npy"])
    #expect(try folder.names("store").filter { !$0.hasPrefix("index.sqlite-") } == ["index.sqlite", "lock", "shards"])
  }

  @Test func aNewSampleMovesNoOther() throws {
    let (photos, store, folder) = try filled(60)
    defer { _ = folder }
    func splits() throws -> [String: String] {
      let opened = try FeatureStore.open(reading: store)
      var splits: [String: String] = [:]
      for (split, samples) in opened.samplesBySplit { for sample in samples { splits[try opened.path(of: sample) ?? "?"] = split } }
      return splits
    }
    let before = try splits()
    #expect(Set(before.values) == ["train", "test"])
    try photos.fill(40, from: 60)
    try photos.folder.move("ant/00000.png", to: "ant/renamed.png")
    try extract(photos, to: store)
    var after = try splits()
    #expect(after.count == 100)
    after["ant/00000.png"] = after["ant/renamed.png"]
    #expect(before.allSatisfy { after[$0.key] == $0.value })
    // Another rule costs no computation; without one, the store's stays.
    let (summary, computed) = try extract(photos, to: store, options: testOptions(split: SplitRule(seed: 9, testFraction: 0.5)))
    #expect((summary.reused, computed) == (100, 0))
    let redrawn = try splits()
    #expect((30...70).contains(redrawn.values.count { $0 == "test" }))
    try extract(photos, to: store)
    #expect(try splits() == redrawn)
  }

  /// What a run would change is not changed before it knows that it has something to do.
  @Test func aRunThatEndsInItsWalkChangesNothing() throws {
    let (photos, store, folder) = try filled(12)
    defer { _ = folder }
    let before = try FeatureStore.open(reading: store)
    var options = testOptions(split: SplitRule(seed: 9, testFraction: 0.5))
    options.facts = ["device": "another"]
    let empty = try TestPhotos()
    try empty.folder.write("ant/notes.txt", [1])
    #expect(throws: DataSetError.self) { try extract(empty, to: store, options: options) }
    let flag = CancellationFlag()
    flag.cancel()
    let error = try #require(throws: CancelledError.self) { try extract(photos, to: store, options: options, cancellation: flag) }
    #expect(error.description.contains("Nothing was changed"))
    let after = try FeatureStore.open(reading: store)
    #expect(after.entries == before.entries && after.splitRule == before.splitRule)
    #expect(after.samplesBySplit == before.samplesBySplit)
    try extract(photos, to: store, options: options)
    #expect(try FeatureStore.open(reading: store).entries["device"] == "another")
    #expect(try FeatureStore.open(reading: store).splitRule == SplitRule(seed: 9, testFraction: 0.5))
  }

  @Test func theSplitIsAFractionOfAHash() {
    let rule = SplitRule(seed: 3, testFraction: 0.2)
    let keys = (0..<10_000).map { ContentHash.of("\($0)") }
    let tests = keys.filter { rule.split(groupKey: $0) == "test" }
    // Five standard deviations of a fair draw.
    #expect(abs(tests.count - 2000) < 200)
    let other = SplitRule(seed: 4, testFraction: 0.2)
    #expect(abs(tests.count { other.split(groupKey: $0) == "test" } - 400) < 90)
    #expect(keys.allSatisfy { SplitRule(seed: 0, testFraction: 0).split(groupKey: $0) == "train" })
    #expect(keys.allSatisfy { SplitRule(seed: 0, testFraction: 1).split(groupKey: $0) == "test" })
    // A larger test part holds the smaller one.
    #expect(tests.allSatisfy { SplitRule(seed: 3, testFraction: 0.3).split(groupKey: $0) == "test" })
    // Fixed for good: stores on people's disks depend on it. The fractions of hashlib.sha256(b"graft split 1\\n0\\nab") and others.
    for (seed, key, fraction) in [(0, "ab", 0.03208319586661401), (0, "cd", 0.5862884687042491), (7, "ab", 0.04630052353679903)]
      as [(UInt64, String, Double)]
    {
      #expect(SplitRule(seed: seed, testFraction: fraction).split(groupKey: key) == "train")
      #expect(SplitRule(seed: seed, testFraction: fraction.nextUp).split(groupKey: key) == "test")
    }
  }

  // MARK: Damage

  @Test func namesADamagedShardAndRepairsIt() throws {
    let (photos, store, folder) = try filled(20)
    defer { _ = folder }
    let whole = try rows(store)
    let second = store + "/shards/000001.npy"
    let bytes = try Data(contentsOf: URL(fileURLWithPath: second))
    var flipped = bytes
    flipped[flipped.count - 3] ^= 1
    var header = bytes
    header[70] = UInt8(ascii: "9")
    for (damage, isSeenAtOpen) in [(nil, true), (bytes.dropLast(4), true), (Data(), true), (header, true), (flipped, false)] as [(Data?, Bool)] {
      if let damage { try damage.write(to: URL(fileURLWithPath: second)) } else { try FileManager.default.removeItem(atPath: second) }
      let error = try #require(throws: StoreError.self) { try FeatureStore.open(reading: store).verify() }
      #expect(error.kind == .damaged && error.path == second && error.description.contains("--repair"), "\(error)")
      if isSeenAtOpen {
        #expect(throws: error) { try FeatureStore.open(reading: store) }
        #expect(throws: error) { try extract(photos, to: store) }
      }
      let (summary, computed) = try extract(photos, to: store, options: testOptions(opening: .repairing))
      #expect((summary.extracted, summary.reused, computed) == (8, 12, 8))
      try FeatureStore.open(reading: store).verify()
      #expect(try rows(store) == whole)
      // The rows that were computed again lie in a shard of their own: it is damaged next.
      let repaired = try FileManager.default.contentsOfDirectory(atPath: store + "/shards").sorted()
      #expect(repaired == ["000000.npy", "000002.npy", "000003.npy"] || repaired == ["000000.npy", "000001.npy", "000002.npy"])
      try FileManager.default.removeItem(atPath: store)
      try extract(photos, to: store)
    }
  }

  /// Samples of damaged shards leave only once the pictures have been found, and until they are computed the store says that it lacks some.
  @Test func anUnfinishedRepairSaysSo() throws {
    struct DeviceLost: Error {}
    let (photos, store, folder) = try filled(20)
    defer { _ = folder }
    try FileManager.default.removeItem(atPath: store + "/shards/000001.npy")
    let empty = try TestPhotos()
    try empty.folder.write("ant/notes.txt", [1])
    #expect(throws: DataSetError.self) { try extract(empty, to: store, options: testOptions(opening: .repairing)) }
    #expect(try sqlite(store, "SELECT count(*) FROM sample") == "20")
    #expect(throws: DeviceLost.self) {
      try extract(photos, to: store, options: testOptions(opening: .repairing), onBatch: { _ in throw DeviceLost() })
    }
    #expect(try FeatureStore.open(reading: store).samples().count == 12)
    #expect(try FeatureStore.open(reading: store).unfinishedCount == 20)
    try extract(photos, to: store)
    #expect(try FeatureStore.open(reading: store).samples().count == 20)
    #expect(try FeatureStore.open(reading: store).unfinishedCount == nil)
  }

  @Test func aDamagedIndexIsAnErrorAndNeverATrap() throws {
    let (photos, store, folder) = try filled(30)
    defer { _ = folder }
    let index = URL(fileURLWithPath: store + "/index.sqlite")
    let original = try Data(contentsOf: index)
    var random = SeededRandom(seed: 5)
    var refused = 0
    for round in 0..<300 {
      var bytes = original
      switch round % 4 {
      case 0: bytes = bytes.prefix(Int.random(in: 1..<bytes.count, using: &random))
      case 1: bytes = Data((0..<5000).map { _ in UInt8.random(in: 0...255, using: &random) })
      case 2: for _ in 0..<40 { bytes[Int.random(in: 0..<bytes.count, using: &random)] = .random(in: 0...255, using: &random) }
      default:
        let start = Int.random(in: 0..<bytes.count - 200, using: &random)
        bytes.replaceSubrange(start..<start + 200, with: [UInt8](repeating: 0, count: 200))
      }
      try bytes.write(to: index)
      do {
        let opened = try FeatureStore.open(reading: store)
        try opened.verify()
        for sample in opened.samples() { _ = try opened.path(of: sample) }
      } catch let error as StoreError {
        #expect(error.description.contains(store))
        refused += 1
      } catch let error as FileError {
        #expect(error.description.contains(store))
        refused += 1
      }
      for suffix in ["-wal", "-shm"] { try? FileManager.default.removeItem(atPath: index.path + suffix) }
    }
    #expect(refused > 200)
    try Data("not SQLite at all, but long enough to be looked at".utf8).write(to: index)
    let error = try #require(throws: StoreError.self) { try extract(photos, to: store) }
    #expect(error.description.contains("index.sqlite") && error.description.contains("--rebuild"))
    #expect(try extract(photos, to: store, options: testOptions(opening: .rebuilding)).summary.extracted == 30)
  }

  @Test(arguments: [
    "UPDATE sample SET row = 100", "UPDATE sample SET row = -1", "UPDATE sample SET row = 'x'", "UPDATE sample SET row = 9e99",
    "UPDATE sample SET label = NULL", "UPDATE sample SET label = x'ff00'", "UPDATE sample SET split = NULL",
    "UPDATE shard SET file = '../../../etc/passwd' WHERE id = 0", "UPDATE shard SET rows = 9223372036854775807", "UPDATE shard SET rows = 'many'",
    "UPDATE store SET value = '0' WHERE key = 'cut_shape'", "UPDATE store SET value = '99999999999999999999' WHERE key = 'cut_shape'",
    "UPDATE store SET value = '4611686018427387904x4' WHERE key = 'cut_shape'", "UPDATE store SET value = 'int8' WHERE key = 'feature_type'",
    "DELETE FROM store WHERE key = 'split_seed'", "UPDATE store SET value = '7' WHERE key = 'format_version'", "DROP TABLE sample",
    "DROP TABLE feature",
    "UPDATE sample SET id = -id",
  ])
  func anIndexThatLiesIsAnErrorAndNeverATrap(_ sql: String) throws {
    let (photos, store, folder) = try filled(12)
    defer { _ = folder }
    try sqlite(store, sql)
    if sql.contains("SET id") {
      #expect(try FeatureStore.open(reading: store).samples().count == 12)
      return
    }
    let error = try #require(throws: StoreError.self) { try FeatureStore.open(reading: store) }
    #expect(error.description.contains(store))
    // A writer refuses it too, or puts it right.
    do { _ = try extract(photos, to: store) } catch let error as StoreError { #expect(error.description.contains(store)) }
    #expect(try extract(photos, to: store, options: testOptions(opening: .rebuilding)).summary.extracted == 12)
  }

  @Test func refusesFoldersThatAreNoStore() throws {
    let (photos, folder) = (try TestPhotos(), try TemporaryFolder())
    try photos.fill(3)
    try folder.write("taxes.txt", Array("important".utf8))
    let error = try #require(throws: StoreError.self) { try extract(photos, to: folder.path, options: testOptions(opening: .rebuilding)) }
    #expect(error.kind == .notAStore)
    #expect(try folder.names() == ["taxes.txt"])
    for path in [folder.path, folder.path + "/none", folder.path + "/taxes.txt"] {
      #expect(try #require(throws: StoreError.self) { try FeatureStore.open(reading: path) }.kind == .notAStore)
    }
    #expect(throws: FileError.self) { try extract(photos, to: folder.path + "/taxes.txt/store") }
    // Files that are not ours survive among the shards.
    try extract(photos, to: folder.path + "/a/b/store")
    try folder.write("a/b/store/shards/mine.npy", [1])
    try folder.write("a/b/store/shards/000077.npy", [1])
    try folder.write("a/b/store/shards/.000078.npy.part", [1])
    try extract(photos, to: folder.path + "/a/b/store")
    #expect(try folder.names("a/b/store/shards") == ["000000.npy", "mine.npy"])
  }

  /// A store on a disk that cannot be written: SQLite's log has no place there, and none is needed.
  @Test func readsAStoreThatCannotBeWritten() async throws {
    let (_, store, folder) = try filled(12)
    defer { _ = folder }
    let paths = [store, store + "/shards", store + "/index.sqlite"]
    for path in paths { chmod(path, path.hasSuffix("sqlite") ? 0o444 : 0o555) }
    defer { for path in paths { chmod(path, 0o755) } }
    await #expect(processExitsWith: .success) { [store = store as String] in
      if getuid() == 0 { try #require(setuid(65_534) == 0) }
      try #require(access(store, W_OK) != 0)
      let opened = try FeatureStore.open(reading: store)
      #expect(opened.samples().count == 12)
      try opened.verify()
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: store).sorted() == ["index.sqlite", "lock", "shards"])
  }

  @Test func aStoreThatCannotBeWrittenSaysThatItsWriterWasKilled() async throws {
    let (_, store, folder) = try filled(12)
    defer { _ = folder }
    // The log of a writer that is still there, without the file that readers share.
    let writer = try DatabaseQueue(path: store + "/index.sqlite")
    try await writer.writeWithoutTransaction { db in try db.execute(sql: "INSERT INTO store VALUES ('note', '')") }
    let copy = folder.path + "/copy"
    try FileManager.default.copyItem(atPath: store, toPath: copy)
    try FileManager.default.removeItem(atPath: copy + "/index.sqlite-shm")
    try #require(try FileManager.default.contentsOfDirectory(atPath: copy).contains("index.sqlite-wal"))
    let paths = [copy, copy + "/shards", copy + "/index.sqlite"]
    for path in paths { chmod(path, path.hasSuffix("sqlite") ? 0o444 : 0o555) }
    defer { for path in paths { chmod(path, 0o755) } }
    await #expect(processExitsWith: .success) { [copy = copy as String] in
      if getuid() == 0 { try #require(setuid(65_534) == 0) }
      let error = try #require(throws: StoreError.self) { try FeatureStore.open(reading: copy) }
      #expect(error.description.contains("index.sqlite-wal") && error.remedy.contains("can be written"), "\(error)")
    }
    #expect(try FeatureStore.open(reading: store).samples().count == 12)
  }

  /// An empty log holds nothing that would have to be taken in.
  @Test func readsAStoreThatCannotBeWrittenBesideAnEmptyLog() async throws {
    let (_, store, folder) = try filled(12)
    defer { _ = folder }
    try folder.write("store/index.sqlite-wal", [])
    let paths = [store, store + "/shards", store + "/index.sqlite", store + "/index.sqlite-wal"]
    for path in paths { chmod(path, path.contains("sqlite") ? 0o444 : 0o555) }
    defer { for path in paths { chmod(path, 0o755) } }
    await #expect(processExitsWith: .success) { [store = store as String] in
      if getuid() == 0 { try #require(setuid(65_534) == 0) }
      let opened = try FeatureStore.open(reading: store)
      #expect(opened.samples().count == 12)
      try opened.verify()
    }
  }

  @Test func anIndexThatCannotBeReadIsNamed() async throws {
    let (_, store, folder) = try filled(12)
    defer { _ = folder }
    try folder.write("store/index.sqlite-wal", [1])
    let index = store + "/index.sqlite"
    for (path, mode) in [(index, 0o000), (store, 0o555)] as [(String, mode_t)] { chmod(path, mode) }
    defer { for path in [store, index] { chmod(path, 0o755) } }
    await #expect(processExitsWith: .success) { [store = store as String, index = index as String] in
      if getuid() == 0 { try #require(setuid(65_534) == 0) }
      #expect(throws: FileError(path: index, action: "open", code: EACCES)) { try FeatureStore.open(reading: store) }
    }
  }

  // MARK: Rows

  @Test func float16RowsAreTheNearestHalves() throws {
    let (photos, folder) = (try TestPhotos(), try TemporaryFolder())
    try photos.fill(9)
    let store = folder.path + "/store"
    try extract(photos, to: store, key: testKey(shape: [3, 7], type: .float16))
    let opened = try FeatureStore.open(reading: store)
    #expect(opened.key.featureType == .float16 && opened.featureCount == 21)
    for (path, row) in try rows(store) {
      let seed = try #require(Int(path.split(separator: "/")[1].dropLast(4)))
      for (d, value) in row.enumerated() {
        let half = HalfPrecision.half(fromFloat: TestBackbone.feature(TestPhotos.bytes(seed: seed), d))
        #expect(value == HalfPrecision.float(fromHalf: half))
      }
    }
  }

  /// Every one of the 65,536 halves, through a file and back.
  @Test func gatherWidensEveryHalfExactly() throws {
    let folder = try TemporaryFolder()
    // NaN and infinity are refused by an import: they are put into the shard behind the store's back.
    let bits = (0..<65_536).map { UInt16($0) }
    let finite = HostTensor([1, 65_536], [Float](repeating: 1, count: 65_536))
    let halves = try HostTensor(
      shape: [1, 65_536], elementType: .float16,
      storage: bits.withUnsafeBytes { bytes in HostBytes(count: bytes.count) { $0.copyMemory(from: bytes) } })
    let ones = try HostTensor(
      shape: [1, 65_536], elementType: .float16,
      storage: finite.floats().map(HalfPrecision.half).withUnsafeBytes { bytes in HostBytes(count: bytes.count) { $0.copyMemory(from: bytes) } })
    try Npy.write(ones, to: folder.path + "/x.npy")
    try Npy.write(HostTensor([1], integers: [0]), to: folder.path + "/y.npy")
    let store = folder.path + "/store"
    _ = try FeatureStore.importing(features: folder.path + "/x.npy", labels: folder.path + "/y.npy", output: store)
    try Npy.write(halves, to: store + "/shards/000000.npy")
    let opened = try FeatureStore.open(reading: store)
    try #require(opened.samples().count == 1)
    var row = [Float](repeating: 0, count: 65_536)
    row.withUnsafeMutableBufferPointer { opened.gather(opened.samples(), into: $0) }
    for (half, value) in zip(bits, row) {
      let exact = HalfPrecision.float(fromHalf: half)
      #expect(exact.isNaN ? value.isNaN : value.bitPattern == exact.bitPattern, "\(half)")
    }
  }
}
