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
  /// - Throws: `TrainingDataError` for a store whose samples have no classes.
  public func labelled(split: String, allViews: Bool = false) throws -> LabelledFeatures {
    try requireClasses()
    let chosen = allViews ? self.allViews(of: samples(split: split)) : samples(split: split)
    return try LabelledFeatures(features: StoreFeatures(self, samples: chosen), labels: chosen.map(\.label), keys: chosen.map { "sample \($0.id)" })
  }

  /// Features and targets of a split of a store without classes; keys as with `labelled`.
  ///
  /// - Throws: `TrainingDataError` for a store of classes.
  public func targeted(split: String, allViews: Bool = false) throws -> TargetedFeatures {
    guard labelling.task != .classification else {
      throw TrainingDataError(message: "\(path) holds samples of one class each, and samples with labels or numbers are needed here")
    }
    let chosen = allViews ? self.allViews(of: samples(split: split)) : samples(split: split)
    return try TargetedFeatures(
      features: StoreFeatures(self, samples: chosen), targets: targets(of: chosen), targetCount: labelling.names.count,
      keys: chosen.map { "sample \($0.id)" })
  }

  /// Refuses a store whose samples have no classes.
  ///
  /// - Parameter purpose: what needs classes, for the message: "fine-tuning".
  /// - Throws: `TrainingDataError`.
  public func requireClasses(for purpose: String = "this") throws(TrainingDataError) {
    guard labelling.task != .classification else { return }
    throw TrainingDataError(
      message: "\(path) is a store for \(labelling.task.rawValue), and \(purpose) needs samples of one class each. "
        + "'graft train', 'evaluate' and 'predict' take such a store and its heads.")
  }
}
