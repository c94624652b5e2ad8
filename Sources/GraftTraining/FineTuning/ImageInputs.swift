import Dispatch
import Foundation
import GraftData
import GraftGraph
import Synchronization

/// Pictures as a network's input: decoded and prepared when they are asked for, by every core.
///
/// Pictures that are not changed at random and fit the memory limit together are kept once they are prepared.
public final class ImageInputs: TrainingSamples {
  private let paths: [String]
  private let expected: (contents: [String], store: String)?
  public let labels: [Int]
  public let targets: [Float]?
  private let preprocessing: Preprocessing
  private let decoder: ImageDecoder
  private let packed: IDXDataSet?
  private let views: (any ViewDrawing)?
  private let seed: UInt64
  private let kept: PreparedImages?

  /// - Parameters:
  ///   - expected: the hashes of what the files are to hold, and the store that says so; `nil`: they hold what they may.
  ///   - labels: one a path, or none where there are targets.
  ///   - targets: `[N, T]`, what is to be said of each picture in place of a class.
  ///   - packed: the data set that the paths are of, where they are no files.
  ///   - views: how pictures are changed in training; `nil`: not at all.
  ///   - keptByteLimit: the most that prepared pictures may take in memory.
  public init(
    paths: [String], expected: (contents: [String], store: String)? = nil, labels: [Int], targets: [Float]? = nil, packed: IDXDataSet? = nil,
    preprocessing: Preprocessing, pixelLimit: Int = ImageDecoder.defaultPixelLimit, views: (any ViewDrawing)? = nil, seed: UInt64 = 0,
    keptByteLimit: Int = 1 << 30
  ) {
    self.expected = expected
    (self.paths, self.labels, self.preprocessing, self.views, self.seed) = (paths, labels, preprocessing, views, seed)
    (self.targets, self.packed) = (targets, packed)
    decoder = preprocessing.decoder(pixelLimit: pixelLimit)
    let fits = paths.count <= keptByteLimit / preprocessing.byteCount
    kept = fits ? PreparedImages(count: paths.count, byteCount: preprocessing.byteCount) : nil
  }

  /// The pictures of a store's samples. A file that is another one than the store was made of is refused when it is read: its label may
  /// be wrong by now.
  ///
  /// - Parameters:
  ///   - root: the data set's folder; `nil`: where it was when the store was made.
  ///   - labels: one a sample, where they are not the store's own; none where inputs alone are wanted.
  ///   - targets: `[N, T]`, in place of classes.
  /// - Throws: `TrainingDataError` if the folder is gone, or for a store whose samples have no classes, unless labels or targets are given.
  public convenience init(
    _ store: FeatureStore, samples: [StoredSample], labels: [Int]? = nil, targets: [Float]? = nil, root: String? = nil,
    preprocessing: Preprocessing, views: (any ViewDrawing)? = nil, seed: UInt64 = 0
  ) throws {
    if labels == nil, targets == nil { try store.requireClasses(for: "training without targets") }
    let folder = try Self.root(of: store, given: root)
    let files = try samples.map { sample in
      guard let file = try store.source(of: sample) else {
        throw TrainingDataError(message: "\(store.path) does not say where the picture of sample \(sample.id) is")
      }
      return file
    }
    self.init(
      paths: files.map { folder + "/" + $0.path }, expected: (files.map(\.contentHash), store.path),
      labels: targets == nil ? labels ?? samples.map(\.label) : [], targets: targets, packed: try IDXDataSet.open(folder),
      // How many pixels a picture may have was asked when it came into the store, and it is the same one.
      preprocessing: preprocessing, pixelLimit: .max, views: views, seed: seed)
  }

