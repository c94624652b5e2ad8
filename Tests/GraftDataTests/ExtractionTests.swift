import Foundation
import GraftData
import GraftGraph
import Testing

@Suite struct ExtractionTests {
  @Test(arguments: [(1, 1), (4, 1), (4, 8), (7, 5), (64, 1000)]) func storesEachImagesFeatures(batchSize: Int, shardRows: Int) throws {
    let photos = try TestPhotos()
    try photos.fill(23)
    let store = photos.folder.path + "-store"
    defer { try? FileManager.default.removeItem(atPath: store) }
    let (summary, computed) = try extract(photos, to: store, batchSize: batchSize, options: testOptions(shardRows: shardRows))
    #expect((summary.extracted, summary.reused, summary.skipped, computed) == (23, 0, 0, 23))
    let stored = try rows(store)
    #expect(stored.count == 23)
    for index in 0..<23 {
      let path = "\(["ant", "bee", "cat"][index % 3])/\(String(format: "%05d", index)).png"
      #expect(stored[path] == (0..<5).map { TestBackbone.feature(TestPhotos.bytes(seed: index), $0) })
    }
    let opened = try FeatureStore.open(reading: store)
    #expect(opened.classNames == ["ant", "bee", "cat"])
    try opened.verify()
    #expect(try FileManager.default.contentsOfDirectory(atPath: store + "/shards").count == (22 / shardRows) + 1)
  }

  @Test func computesNothingTwice() throws {
    let photos = try TestPhotos()
    try photos.fill(20)
    let store = photos.folder.path + "-store"
    defer { try? FileManager.default.removeItem(atPath: store) }
    try extract(photos, to: store)
    var (summary, computed) = try extract(photos, to: store)
    #expect((summary.extracted, summary.reused, summary.skipped, computed) == (0, 20, 0, 0))

    // A copy, a new image and a broken one.
    try photos.add("ant/copy.png", seed: 4)
    try photos.add("bee/new.png", seed: 1000)
    try photos.addBroken("cat/broken.jpg")
    (summary, computed) = try extract(photos, to: store)
    #expect((summary.extracted, summary.reused, summary.skipped, computed) == (1, 21, 1, 1))
    #expect(summary.skippedImages == [SkippedImage(path: "cat/broken.jpg", reason: "it is no image")])
    #expect(try FeatureStore.open(reading: store).skipped() == summary.skippedImages)
    #expect(try rows(store)["ant/copy.png"] == rows(store)["bee/00004.png"])

    // Repaired, it is extracted; its own class changed, a picture only changes its label; one that goes leaves; one that
    // comes back is known.
    try photos.add("cat/broken.jpg", seed: 2000)
    try photos.folder.move("ant/00003.png", to: "cat/00003.png")
    try photos.folder.remove("bee/00001.png")
    (summary, computed) = try extract(photos, to: store)
    #expect((summary.extracted, summary.reused, summary.skipped, summary.removed, computed) == (1, 21, 0, 2, 1))
    #expect(try rows(store)["bee/00001.png"] == nil)
    try photos.add("bee/00001.png", seed: 1)
    (summary, computed) = try extract(photos, to: store)
    #expect((summary.extracted, summary.reused, computed) == (0, 23, 0))
    #expect(try rows(store)["bee/00001.png"] != nil)
  }

  @Test func copiesInOneRunShareARow() throws {
    let photos = try TestPhotos()
    for index in 0..<40 { try photos.add("ant/\(index).png", seed: index % 3) }
    let store = photos.folder.path + "-store"
    defer { try? FileManager.default.removeItem(atPath: store) }
    let (summary, computed) = try extract(photos, to: store, options: testOptions(shardRows: 2))
    #expect((summary.extracted, summary.reused, computed) == (3, 37, 3))
    #expect(try rows(store).count == 40)
    // Copies land on one side of the split.
    let opened = try FeatureStore.open(reading: store)
    for sample in opened.samples(split: "test") {
      #expect(!opened.samples(split: "train").contains { $0.shard == sample.shard && $0.row == sample.row })
    }
  }

