import GraftGraph

/// A trained linear classifier on top of a backbone's features: logits = W·x + b.
///
/// Softmax regression, ridge regression and nearest centroids differ in how W and b came about, not in what they are.
///
/// Its file is a `.safetensors` with `weight` `[C, D]` and `bias` `[C]`, as PyTorch's Linear names and lays them out.
public struct Head: FeatureClassifier {
  /// W, `[C, D]`, row-major.
  public let weight: [Float]
  /// b, `[C]`
  public let bias: [Float]
  /// D, features a sample.
  public let dimension: Int
  public let metadata: HeadMetadata

  /// C
  public var classCount: Int { bias.count }

  /// - Parameter file: the file it was read from, if any, for messages.
  /// - Throws: `HeadError` if shapes, classes and metadata don't belong together or a number isn't finite.
  public init(weight: [Float], bias: [Float], metadata: HeadMetadata, file: String? = nil) throws(HeadError) {
    let name = file ?? "a new head"
    try metadata.validate(file: name)
    guard bias.count == metadata.classes.count else {
      throw HeadError(file: name, problem: "its bias has \(bias.count) entries for \(metadata.classes.count) classes")
    }
    let dimension = weight.count / bias.count
    guard dimension > 0, dimension * bias.count == weight.count else {
      throw HeadError(file: name, problem: "its weight has \(weight.count) entries, which don't divide among \(bias.count) classes")
    }
    guard weight.allSatisfy(\.isFinite), bias.allSatisfy(\.isFinite) else {
      throw HeadError(file: name, problem: "its weight or bias contains NaN or infinity")
    }
    (self.weight, self.bias, self.dimension, self.metadata) = (weight, bias, dimension, metadata)
  }

  /// The head of a training run.
  public init(_ result: LinearTrainingResult, metadata: HeadMetadata) throws(HeadError) {
    try self.init(weight: result.weight, bias: result.bias, metadata: metadata)
  }

  /// The tensors and the header of the head's file.
  public func encoded() throws(HeadError) -> (tensors: [(String, HostTensor)], metadata: [String: String]) {
    let tensors = [("weight", HostTensor([classCount, dimension], weight)), ("bias", HostTensor([classCount], bias))]
    return (tensors, try metadata.encoded())
  }

  /// Reads a head from what a `.safetensors` file holds.
  ///
  /// - Parameter file: the path, for messages.
  /// - Throws: `HeadError` that says what is missing or damaged.
  public init(tensors: [String: HostTensor], metadata strings: [String: String], file: String) throws(HeadError) {
    let metadata = try HeadMetadata(decoding: strings, file: file)
    guard metadata.kind.isLinear else {
      throw HeadError(
        file: file, problem: "it is a head of the kind \(metadata.kind.rawValue), and a linear one is needed here",
        remedy: "Train one with --head linear, ridge or centroid.")
    }
    func tensor(_ name: String, rank: Int) throws(HeadError) -> HostTensor {
      guard let tensor = tensors[name] else { throw HeadError(file: file, problem: "it has no tensor \(name)") }
      guard tensor.elementType.isFloatingPoint else {
        throw HeadError(file: file, problem: "its tensor \(name) holds \(tensor.elementType) and not floating-point numbers")
      }
      guard tensor.shape.count == rank else {
        throw HeadError(
          file: file, problem: "its tensor \(name) has shape \(tensor.shape) and not \(rank == 2 ? "[classes, features]" : "[classes]")")
      }
      return tensor
    }
    let (weight, bias) = (try tensor("weight", rank: 2), try tensor("bias", rank: 1))
    guard weight.shape[0] == metadata.classes.count, bias.shape[0] == metadata.classes.count else {
      throw HeadError(
        file: file,
        problem: "its weight \(weight.shape) and bias \(bias.shape) don't fit the \(metadata.classes.count) classes it names")
    }
    try self.init(weight: weight.floats(), bias: bias.floats(), metadata: metadata, file: file)
  }

  /// Computes the logits `[rows, C]` of all samples, a chunk at a time and in order.
  ///
  /// - Throws: `HeadError` if `features` have another dimension; what reading or `body` throws.
  public func forEachLogits(
    of features: any FeatureSource, file: String, backend: any LinearBackend,
    _ body: (_ firstRow: Int, _ logits: [Float]) throws -> Void
  ) throws {
    try check(dimension: features.dimension, file: file)
    let seen = NormalisedFeatures(base: features, transform: metadata.featureNormalisation == .l2 ? .l2 : .none)
    var logits: [Float] = []
    try seen.forEachChunk { chunk in
      try backend.logits(chunk, weight: weight, bias: bias, into: &logits)
      try body(chunk.firstRow, logits)
    }
  }
}

/// A head, or the file of one, that can't be used.
public struct HeadError: Error, CustomStringConvertible, Equatable {
  public let file: String
  public let problem: String
  public let remedy: String

  public init(file: String?, problem: String, remedy: String = "The file is damaged or not one that Graft wrote; train the head again.") {
    (self.file, self.problem, self.remedy) = (file ?? "a new head", problem, remedy)
  }

  static func notAHead(file: String) -> HeadError {
    HeadError(
      file: file, problem: "it is a safetensors file, but not a head", remedy: "Give the file that graft train wrote with --output.")
  }

  public var description: String { "\(file): \(problem). \(remedy)" }
}
