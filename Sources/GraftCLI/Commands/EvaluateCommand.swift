import ArgumentParser
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
    let head = try Head(path: self.head)
    let store = try FeatureStore.open(reading: self.store)
    try head.check(against: store, file: self.head)
    let samples = store.samples(split: split)
    guard !samples.isEmpty else {
      throw TrainingDataError(
        message:
          "\(self.store) has no \(split) samples. It has: \(store.samplesBySplit.map { "\($0.value.count) \($0.key)" }.sorted().joined(separator: ", "))."
      )
    }
    // Labels by name: a store may have been made of a folder with other classes.
    let places = Dictionary(uniqueKeysWithValues: head.metadata.classes.enumerated().map { ($1, $0) })
    let labels = try samples.map { sample -> Int in
      let name = store.classNames[sample.label]
      guard let place = places[name] else {
        throw TrainingDataError(
          message:
            "the store's class '\(name)' is none of the head's: \(head.metadata.classes.prefix(8).joined(separator: ", ")). Train a head on this store."
        )
      }
      return place
    }
    let device = try computing.make(console)
    var scores = try EvaluationAccumulator(classes: head.metadata.classes)
    let classCount = head.classCount
    try head.forEachLogits(of: StoreFeatures(store, samples: samples), file: self.head, backend: DeviceLinearBackend(device: device)) {
      first, logits in
      try scores.add(logits: logits, labels: labels[first..<first + logits.count / classCount], firstRow: first)
    }
    let evaluation = try scores.finish()
    console.result(evaluation.table())
    try console.object(evaluation)
  }
}

extension Head {
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
