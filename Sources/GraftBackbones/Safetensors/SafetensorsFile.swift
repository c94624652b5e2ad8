import GraftGraph

/// A file of named tensors in the safetensors format: a 64-bit header length, a JSON header, the tensors' bytes.
///
/// The file is mapped and tensors share its bytes. What the format's specification asks of a reader is checked: a header
/// of at most 100 MB that begins with `{`, no name twice, every tensor's byte range as long as its shape needs, and the
/// ranges together covering the data exactly, without gaps or overlaps.
///
/// Source: https://github.com/huggingface/safetensors (README, "Format").
public struct SafetensorsFile: Sendable {
  /// The path as the user gave it.
  public let path: String
  /// Names in the header's order.
  public let names: [String]
  /// Free text that the writer put beside the tensors (`__metadata__`).
  public let metadata: [String: String]
  private let tensors: [String: HostTensor]

  /// - Throws: `FileError` if the file cannot be opened; `ImportError` naming the tensor if it breaks the format's rules.
  public init(path: String) throws { try self.init(path: path, bytes: HostBytes(mapping: path)) }

  public subscript(_ name: String) -> HostTensor? { tensors[name] }

  /// Its tensors as the weights of a network.
  public var stateDictionary: StateDictionary {
    StateDictionary(file: path, tensors: names.compactMap { name in tensors[name].map { (name, $0) } })
  }

  static let headerLimit = 100_000_000

  init(path: String, bytes: HostBytes) throws {
    func error(_ what: String, at name: String? = nil) -> ImportError {
      ImportError(file: path, node: name.map { "tensor \(quoted($0))" }, what: what, remedy: ImportError.fetchAgain)
    }
    let kind = FileKind(of: bytes)
    if kind != .safetensors, let mismatch = kind.mismatch(file: path, expected: "a safetensors file") { throw mismatch }
    var reader = ByteReader(file: path, bytes: bytes)
    let length = try reader.integer(UInt64.self, "the length of its header")
    guard length <= Self.headerLimit else { throw error("this is no safetensors file: its header would have \(length) bytes") }
    let header = try reader.take(Int(length), "its header")
    let start = reader.position
    let contents = try bytes.withUnsafeBytes { try SafetensorsHeader(parsing: UnsafeRawBufferPointer(rebasing: $0[header]), file: path) }

    var tensors: [String: HostTensor] = [:]
    for entry in contents.entries {
      guard let elementType = ElementType(safetensors: entry.dtype) else {
        throw ImportError(
          file: path, node: "tensor \(quoted(entry.name))", what: "its number format \(quoted(entry.dtype)) is not read",
          remedy: "Convert it to F32, F16 or BF16.")
      }
      guard entry.begin <= entry.end, entry.end <= bytes.count - start else {
        throw error("its bytes should be \(entry.begin) to \(entry.end) of \(bytes.count - start)", at: entry.name)
      }
      let needed: Int
      do { needed = try TensorError.byteCount(shape: entry.shape, elementType: elementType) } catch let problem {
        throw error(problem.message, at: entry.name)
      }
      guard needed == entry.end - entry.begin else {
        throw error("its shape \(entry.shape) in \(entry.dtype) needs \(needed) bytes, and it has \(entry.end - entry.begin)", at: entry.name)
      }
      let tensor = try HostTensor(shape: entry.shape, elementType: elementType, storage: bytes, byteOffset: start + entry.begin)
      guard tensors.updateValue(tensor, forKey: entry.name) == nil else { throw error("it is there twice", at: entry.name) }
    }

    var covered = 0
    for entry in contents.entries.sorted(by: { ($0.begin, $0.end) < ($1.begin, $1.end) }) {
      guard entry.begin == covered else {
        throw error("its bytes \(entry.begin < covered ? "overlap another tensor's" : "leave a gap before them")", at: entry.name)
      }
      covered = entry.end
    }
    guard covered == bytes.count - start else { throw error("\(bytes.count - start - covered) bytes at its end belong to no tensor") }
    (self.path, self.tensors, self.metadata) = (path, tensors, contents.metadata)
    self.names = contents.entries.map(\.name)
  }
}

extension ElementType {
  /// The format's name for each number format that tensors here can have.
  var safetensorsName: String {
    switch self {
    case .float64: "F64"
    case .float32: "F32"
    case .float16: "F16"
    case .bfloat16: "BF16"
    case .int64: "I64"
    case .int32: "I32"
    case .int16: "I16"
    case .int8: "I8"
    case .uint64: "U64"
    case .uint32: "U32"
    case .uint16: "U16"
    case .uint8: "U8"
    case .bool: "BOOL"
    }
  }

  init?(safetensors name: String) {
    guard let type = Self.allCases.first(where: { $0.safetensorsName == name }) else { return nil }
    self = type
  }
}
