import Foundation
import GraftData
import GraftGraph
import Testing

/// The store when its writer ends without warning, is shut out, or finds no room.
@Suite struct StoreCrashTests {
  /// Kills a process at each step of a commit, several shards on, and compares what the next run makes of it with a store
  /// that was left alone.
  @Test(arguments: StoreStep.allCases, [1, 2, 3]) func survivesKill(step: StoreStep, occurrence: Int) async throws {
    let photos = try TestPhotos()
    try photos.fill(30)
    try photos.addBroken("bee/broken.png")
    let whole = photos.folder.path + "-whole"
    let killed = photos.folder.path + "-killed"
    defer { for store in [whole, killed] { try? FileManager.default.removeItem(atPath: store) } }
    try extract(photos, to: whole)

    let (path, name) = (photos.folder.path, step.rawValue)
    await #expect(processExitsWith: .signal(SIGKILL)) { [path = path as String, name = name as String, occurrence = occurrence as Int] in
      let backbone = TestBackbone()
      let extraction = FeatureExtraction(
        data: try ImageFolder(path: path), store: path + "-killed", key: testKey(), imageByteCount: TestBackbone.imageByteCount,
        options: testOptions(), prepare: TestBackbone.prepare)
      var seen = 0
      _ = try extraction.run(computing: { backbone }, cancellation: CancellationFlag(), progress: { _ in }) { step in
        guard step.rawValue == name else { return }
        seen += 1
        if seen == occurrence { kill(getpid(), SIGKILL) }
      }
    }

    // What a reader sees now is whole: some shards, or nothing at all.
    let named = try Set(shardFiles(killed))
    if let store = try? FeatureStore.open(reading: killed) {
      try store.verify()
      #expect(try rows(killed).allSatisfy { try rows(whole)[$0.key] == $0.value })
    }
    let before = Int(try sqlite(killed, "SELECT count(*) FROM sample WHERE status = 'ok'") ?? "") ?? -1
    #expect(before == (step == .afterCommit ? 8 * occurrence : step == .rowsWritten ? 0 : 8 * (occurrence - 1)))

    let (summary, computed) = try extract(photos, to: killed)
    #expect((summary.extracted, summary.reused, summary.skipped) == (30 - before, before, 1))
    #expect(computed == 30 - before)
    #expect(try rows(killed) == rows(whole))
    let store = try FeatureStore.open(reading: killed)
    try store.verify()
    #expect(store.skippedCount == 1)
    // Nothing is left over, and what was named before is untouched.
    let after = try shardFiles(killed)
    #expect(after == ["000000.npy", "000001.npy", "000002.npy", "000003.npy"])
    #expect(named.isSubset(of: Set(after + [".000000.npy.part", ".000001.npy.part", ".000002.npy.part"])))
    for file in after { #expect(try Data(contentsOf: shard(killed, file)) == Data(contentsOf: shard(whole, file))) }
  }

