import GraftData
import GraftGraph

/// What a model for labels or numbers is fine-tuned towards.
///
/// As for heads, numbers are trained on in units of their standard deviation, so that a learning rate means the same for targets of
/// any units.
public struct TuningTargets: Sendable {
  public let task: LabelTask
  public let loss: Loss
  /// T
  public let width: Int
  private let scaling: TargetScaling

  /// - Parameter training: `[N, T]`, in the user's units and in the order of the head's outputs.
  /// - Throws: `TrainingOptionError` for a loss of another task.
  public init(_ training: [Double], width: Int, task: LabelTask, loss: Loss) throws(TrainingOptionError) {
    try loss.check(task: task)
    (self.task, self.loss, self.width) = (task, loss, width)
    scaling = TargetScaling(training, width: width, task: task)
  }

  /// Targets `[N, T]` in the units of training.
  public func scaled(_ targets: [Double]) -> [Float] { scaling.scaled(targets) }

  /// A model whose head gives outputs in the units of training.
  public func begin(_ model: FineTunedModel) throws -> FineTunedModel {
    let head = model.head, (weight, bias) = scaling.unfold(weight: head.weight, bias: head.bias)
    return model.replacing(head: try Head(weight: weight, bias: bias, metadata: head.metadata))
  }

  /// The way back: a model whose head gives outputs in the user's units.
  ///
  /// - Parameter score: how it does on validation data, which its metadata then says.
  public func end(_ model: FineTunedModel, score: TargetScore?) throws -> FineTunedModel {
    let head = model.head, (weight, bias) = scaling.fold(weight: head.weight.map(Double.init), bias: head.bias.map(Double.init))
    var metadata = head.metadata
    metadata.record(score)
    return model.replacing(head: try Head(weight: weight.map(Float.init), bias: bias.map(Float.init), metadata: metadata))
  }

  /// How outputs in the units of training do on a split of the data set.
  ///
  /// - Parameters:
  ///   - outputs: `[N, T]`
  ///   - targets: `[N, T]`, in the user's units.
  /// - Throws: `TrainingDataError` for an output that isn't finite.
  public func score(_ outputs: [Float], targets: [Double]) throws(TrainingDataError) -> TargetScore {
    let restored = scaling.restored(outputs)
    if let place = restored.firstIndex(where: { !$0.isFinite }) {
      throw TrainingDataError.notFinite(restored[place], row: "validation row \(place / width)")
    }
    return HeldOutTargets(task, outputs: restored, targets: targets, width: width, source: .split).score()
  }
}

extension TrainingProgram {
  /// The outputs `[N, C]` of all samples, with the parameters as they are.
  public func outputs(of samples: any TrainingSamples) throws -> [Float] {
    var all: [Float] = []
    all.reserveCapacity(samples.count * classCount)
    try forEachOutputs(of: samples) { all += $1 }
    return all
  }
}
