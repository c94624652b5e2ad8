/// What is done to a row of features before the linear layer.
public enum FeatureNormalisation: String, Sendable, Codable, CaseIterable {
  /// Nothing.
  case none
  /// Each row is divided by its Euclidean length (a row of zeros stays so); done again at prediction.
  case l2
  /// Each feature has its mean subtracted and is divided by its standard deviation over the training samples; λ then
  /// penalises the weights of the standardised features. Stored weights are folded back: they take raw features.
  case standardise
}

/// A normalisation with the numbers it needs.
package enum FeatureTransform {
  case none
  case l2
  /// z = (x − mean)·inverseDeviation, `[D]` each.
  case standardise(mean: [Double], inverseDeviation: [Double])

  init(_ normalisation: FeatureNormalisation, statistics: FeatureStatistics) {
    switch normalisation {
    case .none: self = .none
    case .l2: self = .l2
    case .standardise:
      let rounding = Double(statistics.rowCount) * .ulpOfOne
      let inverse = zip(statistics.variance, statistics.mean).map { variance, mean in
        // What differs from its mean only by rounding is a constant, as in scikit-learn's StandardScaler.
        variance <= rounding * variance + (rounding * mean) * (rounding * mean) ? 1 : 1 / variance.squareRoot()
      }
      self = .standardise(mean: statistics.mean, inverseDeviation: inverse)
    }
  }

  func apply(to values: UnsafeMutableBufferPointer<Float>, dimension: Int) {
    switch self {
    case .none: break
    case .l2:
      for first in stride(from: 0, to: values.count, by: dimension) {
        var sum = 0.0
        for index in first..<first + dimension { sum += Double(values[index]) * Double(values[index]) }
        guard sum > 0 else { continue }
        let scale = 1 / sum.squareRoot()
        for index in first..<first + dimension { values[index] = Float(Double(values[index]) * scale) }
      }
    case .standardise(let mean, let inverseDeviation):
      for first in stride(from: 0, to: values.count, by: dimension) {
        for column in 0..<dimension {
          values[first + column] = Float((Double(values[first + column]) - mean[column]) * inverseDeviation[column])
        }
      }
    }
  }

  /// Weights `[C, D]` and biases `[C]` for raw features that give the logits of those for transformed ones.
  func fold(weight: [Double], bias: [Double]) -> (weight: [Double], bias: [Double]) {
    guard case .standardise(let mean, let inverseDeviation) = self else { return (weight, bias) }
    let dimension = mean.count
    var (folded, shifted) = (weight, bias)
    for output in bias.indices {
      for column in 0..<dimension {
        folded[output * dimension + column] *= inverseDeviation[column]
        shifted[output] -= folded[output * dimension + column] * mean[column]
      }
    }
    return (folded, shifted)
  }
}

/// A source whose rows are normalised as they are read.
struct NormalisedFeatures: FeatureSource {
  let base: any FeatureSource
  let transform: FeatureTransform

  var rowCount: Int { base.rowCount }
  var dimension: Int { base.dimension }

  func forEachChunk(_ body: (FeatureChunk) throws -> Void) throws {
    if case .none = transform { return try base.forEachChunk(body) }
    var scratch: [Float] = []
    try base.forEachChunk { chunk in
      scratch.removeAll(keepingCapacity: true)
      scratch.append(contentsOf: chunk.values)
      scratch.withUnsafeMutableBufferPointer { transform.apply(to: $0, dimension: chunk.dimension) }
      try scratch.withUnsafeBufferPointer {
        try body(FeatureChunk(firstRow: chunk.firstRow, rowCount: chunk.rowCount, dimension: chunk.dimension, values: $0))
      }
    }
  }
}
