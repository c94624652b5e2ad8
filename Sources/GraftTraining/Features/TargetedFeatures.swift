import Foundation
import GraftData

/// Features `[N, D]` and what is to be said of each row where that is no class: labels or numbers.
public struct TargetedFeatures {
  public let features: any FeatureSource
  /// `[N, T]`: 1 for labels that a row has and 0 for the others, or numbers in the user's units.
  public let targets: [Double]
  /// T
  public let targetCount: Int
  /// `[N]`, what identifies a row across runs and in messages; row numbers serve when it is empty. Rows of one key are views of one sample.
  public let keys: [String]

  /// - Throws: `TrainingDataError` if the counts differ or a target isn't finite.
  public init(features: any FeatureSource, targets: [Double], targetCount: Int, keys: [String] = []) throws(TrainingDataError) {
    let (needed, overflow) = features.rowCount.multipliedReportingOverflow(by: targetCount)
    guard targetCount > 0, !overflow, needed == targets.count, keys.isEmpty || keys.count == features.rowCount else {
      throw TrainingDataError(
        message:
          "\(features.rowCount) rows of features, \(targets.count) targets of \(targetCount) a row and \(keys.count) names don't belong together")
    }
    if let wrong = targets.firstIndex(where: { !$0.isFinite }) {
      throw TrainingDataError(
        message: "target \(wrong % targetCount) of row \(wrong / targetCount) is \(targets[wrong]); targets must be finite numbers")
    }
    (self.features, self.targets, self.targetCount, self.keys) = (features, targets, targetCount, keys)
  }

  public var rowCount: Int { features.rowCount }

  /// How a message calls a row: "row 7 (cats/7.png)".
  func name(ofRow row: Int) -> String { keys.indices.contains(row) ? "row \(row) (\(keys[row]))" : "row \(row)" }

  /// Our own invariant: `rows` ascend.
  func selecting(rows: [Int]) throws(TrainingDataError) -> TargetedFeatures {
    try TargetedFeatures(
      features: SelectedFeatures(features, rows: rows), targets: rows.flatMap { targets[$0 * targetCount..<($0 + 1) * targetCount] },
      targetCount: targetCount, keys: keys.isEmpty ? rows.map { "\($0)" } : rows.map { keys[$0] })
  }

  /// The same rows and targets under another view of the features.
  func replacing(features: any FeatureSource) throws(TrainingDataError) -> TargetedFeatures {
    try TargetedFeatures(features: features, targets: targets, targetCount: targetCount, keys: keys)
  }

  /// The rows of each sample, as `LabelledFeatures.samples`.
  var samples: [[Int]] { LabelledFeatures.samples(keys: keys, rowCount: rowCount) }

  /// Whether rows are views of fewer samples.
  var hasViews: Bool { Set(keys).count < keys.count }

  /// How many rows each label has, `[T]`.
  var labelCounts: [Int] {
    var counts = [Int](repeating: 0, count: targetCount)
    for (index, value) in targets.enumerated() where value == 1 { counts[index % targetCount] += 1 }
    return counts
  }

  /// The logit of each label's share of the rows, `[T]`, as if one more row had half of it: finite where all rows have it, or none.
  var labelLogits: [Double] { labelCounts.map { log((Double($0) + 0.5) / (Double(rowCount - $0) + 0.5)) } }
}

/// What a head for labels or numbers is trained and chosen on. There is no place for a test split here, by intent.
public struct TargetTrainingData {
  public let task: LabelTask
  /// Of the labels or targets, in the order of the head's outputs.
  public let names: [String]
  public let train: TargetedFeatures
  /// The data set's own validation split, where it has one.
  public let validation: TargetedFeatures?

  /// Squares of larger numbers leave float32.
  private static let largestTarget = 1e18

  public init(task: LabelTask, names: [String], train: TargetedFeatures, validation: TargetedFeatures? = nil) {
    (self.task, self.names, self.train, self.validation) = (task, names, train, validation)
  }

  /// - Throws: `TrainingDataError` that says what can't be trained on.
  func check() throws(TrainingDataError) {
    guard task != .classification else { throw TrainingDataError(message: "samples of one class each have no targets") }
    guard train.rowCount > 0 else { throw TrainingDataError(message: "there are no samples to train on") }
    guard train.features.dimension > 0 else { throw TrainingDataError(message: "the samples have no features") }
    for data in [train, validation].compactMap(\.self) {
      guard data.targetCount == names.count else {
        throw TrainingDataError(message: "samples have \(data.targetCount) \(task.outputWord), and there are \(names.count) names")
      }
      guard task == .multilabel, let wrong = data.targets.firstIndex(where: { $0 != 0 && $0 != 1 }) else { continue }
      throw TrainingDataError(
        message: "\(data.name(ofRow: wrong / names.count)) has \(data.targets[wrong]) for the label \(names[wrong % names.count]); 0 or 1 is needed")
    }
    if task == .regression, let large = train.targets.firstIndex(where: { abs($0) > Self.largestTarget }) {
      throw TrainingDataError(
        message: "\(train.name(ofRow: large / names.count)) has \(train.targets[large]) for \(names[large % names.count]), "
          + "which is too large to compute with. Give targets in larger units.")
    }
    if task == .multilabel, names.indices.allSatisfy({ isConstant($0) }) {
      throw TrainingDataError(
        message: "every label is on all training samples or on none, so that there is nothing to learn. Add samples that differ in their labels.")
    }
    guard let validation else { return }
    guard validation.features.dimension == train.features.dimension else {
      throw TrainingDataError(
        message: "validation samples have \(validation.features.dimension) features and training samples \(train.features.dimension)")
    }
    guard validation.rowCount > 0 else {
      throw TrainingDataError(message: "the validation split is empty; leave it away, and training samples are held out instead")
    }
  }

