import ArgumentParser
import Foundation
import Graft

extension TrainCommand {
  private struct TargetReport: Encodable {
    let output, device: String
    let head: HeadMetadata.Kind
    let task: LabelTask
    let status: String?
    /// One of them, by the task.
    let labels, targets: Int?
    let samples, features: Int
    /// The strength; `l2` is its name for a linear head.
    let strength, l2, objective: Double?
    let seconds: Double
    let iterations: Int?
    let validation: TargetScore?
    /// One of them, by the task.
    let constantLabels, constantTargets: [String]?
    let sweep: [Point]
    let folds: Folds?
    let epochs: [EpochRecord]?

    struct Point: Encodable {
      let strength: Double
      let l2: Double?
      let loss: Double
      let validation: TargetScore
      let iterations: Int?
      let converged: Bool?
    }

    struct Folds: Encodable {
      let folds, repeats: Int
      let results: [Result]

      struct Result: Encodable {
        let strength: Double
        let loss: ConfidenceInterval
        /// Two of them, by the task.
        let meanAveragePrecision, logLoss, r2, rmse: ConfidenceInterval?

        enum CodingKeys: String, CodingKey {
          case strength, loss, r2, rmse
          case meanAveragePrecision = "mean_average_precision"
          case logLoss = "log_loss"
        }
      }

      init(_ compared: TargetCrossValidation, _ task: LabelTask) {
        (folds, repeats) = (compared.folds, compared.repeats)
        results = compared.results.map { found in
          let isMultilabel = task == .multilabel
          return Result(
            strength: found.strength, loss: found.loss, meanAveragePrecision: isMultilabel ? found.measure : nil,
            logLoss: isMultilabel ? found.error : nil, r2: isMultilabel ? nil : found.measure, rmse: isMultilabel ? nil : found.error)
        }
      }
    }

    enum CodingKeys: String, CodingKey {
      case output, device, head, task, status, labels, targets, samples, features, strength, l2, objective, seconds, iterations, validation, sweep,
        folds, epochs
      case constantLabels = "constant_labels"
      case constantTargets = "constant_targets"
    }
  }

  /// Trains a head for labels or numbers.
  func trainTargets(_ store: FeatureStore) throws {
    let console = output.console, task = store.labelling.task
    let train = try store.targeted(split: "train", allViews: true)
    guard train.rowCount > 0 else {
      throw TrainingDataError(message: "\(self.store) has no training samples. Give some of them the split 'train'.")
    }
    let validation = store.samples(split: "val").isEmpty ? nil : try store.targeted(split: "val")
    let data = TargetTrainingData(task: task, names: store.labelling.names, train: train, validation: validation)
    let device = try computing.make(console)
    // Folds train heads that nobody watches.
    let fitting = try head.targetFitting(task, device)
    let line = ProgressLine(console), started = ContinuousClock.now
    defer { line.finish() }
    let compared = try folds.map { folds in
      try TargetCrossValidation(fitting, data, folds: folds, repeats: repeats, seed: head.seed) { line.show("fold \($0) of \($1)") }
    }
    let strength = fitting.strengths.isEmpty ? nil : compared?.best.strength
    let final = try head.targetFitting(task, device, onEpoch: try watching.recorder())
    let fitted = try final.fit(data, strength: strength, metadata: HeadMetadata(of: store)) { line.show($0) }
    line.finish()
    let seconds = (ContinuousClock.now - started) / .seconds(1)
    try fitted.classifier.write(to: headPath)
    Interruption.shared.setRemedy(nil)
    let constant = data.constantOutputs
    if !constant.isEmpty {
      let names = constant.prefix(5).joined(separator: ", ") + (constant.count > 5 ? " and \(constant.count - 5) more" : "")
      let what = task == .multilabel ? "every training sample has these labels, or none has" : "these numbers are the same for every training sample"
      console.warn("\(what): \(names). What the head says of them is a constant.")
    }
    head.warn(ofLimit: fitted.status, fitted.iterations, console)
    show(fitted, compared, task, samples: train.rowCount, seconds: seconds, console)
    console.note("next: graft evaluate \(headPath) \(self.store)")
    let isLinear = fitting.kind == .linear, count = store.labelling.names.count
    try console.object(
      TargetReport(
        output: headPath, device: device.traits.identifier, head: fitting.kind, task: task, status: fitted.status,
        labels: task == .multilabel ? count : nil, targets: task == .regression ? count : nil, samples: train.rowCount,
        features: train.features.dimension, strength: fitted.strength, l2: isLinear ? fitted.strength : nil, objective: fitted.objective,
        seconds: seconds, iterations: fitted.iterations, validation: fitted.validation, constantLabels: task == .multilabel ? constant : nil,
        constantTargets: task == .regression ? constant : nil,
        sweep: fitted.sweep.map {
          TargetReport.Point(
            strength: $0.strength, l2: isLinear ? $0.strength : nil, loss: $0.loss, validation: $0.score, iterations: $0.iterations,
            converged: $0.converged)
        }, folds: compared.map { TargetReport.Folds($0, task) }, epochs: fitted.history.isEmpty ? nil : fitted.history))
  }