  @Test func aKnownFileIsNotOpenedAndAChangedOneIsExtractedAgain() async throws {
    let photos = try TestPhotos()
    try photos.fill(6)
    let changed = "bee/00001.png"
    try photos.folder.age(changed)
    let store = photos.folder.path + "-store"
    defer { try? FileManager.default.removeItem(atPath: store) }
    // Longer than the time within which a change could go unseen.
    try await Task.sleep(for: .seconds(2.1))
    try extract(photos, to: store)
    #expect(try sqlite(store, "SELECT count(*) FROM sample WHERE modified_ns IS NOT NULL AND changed_ns IS NOT NULL") == "6")
    // A hash that nobody can have computed stays: the file was not read again.
    try sqlite(store, "UPDATE sample SET content_sha256 = 'unread' WHERE path = 'ant/00003.png'")
    #expect(try extract(photos, to: store).summary.reused == 6)
    #expect(try sqlite(store, "SELECT content_sha256 FROM sample WHERE path = 'ant/00003.png'") == "\"unread\"")

    // The same size, the same modification time: only the time of the change itself tells.
    try photos.add(changed, seed: 77)
    try photos.folder.age(changed)
    let (summary, computed) = try extract(photos, to: store)
    #expect((summary.extracted, summary.reused, computed) == (1, 5, 1))
    #expect(try rows(store)[changed] == (0..<5).map { TestBackbone.feature(TestPhotos.bytes(seed: 77), $0) })
    #expect(try rows(store).count == 6)
  }

  @Test func aFileChangedWithinTheClocksStepIsLookedAtAgain() throws {
    let photos = try TestPhotos()
    try photos.fill(3)
    let store = photos.folder.path + "-store"
    defer { try? FileManager.default.removeItem(atPath: store) }
    try extract(photos, to: store)
    let entries = try sqlite(store, "SELECT count(*) FROM sample WHERE modified_ns IS NULL")
    #expect(entries == "3")
    let (summary, _) = try extract(photos, to: store)
    #expect((summary.extracted, summary.reused) == (0, 3))
  }

  @Test func strictStopsAtTheFirstBrokenImageAndKeepsWhatIsComplete() throws {
    let photos = try TestPhotos()
    try photos.fill(9)
    try photos.addBroken("bee/zz.png")
    let store = photos.folder.path + "-store"
    defer { try? FileManager.default.removeItem(atPath: store) }
    let error = try #require(throws: BrokenImageError.self) { try extract(photos, to: store, batchSize: 2, options: testOptions(strict: true)) }
    #expect(error.path == "bee/zz.png")
    #expect(try rows(store).count == 6)
    let (summary, _) = try extract(photos, to: store)
    #expect((summary.extracted, summary.reused, summary.skipped) == (3, 6, 1))
  }

  @Test func nothingReadableIsAnError() throws {
    let photos = try TestPhotos()
    try photos.addBroken("ant/1.png")
    try photos.addBroken("bee/2.gif", "GIF89a")
    let store = photos.folder.path + "-store"
    defer { try? FileManager.default.removeItem(atPath: store) }
    let error = try #require(throws: DataSetError.self) { try extract(photos, to: store) }
    #expect(error.description.contains("ant/1.png") && error.description.contains("none of its 2 images"))
  }

  /// Errors that name the file, as a decoder's, do so once.
  @Test func aSkippedImageIsNamedOnce() throws {
    let photos = try TestPhotos()
    try photos.fill(1)
    let store = photos.folder.path + "-store"
    defer { try? FileManager.default.removeItem(atPath: store) }
    let extraction = FeatureExtraction(
      data: try photos.data(), store: store, key: testKey(), imageByteCount: 12,
      prepare: { _, path, _ in throw ImageError(path: path, kind: .damaged, what: "it is damaged", remedy: "Get it again.") })
    let error = try #require(throws: DataSetError.self) { try extraction.run { TestBackbone() } }
    #expect(error.reason.hasSuffix("the first, ant/00000.png: it is damaged. Get it again."), "\(error.reason)")
  }

