import Foundation
import GraftBackbones
import GraftData
import GraftDevice

extension HeadMetadata {
  /// What a head that is going to be trained on a store has to know of it. The kind, the normalisation, the strength and the temperature
  /// are filled in by what trains the head.
  public init(of store: FeatureStore) {
    let isExtracted = store.key.source == .extraction
    self.init(
      task: store.labelling.task, classes: store.outputNames, cut: isExtracted ? store.key.cut : nil,
      backboneSHA256: isExtracted ? store.key.backboneSHA256 : nil, backboneFile: store.entries["backbone_file"],
      backbonePath: store.entries["backbone_path"], preprocessing: isExtracted ? store.key.preprocessing : nil,
      precision: isExtracted ? ComputeFormat(rawValue: store.key.precision) : nil, featureNormalisation: .none, l2: 0,
      graftVersion: GraftVersion.text)
  }
}

extension FeatureStore {
  /// Its classes, or its labels or targets: what the outputs of a head trained on it are.
  public var outputNames: [String] { labelling.task == .classification ? classNames : labelling.names }
}

extension FeatureClassifier {
  /// What pictures go through before the backbone; `nil` for a head on imported features, or where it makes no sense.
  public var preprocessing: Preprocessing? {
    metadata.preprocessing.flatMap { try? JSONDecoder().decode(Preprocessing.self, from: Data($0.utf8)) }
  }

  /// The path of the backbone's file: in the folder of the head's file, or where it was when the head was trained.
  ///
  /// - Parameter path: the head's file, or a fine-tuned model's.
  /// - Throws: `HeadError` that says where it was looked for.
  public func findBackbone(beside path: String) throws(HeadError) -> String {
    let folder = FilePath.absolute(FilePath.folder(of: path))
    var places: [String] = []
    if let name = metadata.backboneFile { places.append(FilePath.joined(folder, name)) }
    if let path = metadata.backbonePath { places.append(path) }
    for place in places where FileManager.default.fileExists(atPath: place) { return place }
    guard !places.isEmpty else {
      throw HeadError(file: path, problem: "it does not say where its backbone is", remedy: "Name it with --backbone.")
    }
    throw HeadError(
      file: path, problem: "its backbone \(metadata.backboneFile ?? "") is not found (looked at \(places.joined(separator: ", ")))",
      remedy: "Name it with --backbone.")
  }

  /// Checks that a backbone is the one that the head's features are of, by its hash.
  ///
  /// - Parameter file: the head's file, for messages.
  /// - Throws: `HeadError` for another backbone, or a head on imported features; `FileError`.
  public func check(_ backbone: Backbone, file: String) throws {
    guard let hash = metadata.backboneSHA256 else {
      throw HeadError(
        file: file, problem: "it was trained on imported features, so it has no backbone",
        remedy: "Train a head on a store that 'graft extract' made.")
    }
    guard try backbone.hash() == hash else {
      throw HeadError(
        file: file, problem: "it was trained with another backbone than \(backbone.path)",
        remedy: "Put the right one beside it, or name it with --backbone.")
    }
  }

  /// Checks that a store is for the head's task.
  ///
  /// - Parameter file: the head's file, for messages.
  /// - Throws: `HeadError` with both tasks.
  public func check(taskOf store: FeatureStore, file: String) throws(HeadError) {
    guard metadata.task != store.labelling.task else { return }
    throw HeadError(
      file: file, problem: "it is a head for \(metadata.task.rawValue), and \(store.path) is a store for \(store.labelling.task.rawValue)",
      remedy: "Name the store it was trained on, or train a head on this one.")
  }

  /// Checks that a store's features are those the head was trained on: of its task, backbone, cut, preprocessing and precision.
  ///
  /// - Parameter file: the head's file, for messages.
  /// - Throws: `HeadError` that says what is another one.
  public func check(against store: FeatureStore, file: String) throws(HeadError) {
    func refuse(_ what: String) -> HeadError {
      HeadError(
        file: file, problem: "it was trained on another \(what) than \(store.path) holds",
        remedy: "Extract with that one, or train a head on this store.")
    }
    try check(taskOf: store, file: file)
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

  /// The head's output for each class of a store, or each of its labels or targets, by name: a store may have been made of other data.
  ///
  /// - Returns: indices of `metadata.classes`, in the order of the store's `outputNames`.
  /// - Throws: `TrainingDataError` for one the head does not know.
  public func places(ofOutputsIn store: FeatureStore) throws(TrainingDataError) -> [Int] {
    let places = Dictionary(uniqueKeysWithValues: metadata.classes.enumerated().map { ($1, $0) })
    var result: [Int] = []
    for name in store.outputNames {
      guard let place = places[name] else {
        throw TrainingDataError(
          message: "'\(name)' of \(store.path) is none of the head's \(metadata.task.outputWord): "
            + "\(metadata.classes.prefix(8).joined(separator: ", ")). Train a head on this store.")
      }
      result.append(place)
    }
    return result
  }

  /// What samples of a store are labelled with, `[N, T]` in the order of the head's outputs.
  ///
  /// - Throws: `TrainingDataError` for an output that the store has nothing for, or the other way round, and for a store of classes.
  public func targets(of samples: [StoredSample], in store: FeatureStore) throws(TrainingDataError) -> [Double] {
    guard store.labelling.task != .classification else {
      throw TrainingDataError(message: "\(store.path) holds samples of one class each, and samples with labels or numbers are needed here")
    }
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
}
