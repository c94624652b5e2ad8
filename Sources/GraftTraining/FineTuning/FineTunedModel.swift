import Foundation
import GraftBackbones
import GraftData
import GraftDevice
import GraftGraph

/// A head together with the trained part of its backbone: what comes after a cut.
///
/// Its file is a `.safetensors` with the head's `weight` and `bias`, as a head's own file has them, and `backbone.NAME` for each trained
/// parameter; the frozen part stays in the backbone's file. The metadata's `cut` is where the trained part begins.
public struct FineTunedModel: Sendable {
  /// The head; its `cut` is that of the features it takes.
  public let head: Head
  /// Where the trained part begins; `nil`: at the image.
  public let cut: String?
  /// The backbone's trained parameters, by name, and the statistics of its normalisations where they followed the batches.
  public let parameters: [String: HostTensor]

  static let kind = "finetuned"
  private static let prefix = "backbone."

  public init(head: Head, cut: String?, parameters: [String: HostTensor]) { (self.head, self.cut, self.parameters) = (head, cut, parameters) }

  /// The cut's name in a store's key, or in messages.
  public var cutName: String { cut ?? "image" }

  /// What is after the cut, as a network: the backbone's rest up to the features, and the head.
  ///
  /// Head and parameters are constants called `head.weight`, `head.bias` and as in the backbone.
  public func network(_ backbone: Backbone, preprocessing: Preprocessing, unfreezing: Unfreezing = .all) -> TrainableNetwork {
    let model = self
    return TrainableNetwork(
      makeGraph: { try model.graph(backbone, preprocessing: preprocessing, batchSize: $0) },
      isTrained: { name in
        if name.hasPrefix("head.") { return name == "head.weight" || name == "head.bias" }
        return unfreezing.includes(name)
      })
  }

  /// From rows at the cut (float32) or prepared images (bytes) to logits [batch, C].
  private func graph(_ backbone: Backbone, preprocessing: Preprocessing, batchSize: Int) throws -> Graph {
    guard let feature = head.metadata.cut else {
      throw HeadError(file: nil, problem: "it was trained on imported features", remedy: "Train a head on a store that 'graft extract' made.")
    }
    var graph = try backbone.graph(imageShape: [batchSize, 3, preprocessing.height, preprocessing.width], with: feature)
    graph.outputs = [try FrozenBackbone.cutValue(of: graph, named: feature, backbone: backbone)]
    if let cut {
      graph = try graph.following(try FrozenBackbone.cutValue(of: graph, named: cut, backbone: backbone))
    } else {
      graph = try graph.frozen(at: graph.outputs[0]).takingImageBytes(preprocessing)
    }
    try backbone.checkImagesStayApart(in: graph)
    if !parameters.isEmpty { graph = try replacingParameters(of: graph, backbone: backbone) }
    var features = graph.outputs[0]
    let width = graph.type(of: features).elementCount / batchSize
    guard graph.type(of: features).shape.first == batchSize, width == head.dimension else {
      throw HeadError(
        file: nil,
        problem: "the head takes \(head.dimension) features, and the backbone gives \(graph.type(of: features).shape) for \(batchSize) images",
        remedy: "Use the backbone it was trained with.")
    }
    if graph.type(of: features).rank != 2 { features = try graph.add(Reshape([batchSize, width]), [features], name: "features") }
    if head.metadata.featureNormalisation == .l2 { features = try graph.addUnitLength(features) }
    let weight = graph.addConstant(HostTensor([head.classCount, width], head.weight), name: "head.weight")
    let bias = graph.addConstant(HostTensor([head.classCount], head.bias), name: "head.bias")
    graph.outputs = [try graph.add(MatMul(transposeB: true, hasBias: true), [features, weight, bias], name: "head")]
    return graph
  }

  /// The graph with trained numbers in place of the file's.
  private func replacingParameters(of graph: Graph, backbone: Backbone) throws -> Graph {
    // Statistics are trained too, where normalisations have followed the batches.
    let prepared = try graph.preparedForTraining(), known = prepared.parameters() + prepared.normalizationStatistics()
    let replaced = known.filter { parameters[$0.name] != nil }
    guard replaced.count == parameters.count else {
      let missing = parameters.keys.first { name in !known.contains { $0.name == name } } ?? ""
      throw HeadError(
        file: nil, problem: "it has trained '\(missing)', and \(backbone.path) has no such parameter", remedy: "Use the backbone it was trained with."
      )
    }
    return try prepared.replacing(
      Dictionary(
        uniqueKeysWithValues: try replaced.map { parameter in
          let tensor = parameters[parameter.name]!
          guard tensor.shape == parameter.tensor.shape else {
            throw HeadError(file: nil, problem: "its '\(parameter.name)' has shape \(tensor.shape), and the backbone's \(parameter.tensor.shape)")
          }
          return (parameter.value, (parameter.name, tensor))
        }))
  }

