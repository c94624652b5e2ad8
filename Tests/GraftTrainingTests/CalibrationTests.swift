import Foundation
import GraftGraph
import GraftTraining
import Testing

@Suite struct CalibrationTests {
  private static func held(_ rows: Int = 300, classes: Int = 4, scale: Double = 1, seed: UInt64 = 3) throws -> HeldOutScores {
    var random = Random(seed)
    var (logits, labels): ([Float], [Int]) = ([], [])
    for _ in 0..<rows {
      let label = random.index(classes)
      labels.append(label)
      for output in 0..<classes { logits.append(Float((random.normal() + (output == label ? 1.5 : 0)) * scale)) }
    }
    return try HeldOutScores(logits: logits, labels: labels, classCount: classes, source: .split)
  }

  private static func loss(_ held: HeldOutScores, _ temperature: Double) -> Double {
    (0..<held.count).reduce(0) { sum, row in
      let own = held.logits[row * held.classCount..<(row + 1) * held.classCount].map { Double($0) / temperature }
      let largest = own.max()!
      return sum + (log(own.reduce(0) { $0 + exp($1 - largest) }) + largest - own[held.labels[row]]) / Double(held.count)
    }
  }

  @Test(arguments: [0.01, 0.3, 1, 7, 100])
  func theTemperatureIsTheBest(scale: Double) throws {
    let held = try Self.held(scale: scale)
    let fit = try #require(TemperatureFit(held))
    #expect(abs(fit.logLossBefore - Self.loss(held, 1)) < 1e-9 * max(1, fit.logLossBefore))
    #expect(abs(fit.logLossAfter - Self.loss(held, fit.temperature)) < 1e-9)
    let minimised = { (temperature: Double) in 300 * Self.loss(held, temperature) + log(temperature) * log(temperature) / 8 }
    for factor in [0.9, 0.999, 1.001, 1.1] { #expect(minimised(fit.temperature * factor) > minimised(fit.temperature)) }
    #expect(fit.logLossAfter <= fit.logLossBefore)
    // Logits so many times as large need a temperature so many times as high: that it would be 1 weighs little.
    let plain = try #require(TemperatureFit(Self.held()))
    #expect(abs(fit.temperature / scale - plain.temperature) < 0.03 * plain.temperature)
  }

  /// All right, all wrong, and undecided: no certainty after two samples, more after a thousand, and no numbers that are none.
  @Test func extremes() throws {
    let right = try #require(TemperatureFit(HeldOutScores(logits: [1, 0, 0, 1], labels: [0, 1], classCount: 2, source: .split)))
    #expect(right.temperature > 0.2 && right.temperature < 0.8 && right.logLossAfter < right.logLossBefore)
    let logits: [Float] = (0..<2000).map { $0 % 4 == 0 || $0 % 4 == 3 ? 1 : 0 }
    let many = try #require(TemperatureFit(HeldOutScores(logits: logits, labels: (0..<1000).map { $0 % 2 }, classCount: 2, source: .split)))
    #expect(many.temperature < right.temperature / 2 && many.temperature > 0.01)
    let wrong = try #require(TemperatureFit(HeldOutScores(logits: [1, 0, 0, 1], labels: [1, 0], classCount: 2, source: .split)))
    #expect(wrong.temperature > 1.2 && wrong.temperature < 100)
    let flat = try #require(TemperatureFit(HeldOutScores(logits: [0, 0], labels: [0], classCount: 2, source: .split)))
    #expect(flat.temperature == 1)
    #expect(TemperatureFit(try HeldOutScores(logits: [], labels: [], classCount: 2, source: .split)) == nil)
    let vast = try #require(
      TemperatureFit(HeldOutScores(logits: [3e38, -3e38, 0, 3e38], labels: [0, 0], classCount: 2, source: .split)))
    #expect(vast.temperature.isFinite && vast.temperature > 0)
  }

  @Test func scoresThatAreNoneAreRefused() {
    #expect(throws: TrainingDataError.self) { try HeldOutScores(logits: [1, .nan], labels: [0], classCount: 2, source: .split) }
    #expect(throws: TrainingDataError.self) { try HeldOutScores(logits: [1, 2], labels: [2], classCount: 2, source: .split) }
    #expect(throws: TrainingDataError.self) { try HeldOutScores(logits: [1, 2, 3], labels: [0], classCount: 2, source: .split) }
    #expect(throws: EvaluationError.self) { try EvaluationAccumulator(classes: ["a", "b"], temperature: 0) }
  }

