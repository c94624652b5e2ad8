import ArgumentParser
import Foundation
import Graft

struct EvaluateCommand: ReportingCommand {
  static let configuration = CommandConfiguration(commandName: "evaluate", abstract: "Score a head on samples it has not seen.")

  @Argument(help: "The head's file.") var head: String
  @Argument(help: "The store.") var store: String
  @Option(help: ArgumentHelp("Which samples: test, val or train.", valueName: "split")) var split = "test"
  @OptionGroup var computing: DeviceOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard ["train", "val", "test"].contains(split) else { throw ValidationError("--split takes train, val or test, not '\(split)'.") }
  }

  func execute() throws {
    let console = output.console
    let file = try SafetensorsFile(path: self.head)
    let store = try FeatureStore.open(reading: self.store)
    let evaluation =
      FineTunedModel.isOne(file)
      ? try evaluate(try FineTunedModel(file, path: self.head), store, console) : try evaluate(try HeadFile.read(self.head), store, console)
    console.result(evaluation.table())
    try console.object(evaluation)
  }

  private func samples(of store: FeatureStore) throws -> [StoredSample] {
    let samples = store.samples(split: split)
    guard !samples.isEmpty else {
      throw TrainingDataError(
        message:
          "\(store.path) has no \(split) samples. It has: \(store.samplesBySplit.map { "\($0.value.count) \($0.key)" }.sorted().joined(separator: ", "))."
      )
    }
    return samples
  }

  private func evaluate(_ head: any FeatureClassifier, _ store: FeatureStore, _ console: Console) throws -> Evaluation {
    try head.check(against: store, file: self.head)
    let samples = try samples(of: store)
    let places = try head.places(ofClassesIn: store, file: self.head)
    let labels = samples.map { places[$0.label] }
    let device = try computing.make(console)
    var scores = try EvaluationAccumulator(classes: head.metadata.classes)
    let classCount = head.classCount
    try head.forEachLogits(of: StoreFeatures(store, samples: samples), file: self.head, backend: DeviceLinearBackend(device: device)) {
      first, logits in
      try scores.add(logits: logits, labels: labels[first..<first + logits.count / classCount], firstRow: first)
    }
    return try scores.finish()
  }

  /// From the rows at the model's cut, which lie in a store of their own; a model trained from pictures looks at the pictures again.
  private func evaluate(_ model: FineTunedModel, _ given: FeatureStore, _ console: Console) throws -> Evaluation {
    let head = model.head
    var store = given
    if let cut = model.cut, given.key.cut != cut {
      let path = FineTunedModel.cutStorePath(of: self.store, cut: cut)
      guard FileManager.default.fileExists(atPath: path) else {
        throw HeadError(
          file: self.head, problem: "it takes rows at '\(cut)', and \(self.store) holds '\(given.key.cut)'",
          remedy: "Name the store at that cut; 'graft extract --cut \(cut)' makes one.")
      }
      console.note("rows at '\(cut)' from \(path)")
      store = try FeatureStore.open(reading: path)
    }
    try model.check(against: store, file: self.head)
    guard let preprocessing = head.preprocessing else { throw HeadError(file: self.head, problem: "it does not say how pictures are prepared") }
    let (backbone, _) = try loadBackbone(try findBackbone(of: head, headPath: self.head, given: nil), console)
    guard try backbone.hash() == head.metadata.backboneSHA256 else {
      throw HeadError(file: self.head, problem: "it was trained with another backbone than \(backbone.path)", remedy: "Put the right one beside it.")
    }
    let samples = try samples(of: store), places = try head.places(ofClassesIn: store, file: self.head)
    let labels = samples.map { places[$0.label] }
    let inputs: any TrainingSamples =
      model.cut == nil
      ? try ImageInputs(store, samples: samples, labels: labels, preprocessing: preprocessing)
      : StoredInputs(store, samples: samples, labels: labels)
    let device = try computing.make(console)
    let network = try TunedNetwork(
      model, backbone: backbone, preprocessing: preprocessing, batchSize: min(16, samples.count), device: device,
      options: computing.planOptions(head.metadata.precision ?? .float32))
    var scores = try EvaluationAccumulator(classes: head.metadata.classes)
    try network.forEachLogits(of: inputs) { first, logits in
      try scores.add(logits: logits, labels: labels[first..<first + logits.count / head.classCount], firstRow: first)
    }
    return try scores.finish()
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
    if let cut, cut != store.key.cut { throw refuse("cut ('\(cut)')") }
  }
}

extension FeatureClassifier {
  /// The head's class for each of a store's, by name: a store may have been made of a folder with other classes.
  ///
  /// - Throws: `TrainingDataError` for a class the head does not know.
  func places(ofClassesIn store: FeatureStore, file: String) throws -> [Int] {
    let places = Dictionary(uniqueKeysWithValues: metadata.classes.enumerated().map { ($1, $0) })
    return try store.classNames.map { name in
      guard let place = places[name] else {
        throw TrainingDataError(
          message: "the store's class '\(name)' is none of the head's: \(metadata.classes.prefix(8).joined(separator: ", ")). Train a head on this store.")
      }
      return place
    }
  }

  /// What pictures go through before the backbone; `nil` for a head on imported features.
  var preprocessing: Preprocessing? {
    metadata.preprocessing.flatMap { try? JSONDecoder().decode(Preprocessing.self, from: Data($0.utf8)) }
  }

  /// Checks that a store's features are those the head was trained on.
  func check(against store: FeatureStore, file: String) throws {
    func refuse(_ what: String) -> HeadError {
      HeadError(
        file: file, problem: "it was trained on another \(what) than \(store.path) holds",
        remedy: "Extract with that one, or train a head on this store.")
    }
    if let hash = metadata.backboneSHA256, hash != store.key.backboneSHA256 { throw refuse("backbone's features") }
    if let cut = metadata.cut, cut != store.key.cut { throw refuse("cut ('\(cut)')") }
    if let preprocessing = metadata.preprocessing, preprocessing != store.key.preprocessing { throw refuse("preprocessing") }
    try check(dimension: store.featureCount, file: file)
  }
}
