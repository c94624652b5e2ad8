import GraftGraph

/// Strengths compared by folds of the training data, several times over.
public struct CrossValidation: Sendable {
  /// What one strength reaches over all folds of all repeats.
  public struct Result: Sendable, Equatable {
    public let strength: Double
    public let top1: ConfidenceInterval
    public let logLoss: Double
  }

  /// Ascending by strength; one for a kind without strengths.
  public let results: [Result]
  /// The highest mean top-1; of equal ones the lower log loss, then the larger strength.
  public let best: Result
  public let folds, repeats: Int

  /// - Throws: `TrainingOptionError` for fewer than two folds; `TrainingDataError` for a class with fewer samples than two.
  public init(
    _ fitting: any HeadFitting, _ data: LabelledFeatures, classes: [String], folds: Int, repeats: Int = 1, seed: UInt64 = 0,
    onProgress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
  ) throws {
    guard (2...1000).contains(folds) else { throw TrainingOptionError(message: "\(folds) folds were asked for; 2 is the least, and 5 are usual") }
    guard (1...1000).contains(repeats) else { throw TrainingOptionError(message: "\(repeats) repeats were asked for; 1 is the least") }
    try LinearTrainingData(train: data, classes: classes).check()
    let counts = try data.classCounts(classCount: classes.count)
    if let rare = counts.indices.min(by: { counts[$0] < counts[$1] }), counts[rare] < 2 {
      throw TrainingDataError(
        message: "\(classes[rare]) has a single training sample, so that a fold without it knows nothing of it. Add samples, or leave --folds away.")
    }
    let samples = data.samples
    var scores: [[StrengthScore]] = []
    for turn in 0..<repeats {
      let fold = Self.folds(samples.map { data.labels[$0[0]] }, classCount: classes.count, count: folds, seed: seed &+ UInt64(turn))
      for index in 0..<folds {
        // Of a sample that is held out the first view alone is looked at.
        let train = fold.indices.filter { fold[$0] != index }.flatMap { samples[$0] }.sorted()
        let held = fold.indices.filter { fold[$0] == index }.map { samples[$0][0] }.sorted()
        guard !held.isEmpty else {
          throw TrainingDataError(message: "\(data.rowCount) training samples are too few for \(folds) folds. Give a smaller --folds.")
        }
        scores.append(try fitting.scores(train: data.selecting(rows: train), held: data.selecting(rows: held), classes: classes))
        try onProgress(turn * folds + index + 1, folds * repeats)
      }
    }
    // A number of neighbours larger than a fold's samples is left out there, so only what every fold tried is compared.
    let common = (scores.first ?? []).map(\.strength).filter { strength in scores.allSatisfy { $0.contains { $0.strength == strength } } }
    results = common.sorted().map { strength in
      let own = scores.compactMap { $0.first { $0.strength == strength } }
      return Result(
        strength: strength, top1: ConfidenceInterval(mean: own.map(\.top1)), logLoss: own.reduce(0) { $0 + $1.logLoss } / Double(own.count))
    }
    guard let best = results.max(by: { ($0.top1.value, -$0.logLoss, $0.strength) < ($1.top1.value, -$1.logLoss, $1.strength) }) else {
      throw TrainingOptionError(message: "no strength could be tried in every fold. Give fewer --folds, or a smaller --k.")
    }
    (self.best, self.folds, self.repeats) = (best, folds, repeats)
  }

  /// The fold of each row: every class is shuffled and dealt out in turn, going on where the class before ended, so that folds are
  /// stratified and of equal size but for one sample.
  package static func folds(_ labels: [Int], classCount: Int, count: Int, seed: UInt64) -> [Int] {
    var generator = SplitMix(seed &* 0x9E37_79B9_7F4A_7C15 &+ 0xF01D)
    var rows = [[Int]](repeating: [], count: classCount)
    for (row, label) in labels.enumerated() where rows.indices.contains(label) { rows[label].append(row) }
    var (result, next) = ([Int](repeating: 0, count: labels.count), 0)
    for own in rows {
      for row in own.shuffled(using: &generator) {
        result[row] = next
        next = (next + 1) % count
      }
    }
    return result
  }
}
