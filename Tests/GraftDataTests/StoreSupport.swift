import Foundation
import GRDB
import GraftData
import GraftGraph
import Synchronization

/// A folder that goes with the object.
final class TemporaryFolder: Sendable {
  let path: String

  init(in parent: String = NSTemporaryDirectory()) throws {
    path = (parent as NSString).appendingPathComponent("graft-\(UUID().uuidString)")
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  @discardableResult func write(_ name: String, _ bytes: some Collection<UInt8>) throws -> String {
    let file = path + "/" + name
    try FileManager.default.createDirectory(atPath: (file as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
    try Data(bytes).write(to: URL(fileURLWithPath: file))
    return file
  }

  func write(_ name: String, base64: String) throws -> String { try write(name, Data(base64Encoded: base64) ?? Data()) }

  func read(_ name: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: URL(fileURLWithPath: path + "/" + name))) }

  func remove(_ name: String) throws { try FileManager.default.removeItem(atPath: path + "/" + name) }

  func move(_ name: String, to other: String) throws {
    let target = path + "/" + other
    try FileManager.default.createDirectory(atPath: (target as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
    try FileManager.default.moveItem(atPath: path + "/" + name, toPath: target)
  }

  func names(_ folder: String = "") throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: path + "/" + folder).sorted() }

  /// Makes a file older than the time within which a change could go unseen.
  func age(_ name: String) throws {
    var times = [timespec(tv_sec: 1_600_000_000, tv_nsec: 5), timespec(tv_sec: 1_600_000_000, tv_nsec: 5)]
    guard utimensat(AT_FDCWD, path + "/" + name, &times, 0) == 0 else { throw FileError(path: name, action: "age", code: errno) }
  }
}

/// The same numbers on every run (SplitMix64).
struct SeededRandom: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = (state ^ (state >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

/// A data set of tiny "images": 12 bytes and the word "broken" or not, which `TestBackbone.prepare` reads.
struct TestPhotos {
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  /// Writes an image whose pixels are a function of `seed`.
  func add(_ name: String, seed: Int) throws { try folder.write(name, Self.bytes(seed: seed)) }

  func addBroken(_ name: String, _ text: String = "broken") throws { try folder.write(name, Array(text.utf8)) }

  /// `count` images in three classes.
  func fill(_ count: Int, from first: Int = 0) throws {
    for index in first..<first + count { try add("\(["ant", "bee", "cat"][index % 3])/\(String(format: "%05d", index)).png", seed: index) }
  }

  static func bytes(seed: Int) -> [UInt8] {
    var random = SeededRandom(seed: UInt64(seed))
    return (0..<TestBackbone.imageByteCount).map { _ in UInt8.random(in: 0...255, using: &random) }
  }

  func data() throws -> ImageFolder { try ImageFolder(path: folder.path) }
}

/// A backbone of known arithmetic: feature d of an image is Σ pixel[i] · ((i + d) mod 7) / 8, exact in float32.
final class TestBackbone: FeatureComputing {
  static let imageByteCount = 2 * 2 * 3
  let batchSize: Int
  let featureShape: [Int]
  private(set) var computed = 0
  private(set) var batches: [Int] = []
  var onBatch: ((Int) throws -> Void)?

  init(batchSize: Int = 4, featureShape: [Int] = [5]) { (self.batchSize, self.featureShape) = (batchSize, featureShape) }

  static func feature(_ pixels: some Collection<UInt8>, _ d: Int) -> Float {
    pixels.enumerated().reduce(Float(0)) { $0 + Float($1.element) * Float(($1.offset + d) % 7) / 8 }
  }

  func features(ofBatch bytes: UnsafeRawBufferPointer, count: Int, into rows: UnsafeMutableBufferPointer<Float>) throws {
    try onBatch?(count)
    let width = featureShape.reduce(1, *)
    for image in 0..<count {
      let pixels = bytes[image * Self.imageByteCount..<(image + 1) * Self.imageByteCount]
      for d in 0..<width { rows[image * width + d] = Self.feature(pixels, d) }
    }
    computed += count
    batches.append(count)
  }

  struct Unreadable: Error, CustomStringConvertible {
    var description: String { "it is no image" }
  }

  static let prepare: ImagePreparation = { bytes, _, pixels in
    guard bytes.count == imageByteCount, pixels.count == imageByteCount else { throw Unreadable() }
    _ = pixels.update(fromContentsOf: bytes)
  }
}

func testKey(cut: String = "features", shape: [Int] = [5], type: ElementType = .float32) -> FeatureKey {
  FeatureKey(
    backboneSHA256: String(repeating: "ab", count: 32), cut: cut, cutShape: shape, preprocessing: "none", precision: "float32", featureType: type)
}

/// Extracts with the test backbone, and says how many images reached it.
@discardableResult func extract(
  _ photos: TestPhotos, to store: String, key: FeatureKey = testKey(), batchSize: Int = 4, options: ExtractionOptions = testOptions(),
  cancellation: CancellationFlag = CancellationFlag(), onStep: ((StoreStep) throws -> Void)? = nil, onBatch: ((Int) throws -> Void)? = nil
) throws -> (summary: ExtractionSummary, computed: Int) {
  let backbone = TestBackbone(batchSize: batchSize, featureShape: key.cutShape)
  backbone.onBatch = onBatch
  let extraction = FeatureExtraction(
    data: try photos.data(), store: store, key: key, imageByteCount: TestBackbone.imageByteCount, options: options, prepare: TestBackbone.prepare)
  let summary = try extraction.run(computing: { backbone }, cancellation: cancellation, progress: { _ in }, onStep: onStep)
  return (summary, backbone.computed)
}

func testOptions(shardRows: Int? = 8, strict: Bool = false, opening: StoreOpening = .resuming, split: SplitRule? = nil) -> ExtractionOptions {
  var options = ExtractionOptions()
  (options.shardRows, options.strict, options.opening, options.split) = (shardRows, strict, opening, split)
  options.decodingThreads = 3
  return options
}

/// What a store holds: path → row.
func rows(_ store: String) throws -> [String: [Float]] {
  let store = try FeatureStore.open(reading: store)
  var rows: [String: [Float]] = [:]
  for sample in store.samples() {
    let row = [Float](unsafeUninitializedCapacity: store.featureCount) { target, count in
      store.gather([sample], into: UnsafeMutableBufferPointer(rebasing: target[..<store.featureCount]))
      count = store.featureCount
    }
    rows[try store.path(of: sample) ?? "?"] = row
  }
  return rows
}

/// A number that several threads count up.
final class Counter: Sendable {
  private let count = Mutex(0)
  var value: Int { count.withLock { $0 } }
  func increment() { count.withLock { $0 += 1 } }
}

/// Runs SQL on a store's index as any other program would; the first column of the first row as text.
@discardableResult func sqlite(_ store: String, _ sql: String) throws -> String? {
  let queue = try DatabaseQueue(path: store + "/index.sqlite")
  defer { try? queue.close() }
  return try queue.writeWithoutTransaction { db in
    if sql.hasPrefix("SELECT") { return try Row.fetchOne(db, sql: sql).map { "\($0[0] as DatabaseValue)" } }
    try db.execute(sql: sql)
    return nil
  }
}

/// A store of so many pictures, and where they and it are.
func filled(_ count: Int = 12, key: FeatureKey = testKey()) throws -> (TestPhotos, String, TemporaryFolder) {
  let (photos, folder) = (try TestPhotos(), try TemporaryFolder())
  try photos.fill(count)
  try extract(photos, to: folder.path + "/store", key: key)
  return (photos, folder.path + "/store", folder)
}
