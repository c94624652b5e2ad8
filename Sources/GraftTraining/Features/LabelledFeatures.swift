/// Features `[N, D]` and what each row shows.
public struct LabelledFeatures {
  public let features: any FeatureSource
  /// `[N]`, indices of classes.
  public let labels: [Int]
  /// `[N]`, what identifies a row across runs and in messages (a path, a hash); row numbers serve when it is empty.
  public let keys: [String]

  /// - Throws: `TrainingDataError` if the counts differ.
  public init(features: any FeatureSource, labels: [Int], keys: [String] = []) throws(TrainingDataError) {
    guard labels.count == features.rowCount, keys.isEmpty || keys.count == labels.count else {
      throw TrainingDataError(
        message: "\(features.rowCount) rows of features, \(labels.count) labels and \(keys.count) names don't belong together")
    }
    (self.features, self.labels, self.keys) = (features, labels, keys)
  }

  public var rowCount: Int { labels.count }

  /// How a message calls a row: "row 7 (cats/7.png)".
  func name(ofRow row: Int) -> String { keys.indices.contains(row) ? "row \(row) (\(keys[row]))" : "row \(row)" }

  /// The rows of each sample, in order: one, or all rows of one key, which are views of the same sample and must not be parted.
  var samples: [[Int]] { Self.samples(keys: keys, rowCount: labels.count) }

  static func samples(keys: [String], rowCount: Int) -> [[Int]] {
    if keys.isEmpty { return (0..<rowCount).map { [$0] } }
    var (places, groups): ([String: Int], [[Int]]) = ([:], [])
    for (row, key) in keys.enumerated() {
      if let place = places[key] {
        groups[place].append(row)
      } else {
        places[key] = groups.count
        groups.append([row])
      }
    }
    return groups
  }

  /// Our own invariant: `rows` ascend.
  func selecting(rows: [Int]) throws(TrainingDataError) -> LabelledFeatures {
    try LabelledFeatures(
      features: SelectedFeatures(features, rows: rows), labels: rows.map { labels[$0] },
      keys: keys.isEmpty ? rows.map { "\($0)" } : rows.map { keys[$0] })
  }

  /// The same rows and labels under another view of the features.
  func replacing(features: any FeatureSource) throws(TrainingDataError) -> LabelledFeatures {
    try LabelledFeatures(features: features, labels: labels, keys: keys)
  }

  /// The same with its features in memory, if they take no more than `byteLimit` there.
  func loaded(byteLimit: Int) throws -> LabelledFeatures {
    let (count, overflow) = rowCount.multipliedReportingOverflow(by: features.dimension)
    guard !overflow, count <= byteLimit / MemoryLayout<Float>.size else { return self }
    var values: [Float] = []
    values.reserveCapacity(count)
    try features.forEachChunk { values.append(contentsOf: $0.values) }
    return try replacing(features: ArrayFeatures(values, rowCount: rowCount, dimension: features.dimension))
  }

  /// How many rows each class has.
  ///
  /// - Throws: `TrainingDataError` for a label that is no class's.
  func classCounts(classCount: Int) throws(TrainingDataError) -> [Int] {
    var counts = [Int](repeating: 0, count: classCount)
    for (row, label) in labels.enumerated() {
      guard counts.indices.contains(label) else {
        throw TrainingDataError(message: "\(name(ofRow: row)) has label \(label), and there are \(classCount) classes")
      }
      counts[label] += 1
    }
    return counts
  }
}

/// Samples no head can be trained on.
public struct TrainingDataError: Error, CustomStringConvertible, Equatable {
  public let message: String
  public init(message: String) { self.message = message }
  public var description: String { message }
}
