import Foundation
import GraftGraph

extension SafetensorsFile {
  /// Writes tensors and metadata to a file, all or nothing: to a temporary name beside it, synced, then renamed.
  ///
  /// The same arguments give the same bytes: tensors are laid out by falling element size, then by name, which keeps each
  /// aligned to its element, and metadata keys are sorted. The header is padded with spaces to a multiple of 8 bytes.
  ///
  /// - Throws: `FileError` if the file cannot be written (nothing is left behind); `TensorError` if a name is given twice
  ///   or is `__metadata__`, or the header would exceed the format's limit.
  public static func write(tensors: [(name: String, tensor: HostTensor)], metadata: [String: String] = [:], to path: String) throws {
    let ordered = tensors.sorted {
      let (left, right) = ($0.tensor.elementType.byteCount, $1.tensor.elementType.byteCount)
      return left != right ? left > right : $0.name.utf8.lexicographicallyPrecedes($1.name.utf8)
    }
    let header = try header(ordered, metadata)
    let file = try AtomicFile(replacing: path)
    try withUnsafeBytes(of: UInt64(header.count).littleEndian) { try file.append($0) }
    try header.withUnsafeBytes { try file.append($0) }
    for (_, tensor) in ordered { try tensor.withUnsafeBytes { try file.append($0) } }
    try file.commit()
  }

  private static func header(_ tensors: [(name: String, tensor: HostTensor)], _ metadata: [String: String]) throws(TensorError) -> [UInt8] {
    var members: [String] = []
    if !metadata.isEmpty {
      let pairs = metadata.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }.map { "\(json($0.key)):\(json($0.value))" }
      members.append("\(json(SafetensorsHeader.metadataKey)):{\(pairs.joined(separator: ","))}")
    }
    var names: Set<String> = [SafetensorsHeader.metadataKey]
    var offset = 0
    for (name, tensor) in tensors {
      guard names.insert(name).inserted else { throw TensorError(message: "two tensors cannot both be called \(quoted(name))") }
      let shape = tensor.shape.map(String.init).joined(separator: ",")
      let (end, overflow) = offset.addingReportingOverflow(tensor.byteCount)
      guard !overflow else { throw TensorError(message: "the tensors are larger than a file can be") }
      members.append("\(json(name)):{\"dtype\":\"\(tensor.elementType.safetensorsName)\",\"shape\":[\(shape)],\"data_offsets\":[\(offset),\(end)]}")
      offset = end
    }
    var header = Array("{\(members.joined(separator: ","))}".utf8)
    header += [UInt8](repeating: UInt8(ascii: " "), count: (8 - header.count % 8) % 8)
    guard header.count <= headerLimit else { throw TensorError(message: "names and metadata exceed the \(headerLimit) bytes of a header") }
    return header
  }

  /// A JSON string.
  private static func json(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\t": result += "\\t"
      case "\r": result += "\\r"
      case _ where scalar.value < 0x20:
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}