  /// Neither the store nor the folders above it, unless they were there; a store that was stays as it is.
  @Test func aRunThatFindsNoImageLeavesNothing() throws {
    let (photos, place) = (try TestPhotos(), try TemporaryFolder())
    try photos.folder.write("ant/notes.txt", Array("no image".utf8))
    #expect(throws: DataSetError.self) { try extract(photos, to: place.path + "/some/where/store") }
    #expect(try place.names() == [])
    try FileManager.default.createDirectory(atPath: place.path + "/empty", withIntermediateDirectories: true)
    #expect(throws: DataSetError.self) { try extract(photos, to: place.path + "/empty") }
    #expect(try place.names() == ["empty"] && place.names("empty") == [])
    try photos.fill(3)
    try extract(photos, to: place.path + "/store")
    for name in ["ant/00000.png", "bee/00001.png", "cat/00002.png"] { try photos.folder.remove(name) }
    for opening in [StoreOpening.resuming, .rebuilding] {
      #expect(throws: DataSetError.self) { try extract(photos, to: place.path + "/store", options: testOptions(opening: opening)) }
      #expect(try rows(place.path + "/store").count == 3)
    }
  }

  @Test func featuresThatCannotBeStoredAreSkipped() throws {
    let photos = try TestPhotos()
    try photos.fill(4)
    let store = photos.folder.path + "-store"
    defer { try? FileManager.default.removeItem(atPath: store) }
    final class Exploding: FeatureComputing {
      let batchSize = 2
      let featureShape = [1]
      func features(ofBatch bytes: UnsafeRawBufferPointer, count: Int, into rows: UnsafeMutableBufferPointer<Float>) throws {
        for index in 0..<count {
          rows[index] = bytes[index * 12] == TestPhotos.bytes(seed: 1)[0] ? 1e5 : bytes[index * 12] == TestPhotos.bytes(seed: 2)[0] ? .nan : 2
        }
      }
    }
    let extraction = FeatureExtraction(
      data: try photos.data(), store: store, key: testKey(shape: [1], type: .float16), imageByteCount: 12, prepare: TestBackbone.prepare)
    let summary = try extraction.run { Exploding() }
    #expect((summary.extracted, summary.skipped) == (2, 2))
    #expect(summary.skippedImages.map(\.path) == ["bee/00001.png", "cat/00002.png"])
    #expect(summary.skippedImages.allSatisfy { $0.reason.contains("float16 cannot hold") })
  }

  /// Where no picture has features the network is at fault, or the format; and what failed is not in the way of the next try.
  @Test(arguments: [(Float.nan, ElementType.float32, "check its weights"), (1e5, .float16, "--feature-type float32")])
  func featuresOfNoImageCanBeStored(_ value: Float, _ type: ElementType, _ remedy: String) throws {
    final class Constant: FeatureComputing {
      let (batchSize, featureShape) = (2, [1])
      let value: Float
      init(_ value: Float) { self.value = value }
      func features(ofBatch bytes: UnsafeRawBufferPointer, count: Int, into rows: UnsafeMutableBufferPointer<Float>) throws {
        rows.update(repeating: value)
      }
    }
    let photos = try TestPhotos()
    try photos.fill(4)
    try photos.addBroken("ant/00000.jpg")
    let store = photos.folder.path + "-store"
    defer { try? FileManager.default.removeItem(atPath: store) }
    let extraction = FeatureExtraction(
      data: try photos.data(), store: store, key: testKey(shape: [1], type: type), imageByteCount: 12, prepare: TestBackbone.prepare)
    let error = try #require(throws: StoreError.self) { try extraction.run { Constant(value) } }
    #expect(error.description.contains("ant/00000.png: its feature 0 is") && error.description.contains(remedy), "\(error)")
    #expect(!error.description.contains("JPEG"))
    // With another key, as it may be after what was said.
    let (summary, _) = try extract(photos, to: store, key: testKey(cut: "another"))
    #expect((summary.extracted, summary.skipped) == (4, 1))
    #expect(throws: StoreError.self) { try extract(photos, to: store, key: testKey(cut: "a third")) }
  }

