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
    let constantLabels: [String]?
    let sweep: [Point]
    let epochs: [EpochRecord]?

    struct Point: Encodable {
      let strength: Double
      let l2: Double?
      let loss: Double
      let validation: TargetScore
      let iterations: Int?
      let converged: Bool?
    }

    enum CodingKeys: String, CodingKey {
      case output, device, head, task, status, labels, targets, samples, features, strength, l2, objective, seconds, iterations, validation, sweep,
        epochs
      case constantLabels = "constant_labels"
    }
  }

  /// Trains a head for labels or numbers.
  func trainTargets(_ store: FeatureStore) throws {
    let console = output.console, task = store.labelling.task
    guard folds == nil else {
      throw ValidationError("--folds compares strengths by accuracy, and \(self.store) is a store for \(task.rawValue). Leave --folds out.")
    }
    let train = try store.targeted(split: "train", allViews: true)
    guard train.rowCount > 0 else {
      throw TrainingDataError(message: "\(self.store) has no training samples. Give some of them the split 'train'.")
    }
    let validation = store.samples(split: "val").isEmpty ? nil : try store.targeted(split: "val")
    let data = TargetTrainingData(task: task, names: store.labelling.names, train: train, validation: validation)
    let device = try computing.make(console)
    let fitting = try head.targetFitting(task, device, onEpoch: try watching.recorder())
    let line = ProgressLine(console), started = ContinuousClock.now
    defer { line.finish() }
    let fitted = try fitting.fit(data, metadata: HeadMetadata(of: store)) { line.show($0) }
    line.finish()
    let seconds = (ContinuousClock.now - started) / .seconds(1)
    try fitted.classifier.write(to: headPath)
    Interruption.shared.setRemedy(nil)
    let constant = data.constantLabels
    if !constant.isEmpty {
      let names = constant.prefix(5).joined(separator: ", ") + (constant.count > 5 ? " and \(constant.count - 5) more" : "")
      console.warn("every training sample has these labels, or none has: \(names). What the head says of them is a constant.")
    }
    show(fitted, task, samples: train.rowCount, seconds: seconds, console)
    console.note("next: graft evaluate \(headPath) \(self.store)")
    let isLinear = fitting.kind == .linear, count = store.labelling.names.count
    try console.object(
      TargetReport(
        output: headPath, device: device.traits.identifier, head: fitting.kind, task: task, status: fitted.status,
        labels: task == .multilabel ? count : nil, targets: task == .regression ? count : nil, samples: train.rowCount,
        features: train.features.dimension, strength: fitted.strength, l2: isLinear ? fitted.strength : nil, objective: fitted.objective,
        seconds: seconds, iterations: fitted.iterations, validation: fitted.validation, constantLabels: task == .multilabel ? constant : nil,
        sweep: fitted.sweep.map {
          TargetReport.Point(
            strength: $0.strength, l2: isLinear ? $0.strength : nil, loss: $0.loss, validation: $0.score, iterations: $0.iterations,
            converged: $0.converged)
        }, epochs: fitted.history.isEmpty ? nil : fitted.history))
  }

  private func show(_ fitted: FittedTargetHead, _ task: LabelTask, samples: Int, seconds: Double, _ console: Console) {
    let symbol = [.linear: "λ", .ridge: "α", .knn: "k"][head.head] ?? ""
    func text(_ strength: Double) -> String { head.head == .knn ? "\(Int(strength))" : String(format: "%.0e", strength) }
    let titles = TargetScore.titles(task)
    if fitted.sweep.count > 1 {
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
