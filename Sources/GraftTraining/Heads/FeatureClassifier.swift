import GraftBackbones
import GraftGraph

/// A trained head of whatever kind: features in, a score for each class out.
public protocol FeatureClassifier: Sendable {
  var metadata: HeadMetadata { get }
  /// D, features a sample.
  var dimension: Int { get }

  /// The tensors and the header of the head's file.
  func encoded() throws(HeadError) -> (tensors: [(String, HostTensor)], metadata: [String: String])

  /// Computes the logits `[rows, C]` of all samples, a chunk at a time and in order. Their softmax, once they are divided by the
  /// metadata's temperature, is what the head holds for the classes' probabilities.
  ///
  /// - Throws: `HeadError` if `features` have another dimension; what reading or `body` throws.
  func forEachLogits(
    of features: any FeatureSource, file: String, backend: any LinearBackend, _ body: (_ firstRow: Int, _ logits: [Float]) throws -> Void) throws

  /// The same head under other metadata.
  func replacing(metadata: HeadMetadata) throws(HeadError) -> Self
}

extension FeatureClassifier {
  /// C
  public var classCount: Int { metadata.classes.count }

  /// Checks that features are of the kind this head was trained on.
  ///
  /// - Throws: `HeadError` with both counts.
  public func check(dimension found: Int, file: String) throws(HeadError) {
    guard found == dimension else {
      throw HeadError(
        file: file, problem: "the head takes \(dimension) features a sample, and there are \(found)",
        remedy: "Use the backbone and the cut it was trained with, or train a head on these features.")
    }
  }

  public func forEachLogits(of features: any FeatureSource, file: String, _ body: (_ firstRow: Int, _ logits: [Float]) throws -> Void) throws {
    try forEachLogits(of: features, file: file, backend: HostLinearBackend(), body)
  }

  /// What it says about samples that it was not trained on.
  public func heldOutScores(
    _ data: LabelledFeatures, source: ValidationScore.Source, backend: any LinearBackend = HostLinearBackend()
  ) throws -> HeldOutScores {
    var all: [Float] = []
    all.reserveCapacity(data.rowCount * classCount)
    try forEachLogits(of: data.features, file: "the head", backend: backend) { all += $1 }
    return try HeldOutScores(logits: all, labels: data.labels, classCount: classCount, source: source)
  }

  /// Writes a head's file; it appears whole or not at all.
  ///
  /// - Throws: `FileError`, `HeadError`.
  public func write(to path: String) throws {
    let parts = try encoded()
    try SafetensorsFile.write(tensors: parts.tensors, metadata: parts.metadata, to: path)
  }
}

extension HeadMetadata.Kind {
  /// Whether such a head is a weight and a bias.
  public var isLinear: Bool {
    switch self {
    case .linear, .ridge, .centroid: true
    case .knn, .mlp: false
    }
  }
}