  /// The model with what training gave.
  ///
  /// - Parameter precision: what training computed in, and whoever uses the model is to; the head's features may have been computed in another.
  public func replacing(_ tensors: [String: HostTensor], precision: ComputeFormat, metrics: [String: Double]) throws -> FineTunedModel {
    var (weight, bias, parameters) = (head.weight, head.bias, self.parameters)
    for (name, tensor) in tensors {
      switch name {
      case "head.weight": weight = tensor.floats()
      case "head.bias": bias = tensor.floats()
      default: parameters[name] = tensor
      }
    }
    var metadata = head.metadata
    (metadata.metrics, metadata.precision) = (metrics, precision)
    // What calibrated the head before says nothing of this one.
    (metadata.temperature, metadata.heldOut) = (1, [])
    return FineTunedModel(head: try Head(weight: weight, bias: bias, metadata: metadata), cut: cut, parameters: parameters)
  }

  /// The model with its head's outputs in other units, or calibrated.
  func replacing(head: Head) -> FineTunedModel { FineTunedModel(head: head, cut: cut, parameters: parameters) }

  /// The model with a temperature fitted to logits `[N, C]` of samples that it was not trained on, and what became of them.
  ///
  /// - Throws: `TrainingDataError` for a logit that isn't finite.
  public func calibrated(logits: [Float], labels: [Int]) throws -> FineTunedModel {
    var metadata = head.metadata
    _ = metadata.calibrate(try HeldOutScores(logits: logits, labels: labels, classCount: head.classCount, source: .split))
    return replacing(head: try Head(weight: head.weight, bias: head.bias, metadata: metadata))
  }

  /// Where a store's rows at another cut are kept by default: beside it.
  public static func cutStorePath(of store: String, cut: String) -> String {
    var base = store
    while base.count > 1, base.hasSuffix("/") { base.removeLast() }
    return base + ".at-" + String(cut.map { $0.isASCII && ($0.isLetter || $0.isNumber || "._-".contains($0)) ? $0 : "_" })
  }

  /// Checks that a store's rows are what the trained part takes: of its backbone, preprocessing, cut and precision.
  ///
  /// - Parameter file: the model's file, for messages.
  /// - Throws: `HeadError` that says what is another one.
  public func check(against store: FeatureStore, file: String) throws(HeadError) {
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

  // MARK: The file

  /// - Throws: `FileError`, `HeadError`.
  public func write(to path: String) throws {
    let (tensors, metadata) = try head.encoded()
    let own = parameters.map { (name: Self.prefix + $0.key, tensor: $0.value) }
    try SafetensorsFile.write(
      tensors: tensors.map { (name: $0.0, tensor: $0.1) } + own,
      metadata: metadata.merging(["graft_model": Self.kind, "trained_from": cut ?? ""]) { $1 }, to: path)
  }

  /// Whether a file is one of these, rather than a plain head.
  public static func isOne(_ file: SafetensorsFile) -> Bool { file.metadata["graft_model"] == kind }

  /// - Throws: `HeadError`.
  public init(_ file: SafetensorsFile, path: String) throws {
    var (own, rest): ([String: HostTensor], [String: HostTensor]) = ([:], [:])
    for name in file.names {
      guard let tensor = file[name] else { continue }
      if name.hasPrefix(Self.prefix) { own[String(name.dropFirst(Self.prefix.count))] = tensor } else { rest[name] = tensor }
    }
    guard let cut = file.metadata["trained_from"], own.values.allSatisfy({ $0.elementType.isFloatingPoint }) else {
      throw HeadError(file: path, problem: "it is a fine-tuned model, but it does not say where its trained part begins")
    }
    var metadata = file.metadata
    for key in ["graft_model", "trained_from"] { metadata[key] = nil }
    self.init(head: try Head(tensors: rest, metadata: metadata, file: path), cut: cut.isEmpty ? nil : cut, parameters: own)
  }
}

extension Graph {
  /// Each row of [N, D] divided by its Euclidean length.
  mutating func addUnitLength(_ x: ValueID) throws -> ValueID {
    let square = try add(Binary(.multiply), [x, x], name: "length")
    let sum = try add(Reduce(.sum, axes: [1], keepsDimensions: true), [square], name: "length")
    // A row of zeros stays one.
    let raised = try add(Binary(.maximum), [sum, addConstant(HostTensor([1], [1e-30]))], name: "length")
    return try add(Binary(.divide), [x, try add(Unary(.sqrt), [raised], name: "length")], name: "length")
  }
}
