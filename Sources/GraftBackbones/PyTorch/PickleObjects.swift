import GraftGraph

/// What the few known classes and functions build.
extension Unpickler {
  /// Calls `global` with `arguments`.
  mutating func build(_ global: PickleGlobal, _ arguments: [PickleValue]) throws -> PickleValue {
    switch global {
    case .orderedDictionary, .dictionary:
      let dictionary = heap.dictionary()
      // Old pickles pass the entries as a list of pairs.
      guard case .dictionary(let index) = dictionary, let pairs = arguments.first else { return dictionary }
      let entries = heap.sequence(pairs) ?? []
      try willCopy(entries.count)
      for pair in entries {
        guard let entry = heap.sequence(pair), entry.count == 2 else { throw damaged("a dictionary is built from what are no pairs") }
        heap.dictionaries[index].set(entry[0], entry[1])
      }
      return dictionary
    case .list: return heap.list(try items(arguments))
    case .tuple, .size: return heap.tuple(try items(arguments))
    case .set: return heap.set(try items(arguments))
    case .device:
      guard case .string(let name)? = arguments.first else { throw damaged("a device has no name") }
      return .string(name)
    case .bytes:
      guard let argument = arguments.first else { return .bytes([]) }
      guard case .bytes(let bytes) = argument else { throw damaged("bytes are built from something else") }
      return .bytes(bytes)
    case .encode: return .bytes(try encoded(arguments))
    case .rebuildParameter:
      guard case .tensor? = arguments.first else { throw damaged("a parameter holds no tensor") }
      return arguments[0]
    case .rebuildTensor: return try tensor(arguments, elementType: nil)
    case .rebuildTypedTensor:
      guard arguments.count >= 7, case .elementType(let type) = arguments[6] else { throw damaged("a tensor has no number format") }
      return try tensor(arguments, elementType: type)
    case .numPyType:
      guard case .string(let code)? = arguments.first else { throw damaged("a NumPy type has no code") }
      return .numPyType(code)
    case .numPyScalar: return try numPyScalar(arguments)
    case .storage, .elementType: throw damaged("it builds a storage out of nothing")
    }
  }

  /// The BUILD opcode: gives an object its attributes. Those of dictionaries (`_metadata`) and tensors say nothing about
  /// the numbers.
  func setState(of object: PickleValue, _ state: PickleValue) throws {
    switch object {
    case .dictionary, .tensor: return
    case .numPyType:
      // (version, byte order, …)
      guard let fields = heap.sequence(state), fields.count > 1, case .string(let order) = fields[1] else {
        throw damaged("a NumPy type has no byte order")
      }
      guard order != ">" else { throw damaged("a NumPy number is big-endian, which is not read") }
    default: throw damaged("it sets attributes of what has none")
    }
  }

  /// A persistent id: ('storage', type, key, device, element count[, view]), the way tensors refer to their bytes.
  mutating func persistent(_ id: PickleValue) throws -> PickleValue {
    guard let fields = heap.sequence(id), case .string(let kind)? = fields.first else { throw damaged("a persistent id has no kind") }
    guard kind == "storage" else {
      throw ImportError(
        file: reader.file, what: "the file holds a whole pickled module, and to load it would be to run its code",
        remedy: "In Python, save only the tensors: torch.save(model.state_dict(), path).")
    }
    guard fields.count >= 5, case .global(.storage(let type)) = fields[1], case .string(let key) = fields[2],
      case .integer(let count) = fields[4], count >= 0
    else { throw damaged("a storage is not described as PyTorch does it") }
    var (offset, viewCount) = (0, Int(count))
    if fields.count > 5, let view = heap.sequence(fields[5]) {
      guard view.count == 3, case .integer(let first) = view[1], case .integer(let length) = view[2], first >= 0, length >= 0, first <= count,
        length <= count - first
      else { throw damaged("a view lies outside its storage") }
      (offset, viewCount) = (Int(first), Int(length))
    }
    heap.storages.append(PickledStorage(key: key, elementType: type, elementCount: viewCount, offset: offset, rootElementCount: Int(count)))
    return .storage(heap.storages.count - 1)
  }

  /// (storage, offset, shape, strides, …)
  private mutating func tensor(_ arguments: [PickleValue], elementType: ElementType?) throws -> PickleValue {
    guard arguments.count >= 4, case .storage(let storage) = arguments[0], case .integer(let offset) = arguments[1],
      let shape = heap.integers(arguments[2]), let strides = heap.integers(arguments[3])
    else { throw damaged("a tensor is not described as PyTorch does it") }
    heap.tensors.append(
      PickledTensor(
        storage: storage, elementType: elementType ?? heap.storages[storage].elementType, offset: Int(offset), shape: shape, strides: strides))
    return .tensor(heap.tensors.count - 1)
  }

  /// The items that a container is built from; no argument is an empty container.
  private mutating func items(_ arguments: [PickleValue]) throws -> [PickleValue] {
    guard let argument = arguments.first else { return [] }
    let items: [PickleValue]
    if case .set(let index) = argument {
      items = heap.sets[index]
    } else {
      guard let sequence = heap.sequence(argument) else { throw damaged("a container is built from what is none") }
      items = sequence
    }
    try willCopy(items.count)
    return items
  }

  private mutating func encoded(_ arguments: [PickleValue]) throws -> [UInt8] {
    guard arguments.count == 2, case .string(let text) = arguments[0], case .string("latin1") = arguments[1] else {
      throw damaged("bytes are encoded in a way that is not known")
    }
    try willCopy(text.utf8.count)
    var bytes: [UInt8] = []
    for scalar in text.unicodeScalars {
      guard let byte = UInt8(exactly: scalar.value) else { throw damaged("bytes hold what is no byte") }
      bytes.append(byte)
    }
    return bytes
  }

  private func numPyScalar(_ arguments: [PickleValue]) throws -> PickleValue {
    guard arguments.count == 2, case .numPyType(let code) = arguments[0], case .bytes(let bytes) = arguments[1] else {
      throw damaged("a NumPy number is not described as NumPy does it")
    }
    func bits<Value: FixedWidthInteger>(_: Value.Type) throws -> Value {
      guard bytes.count == MemoryLayout<Value>.size else { throw damaged("a NumPy number has \(bytes.count) bytes") }
      return bytes.reversed().reduce(0) { $0 << 8 | Value(truncatingIfNeeded: $1) }
    }
    switch code {
    case "f8": return .float(Double(bitPattern: try bits(UInt64.self)))
    case "f4": return .float(Double(Float(bitPattern: try bits(UInt32.self))))
    case "f2": return .float(Double(HalfPrecision.float(fromHalf: try bits(UInt16.self))))
    case "i8": return .integer(try bits(Int64.self))
    case "i4": return .integer(Int64(try bits(Int32.self)))
    case "i2": return .integer(Int64(try bits(Int16.self)))
    case "i1": return .integer(Int64(Int8(bitPattern: try bits(UInt8.self))))
    case "u8": return .integer(Int64(clamping: try bits(UInt64.self)))
    case "u4": return .integer(Int64(try bits(UInt32.self)))
    case "u2": return .integer(Int64(try bits(UInt16.self)))
    case "u1": return .integer(Int64(try bits(UInt8.self)))
    case "b1": return .bool(try bits(UInt8.self) != 0)
    default: throw damaged("NumPy numbers of type \(quoted(code)) are not read")
    }
  }
}