  /// The folder of a store's pictures.
  ///
  /// - Throws: `TrainingDataError` if it is gone.
  public static func root(of store: FeatureStore, given: String?) throws -> String {
    guard let root = given ?? store.entries["data_root"] else {
      throw TrainingDataError(message: "\(store.path) does not say where its pictures are. Name their folder with --data.")
    }
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: root, isDirectory: &isFolder), isFolder.boolValue else {
      throw TrainingDataError(message: "the pictures of \(store.path) were in \(root), which is no folder now. Name their folder with --data.")
    }
    return root
  }

  public var count: Int { paths.count }
  public var sampleByteCount: Int { preprocessing.byteCount }
  public var imageSize: (width: Int, height: Int)? { (preprocessing.width, preprocessing.height) }

  public func write(_ chosen: [Int], epoch: Int?, into target: UnsafeMutableRawBufferPointer) throws {
    let failure = Mutex<(any Error)?>(nil)
    let places = Targets(base: target.bindMemory(to: UInt8.self))
    let byteCount = sampleByteCount
    // Pictures are independent, each with its own place.
    DispatchQueue.concurrentPerform(iterations: chosen.count) { place in
      let own = UnsafeMutableBufferPointer(rebasing: places.base[place * byteCount..<(place + 1) * byteCount]), sample = chosen[place]
      let draws = views != nil && epoch != nil
      if !draws, let kept, kept.copy(sample, to: own) { return }
      do {
        let image = try picture(sample)
        if draws, let views, let epoch {
          views.draw(image, preprocessing: preprocessing, seed: viewSeed(sample, epoch), into: own)
        } else {
          preprocessing.apply(to: image, into: own)
          kept?.keep(own, as: sample)
        }
      } catch {
        failure.withLock { $0 = $0 ?? error }
      }
    }
    if let error = failure.withLock({ $0 }) { throw error }
  }

  private func picture(_ sample: Int) throws(ImageError) -> DecodedImage {
    let path = paths[sample], hash = expected?.contents[sample]
    do throws(ImageError) {
      guard let packed else { return try decoder.decode(path: path, contentHash: hash) }
      return try packed.decode(path: path, contentHash: hash, with: decoder)
    } catch {
      // It could be decoded when the store was made.
      guard let expected else { throw error }
      throw ImageError(
        path: path, kind: error.kind, what: error.what,
        remedy: "\(error.remedy) If the picture is gone or another one now, run the 'graft extract' that made \(expected.store) again.")
    }
  }

  private func viewSeed(_ sample: Int, _ epoch: Int) -> UInt64 {
    var generator = SplitMix(seed ^ UInt64(epoch) &* 0xBF58_476D_1CE4_E5B9 ^ UInt64(sample) &* 0x94D0_49BB_1331_11EB)
    return generator.next()
  }
}

/// Memory that threads write disjoint parts of; `@unchecked Sendable` because of that.
private struct Targets: @unchecked Sendable {
  let base: UnsafeMutableBufferPointer<UInt8>
}

/// Prepared pictures in one block; the system gives it pages as they are written.
///
/// `@unchecked Sendable`: a picture's bytes are written once, before its mark, and both only under the lock of its mark.
private final class PreparedImages: @unchecked Sendable {
  private let bytes: UnsafeMutableBufferPointer<UInt8>
  private let byteCount: Int
  private let isThere: Mutex<[Bool]>

  init(count: Int, byteCount: Int) {
    bytes = .allocate(capacity: max(1, count * byteCount))
    self.byteCount = byteCount
    isThere = Mutex(Array(repeating: false, count: count))
  }

  deinit { bytes.deallocate() }

  private func place(_ index: Int) -> UnsafeMutableBufferPointer<UInt8> {
    UnsafeMutableBufferPointer(rebasing: bytes[index * byteCount..<(index + 1) * byteCount])
  }

  func copy(_ index: Int, to target: UnsafeMutableBufferPointer<UInt8>) -> Bool {
    guard isThere.withLock({ $0[index] }) else { return false }
    _ = target.update(fromContentsOf: place(index))
    return true
  }

  func keep(_ source: UnsafeMutableBufferPointer<UInt8>, as index: Int) {
    isThere.withLock { marks in
      guard !marks[index] else { return }
      _ = place(index).initialize(fromContentsOf: source)
      marks[index] = true
    }
  }
}