  /// Labels that all training samples have, or none, and numbers that are the same for all: what a head says of them can only be a constant.
  public var constantOutputs: [String] { names.indices.filter { isConstant($0) }.map { names[$0] } }

  /// What a head says of such outputs, `[T]`: a label's logit, or the number; `nil` of the others.
  var constants: [Double?] {
    let logits = task == .multilabel ? train.labelLogits : []
    return names.indices.map { output in
      guard isConstant(output), train.targets.indices.contains(output) else { return nil }
      return task == .multilabel ? logits[output] : train.targets[output]
    }
  }

  private func isConstant(_ output: Int) -> Bool {
    var values = stride(from: output, to: train.targets.count, by: max(1, train.targetCount)).lazy.map { train.targets[$0] }.makeIterator()
    guard let first = values.next() else { return true }
    while let value = values.next() { if value != first { return false } }
    return true
  }

  /// Training and validation samples: the data set's own split, or a share of the training samples held out.
  func parted(fraction: Double, seed: UInt64) throws -> (train: TargetedFeatures, held: TargetedFeatures, source: ValidationScore.Source)? {
    if let validation { return (train, validation, .split) }
    let holdout = Holdout(train, fraction: fraction, seed: seed)
    guard !holdout.validation.isEmpty, !holdout.training.isEmpty else { return nil }
    return (try train.selecting(rows: holdout.training), try train.selecting(rows: holdout.validation), .holdout)
  }
}

/// What makes targets of any units alike for training, and outputs into the user's units again.
struct TargetScaling: Sendable, Equatable {
  /// `[T]`
  let mean: [Double]
  /// `[T]`; 1 where all are equal.
  let deviation: [Double]

  /// Of numbers: mean and standard deviation. Labels stay as they are.
  init(_ data: TargetedFeatures, task: LabelTask) { self.init(data.targets, width: data.targetCount, task: task) }

  /// Of `[N, T]` targets, T being `width`.
  init(_ targets: [Double], width: Int, task: LabelTask) {
    let count = Double(max(1, targets.count / max(1, width)))
    guard task == .regression else {
      (mean, deviation) = ([Double](repeating: 0, count: width), [Double](repeating: 1, count: width))
      return
    }
    var sums = [Double](repeating: 0, count: width), squares = sums
    for (index, value) in targets.enumerated() { sums[index % width] += value / count }
    for (index, value) in targets.enumerated() {
      squares[index % width] += (value - sums[index % width]) * (value - sums[index % width]) / count
    }
    mean = sums
    deviation = zip(squares, sums).map { variance, mean in
      // What differs from its mean only by rounding is a constant.
      let rounding = count * .ulpOfOne * abs(mean)
      return variance > rounding * rounding && variance.isFinite ? variance.squareRoot() : 1
    }
  }

  /// (target − mean) / deviation, `[N, T]`
  func scaled(_ targets: [Double]) -> [Float] { precise(targets).map(Float.init) }

  /// The same in double precision.
  func precise(_ targets: [Double]) -> [Double] {
    targets.enumerated().map { ($1 - mean[$0 % mean.count]) / deviation[$0 % mean.count] }
  }

  /// The way back, `[N, T]`
  func restored(_ values: [Float]) -> [Float] {
    values.enumerated().map { Float(Double($1) * deviation[$0 % mean.count] + mean[$0 % mean.count]) }
  }

  /// Weights `[T, D]` and biases `[T]` that give outputs in the units of training, of those that give them in the user's.
  func unfold(weight: [Float], bias: [Float]) -> (weight: [Float], bias: [Float]) {
    let width = weight.count / max(1, bias.count)
    return (
      weight.enumerated().map { Float(Double($1) / deviation[$0 / max(1, width)]) },
      bias.enumerated().map { Float((Double($1) - mean[$0]) / deviation[$0]) }
    )
  }

  /// Weights `[T, D]` and biases `[T]` that give outputs in the user's units.
  func fold(weight: [Double], bias: [Double]) -> (weight: [Double], bias: [Double]) {
    let width = weight.count / max(1, bias.count)
    return (
      weight.enumerated().map { $1 * deviation[$0 / max(1, width)] }, bias.enumerated().map { $1 * deviation[$0] + mean[$0] }
    )
  }
}
