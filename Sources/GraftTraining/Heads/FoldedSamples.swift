import GraftGraph

/// Samples dealt into folds.
package struct FoldedSamples {
  /// The rows of each sample: its views.
  private let samples: [[Int]]
  private let labels: [Int]
  private let classCount: Int

  /// - Parameter labels: one a sample; folds are stratified by them.
  init(_ samples: [[Int]], labels: [Int], classCount: Int) { (self.samples, self.labels, self.classCount) = (samples, labels, classCount) }

  /// What `body` gives for each fold of each repeat, in order.
  ///
  /// - Parameter body: takes the rows of all other folds, and of those held out the first view of each sample.
  /// - Throws: `TrainingOptionError` for numbers of folds that are none; `TrainingDataError` for fewer samples than folds.
  func map<Value>(
    folds: Int, repeats: Int, seed: UInt64, onProgress: (_ done: Int, _ total: Int) throws -> Void,
    _ body: (_ train: [Int], _ held: [Int]) throws -> Value
  ) throws -> [Value] {
    guard (2...1000).contains(folds) else { throw TrainingOptionError(message: "\(folds) folds were asked for; 2 is the least, and 5 are usual") }
    guard (1...1000).contains(repeats) else { throw TrainingOptionError(message: "\(repeats) repeats were asked for; 1 is the least") }
    // Before any fold is fitted: samples are dealt out in turn, so that each fold has one if there are as many.
    guard samples.count >= folds else {
      throw TrainingDataError(message: "\(samples.count) training samples are too few for \(folds) folds. Give a smaller --folds.")
    }
    var values: [Value] = []
    for turn in 0..<repeats {
      let fold = Self.folds(labels, classCount: classCount, count: folds, seed: seed &+ UInt64(turn))
      for index in 0..<folds {
        let train = fold.indices.filter { fold[$0] != index }.flatMap { samples[$0] }.sorted()
        let held = fold.indices.filter { fold[$0] == index }.map { samples[$0][0] }.sorted()
        values.append(try body(train, held))
        try onProgress(turn * folds + index + 1, folds * repeats)
      }
    }
    return values
  }

  /// What was found of each strength that every fold tried, ascending: a number of neighbours larger than a fold's samples is left out
  /// there, as is a strength that can't be the best.
  static func common<Score>(_ scores: [[Score]], strength: (Score) -> Double) -> [(strength: Double, scores: [Score])] {
    let tried = (scores.first ?? []).map(strength).filter { value in scores.allSatisfy { $0.contains { strength($0) == value } } }
    return tried.sorted().map { value in (value, scores.compactMap { $0.first { strength($0) == value } }) }
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
