import ArgumentParser
import Foundation
import Graft

struct EvaluateCommand: ReportingCommand {
  static let configuration = CommandConfiguration(
    commandName: "evaluate", abstract: "Score a head on samples it has not seen.",
    discussion: """
      A head for classes gets accuracy, precision, recall, F1, log loss, calibration and the confusion matrix; one for labels the mean \
      average precision, F1 of labels with a probability of 0.5 or more, the share of samples with every label right, Hamming loss \
      and log loss; one for numbers absolute error, RMSE and R² of each target. All are scikit-learn's definitions. Intervals are \
      of 95 %.

      With --json, "confusion" is the matrix, a row a true class. Of more than \(Evaluation.largestMatrix) classes there is \
      "confusion_entries" in its place: what is not 0, as [true class, predicted class, samples], classes counted from 0.
      """)

  @Argument(help: "The head's file.") var head: String
  @Argument(help: "The store.") var store: String
  @Option(help: ArgumentHelp("Which samples: test, val or train.", valueName: "split")) var split = "test"
  @Option(help: ArgumentHelp("Find the confidence from which predictions have this precision on validation data.", valueName: "share"))
  var precisionTarget: Double?
  @Option(help: ArgumentHelp("Draw the confusion matrix and the reliability diagram into this folder.", valueName: "folder")) var plots: String?
  @Option(help: ArgumentHelp("For a model trained from pictures, their folder (default: where they were).", valueName: "path")) var data: String?
  @OptionGroup var computing: DeviceOptions
  @OptionGroup var planning: PlanFlags
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard ["train", "val", "test"].contains(split) else { throw ValidationError("--split takes train, val or test, not '\(split)'.") }
    if let precisionTarget, !(precisionTarget > 0 && precisionTarget <= 1) {
      throw ValidationError("--precision-target takes a number above 0 and up to 1, not \(precisionTarget).")
    }
  }

  /// A head or a tuned model on a store whose rows it takes.
  private struct Scorer {
    let store: FeatureStore
    let metadata: HeadMetadata
    /// The head's output for each of the store's.
    let places: [Int]
    let logits: (_ samples: [StoredSample], _ body: (Int, [Float]) throws -> Void) throws -> Void

    /// - Throws: `TrainingDataError` for a split without samples.
    func scores(split: String) throws -> EvaluationAccumulator {
      let samples = store.samples(split: split)
      guard !samples.isEmpty else { throw store.without(split) }
      let labels = samples.map { places[$0.label] }, classCount = metadata.classes.count
      var scores = try EvaluationAccumulator(classes: metadata.classes, temperature: metadata.temperature)
      try logits(samples) { first, logits in
        try scores.add(logits: logits, labels: labels[first..<first + logits.count / classCount], firstRow: first)
      }
      return scores
    }
  }

  func execute() throws {
    let console = output.console
    let file = try SafetensorsFile(path: self.head)
    let store = try FeatureStore.open(reading: self.store, warningOn: console)
    let task = store.labelling.task
    guard task == .classification || (precisionTarget == nil && plots == nil) else {
      throw ValidationError("--precision-target and --plots are for classes, and \(self.store) is a store for \(task.rawValue).")
    }
    let scorer =
      try FineTunedModel.isOne(file)
      ? scorer(try FineTunedModel(file, path: self.head), store, console) : scorer(try HeadFile.read(self.head), store, console)
    if task != .classification { return try evaluateTargets(scorer, task, console) }
    if let plots {
      try FolderListing.make(plots)
      try checkOutputs(Self.plotNames.map { FilePath.joined(plots, $0) })
    }
    let scores = try scorer.scores(split: split)
    var evaluation = try scores.finish()
    if let precisionTarget {
      let held = scorer.store.samples(split: "val").isEmpty ? scorer.metadata.heldOut : try scorer.scores(split: "val").outcomes
      guard !held.isEmpty else {
        throw TrainingDataError(
          message: "\(scorer.store.path) has no val samples to choose a threshold on, and none were held out when \(self.head) was trained. "
            + "Extract a data set with a val split, or train with several strengths to choose from.")
      }
      evaluation.abstention = Abstention(held, target: precisionTarget).scored(on: scores.outcomes)
    }
    if let plots { try draw(evaluation, in: plots, console) }
    console.result(evaluation.table())
    try console.object(evaluation)
  }

  /// A head or a tuned model for labels or numbers.
  private func evaluateTargets(_ scorer: Scorer, _ task: LabelTask, _ console: Console) throws {
    let store = scorer.store, samples = store.samples(split: split), width = scorer.metadata.classes.count
    guard !samples.isEmpty else { throw store.without(split) }
    var outputs: [Float] = []
    try scorer.logits(samples) { _, rows in
      for row in 0..<rows.count / width { outputs += scorer.places.map { rows[row * width + $0] } }
    }
    let targets = store.targets(of: samples)
    if task == .multilabel {
      let evaluation = try MultilabelEvaluation(logits: outputs, targets: targets, labels: store.labelling.names)
      console.result(evaluation.table())
      try console.object(evaluation)
    } else {
      let evaluation = try RegressionEvaluation(outputs: outputs, targets: targets, names: store.labelling.names)
      console.result(evaluation.table())
      try console.object(evaluation)
    }
  }

  private static let plotNames = ["confusion.svg", "reliability.svg"]

  private func draw(_ evaluation: Evaluation, in folder: String, _ console: Console) throws {
    for (name, plot) in zip(Self.plotNames, [Plot.confusion(evaluation), Plot.reliability(evaluation)]) {
      let path = FilePath.joined(folder, name)
      try plot.write(to: path)
      console.note(path)
    }
  }

  private func scorer(_ head: any FeatureClassifier, _ store: FeatureStore, _ console: Console) throws -> Scorer {
    if let option = (data == nil ? planning.given : ["--data"] + planning.given).first {
      throw ValidationError("\(option) is for fine-tuned models, and \(self.head) is a head, which takes stored features. Leave it out.")
    }
    try head.check(against: store, file: self.head)
    let places = try head.places(ofOutputsIn: store)
    let backend = DeviceLinearBackend(device: try computing.make(console))
    return Scorer(store: store, metadata: head.metadata, places: places) { samples, body in
      try head.forEachLogits(of: StoreFeatures(store, samples: samples), file: self.head, backend: backend, body)
    }
  }

  /// From the rows at the model's cut, which lie in a store of their own; a model trained from pictures looks at the pictures again.
  /// Which samples there are, their labels and their splits are the given store's: the other one is brought up to date by finetune alone.
  private func scorer(_ model: FineTunedModel, _ given: FeatureStore, _ console: Console) throws -> Scorer {
    let head = model.head
    guard data == nil || model.cut == nil else {
      throw ValidationError("--data is for models trained from pictures, and \(self.head) takes rows at '\(model.cutName)'. Leave it out.")
    }
    try head.check(taskOf: given, file: self.head)
    var rows = given
    if let cut = model.cut, given.key.cut != cut {
      let path = FineTunedModel.cutStorePath(of: self.store, cut: cut)
      guard FileManager.default.fileExists(atPath: path) else {
        throw HeadError(
          file: self.head, problem: "it takes rows at '\(cut)', and \(self.store) holds '\(given.key.cut)'",
          remedy: "Name the store at that cut; 'graft extract --cut \(cut)' makes one.")
      }
      console.note("rows at '\(cut)' from \(path)")
      rows = try FeatureStore.open(reading: path)
    }
    let cutRows = rows
    try model.check(against: cutRows, file: self.head)
    guard let preprocessing = head.preprocessing else { throw HeadError(file: self.head, problem: "it does not say how pictures are prepared") }
    let (backbone, _) = try loadBackbone(try head.findBackbone(beside: self.head), console)
    try head.check(backbone, file: self.head)
    let network = try TunedNetwork(
      model, backbone: backbone, preprocessing: preprocessing, batchSize: min(16, max(1, given.samples(split: split).count)),
      device: try computing.make(console), options: planning.planOptions(head.metadata.precision ?? .float32))
    return Scorer(store: given, metadata: head.metadata, places: try head.places(ofOutputsIn: given)) { samples, body in
      let inputs: any TrainingSamples
      if model.cut == nil {
        inputs = try ImageInputs(given, samples: samples, labels: [], root: self.data, preprocessing: preprocessing)
      } else if cutRows === given {
        inputs = try StoredInputs(given, samples: samples, labels: [])
      } else {
        let options = "--cut \(cutRows.key.cut) --feature-type \(cutRows.key.featureType) --output \(cutRows.path)"
        inputs = try StoredInputs(
          cutRows,
          samples: try given.samples(
            samples, withRowsOf: cutRows,
            remedy: "Run the 'graft finetune' that made it again, or 'graft extract' with the options that made \(given.path), but \(options)."),
          labels: [])
      }
      try network.forEachLogits(of: inputs, body)
    }
  }
}

extension FeatureStore {
  /// What is wrong with a store without samples of a split.
  fileprivate func without(_ split: String) -> TrainingDataError {
    let known = samplesBySplit.map { "\($0.value.count) \($0.key)" }.sorted().joined(separator: ", ")
    return TrainingDataError(message: "\(path) has no \(split) samples. It has: \(known).")
  }
}
