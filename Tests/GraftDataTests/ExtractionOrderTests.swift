import Foundation
import GraftData
import Testing

/// What comes into a store depends on the data set, not on how many batches are under way or when they end.
@Suite struct ExtractionOrderTests {
  /// Computes a batch when it is finished, or when somebody asks whether it is.
  private final class SlowBackbone: FeatureComputing {
    let batchSize = 4
    let featureShape = [5]
    let depth: Int
    private let inner = TestBackbone(batchSize: 4)
    private var underWay: [(bytes: UnsafeRawBufferPointer, count: Int, rows: UnsafeMutableBufferPointer<Float>)] = []
    private var random: SeededRandom
    private(set) var deepest = 0
    private(set) var isAbandoned = false
    /// Images whose first feature is infinite: no store can hold them.
    var refused: Set<Float> = []

    init(depth: Int, seed: UInt64) { (self.depth, random) = (depth, SeededRandom(seed: seed)) }

    func features(ofBatch bytes: UnsafeRawBufferPointer, count: Int, into rows: UnsafeMutableBufferPointer<Float>) throws {
      try inner.features(ofBatch: bytes, count: count, into: rows)
      for image in 0..<count where refused.contains(rows[5 * image]) { rows[5 * image] = .infinity }
    }
    func begin(_ bytes: UnsafeRawBufferPointer, count: Int, into rows: UnsafeMutableBufferPointer<Float>) throws {
      underWay.append((bytes, count, rows))
      deepest = max(deepest, underWay.count)
      #expect(underWay.count <= depth)
    }
    var isFirstDone: Bool { Bool.random(using: &random) }
    func finishFirst() throws {
      let first = underWay.removeFirst()
      try features(ofBatch: first.bytes, count: first.count, into: first.rows)
    }
    func abandon() {
      underWay = []
      isAbandoned = true
    }
  }

  private func index(_ store: String) throws -> [String] {
    try ["sample", "feature", "shard"].map { table in
      let columns =
        [
          "sample": "path || coalesce(content_sha256, '') || coalesce(shard, '-') || '/' || coalesce(row, '-') || status || coalesce(message, '')",
          "feature": "content_sha256 || shard || '/' || row", "shard": "id || file || rows || sha256",
        ][table] ?? ""
      let order = table == "sample" ? "rowid" : "1"
      return try sqlite(store, "SELECT group_concat(line, ';') FROM (SELECT \(columns) AS line FROM \(table) ORDER BY \(order))") ?? ""
    }
  }

  @Test func theStoreIsTheSameHoweverManyBatchesAreUnderWay() throws {
    let photos = try TestPhotos()
    try photos.fill(57)
    // Copies near and far, broken images, and a content that cannot be stored, with copies.
    for (copy, original) in [(100, 3), (101, 3), (102, 56), (103, 17), (104, 20)] {
      try photos.add("\(["ant", "bee", "cat"][copy % 3])/\(String(format: "%05d", original))-\(copy).png", seed: original)
    }
    for name in ["ant/00000-x.png", "bee/00030.png.png", "cat/99999.png"] { try photos.addBroken(name) }
    let refused = [TestBackbone.feature(TestPhotos.bytes(seed: 20), 0), TestBackbone.feature(TestPhotos.bytes(seed: 6), 0)]

    var stores: [(depth: Int, index: [String], summary: ExtractionSummary)] = []
    for (depth, seed) in [(1, 1), (2, 2), (2, 3), (5, 4), (9, 5)] as [(Int, UInt64)] {
      let store = photos.folder.path + "-store-\(depth)-\(seed)"
      defer { try? FileManager.default.removeItem(atPath: store) }
      let backbone = SlowBackbone(depth: depth, seed: seed)
      backbone.refused = Set(refused)
      let extraction = FeatureExtraction(
        data: try photos.data(), store: store, key: testKey(), imageByteCount: TestBackbone.imageByteCount, options: testOptions(),
        prepare: TestBackbone.prepare)
      let summary = try extraction.run(computing: { backbone })
      #expect(backbone.isAbandoned && backbone.deepest <= depth && (depth > 2 || backbone.deepest == depth))
      stores.append((depth, try index(store), summary))
    }
    #expect(stores[0].summary.extracted == 55 && stores[0].summary.skipped == 3 + 3 && stores[0].summary.reused == 4)
    #expect(stores[0].index[0].split(separator: ";").count == 65 && stores[0].index[0].contains("cat/99999.png"))
    #expect(stores[0].index[1].split(separator: ";").count == 55 && stores[0].index[2].split(separator: ";").count == 7)
    for store in stores {
      #expect(store.index == stores[0].index, "depth \(store.depth)")
      #expect(store.summary.extracted == stores[0].summary.extracted && store.summary.skippedImages == stores[0].summary.skippedImages)
    }
  }
}
