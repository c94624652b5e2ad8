import Graft

extension FeatureStore {
  /// Opens a store to train or score on, with a warning where it does not have all of its samples yet.
  static func open(reading path: String, warningOn console: Console) throws -> FeatureStore {
    let store = try FeatureStore.open(reading: path)
    if let count = store.unfinishedCount {
      console.warn(
        "\(path) is unfinished: it has \(store.samples().count + store.skippedCount) of \(count) samples, and may lack whole classes. What makes it "
          + "is still running or was interrupted; to have all, wait, or run that command again.")
    }
    return store
  }
}
