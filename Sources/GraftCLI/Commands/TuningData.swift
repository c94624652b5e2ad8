import Graft

/// What a model is fine-tuned on: the samples of a store, as classes, labels or numbers in the order of the head's outputs.
struct TuningData {
  let training: any TrainingSamples
  /// Of the split `val`; `nil` without one.
  let validation: (any TrainingSamples)?
  /// Of labels or numbers.
  let targets: TuningTargets?
  /// Of the samples and what they are labelled with.
  let identity: String
  /// `[N, T]`, in the user's units.
  private let validationTargets: [Double]

  /// - Parameters:
  ///   - loss: of the store's task.
  ///   - inputs: the network's inputs of some samples, with what is to be said of them: one of labels and targets.
  /// - Throws: `TrainingDataError` for a class, label or target that the head and the store don't share.
  init(
    _ head: Head, _ store: FeatureStore, loss: Loss,
    inputs: (_ samples: [StoredSample], _ labels: [Int]?, _ targets: [Float]?, _ isTraining: Bool) throws -> any TrainingSamples
  ) throws {
    let train = store.samples(split: "train"), held = store.samples(split: "val"), task = store.labelling.task
    identity = try store.identity(of: train + held)
    guard task != .classification else {
      let places = try head.places(ofOutputsIn: store)
      training = try inputs(train, train.map { places[$0.label] }, nil, true)
      validation = held.isEmpty ? nil : try inputs(held, held.map { places[$0.label] }, nil, false)
      (targets, validationTargets) = (nil, [])
      return
    }
    let wanted = try head.targets(of: train, in: store)
    let targets = try TuningTargets(wanted, width: head.classCount, task: task, loss: loss)
    validationTargets = try head.targets(of: held, in: store)
    training = try inputs(train, nil, targets.scaled(wanted), true)
    validation = held.isEmpty ? nil : try inputs(held, nil, targets.scaled(validationTargets), false)
    self.targets = targets
  }

  /// How the network does on validation data, of labels or numbers; `nil` for classes, which the trainer scores, and without such data.
  func score(_ program: TrainingProgram) throws -> TargetScore? {
    guard let targets, let validation else { return nil }
    return try targets.score(program.outputs(of: validation), targets: validationTargets)
  }
}
