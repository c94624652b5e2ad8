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
    try head.check(task: given.labelling.task, of: given, file: self.head)
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
    let (backbone, _) = try loadBackbone(try findBackbone(of: head, headPath: self.head, given: nil), console)
    guard try backbone.hash() == head.metadata.backboneSHA256 else {
      throw HeadError(file: self.head, problem: "it was trained with another backbone than \(backbone.path)", remedy: "Put the right one beside it.")
    }
    let network = try TunedNetwork(
      model, backbone: backbone, preprocessing: preprocessing, batchSize: min(16, max(1, given.samples(split: split).count)),
      device: try computing.make(console), options: computing.planOptions(head.metadata.precision ?? .float32))
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
  /// Its classes, or its labels or targets.
  fileprivate var outputNames: [String] { labelling.task == .classification ? classNames : labelling.names }

  /// What is wrong with a store without samples of a split.
  fileprivate func without(_ split: String) -> TrainingDataError {
    let known = samplesBySplit.map { "\($0.value.count) \($0.key)" }.sorted().joined(separator: ", ")
    return TrainingDataError(message: "\(path) has no \(split) samples. It has: \(known).")
  }
}

extension FineTunedModel {
  /// Checks that a store's rows are what the trained part takes.
  func check(against store: FeatureStore, file: String) throws {
    func refuse(_ what: String) -> HeadError {
      HeadError(file: file, problem: "it was trained on another \(what) than \(store.path) holds", remedy: "Name the store it was trained on.")
    }
    if let hash = head.metadata.backboneSHA256, hash != store.key.backboneSHA256 { throw refuse("backbone's features") }
    if let preprocessing = head.metadata.preprocessing, preprocessing != store.key.preprocessing { throw refuse("preprocessing") }
    guard let cut else { return }
    if cut != store.key.cut { throw refuse("cut ('\(cut)')") }
    if let precision = head.metadata.precision?.rawValue, precision != store.key.precision {
      throw HeadError(
        file: file, problem: "it was tuned in \(precision), and \(store.path) holds rows that were computed in \(store.key.precision)",
        remedy: "Name the store at the cut that 'graft finetune' made for it, or run that again with --precision \(store.key.precision).")
    }
  }
}

extension FeatureClassifier {
  /// The head's output for each class of a store, or each of its labels or targets, by name: a store may have been made of other data.
  ///
  /// - Throws: `TrainingDataError` for one the head does not know.
  func places(ofOutputsIn store: FeatureStore) throws -> [Int] {
    let places = Dictionary(uniqueKeysWithValues: metadata.classes.enumerated().map { ($1, $0) })
    return try store.outputNames.map { name in
      guard let place = places[name] else {
        throw TrainingDataError(
          message: "'\(name)' of \(store.path) is none of the head's \(metadata.task.outputWord): "
            + "\(metadata.classes.prefix(8).joined(separator: ", ")). Train a head on this store.")
      }
      return place
    }
  }

  /// What samples of a store are labelled with, `[N, T]` in the order of the head's outputs.
  ///
  /// - Throws: `TrainingDataError` for an output that the store has nothing for, or the other way round.
  func targets(of samples: [StoredSample], in store: FeatureStore) throws -> [Double] {
    let places = try places(ofOutputsIn: store), width = places.count
    if let missing = metadata.classes.indices.first(where: { !places.contains($0) }) {
      throw TrainingDataError(
        message: "\(store.path) has no '\(metadata.classes[missing])', which is among the head's \(metadata.task.outputWord). "
          + "Train a head on this store.")
    }
    let own = store.targets(of: samples)
    var result = own
    for row in 0..<samples.count { for (column, place) in places.enumerated() { result[row * width + place] = own[row * width + column] } }
    return result
  }

  /// What pictures go through before the backbone; `nil` for a head on imported features.
  var preprocessing: Preprocessing? {
    metadata.preprocessing.flatMap { try? JSONDecoder().decode(Preprocessing.self, from: Data($0.utf8)) }
  }

  fileprivate func check(task: LabelTask, of store: FeatureStore, file: String) throws(HeadError) {
    guard metadata.task != task else { return }
    throw HeadError(
      file: file, problem: "it is a head for \(metadata.task.rawValue), and \(store.path) is a store for \(task.rawValue)",
      remedy: "Name the store it was trained on, or train a head on this one.")
  }

  /// Checks that a store's features are those the head was trained on.
  func check(against store: FeatureStore, file: String) throws {
    func refuse(_ what: String) -> HeadError {
      HeadError(
        file: file, problem: "it was trained on another \(what) than \(store.path) holds",
        remedy: "Extract with that one, or train a head on this store.")
    }
    try check(task: store.labelling.task, of: store, file: file)
    if let hash = metadata.backboneSHA256, hash != store.key.backboneSHA256 { throw refuse("backbone's features") }
    if let cut = metadata.cut, cut != store.key.cut { throw refuse("cut ('\(cut)')") }
    if let preprocessing = metadata.preprocessing, preprocessing != store.key.preprocessing { throw refuse("preprocessing") }
    if let precision = metadata.precision?.rawValue, precision != store.key.precision {
      throw HeadError(
        file: file, problem: "it was trained on features in \(precision), and \(store.path) holds features in \(store.key.precision)",
        remedy: "Extract with --precision \(precision), or train a head on this store.")
    }
    try check(dimension: store.featureCount, file: file)
  }
}
