import Foundation
import GraftData
import GraftGraph
import Testing

/// Several views a sample in a store: which rows, of what, and the same again.
@Suite struct ViewStoreTests {
  private let photos: TemporaryFolder
  private let target: TemporaryFolder
  private let preprocessing: Preprocessing
  private let views = StoredViews(
    augmentation: {
      var augmentation = Augmentation()
      (augmentation.cropScale, augmentation.flip) = (0.2...1, true)
      return augmentation
    }(), seed: 3)
  private static let count = 23

  init() throws {
    (photos, target) = (try TemporaryFolder(), try TemporaryFolder())
    preprocessing = try Preprocessing(inputSize: [3, 2, 2], interpolation: .bilinear, cropPct: 1, mean: [0, 0, 0], std: [1, 1, 1])
    for number in 0..<Self.count { try photos.write("\(["ant", "bee", "cat"][number % 3])/\(number).pgm", Self.picture(number)) }
  }

  private static func picture(_ number: Int) -> [UInt8] {
    var random = SplitMix(UInt64(number))
    return Array("P6\n9 7\n255\n".utf8) + (0..<189).map { _ in UInt8(truncatingIfNeeded: random.next()) }
  }

  private func key(_ count: Int, _ views: StoredViews? = nil) -> FeatureKey {
    var key = testKey()
    (key.views, key.viewDrawing) = (count, count > 1 ? (views ?? self.views).canonicalJSON : "")
    return key
  }

  @discardableResult private func extract(
    _ count: Int, to name: String, batchSize: Int = 4, shardRows: Int? = nil, views: StoredViews? = nil, opening: StoreOpening = .resuming,
    onBatch: ((Int) throws -> Void)? = nil
  ) throws -> (ExtractionSummary, TestBackbone) {
    let backbone = TestBackbone(batchSize: batchSize)
    backbone.onBatch = onBatch
    let summary = try FeatureExtraction(
      data: ImageFolder(path: photos.path), store: target.path + "/" + name, key: key(count, views), preprocessing: preprocessing,
      options: testOptions(shardRows: shardRows, opening: opening)
    ).run(computing: { backbone })
    return (summary, backbone)
  }

  /// path → rows of all views.
  private func rows(_ name: String) throws -> [String: [[Float]]] {
    let store = try FeatureStore.open(reading: target.path + "/" + name)
    var found: [String: [[Float]]] = [:]
    for sample in store.samples() {
      let all = store.allViews(of: [sample])
      var values = [Float](repeating: 0, count: all.count * 5)
      values.withUnsafeMutableBufferPointer { store.gather(all, into: $0) }
      found[try store.path(of: sample) ?? "?"] = (0..<all.count).map { Array(values[$0 * 5..<($0 + 1) * 5]) }
    }
    return found
  }

  /// Every batch size and shard size, views that fill a batch and more than that.
  @Test(arguments: [(2, 4, nil), (3, 4, 8), (5, 4, 7), (4, 1, nil), (1, 4, nil)] as [(Int, Int, Int?)])
  func rowsAreThoseOfTheViews(views count: Int, batchSize: Int, shardRows: Int?) throws {
    let (summary, backbone) = try extract(count, to: "store", batchSize: batchSize, shardRows: shardRows)
    #expect((summary.extracted, backbone.computed) == (Self.count, Self.count * count))
    let found = try rows("store")
    #expect(found.count == Self.count)
    for (path, rows) in found {
      #expect(rows.count == count)
      let bytes = try photos.read(path), image = try ImageDecoder().decode(bytes), hash = bytes.withUnsafeBytes { ContentHash.of($0) }
      for (view, row) in rows.enumerated() {
        var pixels = preprocessing.apply(to: image)
        if view > 0 {
          let seed = views.seed(ofView: view, contentHash: hash)
          pixels.withUnsafeMutableBufferPointer { views.augmentation.draw(image, preprocessing: preprocessing, seed: seed, into: $0) }
        }
        #expect(row == (0..<5).map { TestBackbone.feature(pixels, $0) }, "\(path), view \(view)")
      }
    }
    if count > 2 { #expect(found.values.allSatisfy { Set($0).count > 1 }) }
    try FeatureStore.open(reading: target.path + "/store").verify()
  }

  @Test func view0IsWhatAPlainStoreHas() throws {
    try extract(1, to: "plain")
    try extract(3, to: "views")
    let plain = try rows("plain"), views = try rows("views")
    #expect(plain.allSatisfy { views[$0.key]?.first == $0.value.first })
    let store = try FeatureStore.open(reading: target.path + "/views")
    #expect(store.samples().count == Self.count && store.allViews(of: store.samples()).count == 3 * Self.count)
  }

  @Test func aRunThatWasInterruptedGivesTheSameBytes() throws {
    struct Stop: Error {}
    try extract(3, to: "whole", shardRows: 9)
    for stop in [1, 4, 9] {
      var begun = 0
      #expect(throws: Stop.self) {
        try extract(
          3, to: "part\(stop)", shardRows: 9,
          onBatch: { _ in
            begun += 1
            if begun == stop { throw Stop() }
          })
      }
      try extract(3, to: "part\(stop)", shardRows: 9)
      #expect(try rows("part\(stop)") == rows("whole"))
    }
    // A picture under another name has the same views.
    try photos.move("ant/0.pgm", to: "bee/other.pgm")
    #expect(try extract(3, to: "whole").1.computed == 0)
    #expect(try rows("whole")["bee/other.pgm"] == rows("part1")["ant/0.pgm"])
  }

  @Test func otherViewsAreOtherStores() throws {
    try extract(3, to: "store")
    var other = views
    other.seed = 4
    for (count, drawing) in [(1, nil), (4, nil), (3, other)] as [(Int, StoredViews?)] {
      let error = #expect(throws: StoreError.self) { try extract(count, to: "store", views: drawing) }
      #expect(error?.kind == .stale && error?.description.contains("views") == true)
    }
    try extract(3, to: "store", views: other, opening: .rebuilding)
    #expect(throws: StoreError.self) {
      var key = key(2)
      key.viewDrawing = "anyhow"
      _ = try FeatureExtraction(data: ImageFolder(path: photos.path), store: target.path + "/x", key: key, preprocessing: preprocessing)
    }
  }

  @Test func howViewsAreDrawnIsKeptAsText() throws {
    var everything = Augmentation(.strong, width: 32, height: 32)
    everything.jitter = ColorJitter(brightness: 0.4, contrast: 0.3, saturation: 0.2, hue: 0.1)
    everything.cropScale = 0.3...0.9
    let stored = StoredViews(augmentation: everything, seed: .max)
    #expect(StoredViews(json: stored.canonicalJSON) == stored)
    #expect(StoredViews(json: views.canonicalJSON) == views)
    for wrong in ["", "{}", "{\"augmentation\":{\"crop_scale\":[0.5]},\"seed\":1}", "{\"augmentation\":{\"crop_scale\":[2,3]},\"seed\":1}"] {
      #expect(StoredViews(json: wrong) == nil)
    }
  }

  @Test func aRowThatIsNotThereIsDamage() throws {
    try extract(2, to: "store", shardRows: 100)
    let store = target.path + "/store"
    // The last row there is, after which no further view lies.
    try sqlite(store, "UPDATE sample SET row = \(2 * Self.count - 1) WHERE id = 1")
    #expect(throws: StoreError.self) { try FeatureStore.open(reading: store) }
  }
}
