import GraftGraph

/// Accuracy on test samples against the number of labelled samples a class.
public struct LearningCurve: Sendable {
  /// One number of samples, drawn several times.
  public struct Point: Sendable, Equatable {
    /// Samples a class, or as many as a class has; `nil`: all.
    public let shots: Int?
    /// Training samples, and how many that makes a class.
    public let samples: Int
    public let meanSamplesPerClass: Double
    /// Mean over the draws, and its 95 % interval by Student's t. Where there is one draw, or all are of the same samples, they say nothing
    /// of how it varies: there it is Wilson's interval of a share of the test samples.
    public let top1: ConfidenceInterval
    /// Of each draw.
    public let values: [Double]
  }

  public let points: [Point]
  /// Numbers that no class has as many samples as, and which would repeat the last point.
  public let skipped: [Int]

  /// - Parameters:
  ///   - shots: samples a class; `nil`: all. Points come in ascending order, and once each.
  ///   - fitting: what trains a head in the draw of that seed.
  /// - Throws: `TrainingDataError`, `TrainingOptionError`, or what training throws.
  public init(
    _ data: LinearTrainingData, test: LabelledFeatures, shots: [Int?], seeds: Int, seed: UInt64 = 0, backend: any LinearBackend = HostLinearBackend(),
    fitting: (UInt64) throws -> any HeadFitting, onProgress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
  ) throws {
    guard !shots.isEmpty, shots.allSatisfy({ ($0 ?? 1) >= 1 }) else {
      throw TrainingOptionError(message: "samples a class must be 1 or more, or all")
    }
    guard (1...1000).contains(seeds) else { throw TrainingOptionError(message: "\(seeds) draws were asked for; 1 is the least, and 5 are usual") }
    guard test.rowCount > 0 else { throw TrainingDataError(message: "there are no test samples to measure accuracy on") }
    try data.check()
    let samples = data.train.samples
    var counts = [Int](repeating: 0, count: data.classes.count)
    for sample in samples { counts[data.train.labels[sample[0]]] += 1 }
    let most = counts.max() ?? 0
    let ascending = Set(shots).sorted { ($0 ?? .max) < ($1 ?? .max) }
    skipped = ascending.compactMap { $0 }.filter { $0 > most }
    let chosen = ascending.filter { ($0 ?? 0) <= most }
    guard !chosen.isEmpty else {
      throw TrainingDataError(
        message: "no class has as many as \(skipped[0]) training samples: the largest has \(most). Give smaller numbers with --shots, or all.")
    }
    var points: [Point] = []
    for (index, shot) in chosen.enumerated() {
      var values: [Double] = [], sampleCount = 0
      for draw in 0..<seeds {
        let own = seed &+ UInt64(draw)
        let drawn = Self.draw(samples.map { data.train.labels[$0[0]] }, classCount: counts.count, shots: shot, seed: own)
        let rows = drawn.flatMap { samples[$0] }.sorted()
        let part = LinearTrainingData(train: try data.train.selecting(rows: rows), validation: data.validation, classes: data.classes)
        let fitting = try fitting(own)
        // One sample a class leaves none to choose by: the middle of the strengths then.
        let isSingle = data.validation == nil && fitting.kind == .linear && (shot == 1 || counts.allSatisfy { $0 == 1 })
        let strength = isSingle ? fitting.strengths[fitting.strengths.count / 2] : nil
        let fitted = try fitting.fit(part, strength: strength, metadata: HeadMetadata(unnamed: data.classes)) { _ in }
        values.append(try fitted.classifier.heldOutScores(test, source: .split, backend: backend).score().top1)
        sampleCount = drawn.count
        try onProgress(index * seeds + draw + 1, chosen.count * seeds)
      }
      let isOneDraw = seeds == 1 || sampleCount == samples.count
      points.append(
        Point(
          shots: shot, samples: sampleCount, meanSamplesPerClass: Double(sampleCount) / Double(counts.count),
          top1: isOneDraw ? ConfidenceInterval(share: values.reduce(0, +) / Double(seeds), of: test.rowCount) : ConfidenceInterval(mean: values),
          values: values))
    }
    self.points = points
  }

  /// Samples, ascending, of a draw: each class's samples in an order of the seed's, of which the first are taken, so that a larger draw
  /// holds the smaller ones.
  package static func draw(_ labels: [Int], classCount: Int, shots: Int?, seed: UInt64) -> [Int] {
    var rows = [[Int]](repeating: [], count: classCount)
    for (row, label) in labels.enumerated() where rows.indices.contains(label) { rows[label].append(row) }
    return rows.enumerated().flatMap { label, own in
      var generator = SplitMix(seed &* 0x9E37_79B9_7F4A_7C15 &+ UInt64(label) &* 0xBF58_476D_1CE4_E5B9 &+ 0xC0DE)
      return Array(own.shuffled(using: &generator).prefix(shots ?? own.count))
    }.sorted()
  }

  /// A line a point, with a header.
  public func csv() -> String {
    let lines = points.map {
      "\($0.shots.map(String.init) ?? "all"),\($0.samples),\($0.top1.value),\($0.top1.ofShare.low),\($0.top1.ofShare.high),\($0.values.map { "\($0)" }.joined(separator: " "))"
    }
    return (["shots,samples,top1,top1_low,top1_high,draws"] + lines).joined(separator: "\n") + "\n"
  }
}
