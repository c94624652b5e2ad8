import GraftData

/// Rows of a feature store, gathered from its mapped shards a chunk at a time.
public struct StoreFeatures: FeatureSource {
  private let store: FeatureStore
  private let samples: [StoredSample]
  private let chunkRowCount: Int

  public init(_ store: FeatureStore, samples: [StoredSample]) {
    (self.store, self.samples) = (store, samples)
    // About 8 MiB a chunk.
    chunkRowCount = max(64, min(4096, (2 << 20) / max(1, store.featureCount)))
  }

  public var rowCount: Int { samples.count }
  public var dimension: Int { store.featureCount }

  public func forEachChunk(_ body: (FeatureChunk) throws -> Void) throws {
    let memory = UnsafeMutableBufferPointer<Float>.allocate(capacity: max(1, min(chunkRowCount, samples.count) * dimension))
    defer { memory.deallocate() }
    memory.initialize(repeating: 0)
    for first in stride(from: 0, to: samples.count, by: chunkRowCount) {
      let part = samples[first..<min(first + chunkRowCount, samples.count)]
      let rows = UnsafeMutableBufferPointer(rebasing: memory[..<(part.count * dimension)])
      store.gather(part, into: rows)
      try body(FeatureChunk(firstRow: first, rowCount: part.count, dimension: dimension, values: UnsafeBufferPointer(rows)))
    }
  }
}

extension FeatureStore {
  /// Features and labels of a split; keys are content-independent sample numbers.
  ///
  /// - Parameter allViews: whether each view of a sample is a row, under the same key, and not view 0 alone.
  public func labelled(split: String, allViews: Bool = false) throws -> LabelledFeatures {
    let chosen = allViews ? self.allViews(of: samples(split: split)) : samples(split: split)
    return try LabelledFeatures(features: StoreFeatures(self, samples: chosen), labels: chosen.map(\.label), keys: chosen.map { "sample \($0.id)" })
  }
}
