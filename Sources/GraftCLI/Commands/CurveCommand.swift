import ArgumentParser
import Foundation
import Graft

struct CurveCommand: ReportingCommand {
  static let configuration = CommandConfiguration(
    commandName: "curve", abstract: "Accuracy against the number of labelled samples.",
    discussion: """
      Trains heads on draws of the training samples, so many a class, and scores each on the test split: what more labels \
      would bring. A larger draw holds the smaller ones of its seed. The interval is that of the mean over the draws; where there is \
      one draw, or all are of the same samples, that of a share of the test samples. Strengths are chosen on the validation split, or on \
      samples held out of the draw; with one sample a class and no validation split a linear head takes the middle one.
      """)

  @Argument(help: "The store.") var store: String
  @Option(name: .customLong("output"), help: ArgumentHelp("Where the plot goes.", valueName: "curve.svg")) var plotPath: String
  @Option(help: ArgumentHelp("Samples a class, separated by commas; all: as many as there are.", valueName: "counts")) var shots = "1,2,5,10,25,all"
  @Option(help: ArgumentHelp("Draws for each number of samples.", valueName: "count")) var seeds = 5
  @Option(help: ArgumentHelp("Write the numbers to this file.", valueName: "curve.csv")) var csv: String?
  @OptionGroup var head: HeadFlags
  @OptionGroup var computing: DeviceOptions
  @OptionGroup var output: OutputOptions

  private func counts() throws -> [Int?] {
    try shots.split(separator: ",", omittingEmptySubsequences: false).map { part in
      if part == "all" { return nil }
      guard let count = Int(part), count >= 1 else {
        throw ValidationError("--shots takes positive numbers and all, separated by commas, not '\(shots)'.")
      }
      return count
    }
  }

  func validate() throws {
    _ = try counts()
    guard (1...1000).contains(seeds) else { throw ValidationError("--seeds takes a number from 1 to 1000, not \(seeds).") }
  }

  private struct Report: Encodable {
    let output, device: String
    let head: HeadMetadata.Kind
    let classes, testSamples, seeds: Int
    let points: [Point]
    let seconds: Double

    struct Point: Encodable {
      /// A number, or "all".
      let shots: String
      let samples: Int
      let top1: ConfidenceInterval
      let draws: [Double]
    }

    enum CodingKeys: String, CodingKey {
      case output, device, head, classes, seeds, points, seconds
      case testSamples = "test_samples"
    }
  }

  func execute() throws {
    let console = output.console, started = ContinuousClock.now
    Interruption.shared.setRemedy("No plot was written; run the same command again.")
    try checkOutputs([plotPath, csv])
    let store = try FeatureStore.open(reading: self.store, warningOn: console)
    try store.requireClasses(for: "a learning curve")
    try head.check(for: .classification)
    let train = try store.labelled(split: "train"), test = try store.labelled(split: "test")
    guard train.rowCount > 0 else { throw TrainingDataError(message: "\(self.store) has no training samples.") }
    guard test.rowCount > 0 else {
      throw TrainingDataError(message: "\(self.store) has no test samples to measure accuracy on. Extract a data set with a test split.")
    }
    let validation = store.samples(split: "val").isEmpty ? nil : try store.labelled(split: "val")
    let device = try computing.make(console), line = ProgressLine(console)
    defer { line.finish() }
    let curve = try LearningCurve(
      LinearTrainingData(train: train, validation: validation, classes: store.classNames), test: test, shots: try counts(), seeds: seeds,
      seed: head.seed, backend: DeviceLinearBackend(device: device), fitting: { try head.fitting(device, seed: $0) }
    ) { line.show("head \($0) of \($1)") }
    line.finish()
    let title = "\(head.head.rawValue) head, \(store.classNames.count) classes, \(seeds) draws"
    try Plot.learningCurve(curve.points, title: title).write(to: plotPath)
    if let csv { try TextFile.write(curve.csv(), to: csv) }
    Interruption.shared.setRemedy(nil)
    for shots in curve.skipped { console.note("no class has \(shots) training samples; left out") }
    let seconds = (ContinuousClock.now - started) / .seconds(1)
    console.result(
      tableText(
        [["samples a class", "samples", "top-1", "95 % interval"]]
          + curve.points.map {
            [
              $0.shots.map(String.init) ?? "all", "\($0.samples)", String(format: "%.3f", $0.top1.value),
              String(format: "%.3f to %.3f", $0.top1.ofShare.low, $0.top1.ofShare.high),
            ]
          }, rightAligned: [0, 1, 2, 3]))
    console.result(String(format: "%@: %d test samples, %.2f s", plotPath, test.rowCount, seconds))
    try console.object(
      Report(
        output: plotPath, device: device.traits.identifier, head: head.head, classes: store.classNames.count, testSamples: test.rowCount,
        seeds: seeds,
        points: curve.points.map {
          Report.Point(shots: $0.shots.map(String.init) ?? "all", samples: $0.samples, top1: $0.top1.ofShare, draws: $0.values)
        }, seconds: seconds))
  }
}
