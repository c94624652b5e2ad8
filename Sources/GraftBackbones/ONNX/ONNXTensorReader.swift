import Foundation
import GraftGraph

/// Turns the tensors of one ONNX file into host tensors; maps each file of external data once.
struct ONNXTensorReader {
  let file: String
  /// The mapped model.
  private let bytes: HostBytes
  private var external: [String: HostBytes] = [:]

  init(file: String, bytes: HostBytes) {
    (self.file, self.bytes) = (file, bytes)
  }

  /// Paths of the files mapped so far, sorted.
  var externalFiles: [String] { external.keys.sorted().map(path(ofExternal:)) }

  /// The tensor; raw and external bytes stay where they are in the mapped files. `rawData` is the place of its raw bytes
  /// where the parser was not given them.
  ///
  /// Nothing is allocated by what the shape claims: the bytes that are there decide, and a shape that does not fit them
  /// is an error.
  mutating func read(_ tensor: Onnx_TensorProto, rawData: Range<Int>? = nil, label: String) throws -> HostTensor {
    func error(_ what: String, remedy: String = ImportError.fetchAgain) -> ImportError {
      ImportError(file: file, node: label, what: what, remedy: remedy)
    }
    guard let elementType = ElementType(onnx: tensor.dataType) else {
      throw error(
        "its elements are of format \(ElementType.onnxName(tensor.dataType)), which is not read",
        remedy: "Export the model with float32 or float16 weights.")
    }
    let shape = tensor.dims.map { Int($0) }
    let byteCount: Int
    do { byteCount = try TensorError.byteCount(shape: shape, elementType: elementType) } catch let failure { throw error(failure.message) }

    let storage: HostBytes
    var byteOffset = 0
    let available: Int
    if tensor.dataLocation == .external {
      (storage, byteOffset) = try externalBytes(tensor, byteCount: byteCount, label: label)
      available = byteCount
    } else if let rawData {
      (storage, byteOffset, available) = (bytes, rawData.lowerBound, rawData.count)
    } else {
      storage = tensor.rawData.isEmpty ? typedBytes(tensor, elementType) : HostBytes(copying: tensor.rawData)
      available = storage.count
    }
    guard available == byteCount else {
      throw error("its shape \(shape) in \(elementType) needs \(byteCount) bytes, and \(available) are there")
    }
    return try HostTensor(shape: shape, elementType: elementType, storage: storage, byteOffset: byteOffset)
  }

  /// Elements of the field that the specification assigns to the format, narrowed where the field is wider.
  private func typedBytes(_ tensor: Onnx_TensorProto, _ elementType: ElementType) -> HostBytes {
    switch elementType {
    case .float32: HostBytes(elements: tensor.floatData)
    case .float64: HostBytes(elements: tensor.doubleData)
    case .int64: HostBytes(elements: tensor.int64Data)
    case .int32: HostBytes(elements: tensor.int32Data)
    case .uint64: HostBytes(elements: tensor.uint64Data)
    case .uint32: HostBytes(elements: tensor.uint64Data.map(UInt32.init(truncatingIfNeeded:)))
    case .int16: HostBytes(elements: tensor.int32Data.map(Int16.init(truncatingIfNeeded:)))
    case .uint16, .float16, .bfloat16: HostBytes(elements: tensor.int32Data.map(UInt16.init(truncatingIfNeeded:)))
    case .int8: HostBytes(elements: tensor.int32Data.map(Int8.init(truncatingIfNeeded:)))
    case .uint8: HostBytes(elements: tensor.int32Data.map(UInt8.init(truncatingIfNeeded:)))
    case .bool: HostBytes(elements: tensor.int32Data.map { UInt8($0 == 0 ? 0 : 1) })
    }
  }

  private mutating func externalBytes(_ tensor: Onnx_TensorProto, byteCount: Int, label: String) throws -> (HostBytes, Int) {
    func error(_ what: String, remedy: String = ImportError.fetchAgain) -> ImportError {
      ImportError(file: file, node: label, what: what, remedy: remedy)
    }
    var entries: [String: String] = [:]
    for entry in tensor.externalData { entries[entry.key] = entry.value }
    guard let location = entries["location"], Self.isInsideFolder(location) else {
      throw error(
        "its data is said to be in the file \(quoted(entries["location"] ?? "")), which does not lie in the model's folder",
        remedy: "Save the model again with its data beside it; other places are not read, for safety.")
    }
    func number(_ key: String) throws -> Int? {
      guard let text = entries[key] else { return nil }
      guard let value = Int(text), value >= 0 else { throw error("the \(key) of its external data is \(quoted(text)), no count of bytes") }
      return value
    }
    let offset = try number("offset") ?? 0
    if let length = try number("length"), length != byteCount {
      throw error("its external data has \(length) bytes, and its shape needs \(byteCount)")
    }
    if external[location] == nil {
      do { external[location] = try HostBytes(mapping: path(ofExternal: location)) } catch let failure as FileError {
        throw error("its data cannot be read: \(failure)", remedy: "External data files belong in the model's folder.")
      }
    }
    guard let bytes = external[location], offset <= bytes.count, byteCount <= bytes.count - offset else {
      throw error(
        "its data should be the \(byteCount) bytes from \(offset) of \(quoted(location)), and that file has \(external[location]?.count ?? 0)")
    }
    return (bytes, offset)
  }

  /// Relative, and never up: a model file names no file outside its own folder.
  static func isInsideFolder(_ location: String) -> Bool {
    let parts = location.split(separator: "/", omittingEmptySubsequences: false)
    return !location.isEmpty && !location.contains("\0") && !parts.contains("") && !parts.contains("..")
  }

  private func path(ofExternal location: String) -> String {
    guard let slash = file.lastIndex(of: "/") else { return location }
    return file[...slash] + location
  }
}

extension HostBytes {
  /// A copy of the elements' bytes.
  convenience init(elements: [some BitwiseCopyable]) {
    self.init(copying: elements.withUnsafeBytes { Array($0) })
  }
}
