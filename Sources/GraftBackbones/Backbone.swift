import Foundation
import GraftGraph

/// A pretrained network read from a file: an ONNX graph, or a state dict (PyTorch, safetensors) of a known architecture.
public struct Backbone: Sendable {
  public let path: String
  private let content: Content

  private enum Content: Sendable {
    case onnx(ONNXFile)
    case architecture(Architecture, StateDictionary)
  }

  /// An input as the file declares it.
  public struct Input: Sendable {
    public let name: String
    /// Extents; `nil` where the file leaves one open. The first is the batch.
    public let shape: [Int?]
  }

  /// Reads a model file, its kind told by its first bytes.
  ///
  /// - Parameter architecture: the architecture of a state dict, where its names do not tell; timm's spelling.
  /// - Throws: `ImportError`, `FileError`.
  public init(path: String, architecture: String? = nil) throws {
    self.path = path
    switch FileKind(of: try HostBytes(mapping: path)) {
    case .zip, .torchLegacy, .safetensors:
      let weights = try StateDictionary(path: path)
      let told = architecture
      content = .architecture(try Architecture.recognise(weights, name: told), weights)
    default:
      do {
        content = .onnx(try ONNXFile(path: path))
      } catch let error as ImportError {
        // What has lost its first bytes is told by its name.
        if ["safetensors", "pth", "pt"].contains(where: { path.lowercased().hasSuffix("." + $0) }) { _ = try StateDictionary(path: path) }
        throw error
      }
    }
  }

  /// What the model is, in words: "ONNX opset 13", "tf_efficientnet_lite0".
  public var summary: String {
    switch content {
    case .onnx(let file): "ONNX opset \(file.opsetVersion)\(file.producer.isEmpty ? "" : ", written by \(file.producer)")"
    case .architecture(let architecture, _): architecture.name
    }
  }

  /// What had to be assumed because the file does not tell; sentences for the user.
  public var assumptions: [String] {
    if case .architecture(let architecture, _) = content { architecture.assumptions } else { [] }
  }

  /// SHA-256 of the file and of the files it refers to, in hexadecimal.
  public func hash() throws -> String {
    switch content {
    case .onnx(let file): try file.hash()
    case .architecture: try BackboneHash.sha256(path: path)
    }
  }

  /// The preprocessing the architecture was trained with, where the architecture is known.
  public var trainedPreprocessing: PretrainedConfiguration? {
    if case .architecture(let architecture, _) = content { architecture.preprocessing } else { nil }
  }

  public var inputs: [Input] {
    switch content {
    case .onnx(let file):
      file.inputs.map { input in
        Input(
          name: input.name,
          shape: (input.shape ?? []).map { if case .fixed(let extent) = $0 { extent } else { nil } })
      }
    // Those that are known take pictures of any size.
    case .architecture: [Input(name: "input", shape: [nil, 3, nil, nil])]
    }
  }

  /// Whether its images are `[N, H, W, 3]`, as TensorFlow exports them, and not `[N, 3, H, W]`.
  public var takesChannelsLast: Bool {
    let shape = inputs.first?.shape ?? []
    return shape.count == 4 && shape[3] == 3 && shape[1] != 3
  }

  /// Height and width of its images; nil where the file leaves them open, or takes no images of three channels.
  public var imageSize: (height: Int?, width: Int?) {
    let shape = inputs.first?.shape ?? []
    guard shape.count == 4 else { return (nil, nil) }
    if takesChannelsLast { return (shape[1], shape[2]) }
    return shape[1] == 3 ? (shape[2], shape[3]) : (nil, nil)
  }

  /// The network as a graph for one shape of its input, in the file's own order of dimensions; outputs are the file's, named as in the
  /// file.
  ///
  /// - Parameter value: the name of a value that the graph has to have. What nodes after it are not read for is no error then: it is the
  ///   only output of such a graph.
  /// - Throws: `ImportError` that names the node.
  public func graph(inputShape: [Int], with value: String? = nil) throws -> Graph { try graph(inputShape, turnsImages: false, with: value) }

  /// The network as a graph that takes images `[N, C, H, W]`, whatever the file's own order is.
  ///
  /// - Parameter value: as for `graph(inputShape:with:)`.
  /// - Throws: `ImportError` that names the node.
  public func graph(imageShape: [Int], with value: String? = nil) throws -> Graph {
    try graph(imageShape, turnsImages: takesChannelsLast, with: value)
  }

  private func graph(_ inputShape: [Int], turnsImages: Bool, with value: String?) throws -> Graph {
    try check(inputShape: inputShape)
    let graph = try namingFile { try uncheckedGraph(inputShape: inputShape, turnsImages: turnsImages, with: value) }
    guard !graph.outputs.isEmpty else { throw ImportError(file: path, what: "it has no output", remedy: "Export the model again.") }
    return graph
  }

  private func uncheckedGraph(inputShape: [Int], turnsImages: Bool, with value: String?) throws -> Graph {
    switch content {
    case .onnx(let file):
      guard let first = file.inputs.first, file.inputs.count == 1 else {
        throw ImportError(
          file: path, what: "it has \(file.inputs.count) inputs (\(listed(file.inputs.map(\.name)))), and a backbone has one",
          remedy: "Export the image encoder alone.")
      }
      if let declared = first.shape, declared.count != inputShape.count {
        throw ImportError(file: path, what: "its input is \(declared), and \(inputShape) was given", remedy: "Give a tensor of that many dimensions.")
      }
      return try ONNXImporter.graph(of: file, shapes: [first.name: inputShape], turnsImages: turnsImages, with: value)
    case .architecture(let architecture, let weights): return try architecture.graph(weights, inputShape: inputShape)
    }
  }

  /// The shape of a batch of its images, `[N, C, H, W]`: what the file leaves open is taken from `height` and `width`, else from what a
  /// known architecture is trained with.
  ///
  /// - Throws: `ImportError` if an extent stays open.
  public func imageShape(batchSize: Int, height: Int? = nil, width: Int? = nil) throws -> [Int] {
    var declared = inputs.first?.shape ?? []
    guard declared.count == 4 else {
      throw ImportError(
        file: path, what: "its input has \(declared.count) dimensions, and images have 4", remedy: "Use a model that takes images [N, C, H, W].")
    }
    if takesChannelsLast { declared = [0, 3, 1, 2].map { declared[$0] } }
    let trained = trainedPreprocessing
    let wanted: [Int?] = [batchSize, declared[1] ?? 3, declared[2] ?? height ?? trained?.height, declared[3] ?? width ?? trained?.width]
    guard let height = wanted[2], let width = wanted[3] else {
      throw ImportError(
        file: path, what: "it does not say how large its images are",
        remedy: "Say so with --input-size, or in a JSON file beside it (\"input_size\").")
    }
    return [batchSize, wanted[1] ?? 3, height, width]
  }
}
