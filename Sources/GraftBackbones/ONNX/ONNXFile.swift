import GraftGraph
import SwiftProtobuf

/// An ONNX model as its file states it: nodes, constants, inputs and outputs, not yet judged by what Graft can run.
///
/// What holds after `init`: every name a node reads is a constant, an input or an output of an earlier node, no name is
/// defined twice, and every constant has the bytes its shape needs.
public struct ONNXFile: Sendable {
  /// The path as the user gave it.
  public let path: String
  /// The program that wrote the file, with its version; empty when it does not say.
  public let producer: String
  /// Version of the file format.
  public let irVersion: Int
  /// Version of each operator set, by domain; the standard one's domain is empty.
  public let operatorSets: [String: Int]
  public let graphName: String
  /// In an order in which they can run.
  public let nodes: [ONNXNode]
  /// Constants by name.
  public let initializers: [String: HostTensor]
  /// Names of the constants in the file's order.
  public let initializerNames: [String]
  /// What the model is given; never a constant.
  public let inputs: [ONNXValue]
  public let outputs: [ONNXValue]
  /// Paths of the files that hold external data, sorted; part of the model as much as the file itself.
  public let externalFiles: [String]

  /// Version of the standard operators that the nodes are written in.
  public var opsetVersion: Int { operatorSets[""] ?? 1 }

  /// Reads a model and maps its external data.
  ///
  /// - Throws: `FileError` if the file cannot be opened; `ImportError` naming the place in the file if it is not ONNX,
  ///   contradicts itself, or holds a constant of a kind that is not read.
  public init(path: String) throws {
    let bytes = try HostBytes(mapping: path)
    if let error = FileKind(of: bytes).mismatch(file: path, expected: "an ONNX model") { throw error }
    let (model, places) = try Self.parse(bytes, path)
    let graph = model.graph
    guard graph.sparseInitializer.isEmpty else {
      throw ImportError(
        file: path, what: "its constants include sparse tensors, which are not read", remedy: "Export the model again with dense weights.")
    }

    var tensors = ONNXTensorReader(file: path, bytes: bytes)
    var initializers: [String: HostTensor] = [:]
    var names: [String] = []
    for (tensor, place) in zip(graph.initializer, places) {
      let value = try tensors.read(tensor, rawData: place, label: "constant \(quoted(tensor.name))")
      guard initializers.updateValue(value, forKey: tensor.name) == nil else {
        throw ImportError(file: path, what: "the constant \(quoted(tensor.name)) is there twice", remedy: Self.exportAgain)
      }
      names.append(tensor.name)
    }
    var nodes: [ONNXNode] = []
    nodes.reserveCapacity(graph.node.count)
    for node in graph.node { nodes.append(try ONNXNode(node, file: path, &tensors)) }

    self.path = path
    self.producer = [model.producerName, model.producerVersion].filter { !$0.isEmpty }.joined(separator: " ")
    self.irVersion = Int(model.irVersion)
    self.operatorSets = Dictionary(
      model.opsetImport.map { ($0.domain == "ai.onnx" ? "" : $0.domain, Int($0.version)) }, uniquingKeysWith: max)
    self.graphName = graph.name
    self.nodes = ONNXNode.inOrder(nodes)
    self.initializers = initializers
    self.initializerNames = names
    self.inputs = graph.input.filter { initializers[$0.name] == nil }.map(ONNXValue.init)
    self.outputs = graph.output.map(ONNXValue.init)
    self.externalFiles = tensors.externalFiles
    try checkNames()
  }

  /// The nodes that these values depend on, in the order of `nodes`.
  func nodes(neededFor names: [String]) -> [ONNXNode] {
    var read = Set(names), needed: [ONNXNode] = []
    for node in nodes.reversed() where node.outputs.contains(where: { !$0.isEmpty && read.contains($0) }) {
      needed.append(node)
      read.formUnion(node.namesRead)
    }
    return needed.reversed()
  }

  /// The identity of the model: a hash over its file and its external data.
  public func hash() throws -> String { try BackboneHash.sha256(path: path, externalFiles: externalFiles) }

  static let exportAgain = "Export the model again; 'onnx.checker.check_model' in Python says the same."

  private static func parse(_ bytes: HostBytes, _ path: String) throws -> (model: Onnx_ModelProto, weights: [Range<Int>?]) {
    guard bytes.count < 0x7FFF_FFFF else {
      throw ImportError(
        file: path, what: "the file is larger than 2 GiB, the most an ONNX file can be",
        remedy: "Save the model with external data: onnx.save(model, path, save_as_external_data=True).")
    }
    var options = BinaryDecodingOptions()
    options.discardUnknownFields = true
    let model: Onnx_ModelProto
    let weights: ONNXWeights
    do {
      weights = try bytes.withUnsafeBytes { try ONNXWeights($0) }
      model = try Onnx_ModelProto(serializedBytes: weights.model, options: options)
    } catch WireError.truncated, BinaryDecodingError.truncated {
      throw ImportError(file: path, what: "this is no ONNX model, or only the beginning of one", remedy: ImportError.fetchAgain)
    } catch BinaryDecodingError.messageDepthLimit {
      throw ImportError(file: path, what: "its messages are nested deeper than any model's", remedy: ImportError.fetchAgain)
    } catch {
      throw ImportError(file: path, what: "this is no ONNX model (\(error))", remedy: ImportError.fetchAgain)
    }
    guard model.hasGraph, !model.graph.node.isEmpty || !model.graph.output.isEmpty else {
      throw ImportError(file: path, what: "this is no ONNX model: it holds no graph", remedy: "Check which file holds the model.")
    }
    guard model.irVersion < 3 || !model.opsetImport.isEmpty else {
      throw ImportError(file: path, what: "the model does not say which operator versions it uses", remedy: exportAgain)
    }
    return (model, weights.ranges)
  }

  /// Single assignment, and everything defined before it is read.
  private func checkNames() throws {
    var defined = Set(initializerNames)
    for input in inputs {
      guard defined.insert(input.name).inserted else {
        throw ImportError(file: path, what: "the input \(quoted(input.name)) is there twice", remedy: Self.exportAgain)
      }
    }
    for node in nodes {
      for name in node.inputs where !name.isEmpty && !defined.contains(name) {
        let later = nodes.contains { $0.outputs.contains(name) }
        throw node.error(
          "it reads \(quoted(name)), which \(later ? "is computed only after it" : "nothing computes")", remedy: Self.exportAgain)
      }
      for name in node.outputs where !name.isEmpty {
        guard defined.insert(name).inserted else {
          throw node.error("it computes \(quoted(name)), which is defined already", remedy: Self.exportAgain)
        }
      }
    }
    for output in outputs where !defined.contains(output.name) {
      throw ImportError(file: path, what: "nothing computes its output \(quoted(output.name))", remedy: Self.exportAgain)
    }
  }
}
