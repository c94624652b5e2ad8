import ArgumentParser
import Foundation
import Graft

struct TrainCommand: ReportingCommand {
  static let configuration = CommandConfiguration(
    commandName: "train", abstract: "Train a head on a store's features.",
    discussion: """
      --head linear   mean cross-entropy + λ/2 ‖W‖², the bias not penalised, by L-BFGS; λ is 1/(C·N) of scikit-learn's \
      LogisticRegression
      --head ridge    least squares on targets of ±1, the sum + α‖W‖²; all α at once, chosen by leave-one-out error
      --head knn      the nearest training samples vote
      --head centroid the nearest of the classes' means
      --head mlp      hidden layers with dropout, by steps, until validation loss stops falling

      Where there are several strengths (--l2, --alpha, --k) one is chosen on the validation split; without one on samples \
      held out of the training data, or by --folds; the head is then trained on all training data. The same samples give \
      the temperature that makes its probabilities honest; a linear head whose strength is given, or chosen by --folds, has one \
      only with a validation split. Test data is never looked at.

      A store of samples with many labels or with numbers (graft help import) takes these heads:

      --head linear   for labels a logistic regression each: the mean over samples of the sum over labels of binary \
      cross-entropy + λ/2 ‖W‖², λ being 1/(C·N) of scikit-learn's LogisticRegression; for numbers least squares, or Huber's \
      loss with --loss huber, on targets in units of their standard deviation
      --head ridge    for numbers: the sum of squares + α‖W‖², all α at once, chosen by leave-one-out error
      --head knn      for labels their share among the nearest training samples, for numbers the mean
      --head mlp      with --loss sigmoid for labels, squared or huber for numbers

      Their strength is the one with the least mean loss on the validation samples, or over --folds.
      """)

