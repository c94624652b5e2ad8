import GraftBackbones
import GraftGraph

/// Heads' files.
public enum HeadFile {
  /// Reads a head of whatever kind.
  ///
  /// - Throws: `FileError`, `ImportError`, `HeadError`.
  public static func read(_ path: String) throws -> any FeatureClassifier {
    let (tensors, strings) = try contents(path)
    switch try HeadMetadata(decoding: strings, file: path).kind {
    case .linear, .ridge, .centroid: return try Head(tensors: tensors, metadata: strings, file: path)
    case .knn: return try NeighbourHead(tensors: tensors, metadata: strings, file: path)
    case .mlp: return try PerceptronHead(tensors: tensors, metadata: strings, file: path)
    }
  }

  fileprivate static func contents(_ path: String) throws -> (tensors: [String: HostTensor], metadata: [String: String]) {
    let file = try SafetensorsFile(path: path)
    if FineTunedModel.isOne(file) {
      throw HeadError(
        file: path, problem: "it is a fine-tuned model, whose head means nothing without the trained part of its backbone",
        remedy: "Give the head that it was tuned from, or use it with evaluate and predict.")
    }
    var tensors: [String: HostTensor] = [:]
    for name in file.names { tensors[name] = file[name] }
    return (tensors, file.metadata)
  }
}

extension Head {
  /// Reads a linear head's file.
  ///
  /// - Throws: `FileError`, `ImportError`, `HeadError`, also for a head of another kind.
  public init(path: String) throws {
    let (tensors, strings) = try HeadFile.contents(path)
    try self.init(tensors: tensors, metadata: strings, file: path)
  }

  public func replacing(metadata: HeadMetadata) throws(HeadError) -> Head { try Head(weight: weight, bias: bias, metadata: metadata) }
}
