/// Consecutive rows of features, valid only while the closure that received them runs.
public struct FeatureChunk {
  /// Which row of the source the first one is.
  public let firstRow: Int
  public let rowCount: Int
  /// D, features a row.
  public let dimension: Int
  /// `[rowCount, dimension]`, row-major.
  public let values: UnsafeBufferPointer<Float>

  /// Our own invariant: as many values as `rowCount` rows of `dimension` need.
  public init(firstRow: Int, rowCount: Int, dimension: Int, values: UnsafeBufferPointer<Float>) {
    precondition(values.count == rowCount * dimension)
    (self.firstRow, self.rowCount, self.dimension, self.values) = (firstRow, rowCount, dimension, values)
  }
}

/// A matrix of features `[N, D]` that is read in chunks, so that it need never be in memory as a whole.
public protocol FeatureSource {
  /// N
  var rowCount: Int { get }
  /// D
  var dimension: Int { get }

  /// Hands over all rows once, in order and without gaps; the division into chunks is the same every time.
  func forEachChunk(_ body: (FeatureChunk) throws -> Void) throws
}

/// Features that are in memory.
public struct ArrayFeatures: FeatureSource, Sendable {
  public let rowCount: Int
  public let dimension: Int
  private let values: [Float]
  private let chunkRowCount: Int

  /// - Throws: `TrainingDataError` if `values` isn't `[rowCount, dimension]`.
  public init(_ values: [Float], rowCount: Int, dimension: Int, chunkRowCount: Int = 2048) throws(TrainingDataError) {
    let (needed, overflow) = rowCount.multipliedReportingOverflow(by: dimension)
    guard rowCount >= 0, dimension > 0, chunkRowCount > 0, !overflow, needed == values.count else {
      throw TrainingDataError(message: "\(values.count) features don't make \(rowCount) rows of \(dimension)")
    }
    (self.values, self.rowCount, self.dimension, self.chunkRowCount) = (values, rowCount, dimension, chunkRowCount)
  }

  public func forEachChunk(_ body: (FeatureChunk) throws -> Void) throws {
    try values.withUnsafeBufferPointer { values in
      for first in stride(from: 0, to: rowCount, by: chunkRowCount) {
        let count = min(chunkRowCount, rowCount - first)
        let part = UnsafeBufferPointer(rebasing: values[first * dimension..<(first + count) * dimension])
        try body(FeatureChunk(firstRow: first, rowCount: count, dimension: dimension, values: part))
      }
    }
  }
}

/// Some rows of another source, in its order.
struct SelectedFeatures: FeatureSource {
  private let base: any FeatureSource
  /// Ascending.
  private let rows: [Int]

  /// Our own invariant: `rows` ascend and exist in `base`.
  init(_ base: any FeatureSource, rows: [Int]) {
    precondition(zip(rows, rows.dropFirst()).allSatisfy { $0 < $1 } && (rows.last ?? 0) < max(1, base.rowCount) && (rows.first ?? 0) >= 0)
    (self.base, self.rows) = (base, rows)
  }

  var rowCount: Int { rows.count }
  var dimension: Int { base.dimension }

  func forEachChunk(_ body: (FeatureChunk) throws -> Void) throws {
    var next = 0
    var gathered: [Float] = []
    try base.forEachChunk { chunk in
      let first = next
      gathered.removeAll(keepingCapacity: true)
      gathered.reserveCapacity(min(chunk.rowCount, rows.count - next) * chunk.dimension)
      while next < rows.count, rows[next] < chunk.firstRow + chunk.rowCount {
        let begin = (rows[next] - chunk.firstRow) * chunk.dimension
        gathered.append(contentsOf: chunk.values[begin..<begin + chunk.dimension])
        next += 1
      }
      guard next > first else { return }
      try gathered.withUnsafeBufferPointer {
        try body(FeatureChunk(firstRow: first, rowCount: next - first, dimension: chunk.dimension, values: $0))
      }
    }
  }
}
