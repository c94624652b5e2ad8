import ArgumentParser
import Graft

struct TrainCommand: ReportingCommand {
  static let configuration = CommandConfiguration(
    commandName: "train", abstract: "Train a head on a store's features.",
    discussion: """
      A linear classifier: mean cross-entropy + λ/2 ‖W‖², the bias not penalised, by L-BFGS. λ is 1/(C·N) of \
      scikit-learn's LogisticRegression. Without --l2 a sweep chooses λ on the validation split, or on a fifth of the \
      training data where there is none; the head is then trained on all training data. Test data is never looked at.
      """)

  @Argument(help: "The store.") var store: String
  @Option(name: .customLong("output"), help: ArgumentHelp("Where the head goes.", valueName: "head.safetensors")) var headPath: String
  @Option(help: ArgumentHelp("λ, or several separated by commas to choose from (default: 1e-6 to 1e2 by decades).", valueName: "strength")) var l2:
    String?
  @Option(help: ArgumentHelp("What is done to each row of features: none, l2 or standardise.", valueName: "kind")) var normalise = "none"
  @Option(help: ArgumentHelp("Stop when no entry of the gradient is larger.", valueName: "number")) var tolerance: Double?
  @Option(help: ArgumentHelp("The most iterations of the solver.", valueName: "count")) var maxIterations: Int?
  @Option(help: ArgumentHelp("Draws the samples that are held out.", valueName: "number")) var seed: UInt64 = 0
  @OptionGroup var computing: DeviceOptions
  @OptionGroup var output: OutputOptions

  private func strengths() throws -> [Double]? {
    guard let l2 else { return nil }
    let values = l2.split(separator: ",").map { Double($0) }
    guard !values.isEmpty, values.allSatisfy({ $0.map { $0 >= 0 && $0.isFinite } ?? false }) else {
      throw ValidationError("--l2 takes a number that is not negative, or several separated by commas, not '\(l2)'.")
    }
    return values.compactMap(\.self)
  }

  func validate() throws {
    _ = try strengths()
    guard FeatureNormalisation(rawValue: normalise) != nil else {
      throw ValidationError("--normalise takes \(FeatureNormalisation.allCases.map(\.rawValue).joined(separator: ", ")), not '\(normalise)'.")
    }
    if let tolerance, !(tolerance > 0 && tolerance.isFinite) { throw ValidationError("--tolerance takes a positive number, not \(tolerance).") }
    if let maxIterations, maxIterations < 1 { throw ValidationError("--max-iterations takes a positive number, not \(maxIterations).") }
  }

  private struct Report: Encodable {
    let output, device, status: String
    let classes, samples, features: Int
    let l2, objective, seconds: Double
    let iterations: Int
    let validation: ValidationScore?
    let sweep: [SweepPoint]
  }

  func execute() throws {
    let console = output.console
    Interruption.shared.setRemedy("No head was written; run the same command again.")
    let store = try FeatureStore.open(reading: self.store)
    let train = try store.labelled(split: "train", allViews: true)
    guard train.rowCount > 0 else {
      throw TrainingDataError(message: "\(self.store) has no training samples. Extract a data set with a train split.")
    }
    let validation = store.samples(split: "val").isEmpty ? nil : try store.labelled(split: "val")
    let device = try computing.make(console)
    var options = LinearTrainingOptions(featureNormalisation: FeatureNormalisation(rawValue: normalise) ?? .none, seed: seed)
    if let values = try strengths() { options.l2 = values.count == 1 ? .fixed(values[0]) : .sweep(values) }
    if let tolerance {
      options.solver.gradientTolerance = tolerance
      options.solver.relativeGap = .infinity
    }
    if let maxIterations { options.solver.maximumIterations = maxIterations }
    let line = ProgressLine(console)
    let result: LinearTrainingResult
    do {
      result = try LinearHeadTrainer(options: options, backend: DeviceLinearBackend(device: device)).train(
        LinearTrainingData(train: train, validation: validation, classes: store.classNames)
      ) { progress in
        line.show(
          "\(progress.stage.rawValue): \(progress.solver.evaluations) evaluations, \(progress.solver.finishedHeads) of \(progress.solver.headCount) heads done"
        )
      }
    } catch {
      line.finish()
      throw error
    }
    line.finish()
    var metrics = ["objective": result.objective]
    if let score = result.validation { metrics["validation_top1"] = score.top1 }
    let isExtracted = store.key.source == .extraction
    let head = try Head(
      result,
      metadata: HeadMetadata(
        classes: store.classNames, cut: isExtracted ? store.key.cut : nil, backboneSHA256: isExtracted ? store.key.backboneSHA256 : nil,
        backboneFile: store.entries["backbone_file"], backbonePath: store.entries["backbone_path"],
        preprocessing: isExtracted ? store.key.preprocessing : nil, precision: isExtracted ? Precision(rawValue: store.key.precision) : nil,
        featureNormalisation: result.featureNormalisation, l2: result.l2, metrics: metrics, graftVersion: GraftVersion.text))
    try head.write(to: headPath)
    Interruption.shared.setRemedy(nil)
    if result.sweep.count > 1 {
      console.result(
        tableText(
          [["λ", "validation", "log loss"]]
            + result.sweep.map { [String(format: "%.0e", $0.l2), String(format: "%.3f", $0.top1), String(format: "%.4f", $0.logLoss)] },
          rightAligned: [1, 2]))
      console.result("")
    }
    let score = result.validation.map { String(format: "%.3f on %d validation samples (%@), ", $0.top1, $0.samples, $0.source.rawValue) } ?? ""
    console.result(
      String(
        format: "%@: %d classes, %d samples, λ %g, %@objective %.6f after %d iterations, %.2f s", headPath, result.classCount, train.rowCount,
        result.l2,
        score, result.objective, result.iterations, result.seconds))
    console.note("next: graft evaluate \(headPath) \(self.store)")
    try console.object(
      Report(
        output: headPath, device: device.traits.identifier, status: result.status.rawValue, classes: result.classCount, samples: train.rowCount,
        features: result.dimension, l2: result.l2, objective: result.objective, seconds: result.seconds, iterations: result.iterations,
        validation: result.validation, sweep: result.sweep))
  }
}