  /// Killed in a rebuild, at whatever step, the store is the old one, and the same command ends what was begun.
  @Test(arguments: StoreStep.allCases) func aRebuildSurvivesKill(step: StoreStep) async throws {
    let photos = try TestPhotos()
    try photos.fill(30)
    let killed = photos.folder.path + "-killed"
    defer { try? FileManager.default.removeItem(atPath: killed) }
    try extract(photos, to: killed)
    let before = try rows(killed)
    let (path, name) = (photos.folder.path, step.rawValue)
    await #expect(processExitsWith: .signal(SIGKILL)) { [path = path as String, name = name as String] in
      let backbone = TestBackbone()
      let extraction = FeatureExtraction(
        data: try ImageFolder(path: path), store: path + "-killed", key: testKey(cut: "other"), imageByteCount: TestBackbone.imageByteCount,
        options: testOptions(opening: .rebuilding), prepare: TestBackbone.prepare)
      var seen = 0
      _ = try extraction.run(computing: { backbone }, cancellation: CancellationFlag(), progress: { _ in }) { step in
        guard step.rawValue == name else { return }
        seen += 1
        if seen == 2 { kill(getpid(), SIGKILL) }
      }
    }
    try FeatureStore.open(reading: killed).verify()
    #expect(try rows(killed) == before && FeatureStore.open(reading: killed).key == testKey())
    let (summary, computed) = try extract(photos, to: killed, key: testKey(cut: "other"), options: testOptions(opening: .rebuilding))
    let kept = step == .afterCommit ? 16 : step == .rowsWritten ? 0 : 8
    #expect((summary.extracted, summary.reused, computed) == (30 - kept, kept, 30 - kept))
    #expect(try rows(killed) == before && FeatureStore.open(reading: killed).key == testKey(cut: "other"))
    try FeatureStore.open(reading: killed).verify()
    #expect(try shardFiles(killed).count == 4)
  }

  @Test func aSecondWriterIsShutOutAndReadersAreNot() throws {
    let photos = try TestPhotos()
    try photos.fill(20)
    let store = photos.folder.path + "-store"
    defer { try? FileManager.default.removeItem(atPath: store) }
    var refusals = 0
    var seen: [Int] = []
    try extract(photos, to: store) { step in
      guard step == .afterCommit else { return }
      let error = try #require(throws: StoreError.self) { try extract(photos, to: store) }
      #expect(error.kind == .locked && error.description.contains("process \(getpid())"))
      refusals += 1
      seen.append(try FeatureStore.open(reading: store).samples().count)
    }
    #expect(refusals == 3)
    #expect(seen == [8, 16, 20])
    // The lock is free afterwards.
    #expect(try extract(photos, to: store).summary.reused == 20)
  }

  /// A process that is started while a store is written has copies of the writer's descriptors for a moment.
  @Test func theLockEndsWithItsWriterWhoeverHasACopy() throws {
    let photos = try TestPhotos()
    try photos.fill(4)
    let store = photos.folder.path + "-store"
    defer { try? FileManager.default.removeItem(atPath: store) }
    var copies: [Int32] = []
    defer { for copy in copies { close(copy) } }
    try extract(photos, to: store) { step in
      guard copies.isEmpty else { return }
      for name in try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd") {
        let target = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/" + name)
        if let target, target.hasSuffix(store + "/lock"), let descriptor = Int32(name) { copies.append(dup(descriptor)) }
      }
    }
    #expect(!copies.isEmpty)
    #expect(try extract(photos, to: store).summary.reused == 4)
  }

  @Test func aReaderKeepsWhatItOpenedWhileTheStoreGrows() throws {
    let photos = try TestPhotos()
    try photos.fill(6)
    let path = photos.folder.path + "-store"
    defer { try? FileManager.default.removeItem(atPath: path) }
    try extract(photos, to: path)
    let store = try FeatureStore.open(reading: path)
    try photos.fill(20, from: 6)
    try extract(photos, to: path)
    #expect(store.samples().count == 6)
    #expect(try FeatureStore.open(reading: path).samples().count == 26)
    try extract(photos, to: path, key: testKey(cut: "other"), options: testOptions(opening: .rebuilding))
    var row = [Float](repeating: 0, count: 5)
    let first = try #require(store.samples(split: "train").first ?? store.samples().first)
    row.withUnsafeMutableBufferPointer { store.gather([first], into: $0) }
    #expect(row.contains { $0 != 0 })
  }

  /// A rebuild may end between a reader's look at the index and at the shards, which are gone then.
  @Test func aReaderThatMeetsTheEndOfARebuildHasTheNewStore() throws {
    let photos = try TestPhotos()
    try photos.fill(20)
    let path = photos.folder.path + "-store"
    defer { try? FileManager.default.removeItem(atPath: path) }
    try extract(photos, to: path)
    let store = try FeatureStore.open(reading: path) {
      try extract(photos, to: path, key: testKey(cut: "other"), options: testOptions(opening: .rebuilding))
    }
    #expect(store.key == testKey(cut: "other") && store.samples().count == 20)
    try store.verify()
    // A shard that is missing in the index that is there is damage.
    let error = try #require(throws: StoreError.self) {
      try FeatureStore.open(reading: path) {
        let first = try #require(try shardFiles(path).first)
        try FileManager.default.removeItem(at: shard(path, first))
      }
    }
    #expect(error.kind == .damaged && error.description.contains("--repair"), "\(error)")
  }

  /// A disk too small for the data: an error that says so, and the same command goes on once there is room.
  @Test(.enabled(if: SmallDisk.isPossible, "mounting a small disk needs the right to")) func aFullDiskLosesNothing() throws {
    let photos = try TestPhotos()
    try photos.fill(60)
    let disk = try SmallDisk(byteCount: 400 << 10)
    let store = disk.path + "/store"
    let key = testKey(shape: [512])
    let error = try #require(throws: FileError.self) { try extract(photos, to: store, key: key) }
    #expect(error.code == ENOSPC && error.description.contains("Free some space"))
    let kept = try rows(store).count
    #expect(kept > 0 && kept < 60 && kept % 8 == 0)
    try FeatureStore.open(reading: store).verify()
    try disk.resize(byteCount: 8 << 20)
    let (summary, _) = try extract(photos, to: store, key: key)
    #expect((summary.extracted, summary.reused) == (60 - kept, kept))
    let whole = photos.folder.path + "-whole"
    defer { try? FileManager.default.removeItem(atPath: whole) }
    try extract(photos, to: whole, key: key)
    #expect(try rows(store) == rows(whole))
  }

  private func shardFiles(_ store: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: store + "/shards").sorted()
  }

  private func shard(_ store: String, _ name: String) -> URL { URL(fileURLWithPath: "\(store)/shards/\(name)") }
}

/// A file system in memory of a given size.
private final class SmallDisk {
  let path: String

  static var isPossible: Bool { (try? SmallDisk(byteCount: 1 << 20)) != nil }

  init(byteCount: Int) throws {
    path = NSTemporaryDirectory() + "/graft-disk-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    guard mount("none", path, "tmpfs", 0, "size=\(byteCount)") == 0 else {
      let code = errno
      rmdir(path)
      throw FileError(path: path, action: "mount", code: code)
    }
  }

  func resize(byteCount: Int) throws {
    guard mount("none", path, "tmpfs", UInt(MS_REMOUNT), "size=\(byteCount)") == 0 else {
      throw FileError(path: path, action: "remount", code: errno)
    }
  }

  deinit {
    umount2(path, Int32(MNT_DETACH))
    rmdir(path)
  }
}