  @Test(arguments: [1.0, 0.5, 2])
  func reliabilityIsTheDefinition(temperature: Double) throws {
    let held = try Self.held(), outcomes = held.outcomes(temperature: temperature)
    let found = try Reliability(outcomes)
    var error = 0.0
    for bin in 0..<15 {
      let own = outcomes.filter { $0.confidence > Double(bin) / 15 && $0.confidence <= Double(bin + 1) / 15 }
      #expect(found.bins[bin].samples == own.count)
      guard !own.isEmpty else { continue }
      let confidence = own.reduce(0) { $0 + $1.confidence } / Double(own.count), accuracy = Double(own.count(where: \.isRight)) / Double(own.count)
      #expect(abs(found.bins[bin].confidence - confidence) < 1e-12 && abs(found.bins[bin].accuracy - accuracy) < 1e-12)
      error += Double(own.count) / Double(outcomes.count) * abs(confidence - accuracy)
    }
    #expect(abs(found.error - error) < 1e-12 && found.bins.reduce(0) { $0 + $1.samples } == 300)
    // Ends belong to a bin.
    #expect(
      try Reliability([Outcome(confidence: 1, isRight: true), Outcome(confidence: 0, isRight: false)]).bins.map(\.samples) == [1]
        + Array(repeating: 0, count: 13) + [1])
  }

  @Test func numbersThatAreNoProbabilitiesAreRefused() {
    for wrong in [Double.nan, .infinity, -0.1, 1.1] {
      #expect(throws: EvaluationError.self) { try Reliability([Outcome(confidence: 1, isRight: true), Outcome(confidence: wrong, isRight: true)]) }
    }
  }

  @Test func anEvaluationKnowsWhatCalibrationBrings() throws {
    let held = try Self.held(scale: 6), temperature = try #require(TemperatureFit(held)).temperature
    var scores = try EvaluationAccumulator(classes: ["a", "b", "c", "d"], temperature: temperature)
    try scores.add(logits: held.logits, labels: held.labels)
    let evaluation = try scores.finish()
    #expect(evaluation.reliability.error < evaluation.uncalibratedReliability.error && evaluation.logLoss < evaluation.uncalibratedLogLoss)
    #expect(evaluation.reliability == (try Reliability(held.outcomes(temperature: temperature))))
    #expect(abs(evaluation.logLoss - held.score(temperature: temperature).logLoss) < 1e-12)
    #expect(evaluation.top1 == held.score().top1 && evaluation.top1Interval.low < evaluation.top1 && evaluation.top1 < evaluation.top1Interval.high)
    #expect(evaluation.table().contains("without the temperature"))
    let prediction = try ImagePrediction(path: "p", logits: [6, 0], classes: ["a", "b"], topK: 1, temperature: 3)
    #expect(abs(prediction.predictions[0].probability - 1 / (1 + exp(-2))) < 1e-12)
  }

  @Test(arguments: [0.5, 0.8, 0.95, 1])
  func thresholdsAcceptTheMost(target: Double) throws {
    let outcomes = try Self.held(120).outcomes(temperature: 1)
    let found = Abstention(outcomes, target: target)
    let possible = outcomes.map(\.confidence).filter { threshold in
      let accepted = outcomes.filter { $0.confidence >= threshold }
      return Double(accepted.count(where: \.isRight)) >= target * Double(accepted.count)
    }
    #expect(found.threshold == possible.min())
    if found.threshold != nil { #expect(found.validation.precision >= target && found.validation.coverage > 0) }
    let scored = found.scored(on: try Self.held(80, seed: 8).outcomes(temperature: 1))
    #expect(scored.test?.samples == 80 && scored.validation == found.validation)
  }

  @Test func aThresholdThatCannotBe() {
    let found = Abstention([Outcome(confidence: 0.9, isRight: false), Outcome(confidence: 0.9, isRight: true)], target: 0.9)
    #expect(found.threshold == nil && found.validation.coverage == 0)
  }

  private static func head(_ heldOut: [Outcome]) throws -> Head {
    var metadata = HeadMetadata(
      classes: ["a", "b"], cut: nil, backboneSHA256: nil, backboneFile: nil, preprocessing: nil, featureNormalisation: .none, l2: 0, graftVersion: "1"
    )
    metadata.heldOut = heldOut
    return try Head(weight: [1, 2], bias: [0, 0], metadata: metadata)
  }

  private static func read(_ parts: (tensors: [(String, HostTensor)], metadata: [String: String])) throws -> Head {
    try Head(tensors: Dictionary(uniqueKeysWithValues: parts.tensors), metadata: parts.metadata, file: "h")
  }

  /// A head's file keeps less of a confidence than there is; a threshold chosen from it accepts the sample nevertheless.
  @Test(arguments: [1, 0.99999999, 0.9999995, 0.9999994999, 0.25, 1.0 / 3, 0.0000017, 1e-7] as [Double])
  func storedConfidencesAreNotAboveTheirSamples(confidence: Double) throws {
    let outcomes = [Outcome(confidence: confidence, isRight: true)]
    let parts = try Self.head(outcomes).encoded(), read = try Self.read(parts)
    let found = Abstention(read.metadata.heldOut, target: 0.9)
    #expect(found.validation.coverage == 1 && found.threshold! > confidence - 1.1e-6)
    if confidence > 1e-6 { #expect(found.scored(on: outcomes).test?.coverage == 1, "\(confidence) became \(found.threshold!)") }
    #expect(try Self.read(read.encoded()).metadata == read.metadata && read.encoded().metadata == parts.metadata)
  }

  /// As they were rounded to nearest once: 0.9999996 is in the file as 1000000.
  @Test func confidencesOfOlderFilesAreNotAboveTheirSamples() throws {
    var parts = try Self.head([]).encoded()
    parts.metadata["held_out"] = "-500000 1000000"
    let found = Abstention(try Self.read(parts).metadata.heldOut, target: 1).scored(on: [Outcome(confidence: 0.9999996, isRight: true)])
    #expect(found.validation.coverage == 0.5 && found.test?.coverage == 1)
  }

  @Test func trainingKeepsNoConfidenceAboveItsSample() throws {
    let (x, y) = syntheticSamples(rows: 60, dimension: 3, classes: 2, seed: 2)
    // Far from the others: as good as certain.
    let data = try labelled(x.map { $0 * 40 }, y)
    let fitted = try LinearFitting(options: LinearTrainingOptions(l2: .fixed(1e-6))).fit(
      LinearTrainingData(train: data, validation: data, classes: ["a", "b"]), strength: nil, metadata: Self.head([]).metadata
    ) { _ in }
    let scores = try fitted.classifier.heldOutScores(data, source: .split), metadata = fitted.classifier.metadata
    let outcomes = scores.outcomes(temperature: metadata.temperature).map(\.confidence).sorted()
    #expect(metadata.heldOut.count == outcomes.count)
    for (kept, confidence) in zip(metadata.heldOut, outcomes) { #expect(kept.confidence <= confidence && kept.confidence > confidence - 1.1e-6) }
  }

  @Test func confidencesThatAreNoneAreRefused() {
    for wrong in [Double.nan, -0.1, 1.5] { #expect(throws: HeadError.self) { try Self.head([Outcome(confidence: wrong, isRight: true)]) } }
  }

  @Test func whereNothingIsAnsweredNoShareIsRight() throws {
    var scores = try EvaluationAccumulator(classes: ["a", "b"])
    try scores.add(logits: [0.1, 0], labels: [0])
    var evaluation = try scores.finish()
    evaluation.abstention = Abstention([Outcome(confidence: 0.9, isRight: true)], target: 0.9).scored(on: scores.outcomes)
    #expect(evaluation.table().contains("on: 0.0 % of these samples answered; on the 1 validation samples"))
    evaluation.abstention = Abstention([Outcome(confidence: 0.5, isRight: true)], target: 0.9).scored(on: scores.outcomes)
    #expect(evaluation.table().contains("100.0 % of these samples answered, 100.0 % of them right"))
  }

  /// Values of Wilson's interval from the literature (Newcombe, 1998, table I).
  @Test(
    arguments: [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)] as [(Int, Int, Double, Double)])
  func wilson(hits: Int, trials: Int, low: Double, high: Double) throws {
    let interval = try ConfidenceInterval(successes: hits, of: trials)
    #expect(abs(interval.low - low) < 5e-5 && abs(interval.high - high) < 5e-5, "\(interval)")
  }

  @Test(arguments: [(5, 3), (-1, 3), (0, -1), (1, 0)]) func sharesThatAreNoneAreRefused(hits: Int, trials: Int) {
    #expect(throws: EvaluationError.self) { try ConfidenceInterval(successes: hits, of: trials) }
  }

  @Test func meansByStudentsT() {
    let interval = ConfidenceInterval(mean: [1, 2, 3, 4])
    // 2.5 ± 3.182446 · 1.290994 / 2
    #expect(abs(interval.low - 0.445739) < 1e-5 && abs(interval.high - 4.554261) < 1e-5 && interval.value == 2.5)
    #expect(ConfidenceInterval(mean: [0.3]) == ConfidenceInterval(value: 0.3, low: 0.3, high: 0.3))
  }
}
