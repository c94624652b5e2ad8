import GraftGraph

/// The classes and functions a pickle may name. Each builds a plain value; none runs anything out of the file.
enum PickleGlobal {
  case orderedDictionary
  case rebuildTensor
  /// Version 3 states the format apart from the storage's.
  case rebuildTypedTensor
  case rebuildParameter
  case storage(ElementType)
  case elementType(ElementType)
  /// `torch.Size`: a tuple.
  case size
  /// `torch.device`: kept as its name.
  case device
  case list, tuple, set, dictionary
  case bytes
  /// `_codecs.encode`: how protocol 2 writes bytes.
  case encode
  case numPyScalar
  case numPyType

  /// - Returns: nil for everything that is not to be built.
  static func named(_ module: String, _ name: String) -> PickleGlobal? { table["\(module).\(name)"] }

  private static let table: [String: PickleGlobal] = {
    var table: [String: PickleGlobal] = [
      "collections.OrderedDict": .orderedDictionary,
      "torch._utils._rebuild_tensor_v2": .rebuildTensor,
      "torch._utils._rebuild_tensor_v3": .rebuildTypedTensor,
      "torch._utils._rebuild_parameter": .rebuildParameter,
      "torch.Size": .size,
      "torch.device": .device,
      "torch.storage.UntypedStorage": .storage(.uint8),
      "torch.UntypedStorage": .storage(.uint8),
      "_codecs.encode": .encode,
      "numpy.dtype": .numPyType,
      "numpy.core.multiarray.scalar": .numPyScalar,
      "numpy._core.multiarray.scalar": .numPyScalar,
    ]
    for module in ["builtins", "__builtin__"] {
      table["\(module).list"] = .list
      table["\(module).tuple"] = .tuple
      table["\(module).set"] = .set
      table["\(module).frozenset"] = .set
      table["\(module).dict"] = .dictionary
      table["\(module).bytes"] = .bytes
      table["\(module).bytearray"] = .bytes
    }
    let storages: [(String, ElementType)] = [
      ("Double", .float64), ("Float", .float32), ("Half", .float16), ("BFloat16", .bfloat16), ("Long", .int64), ("Int", .int32),
      ("Short", .int16), ("Char", .int8), ("Byte", .uint8), ("Bool", .bool),
    ]
    for (name, type) in storages {
      table["torch.\(name)Storage"] = .storage(type)
      table["torch.cuda.\(name)Storage"] = .storage(type)
    }
    for type in ElementType.allCases { table["torch.\(type.rawValue)"] = .elementType(type) }
    return table
  }()
}
