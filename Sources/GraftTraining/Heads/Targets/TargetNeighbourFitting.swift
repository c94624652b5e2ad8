import GraftData

/// Nearest neighbours for labels, by their share, and for numbers, by their mean; the strength is how many there are.
///
/// It is chosen on the validation split, or by leaving out each training sample in turn, which takes no second fit: for labels by log
/// loss, for numbers by the mean squared error in units of the standard deviation.
public struct TargetNeighbourFitting: TargetHeadFitting {
  private let base: NeighbourFitting

  /// - Throws: `TrainingOptionError` for a number of neighbours or a temperature that is none.
  public init(
    neighbours: [Int] = [1, 3, 5, 10, 20], distance: NeighbourDistance = .cosine, voteTemperature: Double? = nil,
    featureNormalisation: FeatureNormalisation = .none, storesFloat16: Bool = false, backend: any LinearBackend = HostLinearBackend()
  ) throws(TrainingOptionError) {
    base = try NeighbourFitting(
      neighbours: neighbours, distance: distance, voteTemperature: voteTemperature, featureNormalisation: featureNormalisation,
      storesFloat16: storesFloat16, backend: backend)
  }

  public var kind: HeadMetadata.Kind { .knn }
  public var strengths: [Double] { base.strengths }

  public func scores(_ data: TargetTrainingData) throws -> [TargetStrengthScore] {
    try data.check()
    guard let held = data.validation else { preconditionFailure("scores need validation samples") }
    // More neighbours than samples can't be tried.
    let counts = base.neighbours.filter { $0 <= data.train.rowCount }
    guard let least = counts.first else { return [] }
    let outputs = try head(data.train, least, data.unnamedMetadata).logits(of: held.features, neighbours: counts, backend: base.backend)
    return try scored(counts, outputs, held, .folds, data.task, TargetScaling(data.train, task: data.task))
  }

  private func scored(
    _ counts: [Int], _ outputs: [[Float]], _ held: TargetedFeatures, _ source: ValidationScore.Source, _ task: LabelTask, _ scaling: TargetScaling
  ) throws -> [TargetStrengthScore] {
    try zip(counts, outputs).map { count, outputs in
      let said = try HeldOutTargets(task, outputs: outputs, data: held, source: source)
      return TargetStrengthScore(
        strength: Double(count), score: said.score(), loss: said.loss(task == .multilabel ? .binaryCrossEntropy : .squared, scaling))
    }
  }

  public func fit(
    _ data: TargetTrainingData, strength: Double?, metadata: HeadMetadata, onProgress: @escaping (String) throws -> Void
  ) throws -> FittedTargetHead {
    try data.check()
    // Leaving out one row of a sample with several views leaves the others in: a part of the samples is held out instead.
    let parts = data.validation != nil || data.train.hasViews ? try data.parted(fraction: 0.2, seed: 0) : nil
    let train = parts?.train ?? data.train
    let wanted = strength.map { [Int($0)] } ?? base.neighbours, counts = wanted.filter { $0 <= train.rowCount }
    guard let least = counts.first else {
      throw TrainingDataError(
        message: "\(wanted[0]) neighbours were asked for, and there are \(train.rowCount) training samples. Give a smaller --k.")
    }
    let head = try head(train, least, metadata), scaling = TargetScaling(train, task: data.task)
    try onProgress("distances")
    let tried: [TargetStrengthScore]
    if let parts {
      let outputs = try head.logits(of: parts.held.features, neighbours: counts, backend: base.backend)
      tried = try scored(counts, outputs, parts.held, parts.source, data.task, scaling)
    } else {
      let possible = counts.filter { $0 < train.rowCount }
      let outputs = try head.leaveOneOut(neighbours: possible, backend: base.backend)
      tried = try scored(possible, outputs, train, .leaveOneOut, data.task, scaling)
    }
    // Of equal losses more neighbours, whose shares are finer.
    let best = tried.min { ($0.loss, -$0.strength) < ($1.loss, -$1.strength) }
    var (metadata, voting) = (metadata, base.voting)
    voting.neighbours = best.map { Int($0.strength) } ?? least
    metadata.record(best?.score)
    (metadata.kind, metadata.featureNormalisation) = (.knn, base.featureNormalisation)
    let whole = parts?.source == .holdout ? try self.head(data.train, least, metadata) : head
    var fitted = FittedTargetHead(try whole.replacing(voting: voting, metadata: metadata), strength: Double(voting.neighbours))
    (fitted.validation, fitted.sweep) = (best?.score, tried)
    return fitted
  }

  private func head(_ data: TargetedFeatures, _ count: Int, _ metadata: HeadMetadata) throws -> NeighbourHead {
    try base.head(data.features, labels: [], targets: data.targets.map(Float.init), count, metadata) { data.name(ofRow: $0) }
  }
}
