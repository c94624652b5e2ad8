import GraftData
import GraftGraph

/// What a network is trained on: samples whose inputs are asked for a batch at a time.
public protocol TrainingSamples: Sendable {
  var count: Int { get }
  /// Bytes of one sample as the network's input takes it.
  var sampleByteCount: Int { get }
  /// Indices of classes, one a sample; empty where there are `targets`.
  var labels: [Int] { get }
  /// `[N, T]`, what is to be said of each sample, where that is no class.
  var targets: [Float]? { get }
  /// Where samples are prepared pictures, [height, width, 3] bytes: their size.
  var imageSize: (width: Int, height: Int)? { get }

  /// Writes the inputs of some samples, one after the other.
  ///
  /// - Parameter epoch: what random changes are drawn by, with the seed and the sample's number; `nil` for none.
  func write(_ samples: [Int], epoch: Int?, into target: UnsafeMutableRawBufferPointer) throws
}

extension TrainingSamples {
  public var imageSize: (width: Int, height: Int)? { nil }
  public var targets: [Float]? { nil }
}

/// Rows of a store at a cut, as they lie on the disk. Of several views each epoch draws one; without an epoch it is view 0.
public struct StoredInputs: TrainingSamples {
  private let store: FeatureStore
  private let samples: [StoredSample]
  private let seed: UInt64
  public let labels: [Int]
  public let targets: [Float]?

  /// - Parameters:
  ///   - labels: one a sample, where they are not the store's own; none where inputs alone are wanted.
  ///   - targets: `[N, T]`, what is to be said of each sample in place of a class.
  ///   - seed: what views are drawn by, with the epoch and the sample's number.
  /// - Throws: `TrainingDataError` for a store whose samples have no classes, unless labels or targets are given.
  public init(
    _ store: FeatureStore, samples: [StoredSample], labels: [Int]? = nil, targets: [Float]? = nil, seed: UInt64 = 0
  ) throws(TrainingDataError) {
    if labels == nil, targets == nil { try store.requireClasses(for: "training without targets") }
    (self.store, self.samples, self.targets, self.seed) = (store, samples, targets, seed)
    self.labels = targets == nil ? labels ?? samples.map(\.label) : []
  }

  public var count: Int { samples.count }
  public var sampleByteCount: Int { store.featureCount * MemoryLayout<Float>.size }

  public func write(_ chosen: [Int], epoch: Int?, into target: UnsafeMutableRawBufferPointer) throws {
    let views = store.key.views
    let rows = chosen.map { number in
      guard let epoch, views > 1 else { return samples[number] }
      var random = SplitMix(seed ^ UInt64(epoch) &* 0xBF58_476D_1CE4_E5B9 ^ UInt64(number) &* 0x94D0_49BB_1331_11EB)
      return store.view(random.below(views), of: samples[number])
    }
    store.gather(rows, into: target.bindMemory(to: Float.self))
  }
}

/// Samples that are in memory.
public struct ArrayInputs: TrainingSamples {
  private let bytes: [UInt8]
  public let sampleByteCount: Int
  public let labels: [Int]
  public let imageSize: (width: Int, height: Int)?

  /// Our own invariant: `values` are as many rows as there are labels.
  public init(_ values: [Float], labels: [Int]) {
    bytes = values.withUnsafeBytes { Array($0) }
    (self.labels, sampleByteCount, imageSize) = (labels, labels.isEmpty ? 0 : bytes.count / labels.count, nil)
    precondition(sampleByteCount * labels.count == bytes.count)
  }

  /// Prepared images, `labels.count` of them one after the other.
  public init(bytes: [UInt8], labels: [Int], imageSize: (width: Int, height: Int)? = nil) {
    (self.bytes, self.labels, sampleByteCount) = (bytes, labels, labels.isEmpty ? 0 : bytes.count / labels.count)
    self.imageSize = imageSize
    precondition(sampleByteCount * labels.count == bytes.count && imageSize.map { $0.width * $0.height * 3 == sampleByteCount } ?? true)
  }

  public var count: Int { labels.count }

  public func write(_ chosen: [Int], epoch: Int?, into target: UnsafeMutableRawBufferPointer) throws {
    for (place, sample) in chosen.enumerated() {
      bytes.withUnsafeBytes {
        UnsafeMutableRawBufferPointer(rebasing: target[place * sampleByteCount..<(place + 1) * sampleByteCount])
          .copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[sample * sampleByteCount..<(sample + 1) * sampleByteCount]))
      }
    }
  }
}
