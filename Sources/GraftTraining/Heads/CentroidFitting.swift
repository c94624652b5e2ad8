/// Nearest class means, as scikit-learn's NearestCentroid: the class whose mean is the closest.
///
/// −‖x − m‖²/2 is linear in x but for ‖x‖², which all classes share: W is the means and b −‖m‖²/2. Means are taken from
/// the mean of all, so that little cancels. There is nothing to choose, only a temperature to find.
public struct CentroidFitting: HeadFitting {
  public let featureNormalisation: FeatureNormalisation
  public let holdoutFraction: Double
  public let seed: UInt64
  private let backend: any LinearBackend

  public init(
    featureNormalisation: FeatureNormalisation = .none, holdoutFraction: Double = 0.2, seed: UInt64 = 0,
    backend: any LinearBackend = HostLinearBackend()
  ) {
    (self.featureNormalisation, self.holdoutFraction, self.seed, self.backend) = (featureNormalisation, holdoutFraction, seed, backend)
  }

  public var kind: HeadMetadata.Kind { .centroid }
  public var strengths: [Double] { [] }

  public func scores(train: LabelledFeatures, held: LabelledFeatures, classes: [String]) throws -> [StrengthScore] {
    try LinearTrainingData(train: train, validation: held, classes: classes).check()
    let score = try head(train, HeadMetadata(unnamed: classes)).heldOutScores(held, source: .folds, backend: backend).score()
    return [StrengthScore(strength: 0, top1: score.top1, logLoss: score.logLoss)]
  }

  public func fit(
    _ data: LinearTrainingData, strength: Double?, metadata: HeadMetadata, onProgress: @escaping (String) throws -> Void
  ) throws -> FittedHead {
    try data.check()
    var metadata = metadata
    var held: HeldOutScores?
    if let (train, validation, source) = try data.parted(fraction: holdoutFraction, seed: seed) {
      held = try head(train, HeadMetadata(unnamed: data.classes)).heldOutScores(validation, source: source, backend: backend)
    }
    let calibration = metadata.calibrate(held)
    if let held { metadata.metrics["validation_top1"] = held.score().top1 }
    var fitted = FittedHead(try head(data.train, metadata), strength: nil)
    (fitted.validation, fitted.calibration) = (held?.score(), calibration)
    return fitted
  }

  private func head(_ data: LabelledFeatures, _ template: HeadMetadata) throws -> Head {
    let (width, classes) = (data.features.dimension, template.classes.count)
    let counts = try data.classCounts(classCount: classes)
    let statistics = try FeatureStatistics(data, sampleLimit: 0)
    guard featureNormalisation != .none || statistics.largestMagnitude <= LinearProblem.largestFeature else {
      throw TrainingDataError.tooLarge(statistics.largestMagnitude)
    }
    let transform = FeatureTransform(featureNormalisation, statistics: statistics)
    var sums = [Double](repeating: 0, count: classes * width), mean = [Double](repeating: 0, count: width)
    try NormalisedFeatures(base: data.features, transform: transform).forEachChunk { chunk in
      for row in 0..<chunk.rowCount {
        let target = data.labels[chunk.firstRow + row] * width
        for column in 0..<width { sums[target + column] += Double(chunk.values[row * width + column]) }
      }
    }
    for column in 0..<width { for output in 0..<classes { mean[column] += sums[output * width + column] / Double(data.rowCount) } }
    var bias = [Double](repeating: 0, count: classes)
    for output in 0..<classes {
      for column in 0..<width {
        let place = output * width + column, centre = sums[place] / Double(max(1, counts[output]))
        sums[place] = centre - mean[column]
        // −(‖m‖² − ‖mean‖²)/2, the products of the means as they are with x − mean put into the bias.
        bias[output] -= (centre - mean[column]) * (centre + mean[column]) / 2
      }
    }
    let (weight, shifted) = transform.fold(weight: sums, bias: bias)
    var metadata = template
    (metadata.kind, metadata.featureNormalisation) = (.centroid, featureNormalisation)
    return try Head(weight: weight.map(Float.init), bias: shifted.map(Float.init), metadata: metadata)
  }
}
