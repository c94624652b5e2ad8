import GraftGraph

/// A PyTorch file (`.pth`, `.pt`, `.bin`) in either form: a zip archive (PyTorch 1.6 and later) or the legacy stream.
enum PyTorchFile {
  /// The 80-bit number that opens the legacy form, least significant byte first.
  static let magic: [UInt8] = [0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19]

  /// The tensors of the state dict in a file, and the key it was found under.
  static func read(_ path: String, _ bytes: HostBytes, _ kind: FileKind) throws -> StateDictionary {
    switch kind {
    case .zip:
      let archive = try PyTorchArchive(path: path, fileByteCount: bytes.count)
      var unpickler = Unpickler(ByteReader(file: path, bytes: try archive.pickle()))
      let root = try unpickler.load()
      return try stateDictionary(root, unpickler.heap, path) { try archive.storage($0) }
    case .torchLegacy:
      let (root, heap, storages) = try LegacyPyTorchFile.read(path, bytes)
      return try stateDictionary(root, heap, path) { try storages.storage($0) }
    default:
      throw kind.mismatch(file: path, expected: "a PyTorch file")
        ?? ImportError(file: path, what: "this is no PyTorch file", remedy: ImportError.fetchAgain)
    }
  }

  /// Where training scripts keep the state dict inside a checkpoint, in the order they are looked for.
  static let checkpointKeys = [
    "state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema", "ema_state_dict", "net", "network", "module", "weights",
  ]

  private static func stateDictionary(
    _ root: PickleValue, _ heap: PickleHeap, _ path: String, _ storage: (PickledStorage) throws -> StorageBytes
  ) throws -> StateDictionary {
    let (entries, keys) = try entries(root, heap, path)
    var tensors: [(name: String, tensor: HostTensor)] = []
    var ignored: [String] = []
    var storages: [String: StorageBytes] = [:]
    var made: [PickledTensor: HostTensor] = [:]
    // Tensors that are not contiguous are copied. Several may lie on one storage, so what they copy is bounded too.
    var copied = 0
    var stored = 0

    for (key, value) in entries {
      guard case .string(let name) = key else { continue }
      guard case .tensor(let index) = value else {
        ignored.append(name)
        continue
      }
      let description = heap.tensors[index]
      if let tensor = made[description] {
        tensors.append((name, tensor))
        continue
      }
      let place = heap.storages[description.storage]
      func error(_ what: String) -> ImportError {
        ImportError(file: path, node: "tensor \(quoted(name))", what: what, remedy: ImportError.fetchAgain)
      }
      if storages[place.key] == nil {
        let bytes = try storage(place)
        stored += bytes.byteCount
        storages[place.key] = bytes
      }
      guard let whole = storages[place.key], let window = place.window(of: whole) else { throw error("its storage is shorter than it should be") }
      if let problem = description.problem(storageByteCount: window.byteCount) { throw error(problem) }
      if !description.isContiguous { copied += description.shape.reduce(1, *) * description.elementType.byteCount }
      guard copied <= 2 * stored else { throw error("more tensors lie on its storage than could be copied") }
      let tensor = try description.tensor(in: window)
      made[description] = tensor
      tensors.append((name, tensor))
    }
    guard !tensors.isEmpty else {
      throw ImportError(
        file: path, what: "the dictionary it holds has no tensors", remedy: "In Python, save them with torch.save(model.state_dict(), path).")
    }
    return StateDictionary(file: path, tensors: tensors, source: keys, ignored: ignored)
  }

  /// The dictionary that has tensors: the object itself or what it keeps under one of the known keys.
  private static func entries(
    _ root: PickleValue, _ heap: PickleHeap, _ path: String
  ) throws -> ([(key: PickleValue, value: PickleValue)], keys: [String]) {
    var (value, keys) = (root, [String]())
    // A checkpoint inside a checkpoint occurs; deeper than this is a dictionary that contains itself.
    while keys.count < 4 {
      guard case .dictionary(let index) = value else { break }
      let dictionary = heap.dictionaries[index]
      let hasTensors = dictionary.entries.contains {
        if case (.string, .tensor) = $0 { true } else { false }
      }
      if hasTensors { return (dictionary.entries, keys) }
      guard
        let key = checkpointKeys.first(where: {
          if case .dictionary? = dictionary[$0] { true } else { false }
        }), let inner = dictionary[key]
      else { break }
      keys.append(key)
      value = inner
    }
    var names: [String] = []
    if case .dictionary(let index) = root {
      names = heap.dictionaries[index].entries.compactMap { if case .string(let name) = $0.key { name } else { nil } }
    }
    throw ImportError(
      file: path,
      what: names.isEmpty
        ? "the file holds no dictionary of tensors" : "no dictionary of tensors is found in it; its keys are \(listed(names))",
      remedy: "In Python, save only the tensors: torch.save(model.state_dict(), path).")
  }
}

extension PickledStorage {
  /// The part of the bytes called `key` that this storage is; nil if they are too few.
  func window(of whole: StorageBytes) -> StorageBytes? {
    let size = elementType.byteCount
    let (start, startOverflow) = offset.multipliedReportingOverflow(by: size)
    let (count, countOverflow) = elementCount.multipliedReportingOverflow(by: size)
    guard !startOverflow, !countOverflow, start <= whole.byteCount, count <= whole.byteCount - start else { return nil }
    return StorageBytes(bytes: whole.bytes, byteOffset: whole.byteOffset + start, byteCount: count)
  }

  /// Bytes of the whole storage called `key`; nil if no storage can be that large.
  var rootByteCount: Int? {
    let (count, overflow) = rootElementCount.multipliedReportingOverflow(by: elementType.byteCount)
    return overflow ? nil : count
  }
}
