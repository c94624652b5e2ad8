import Foundation
import GraftDevice
import GraftGraph

/// What an import did.
public struct ImportSummary: Sendable, Equatable {
  /// Rows written.
  public var imported = 0
  /// Rows whose numbers the store had already.
  public var reused = 0
  /// Classes, labels or targets.
  public var classes = 0
  /// What the rows are labelled with.
  public var labelling = Labelling.classes
  /// Numbers that are all whole: they may have been meant as classes.
  public var hasWholeTargets = false
  public var seconds = 0.0
}

extension FeatureStore {
  /// Makes a store of features computed elsewhere, or brings one up to date.
  ///
  /// Samples are called `row 000000` and so on. Everything is checked before anything is written.
  ///
  /// - Parameters:
  ///   - features: a `.npy` file `[N, D…]` of float16 (kept), float32 (kept) or float64 (rounded to float32).
  ///   - labels: a `.npy` file `[N]` of integers, whose classes stay in numeric order, or of text; `[N, C]` of 0 and 1, which labels a
  ///     row has; `[N]` or `[N, T]` of floating-point numbers, what is to be told.
  ///   - labelNames: a file with the name of a label or target on each line; without it they are called by their numbers.
  ///   - split: a `.npy` file `[N]` of the words train, val and test; without it, by a hash of each row's numbers.
  /// - Throws: `NpyError`, `DataSetError` for names of classes, labels or targets; `StoreError`, `FileError`; `CancelledError`.
  public static func importing(
    features featuresPath: String, labels labelsPath: String, labelNames namesPath: String? = nil, split splitPath: String? = nil, output: String,
    opening: StoreOpening = .resuming, rule: SplitRule? = nil, shardRows: Int? = nil, cancellation: CancellationFlag = CancellationFlag()
  ) throws -> ImportSummary {
    let start = ContinuousClock.now
    let features = try ImportedFeatures(path: featuresPath)
    let labels = try ImportedLabels(labelsPath, namesPath: namesPath, count: features.count, featuresPath: featuresPath)
    let splits = try splitPath.map { try splitWords($0, count: features.count, featuresPath: featuresPath) }
    let nameDigits = max(6, String(features.count - 1).count)

    let key = FeatureKey(
      source: .imported, backboneSHA256: "", cut: "", cutShape: features.rowShape, preprocessing: "", precision: "", featureType: features.storedType)
    let facts = ["data_root": FilePath.name(of: featuresPath)]
    let writer = try FeatureStoreWriter(path: output, key: key, opening: opening, split: rule, shardRows: shardRows, facts: facts)
    let order = labels.isNumeric ? "numeric" : "bytes"
    try writer.declare(labels.labelling, facts: [Labelling.fileKey: nil, Labelling.orderKey: order]) { db, hasChanged in
      // Labels of another kind go; the rows stay, and each gets its sample again below.
      if hasChanged { try db.execute(sql: "DELETE FROM sample") }
      try writer.markUnfinished(db, count: features.count)
    }
    var summary = ImportSummary()
    (summary.labelling, summary.hasWholeTargets) = (labels.labelling, labels.hasWholeTargets)
    try features.forEachRow { index, row in
      if cancellation.isCancelled {
        try writer.commit()
        throw CancelledError(remedy: "\(index) of \(features.count) rows are in \(output). Run the same command again to go on.")
      }
      let hash = ContentHash.of(UnsafeRawBufferPointer(row))
      let known = try writer.place(ofContent: hash)
      if known == nil { summary.imported += 1 } else { summary.reused += 1 }
      let digits = String(index)
      try writer.record(
        SampleRecord(
          path: "row " + String(repeating: "0", count: nameDigits - digits.count) + digits, contentHash: hash, label: labels.texts[index],
          split: splits?[index], place: try known ?? writer.append(row, contentHash: hash)))
    }
    try writer.commit()
    // Rows of an earlier, longer import, or of one that counted with fewer digits.
    try writer.index.write { db in
      let last = String(features.count - 1)
      try db.execute(
        sql: "DELETE FROM sample WHERE length(path) <> ? OR path > ?",
        arguments: [4 + nameDigits, "row " + String(repeating: "0", count: nameDigits - last.count) + last])
    }
    try writer.close()
    summary.classes = labels.labelling.task == .classification ? Set(labels.texts.map { Array($0.utf8) }).count : labels.labelling.names.count
    summary.seconds = start.secondsSince
    return summary
  }

  private static func splitWords(_ path: String, count: Int, featuresPath: String) throws -> [String] {
    guard case .strings(let shape, let words) = try Npy.contents(of: path) else {
      throw NpyError(path: path, reason: "it holds numbers, and the words train, val and test are needed")
    }
    try ImportedLabels.checkLength(shape, path: path, count: count, featuresPath: featuresPath)
    if let wrong = words.firstIndex(where: { !["train", "val", "test"].contains($0) }) {
      throw NpyError(path: path, reason: "the word at \(wrong) is '\(words[wrong].prefix(40))'; only train, val and test are known")
    }
    return words
  }
}

/// Rows of a mapped `.npy` file as float32, all finite.
private struct ImportedFeatures {
  let count: Int
  let rowShape: [Int]
  let storedType: ElementType
  private let tensor: HostTensor

  init(path: String) throws {
    tensor = try Npy.tensor(of: path)
    guard tensor.shape.count >= 2, let first = tensor.shape.first, tensor.elementCount > 0 else {
      throw NpyError(path: path, reason: "its shape is \(tensor.shape); one row of features a sample is needed: [samples, features…]")
    }
    guard [.float16, .float32, .float64].contains(tensor.elementType) else {
      throw NpyError(path: path, reason: "features are \(tensor.elementType); float16, float32 or float64 are needed (features.astype('float32'))")
    }
    count = first
    rowShape = Array(tensor.shape.dropFirst())
    storedType = tensor.elementType == .float16 ? .float16 : .float32
    try forEachRow { index, row in
      guard let wrong = row.firstIndex(where: { !$0.isFinite }) else { return }
      throw NpyError(
        path: path,
        reason:
          "row \(index) has a \(row[wrong].isNaN ? "NaN" : "number that is infinite in float32") at column \(wrong); features must be finite numbers")
    }
  }

  func forEachRow(_ body: (Int, UnsafeBufferPointer<Float>) throws -> Void) throws {
    let width = rowShape.reduce(1, *)
    let row = UnsafeMutableBufferPointer<Float>.allocate(capacity: width)
    defer { row.deallocate() }
    try tensor.withUnsafeBytes { bytes in
      for index in 0..<count {
        let start = index * width * tensor.elementType.byteCount
        for column in 0..<width {
          let offset = start + column * tensor.elementType.byteCount
          row[column] =
            switch tensor.elementType {
            case .float16: HalfPrecision.float(fromHalf: bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
            case .float32: bytes.loadUnaligned(fromByteOffset: offset, as: Float.self)
            default: Float(bytes.loadUnaligned(fromByteOffset: offset, as: Double.self))
            }
        }
        try body(index, UnsafeBufferPointer(row))
      }
    }
  }
}
