import Foundation
import GRDB
import GraftData
import GraftGraph
import Testing

/// A store that is computed anew beside the old one.
@Suite struct StoreRebuildTests {
  /// What fails, is interrupted or gives nothing usable leaves the store, whatever features it was to have.
  @Test func aRebuildThatFailsLeavesWhatWasThere() throws {
    struct DeviceLost: Error {}
    let (photos, store, folder) = try filled(30)
    defer { _ = folder }
    let before = try rows(store), other = testKey(cut: "other", shape: [3]), rebuilding = testOptions(opening: .rebuilding)
    func isUntouched() throws -> Bool {
      let opened = try FeatureStore.open(reading: store)
      try opened.verify()
      return try opened.unfinishedCount == nil && rows(store) == before
    }
    let data = try photos.data()
    #expect(throws: DeviceLost.self) {
      try FeatureExtraction(
        data: data, store: store, key: other, imageByteCount: TestBackbone.imageByteCount, options: rebuilding, prepare: TestBackbone.prepare
      ).run { throw DeviceLost() }
    }
    #expect(try isUntouched())
    // A broken image, after two shards of the new features.
    try photos.addBroken("cat/zz.png")
    #expect(throws: BrokenImageError.self) {
      try extract(photos, to: store, key: other, options: testOptions(strict: true, opening: .rebuilding))
    }
    #expect(try isUntouched())
    try photos.folder.remove("cat/zz.png")
    // What was committed is not computed again, and the images that were there before neither.
    let (summary, computed) = try extract(photos, to: store, key: other, options: rebuilding)
    #expect(summary.extracted + summary.reused == 30 && computed < 30 && summary.reused == 30 - computed)
    #expect(try FeatureStore.open(reading: store).key == other && rows(store).count == 30)
    try FeatureStore.open(reading: store).verify()
    #expect(try folder.names("store/shards").count == Int(try sqlite(store, "SELECT count(*) FROM shard") ?? ""))
    #expect(try !folder.names("store").contains { $0.hasPrefix("rebuilt") })
  }

  /// Another rebuild begins anew, and what is no rebuild removes what one has left.
  @Test func whatAnInterruptedRebuildLeftGoes() throws {
    struct DeviceLost: Error {}
    let (photos, store, folder) = try filled(30)
    defer { _ = folder }
    func interrupted(_ cut: String) throws {
      var batches = 0
      #expect(throws: DeviceLost.self) {
        try extract(
          photos, to: store, key: testKey(cut: cut), options: testOptions(opening: .rebuilding),
          onBatch: { _ in
            batches += 1
            if batches > 3 { throw DeviceLost() }
          })
      }
      #expect(try folder.names("store").contains("rebuilt.sqlite"))
    }
    try interrupted("other")
    try interrupted("a third")
    #expect(try extract(photos, to: store).summary.reused == 30)
    #expect(try !folder.names("store").contains { $0.hasPrefix("rebuilt") })
    #expect(try folder.names("store/shards") == ["000000.npy", "000001.npy", "000002.npy", "000003.npy"])
    try interrupted("other")
    #expect(try extract(photos, to: store, key: testKey(cut: "a third"), options: testOptions(opening: .rebuilding)).computed == 30)
    #expect(try folder.names("store/shards").count == 4)
  }

  /// A rebuild that never comes to its end must not leave another shard each time.
  @Test(arguments: [true, false]) func rebuildsThatFailLeaveNoShards(_ isReadable: Bool) throws {
    struct DeviceLost: Error {}
    let (photos, store, folder) = try filled(30)
    defer { _ = folder }
    let kept = try folder.names("store/shards")
    func rebuild(_ cut: String, batches: Int) throws -> [String] {
      var left = batches
      #expect(throws: DeviceLost.self) {
        try extract(
          photos, to: store, key: testKey(cut: cut), options: testOptions(opening: .rebuilding),
          onBatch: { _ in
            left -= 1
            if left < 0 { throw DeviceLost() }
          })
      }
      return try folder.names("store/shards").filter { !kept.contains($0) }
    }
    let begun = try rebuild("other", batches: 4)
    #expect(begun.contains("000004.npy"))
    if !isReadable { try folder.write("store/index.sqlite", Array("not SQLite at all, but long enough to be looked at".utf8)) }
    // What writers leave that are killed before a transaction.
    for name in ["000050.npy", "000051.npy", ".000052.npy.part", "mine.npy"] { try folder.write("store/shards/" + name, [1]) }
    #expect(try rebuild("other", batches: 0) == begun + ["mine.npy"])
    try folder.write("store/shards/.000099.npy.part", [1])
    #expect(try rebuild("a third", batches: 0) == ["mine.npy"])
    #expect(try Set(folder.names("store/shards")) == Set(kept + ["mine.npy"]))
    #expect(try extract(photos, to: store, options: testOptions(opening: .rebuilding)).computed == 30)
    #expect(try folder.names("store/shards").count == 5 && FeatureStore.open(reading: store).entries["first_shard"] == nil)
  }

  /// Who rebuilds wants other features, and the samples in the splits that they were in.
  @Test func aRebuildKeepsTheSplit() throws {
    let (photos, store, folder) = try filled(60)
    defer { _ = folder }
    let rule = SplitRule(seed: 9, testFraction: 0.5)
    try extract(photos, to: store, options: testOptions(split: rule))
    let before = try FeatureStore.open(reading: store).samplesBySplit.mapValues(\.count)
    try extract(photos, to: store, key: testKey(cut: "other"), options: testOptions(opening: .rebuilding))
    let after = try FeatureStore.open(reading: store)
    #expect(after.splitRule == rule && after.samplesBySplit.mapValues(\.count) == before)
    let other = SplitRule(seed: 1, testFraction: 0.1)
    try extract(photos, to: store, options: testOptions(opening: .rebuilding, split: other))
    #expect(try FeatureStore.open(reading: store).splitRule == other)
    try folder.write("store/index.sqlite", Array("not SQLite at all, but long enough to be looked at".utf8))
    try extract(photos, to: store, options: testOptions(opening: .rebuilding))
    #expect(try FeatureStore.open(reading: store).splitRule == .default)
  }

  /// Rows of a device or a version that someone rebuilds for are not gone on with.
  @Test(arguments: ["device", "graft_version", "backbone_path"]) func aRebuildElsewhereBeginsAnew(_ fact: String) throws {
    struct DeviceLost: Error {}
    let (photos, store, folder) = try filled(30)
    defer { _ = folder }
    var options = testOptions(opening: .rebuilding), batches = 0
    options.facts = ["device": "opencl:0", "graft_version": "1", "backbone_path": "/models/a.onnx"]
    #expect(throws: DeviceLost.self) {
      try extract(
        photos, to: store, options: options,
        onBatch: { _ in
          batches += 1
          if batches > 4 { throw DeviceLost() }
        })
    }
    options.facts[fact] = "another"
    let (summary, computed) = try extract(photos, to: store, options: options)
    #expect(summary.extracted + summary.reused == 30 && (computed == 30) == (fact != "backbone_path"), "\(computed)")
    #expect(try FeatureStore.open(reading: store).entries[fact] == "another")
  }
}
