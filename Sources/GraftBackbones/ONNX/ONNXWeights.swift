import Foundation
import GraftGraph

/// A serialized ONNX model taken apart: the weights' places in the file, and the message without them.
///
/// Protocol buffers copy every `bytes` field they parse, which would hold each weight twice in memory. This walks the
/// wire format down to `graph.initializer[].raw_data` only (fields 7, 5 and 9), remembers where those bytes lie in the
/// mapped file, and hands the few kilobytes around them to the parser.
struct ONNXWeights {
  /// The model with every initialiser's `raw_data` left out.
  private(set) var model = Data()
  /// For each initialiser, in the file's order, where its `raw_data` is; nil for one that keeps its elements elsewhere.
  private(set) var ranges: [Range<Int>?] = []

  private enum Field {
    static let graph = 7
    static let initializer = 5
    static let rawData = 9
  }

  /// - Throws: `WireError` if the bytes are not fields of a protocol buffer.
  init(_ bytes: UnsafeRawBufferPointer) throws(WireError) {
    var fields = WireScanner(bytes, 0..<bytes.count)
    while let field = try fields.next() {
      if field.isMessage, field.number == Field.graph {
        let graph = try thinGraph(bytes, field.body)
        Self.append(Field.graph, graph, to: &model)
      } else {
        model.append(contentsOf: bytes[field.whole])
      }
    }
  }

  private mutating func thinGraph(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) throws(WireError) -> Data {
    var graph = Data()
    var fields = WireScanner(bytes, range)
    while let field = try fields.next() {
      if field.isMessage, field.number == Field.initializer {
        let tensor = try thinTensor(bytes, field.body)
        Self.append(Field.initializer, tensor, to: &graph)
      } else {
        graph.append(contentsOf: bytes[field.whole])
      }
    }
    return graph
  }

  private mutating func thinTensor(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) throws(WireError) -> Data {
    var tensor = Data()
    var rawData: Range<Int>?
    var fields = WireScanner(bytes, range)
    while let field = try fields.next() {
      if field.isMessage, field.number == Field.rawData {
        // A scalar field that occurs twice has its last value; an empty one is as good as none.
        rawData = field.body.isEmpty ? nil : field.body
      } else {
        tensor.append(contentsOf: bytes[field.whole])
      }
    }
    ranges.append(rawData)
    return tensor
  }

  private static func append(_ number: Int, _ body: Data, to message: inout Data) {
    message.append(UInt8(number << 3 | 2))
    var length = body.count
    while length >= 0x80 {
      message.append(UInt8(length & 0x7F | 0x80))
      length >>= 7
    }
    message.append(UInt8(length))
    message.append(body)
  }
}

/// Bytes that are not a protocol buffer.
enum WireError: Error {
  /// A field goes on past the end of what holds it.
  case truncated
  /// A field of no number or of a kind that ONNX does not have.
  case malformed
}

/// Walks over the fields of one serialized message without looking into them.
struct WireScanner {
  struct Field {
    let number: Int
    /// Whether it has a length: a message, string, bytes or packed numbers.
    let isMessage: Bool
    /// The bytes after tag and length.
    let body: Range<Int>
    /// All of its bytes.
    let whole: Range<Int>
  }

  private let bytes: UnsafeRawBufferPointer
  private var position: Int
  private let end: Int

  init(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) {
    (self.bytes, position, end) = (bytes, range.lowerBound, range.upperBound)
  }

  mutating func next() throws(WireError) -> Field? {
    guard position < end else { return nil }
    let start = position
    let tag = try varint()
    guard tag >> 3 > 0, let number = Int(exactly: tag >> 3) else { throw .malformed }
    var length = 0
    switch tag & 7 {
    case 0: _ = try varint()
    case 1: length = 8
    case 2:
      guard let stated = Int(exactly: try varint()) else { throw .truncated }
      length = stated
    case 5: length = 4
    default: throw .malformed
    }
    guard length <= end - position else { throw .truncated }
    let body = position..<position + length
    position = body.upperBound
    return Field(number: number, isMessage: tag & 7 == 2, body: body, whole: start..<position)
  }

  private mutating func varint() throws(WireError) -> UInt64 {
    var value: UInt64 = 0
    for shift in stride(from: UInt64(0), to: 70, by: 7) {
      guard position < end else { throw .truncated }
      let byte = bytes[position]
      position += 1
      value |= UInt64(byte & 0x7F) << shift
      if byte & 0x80 == 0 { return value }
    }
    throw .malformed
  }
}
