/// Mean and variance of every feature, and a sample of rows; one pass over the features, which also finds what isn't a
/// number.
package struct FeatureStatistics {
  let rowCount: Int
  let dimension: Int
  /// `[D]`
  private(set) var mean: [Double]
  /// `[D]`, the population's: divided by N, as scikit-learn's StandardScaler.
  private(set) var variance: [Double]
  private(set) var largestMagnitude: Float = 0
  /// `[sampledRowCount, D]`: rows at equal distances.
  private(set) var sampledRows: [Float] = []
  let sampledRowCount: Int

  /// - Throws: `TrainingDataError` that names the first row with NaN or infinity, or what reading throws.
  package init(_ data: LabelledFeatures, sampleLimit: Int) throws {
    try self.init(data.features, sampleLimit: sampleLimit) { data.name(ofRow: $0) }
  }

  /// - Parameter name: how a message calls a row.
  package init(_ source: any FeatureSource, sampleLimit: Int, name: (Int) -> String) throws {
    rowCount = source.rowCount
    dimension = source.dimension
    let (count, width) = (rowCount, dimension)
    sampledRowCount = min(count, sampleLimit)
    mean = [Double](repeating: 0, count: width)
    variance = mean
    sampledRows.reserveCapacity(sampledRowCount * width)
    var nextSample = 0
    try source.forEachChunk { chunk in
      for row in 0..<chunk.rowCount {
        let values = chunk.values[row * width..<(row + 1) * width]
        // Magnitudes are in the order of their bits, infinity and NaN above all numbers.
        var largest: UInt32 = 0
        for value in values { largest = max(largest, value.bitPattern & ~(1 << 31)) }
        guard largest < Float.infinity.bitPattern else {
          let value = values.first { !$0.isFinite } ?? .nan
          throw TrainingDataError.notFinite(value, row: name(chunk.firstRow + row))
        }
        largestMagnitude = max(largestMagnitude, Float(bitPattern: largest))
        if nextSample < sampledRowCount, chunk.firstRow + row == nextSample * count / sampledRowCount {
          sampledRows.append(contentsOf: values)
          nextSample += 1
        }
      }
      merge(chunk)
    }
    for column in 0..<width { variance[column] /= Double(max(1, count)) }
  }

  /// Adds a chunk's mean and sum of squared deviations (held in `variance` until the end); no large squares cancel.
  ///
  /// Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
  private mutating func merge(_ chunk: FeatureChunk) {
    let (before, added) = (Double(chunk.firstRow), Double(chunk.rowCount))
    var chunkMean = [Double](repeating: 0, count: dimension)
    for row in 0..<chunk.rowCount {
      for column in 0..<dimension { chunkMean[column] += Double(chunk.values[row * dimension + column]) }
    }
    for column in 0..<dimension { chunkMean[column] /= added }
    for row in 0..<chunk.rowCount {
      for column in 0..<dimension {
        let deviation = Double(chunk.values[row * dimension + column]) - chunkMean[column]
        variance[column] += deviation * deviation
      }
    }
    for column in 0..<dimension {
      let shift = chunkMean[column] - mean[column]
      mean[column] += shift * (added / (before + added))
      variance[column] += shift * shift * (before * added / (before + added))
    }
  }
}

extension TrainingDataError {
  static func notFinite(_ value: Float, row: String) -> TrainingDataError {
    TrainingDataError(
      message: "the features of \(row) contain \(value.isNaN ? "NaN" : "infinity"). Extract that sample again, or leave it out; "
        + "features in float16 overflow above 65504, so --precision float32 may help.")
  }

  static func tooLarge(_ magnitude: Float) -> TrainingDataError {
    TrainingDataError(message: "features are as large as \(magnitude), too large to multiply in float32. Train with --normalise standardise.")
  }
}
