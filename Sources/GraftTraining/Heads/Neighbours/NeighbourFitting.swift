import GraftGraph

/// Nearest neighbours; the strength is their number.
///
/// It is chosen on the validation split, or by leaving out each training sample in turn, which takes no second fit.
public struct NeighbourFitting: HeadFitting {
  public let neighbours: [Int]
  public let voting: NeighbourVoting
  public let featureNormalisation: FeatureNormalisation
  /// Whether the head's file holds float16.
  public let storesFloat16: Bool
  let backend: any LinearBackend

  /// - Throws: `TrainingOptionError` for a number of neighbours or a temperature that is none.
  public init(
    neighbours: [Int] = [1, 3, 5, 10, 20], distance: NeighbourDistance = .cosine, voteTemperature: Double? = nil,
    featureNormalisation: FeatureNormalisation = .none, storesFloat16: Bool = false, backend: any LinearBackend = HostLinearBackend()
  ) throws(TrainingOptionError) {
    guard !neighbours.isEmpty, neighbours.allSatisfy({ (1...1_000_000).contains($0) }) else {
      throw TrainingOptionError(message: "the number of neighbours must lie between 1 and 1000000, such as 5")
    }
    if let voteTemperature, !(voteTemperature > 0 && voteTemperature.isFinite) {
      throw TrainingOptionError(message: "the votes' temperature is \(voteTemperature); it must be positive, such as 0.07 for cosine distances")
    }
    self.neighbours = Array(Set(neighbours)).sorted()
    voting = NeighbourVoting(neighbours: self.neighbours[0], distance: distance, voteTemperature: voteTemperature)
    (self.featureNormalisation, self.storesFloat16, self.backend) = (featureNormalisation, storesFloat16, backend)
  }

  public var kind: HeadMetadata.Kind { .knn }
  public var strengths: [Double] { neighbours.map(Double.init) }

  public func scores(train: LabelledFeatures, held: LabelledFeatures, classes: [String]) throws -> [StrengthScore] {
    try LinearTrainingData(train: train, validation: held, classes: classes).check()
    return try tried(try head(train, neighbours[0], HeadMetadata(unnamed: classes)), neighbours, held, source: .folds).map(Self.score)
  }

  public func fit(
    _ data: LinearTrainingData, strength: Double?, metadata: HeadMetadata, onProgress: @escaping (String) throws -> Void
  ) throws -> FittedHead {
    try data.check()
    if data.validation == nil, let parts = try data.partedViews() {
      var chosen = try fit(parts, strength: strength, metadata: metadata, onProgress: onProgress)
      var voting = voting
      voting.neighbours = Int(chosen.strength ?? 1)
      let whole = try head(data.train, voting.neighbours, metadata)
      chosen.classifier = try whole.replacing(voting: voting, metadata: chosen.classifier.metadata)
      return chosen
    }
    let wanted = strength.map { [Int(min(max(1, $0.rounded()), 1e6))] } ?? neighbours
    let counts = wanted.filter { $0 <= data.train.rowCount }
    guard !counts.isEmpty else {
      throw TrainingDataError(
        message: "\(wanted[0]) neighbours were asked for, and there are \(data.train.rowCount) training samples. Give a smaller --k.")
    }
    let whole = try head(data.train, counts[0], metadata)
    try onProgress("distances")
    let found: [(count: Int, held: HeldOutScores)]
    if let split = data.validation {
      found = try tried(whole, counts, split, source: .split)
    } else {
      // A class of one sample has none left without it, which would speak against every number.
      let rarest = try data.train.classCounts(classCount: data.classes.count).min() ?? 0
      let possible = rarest < 2 ? [] : counts.filter { $0 < data.train.rowCount }
      found = try zip(possible, try whole.leaveOneOut(neighbours: possible, backend: backend)).map { count, logits in
        (count, try HeldOutScores(logits: logits, labels: data.train.labels, classCount: data.classes.count, source: .leaveOneOut))
      }
    }
    let scores = found.map(Self.score)
    // Ties: more neighbours, whose shares are finer.
    let best = scores.indices.max { (scores[$0].top1, scores[$0].strength) < (scores[$1].top1, scores[$1].strength) }
    let count = best.map { found[$0].count } ?? counts[0], held = best.map { found[$0].held }
    var metadata = metadata
    (metadata.kind, metadata.featureNormalisation) = (.knn, featureNormalisation)
    let calibration = metadata.calibrate(held)
    if let held { metadata.metrics["validation_top1"] = held.score().top1 }
    var voting = voting
    voting.neighbours = count
    var fitted = FittedHead(try whole.replacing(voting: voting, metadata: metadata), strength: Double(count))
    (fitted.validation, fitted.calibration, fitted.sweep) = (held?.score(), calibration, scores)
    return fitted
  }

  private static func score(_ tried: (count: Int, held: HeldOutScores)) -> StrengthScore {
    let score = tried.held.score()
    return StrengthScore(strength: Double(tried.count), top1: score.top1, logLoss: score.logLoss)
  }

  private func tried(
    _ head: NeighbourHead, _ counts: [Int], _ held: LabelledFeatures, source: ValidationScore.Source
  ) throws -> [(count: Int, held: HeldOutScores)] {
    let possible = counts.filter { $0 <= head.sampleCount }
    return try zip(possible, try head.logits(of: held.features, neighbours: possible, backend: backend)).map { count, logits in
      (count, try HeldOutScores(logits: logits, labels: held.labels, classCount: head.classCount, source: source))
    }
  }

  private func head(_ data: LabelledFeatures, _ count: Int, _ template: HeadMetadata) throws -> NeighbourHead {
    try head(data.features, labels: data.labels, targets: [], count, template) { data.name(ofRow: $0) }
  }

  /// A head of samples with classes or with targets.
  func head(
    _ features: any FeatureSource, labels: [Int], targets: [Float], _ count: Int, _ template: HeadMetadata, name: (Int) -> String
  ) throws -> NeighbourHead {
    var metadata = template
    (metadata.kind, metadata.featureNormalisation) = (.knn, featureNormalisation)
    let statistics = try FeatureStatistics(features, sampleLimit: 0, name: name)
    guard featureNormalisation != .none || statistics.largestMagnitude <= LinearProblem.largestFeature else {
      throw TrainingDataError.tooLarge(statistics.largestMagnitude)
    }
    let transform = FeatureTransform(featureNormalisation, statistics: statistics)
    var (mean, inverse): ([Double], [Double]) = ([], [])
    if case .standardise(let m, let s) = transform {
      // As the file will hold them, so that the head says the same once it is read again.
      (mean, inverse) = (m.map { Double(Float($0)) }, s.map { Double(Float($0)) })
    }
    let seen: FeatureTransform = mean.isEmpty ? transform : .standardise(mean: mean, inverseDeviation: inverse)
    var rows: [Float] = []
    rows.reserveCapacity(features.rowCount * features.dimension)
    try NormalisedFeatures(base: features, transform: seen).forEachChunk { rows.append(contentsOf: $0.values) }
    if storesFloat16 { rows = HostTensor([rows.count], rows).float16().floats() }
    guard rows.allSatisfy(\.isFinite) else {
      throw TrainingDataError(message: "features are too large for float16. Leave --feature-type at float32, or train with --normalise standardise.")
    }
    var voting = voting
    voting.neighbours = count
    return try NeighbourHead(
      features: rows, labels: labels, targets: targets, dimension: features.dimension, voting: voting, mean: mean, inverseDeviation: inverse,
      storesFloat16: storesFloat16, metadata: metadata)
  }
}
