import Dispatch
import Foundation
import GraftData
import GraftGraph
import Synchronization

/// Draws one view of a picture for training: what `Preprocessing.apply` is for looking at it as it is.
public protocol ViewDrawing: Sendable {
  /// Writes [height, width, 3] bytes.
  ///
  /// - Parameter seed: all that randomness may depend on.
  func draw(_ image: DecodedImage, preprocessing: Preprocessing, seed: UInt64, into target: UnsafeMutableBufferPointer<UInt8>)
}

/// Pictures of a store's samples, decoded each time they are asked for.
public struct ImageInputs: TrainingSamples {
  private let paths: [String]
  public let labels: [Int]
  private let preprocessing: Preprocessing
  private let decoder: ImageDecoder
  private let views: (any ViewDrawing)?
  private let seed: UInt64

  /// - Parameters:
  ///   - root: the data set's folder; `nil`: where it was when the store was made.
  ///   - labels: one a sample, where they are not the store's own.
  ///   - views: how pictures are changed in training; `nil`: not at all.
  /// - Throws: `StoreError`, `DataSetError` if the folder is gone.
  public init(
    _ store: FeatureStore, samples: [StoredSample], labels: [Int]? = nil, root: String? = nil, preprocessing: Preprocessing,
    pixelLimit: Int = ImageDecoder.defaultPixelLimit, views: (any ViewDrawing)? = nil, seed: UInt64 = 0
  ) throws {
    let folder = try Self.root(of: store, given: root)
    paths = try samples.map { sample in
      guard let path = try store.path(of: sample) else {
        throw TrainingDataError(message: "\(store.path) does not say where the picture of sample \(sample.id) is")
      }
      return folder + "/" + path
    }
    (self.labels, self.preprocessing, self.views, self.seed) = (labels ?? samples.map(\.label), preprocessing, views, seed)
    decoder = preprocessing.decoder(pixelLimit: pixelLimit)
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

  public func write(_ chosen: [Int], epoch: Int?, into target: UnsafeMutableRawBufferPointer) throws {
    let failure = Mutex<(any Error)?>(nil)
    let places = Targets(base: target.bindMemory(to: UInt8.self))
    let byteCount = sampleByteCount
    // Pictures are independent, each with its own place.
    DispatchQueue.concurrentPerform(iterations: chosen.count) { place in
      let own = UnsafeMutableBufferPointer(rebasing: places.base[place * byteCount..<(place + 1) * byteCount])
      do {
        let image = try decoder.decode(path: paths[chosen[place]])
        if let views, let epoch {
          views.draw(image, preprocessing: preprocessing, seed: viewSeed(chosen[place], epoch), into: own)
        } else {
          preprocessing.apply(to: image, into: own)
        }
      } catch {
        failure.withLock { $0 = $0 ?? error }
      }
    }
    if let error = failure.withLock({ $0 }) { throw error }
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
