import GraftGraph

/// The form of PyTorch files before version 1.6: five pickles one after the other (a magic number, a version, facts
/// about the machine, the object, the keys of its storages), then each storage as a 64-bit element count and its bytes.
///
/// Source: `torch.serialization._legacy_save`.
enum LegacyPyTorchFile {
  /// Where each storage lies in the mapped file.
  struct Storages {
    let file: String
    let places: [String: StorageBytes]

    func storage(_ storage: PickledStorage) throws -> StorageBytes {
      guard let place = places[storage.key] else {
        throw ImportError(file: file, what: "the storage \(quoted(storage.key)) of a tensor is missing", remedy: ImportError.fetchAgain)
      }
      return place
    }
  }

  static func read(_ path: String, _ bytes: HostBytes) throws -> (PickleValue, PickleHeap, Storages) {
    var reader = ByteReader(file: path, bytes: bytes)
    func next() throws -> (PickleValue, PickleHeap) {
      var unpickler = Unpickler(reader)
      let value = try unpickler.load()
      reader = unpickler.reader
      return (value, unpickler.heap)
    }
    func damaged(_ what: String) -> ImportError { ImportError(file: path, what: what, remedy: ImportError.fetchAgain) }

    guard case .bigInteger(let number) = try next().0, number == PyTorchFile.magic else { throw damaged("this is no PyTorch file") }
    guard case .integer(1001) = try next().0 else {
      throw ImportError(file: path, what: "its format is not version 1001", remedy: "Load it in PyTorch and save it again.")
    }
    let (machine, facts) = try next()
    if case .dictionary(let index) = machine, case .bool(false)? = facts.dictionaries[index]["little_endian"] {
      throw ImportError(
        file: path, what: "it was written on a big-endian machine", remedy: "Load it in PyTorch on a little-endian machine and save it again.")
    }
    let (root, heap) = try next()
    let (keyList, keyHeap) = try next()
    guard let keys = keyHeap.sequence(keyList) else { throw damaged("the list of its storages is missing") }

    // The pickle says how many bytes an element has; the stream only says how many elements.
    var described: [String: PickledStorage] = [:]
    for storage in heap.storages where described[storage.key] == nil { described[storage.key] = storage }
    var places: [String: StorageBytes] = [:]
    for item in keys {
      guard case .string(let key) = item, let storage = described[key] else { throw damaged("it lists a storage that no tensor uses") }
      let count = try reader.integer(Int64.self, "storage \(quoted(key))")
      guard count == storage.rootElementCount, let byteCount = storage.rootByteCount else {
        throw damaged("the storage \(quoted(key)) has \(count) elements, and its tensors need \(storage.rootElementCount)")
      }
      let range = try reader.take(byteCount, "storage \(quoted(key))")
      places[key] = StorageBytes(bytes: bytes, byteOffset: range.lowerBound, byteCount: range.count)
    }
    return (root, heap, Storages(file: path, places: places))
  }
}