  private func show(
    _ fitted: FittedTargetHead, _ compared: TargetCrossValidation?, _ task: LabelTask, samples: Int, seconds: Double, _ console: Console
  ) {
    let symbol = [.linear: "λ", .ridge: "α", .knn: "k"][head.head] ?? ""
    func text(_ strength: Double) -> String { head.head == .knn ? "\(Int(strength))" : String(format: "%.0e", strength) }
    let titles = TargetScore.titles(task)
    if let compared {
      // Errors of numbers are in units of any size.
      func spread(_ interval: ConfidenceInterval, isShare: Bool) -> String {
        String(format: isShare ? "%.4f ± %.4f" : "%.4g ± %.2g", interval.value, (interval.high - interval.low) / 2)
      }
      let isChoice = compared.results.count > 1
      let heading = [symbol] + titles.map { "\($0), \(compared.folds) folds" + (compared.repeats > 1 ? ", \(compared.repeats) times" : "") }
      let rows = compared.results.map { [text($0.strength), spread($0.measure, isShare: true), spread($0.error, isShare: task == .multilabel)] }
      console.result(
        tableText(([heading] + rows).map { isChoice ? $0 : Array($0.dropFirst()) }, rightAligned: isChoice ? [1, 2] : [0, 1]))
      console.result("")
    } else if fitted.sweep.count > 1 {
      console.result(tableText([[symbol] + titles] + fitted.sweep.map { [text($0.strength)] + $0.score.columns }, rightAligned: [1, 2]))
      console.result("")
    }
    var parts = ["\(fitted.classifier.classCount) \(task.outputWord)", "\(samples) samples"]
    if let strength = fitted.strength { parts.append(symbol + " " + String(format: "%g", strength)) }
    if let score = fitted.validation {
      parts.append("\(titles[0]) \(score.columns[0]) on \(score.samples) validation samples (\(score.source.rawValue))")
    }
    if let objective = fitted.objective, let iterations = fitted.iterations {
      parts.append(String(format: "objective %.6f after %d iterations", objective, iterations))
    }
    if !fitted.history.isEmpty { parts.append("\(fitted.history.count) epochs") }
    parts.append(String(format: "%.2f s", seconds))
    console.result("\(headPath): " + parts.joined(separator: ", "))
  }
}

extension TargetScore {
  /// What `columns` are.
  static func titles(_ task: LabelTask) -> [String] { task == .multilabel ? ["mean average precision", "log loss"] : ["R²", "RMSE"] }

  var columns: [String] {
    switch measures {
    case .multilabel(let precision, let loss): [String(format: "%.3f", precision), String(format: "%.4f", loss)]
    case .regression(let rmse, let r2): [String(format: "%.4f", r2), String(format: "%.4g", rmse)]
    }
  }
}
