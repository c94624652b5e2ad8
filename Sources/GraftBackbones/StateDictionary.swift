import GraftGraph

/// Named tensors out of a file of weights, in the file's order: a PyTorch state dict or a safetensors file.
///
/// Prefixes that wrappers put before every name (`module.` of data-parallel training, `_orig_mod.` of compiled models)
/// are taken off.
public struct StateDictionary: Sendable {
  /// The path as the user gave it.
  public let file: String
  /// The keys of the checkpoint under which the tensors were found ("state_dict"); empty when they were at the top.
  public let source: [String]
  /// Names in the file's order.
  public let names: [String]
  /// Names of entries beside the tensors that are none: counters, settings.
  public let ignored: [String]
  private let tensors: [String: HostTensor]

  /// Reads a file of weights, whichever of the formats it is; the first bytes decide, not the name.
  ///
  /// - Throws: `FileError` if it cannot be opened; `ImportError` if it is damaged or holds something else.
  public init(path: String) throws {
    let bytes = try HostBytes(mapping: path)
    let kind = FileKind(of: bytes)
    switch kind {
    case .zip, .torchLegacy: self = try PyTorchFile.read(path, bytes, kind)
    case .safetensors: self = try SafetensorsFile(path: path, bytes: bytes).stateDictionary
    default:
      throw kind.mismatch(file: path, expected: "a file of weights")
        ?? ImportError(
          file: path, what: "this is neither a PyTorch nor a safetensors file, or only a part of one", remedy: ImportError.fetchAgain)
    }
  }

  /// Tensors in order, from wherever they are. A name that is there twice keeps its last tensor.
  public init(file: String, tensors: [(name: String, tensor: HostTensor)], source: [String] = [], ignored: [String] = []) {
    var prefix = ""
    // Compiled and then wrapped, or the other way round: more than a few wrappers is no training script's doing.
    for _ in 0..<4 where !tensors.isEmpty {
      let wrapper = ["module.", "_orig_mod."].first { wrapper in tensors.allSatisfy { $0.name.hasPrefix(prefix + wrapper) } }
      prefix += wrapper ?? ""
    }
    let named = tensors.map { (String($0.name.dropFirst(prefix.count)), $0.tensor) }
    (self.file, self.source, self.ignored) = (file, source, ignored)
    self.names = named.map(\.0)
    self.tensors = Dictionary(named) { $1 }
  }

  public var count: Int { names.count }

  public subscript(_ name: String) -> HostTensor? { tensors[name] }

  /// The tensor of this name, which must have this shape and hold floating-point numbers.
  ///
  /// - Throws: `ImportError` naming the tensor, what was expected and what was found.
  public func tensor(_ name: String, shape: [Int]) throws(ImportError) -> HostTensor {
    guard let tensor = tensors[name] else {
      throw ImportError(
        file: file, node: "tensor \(quoted(name))", what: "it is missing; shape \(shape) is expected",
        remedy: "Check that the file holds this architecture.")
    }
    guard tensor.shape == shape else {
      throw ImportError(
        file: file, node: "tensor \(quoted(name))", what: "its shape is \(tensor.shape), and \(shape) is expected",
        remedy: "Check that the file holds this architecture.")
    }
    guard tensor.elementType.isFloatingPoint else {
      throw ImportError(
        file: file, node: "tensor \(quoted(name))", what: "its elements are \(tensor.elementType), and floating-point numbers are expected",
        remedy: "Quantised weights are not read; use the weights from before quantisation.")
    }
    return tensor
  }
}