  @Argument(help: "The store.") var store: String
  @Option(name: .customLong("output"), help: ArgumentHelp("Where the head goes.", valueName: "head.safetensors")) var headPath: String
  @OptionGroup var head: HeadFlags
  @Option(help: ArgumentHelp("Choose the strength by this many folds of the training data.", valueName: "count")) var folds: Int?
  @Option(help: ArgumentHelp("Draw the folds this many times.", valueName: "count")) var repeats = 1
  @OptionGroup var watching: WatchingFlags
  @OptionGroup var computing: DeviceOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    if let folds, !(2...1000).contains(folds) { throw ValidationError("--folds takes a number from 2 to 1000, not \(folds).") }
    guard (1...1000).contains(repeats) else { throw ValidationError("--repeats takes a number from 1 to 1000, not \(repeats).") }
    if repeats > 1, folds == nil { throw ValidationError("--repeats needs --folds.") }
    if watching.isAsked, head.head != .mlp {
      throw ValidationError("--csv, --plot and --tensorboard are for --head mlp, which is trained in epochs.")
    }
  }

  private struct Report: Encodable {
    let output, device: String
    let head: HeadMetadata.Kind
    let status: String?
    let classes, samples, features: Int
    /// The strength; `l2` is its name for a linear head.
    let strength, l2, objective: Double?
    let seconds: Double
    let iterations: Int?
    let validation: ValidationScore?
    let calibration: TemperatureFit?
    let sweep: [Point]
    let folds: Folds?
    let epochs: [EpochRecord]?

    struct Point: Encodable {
      let strength: Double
      let l2: Double?
      let top1, logLoss: Double
      let iterations: Int?
      let converged, interpolated: Bool?

      enum CodingKeys: String, CodingKey {
        case strength, l2, top1, iterations, converged, interpolated
        case logLoss = "log_loss"
      }
    }

    struct Folds: Encodable {
      let folds, repeats: Int
      let top1: ConfidenceInterval
      let results: [Result]

      struct Result: Encodable {
        let strength: Double
        let top1: ConfidenceInterval
        let logLoss: Double

        enum CodingKeys: String, CodingKey {
          case strength, top1
          case logLoss = "log_loss"
        }
      }
    }
  }

  func execute() throws {
    let console = output.console
    Interruption.shared.setRemedy("No head was written; run the same command again.")
    try watching.check(beside: headPath)
    let store = try FeatureStore.open(reading: self.store, warningOn: console)
    try head.check(for: store.labelling.task)
    guard store.labelling.task == .classification else { return try trainTargets(store) }
    let train = try store.labelled(split: "train", allViews: true)
    guard train.rowCount > 0 else {
      throw TrainingDataError(message: "\(self.store) has no training samples. Extract a data set with a train split.")
    }
    let validation = store.samples(split: "val").isEmpty ? nil : try store.labelled(split: "val")
    let device = try computing.make(console)
    // Folds train heads that nobody watches.
    let fitting = try head.fitting(device)
    let data = LinearTrainingData(train: train, validation: validation, classes: store.classNames)
    let line = ProgressLine(console), started = ContinuousClock.now
    defer { line.finish() }
    let compared = try folds.map { folds in
      try CrossValidation(fitting, train, classes: store.classNames, folds: folds, repeats: repeats, seed: head.seed) {
        line.show("fold \($0) of \($1)")
      }
    }
    let strength = fitting.strengths.isEmpty ? nil : compared?.best.strength
    let final = try head.fitting(device, onEpoch: try watching.recorder())
    let fitted = try final.fit(data, strength: strength, metadata: HeadMetadata(of: store)) { text in line.show(text) }
    line.finish()
    let seconds = (ContinuousClock.now - started) / .seconds(1)
    try fitted.classifier.write(to: headPath)
    Interruption.shared.setRemedy(nil)
    head.warn(ofLimit: fitted.status, fitted.iterations, console)
    show(fitted, compared, train: train, seconds: seconds, console)
    console.note("next: graft evaluate \(headPath) \(self.store)")
    let isLinear = fitting.kind == .linear
    try console.object(
      Report(
        output: headPath, device: device.traits.identifier, head: fitting.kind, status: fitted.status, classes: store.classNames.count,
        samples: train.rowCount, features: train.features.dimension, strength: fitted.strength, l2: isLinear ? fitted.strength : nil,
        objective: fitted.objective, seconds: seconds, iterations: fitted.iterations, validation: fitted.validation,
        calibration: fitted.calibration,
        sweep: fitted.sweep.map {
          Report.Point(
            strength: $0.strength, l2: isLinear ? $0.strength : nil, top1: $0.top1, logLoss: $0.logLoss, iterations: $0.iterations,
            converged: $0.converged, interpolated: $0.interpolated)
        },
        folds: compared.map { compared in
          Report.Folds(
            folds: compared.folds, repeats: compared.repeats, top1: compared.best.top1,
            results: compared.results.map { Report.Folds.Result(strength: $0.strength, top1: $0.top1, logLoss: $0.logLoss) })
        },
        epochs: fitted.history.isEmpty ? nil : fitted.history))
  }

  private func show(_ fitted: FittedHead, _ compared: CrossValidation?, train: LabelledFeatures, seconds: Double, _ console: Console) {
    let symbol = [.linear: "λ", .ridge: "α", .knn: "k"][head.head] ?? ""
    func text(_ strength: Double) -> String { head.head == .knn ? "\(Int(strength))" : String(format: "%.2g", strength) }
    if let compared {
      let rows = compared.results.map {
        [text($0.strength), String(format: "%.3f ± %.3f", $0.top1.value, ($0.top1.high - $0.top1.low) / 2), String(format: "%.4f", $0.logLoss)]
      }
      let title = "\(compared.folds) folds" + (compared.repeats > 1 ? ", \(compared.repeats) times" : "")
      let isChoice = compared.results.count > 1
      console.result(
        tableText(
          ([[symbol, title, "log loss"]] + rows).map { isChoice ? $0 : Array($0.dropFirst()) }, rightAligned: isChoice ? [1, 2] : [0, 1]))
      console.result("")
    } else if fitted.sweep.count > 1 {
      console.result(
        tableText(
          [[symbol, "validation", "log loss"]]
            + fitted.sweep.map { point in
              [
                text(point.strength), (point.interpolated == true ? "≈ " : "") + String(format: "%.3f", point.top1),
                String(format: "%.4f", point.logLoss),
              ]
            },
          rightAligned: [1, 2]))
      console.result(fitted.sweep.contains { $0.interpolated == true } ? "≈ between heads that were solved for\n" : "")
    }
    var parts = ["\(fitted.classifier.classCount) classes", "\(train.rowCount) samples"]
    if let strength = fitted.strength { parts.append(symbol + " " + String(format: "%g", strength)) }
    if let score = fitted.validation {
      parts.append(String(format: "%.3f on %d validation samples (%@)", score.top1, score.samples, score.source.rawValue))
    }
    if let objective = fitted.objective, let iterations = fitted.iterations {
      parts.append(String(format: "objective %.6f after %d iterations", objective, iterations))
    }
    if !fitted.history.isEmpty { parts.append("\(fitted.history.count) epochs") }
    if let calibration = fitted.calibration { parts.append(String(format: "temperature %.3f", calibration.temperature)) }
    parts.append(String(format: "%.2f s", seconds))
    console.result("\(headPath): " + parts.joined(separator: ", "))
  }
}