  @Test func cancellationKeepsWhatIsCompleteAndSaysHowToGoOn() throws {
    let photos = try TestPhotos()
    try photos.fill(30)
    let store = photos.folder.path + "-store"
    defer { try? FileManager.default.removeItem(atPath: store) }
    let flag = CancellationFlag()
    var batches = 0
    let error = try #require(throws: CancelledError.self) {
      try extract(photos, to: store, cancellation: flag) { _ in
      } onBatch: { _ in
        batches += 1
        if batches == 3 { flag.cancel() }
      }
    }
    #expect(error.description.contains("12 of 30 images") && error.description.contains("same command"))
    let (summary, computed) = try extract(photos, to: store)
    #expect((summary.extracted, summary.reused, computed) == (18, 12, 18))
    try FeatureStore.open(reading: store).verify()
  }

  @Test func aFailingDeviceKeepsWhatIsComplete() throws {
    struct DeviceLost: Error {}
    let photos = try TestPhotos()
    try photos.fill(30)
    let store = photos.folder.path + "-store"
    defer { try? FileManager.default.removeItem(atPath: store) }
    var batches = 0
    #expect(throws: DeviceLost.self) {
      try extract(
        photos, to: store,
        onBatch: { _ in
          batches += 1
          if batches == 4 { throw DeviceLost() }
        })
    }
    #expect(try rows(store).count == 12)
  }

  @Test func reportsProgressAndShares() throws {
    let photos = try TestPhotos()
    try photos.fill(10)
    let store = photos.folder.path + "-store"
    defer { try? FileManager.default.removeItem(atPath: store) }
    let backbone = TestBackbone()
    backbone.onBatch = { _ in usleep(60_000) }
    var seen: [ExtractionProgress] = []
    let summary = try FeatureExtraction(
      data: try photos.data(), store: store, key: testKey(), imageByteCount: 12, options: testOptions(), prepare: TestBackbone.prepare
    ).run(computing: { backbone }, progress: { seen.append($0) })
    #expect(seen.count >= 2)
    #expect(seen.allSatisfy { $0.total == 10 && $0.done == $0.extracted + $0.reused + $0.skipped })
    let last = try #require(seen.last)
    #expect(last.done == 10 && last.secondsLeft == 0 && last.imagesPerSecond > 0)
    #expect(summary.shares.device > 0.3 && summary.shares.device <= 1 && summary.seconds >= 0.18)
  }

  @Test func decodingRunsAheadOfTheDeviceWithinBounds() throws {
    let photos = try TestPhotos()
    try photos.fill(60)
    let store = photos.folder.path + "-store"
    defer { try? FileManager.default.removeItem(atPath: store) }
    let counter = Counter()
    let backbone = TestBackbone(batchSize: 4)
    var ahead: [Int] = []
    backbone.onBatch = { _ in
      usleep(20_000)
      ahead.append(counter.value - backbone.computed)
    }
    var options = testOptions()
    options.decodingThreads = 2
    _ = try FeatureExtraction(
      data: try photos.data(), store: store, key: testKey(), imageByteCount: 12, options: options,
      prepare: { bytes, name, pixels in
        try TestBackbone.prepare(bytes, name, pixels)
        counter.increment()
      }
    ).run { backbone }
    // While a batch of 4 is on the device, the next images are decoded, and never more than the window of 2 · 4 + 2 of them.
    #expect(ahead.prefix(5).allSatisfy { $0 > 4 })
    #expect(ahead.allSatisfy { $0 <= 4 + 10 })
  }

  @Test func namesThatAreNotUTF8AreSkippedAndNotRegularFilesToo() throws {
    let photos = try TestPhotos()
    try photos.fill(3)
    let odd = Array((photos.folder.path + "/ant/caf").utf8) + [0xE9] + Array(".png".utf8) + [0]
    let descriptor = odd.withUnsafeBufferPointer { $0.withMemoryRebound(to: CChar.self) { open($0.baseAddress!, O_CREAT | O_WRONLY, 0o644) } }
    try #require(descriptor >= 0)
    close(descriptor)
    try #require(mkfifo(photos.folder.path + "/bee/pipe.jpg", 0o644) == 0)
    try FileManager.default.createSymbolicLink(atPath: photos.folder.path + "/cat/nowhere.png", withDestinationPath: "gone.png")
    try FileManager.default.createSymbolicLink(atPath: photos.folder.path + "/cat/loop", withDestinationPath: "..")
    let store = photos.folder.path + "-store"
    defer { try? FileManager.default.removeItem(atPath: store) }
    let (summary, _) = try extract(photos, to: store)
    #expect((summary.extracted, summary.reused, summary.skipped) == (3, 2, 3 + 2))
    #expect(summary.skippedImages.contains(SkippedImage(path: "ant/caf\\xE9.png", reason: "the name is not UTF-8; rename the file")))
    #expect(summary.skippedImages.contains(SkippedImage(path: "bee/pipe.jpg", reason: "this is not a regular file")))
    #expect(summary.skippedImages.contains(SkippedImage(path: "cat/nowhere.png", reason: "the link leads nowhere")))
  }
}
