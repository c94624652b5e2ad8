import Foundation
import GraftGraph

/// Reads comma-separated values as RFC 4180 has them: fields in quotes may hold commas, line ends and quotes written twice.
///
/// Lines end with LF or CRLF. Empty lines are passed over, and so is a byte-order mark at the beginning.
package struct CommaSeparated {
  /// A row and the line on which it begins, counted from 1.
  package struct Row: Equatable {
    package var line: Int
    package var fields: [String]
  }

  /// Visits every row in order.
  ///
  /// - Throws: `FileError`; `DataSetError` that names the line for a quote that is not closed or not where one may be, and text that is
  ///   not UTF-8; what `body` throws.
  package static func forEachRow(of path: String, _ body: (Row) throws -> Void) throws {
    try HostBytes(reading: path).withUnsafeBytes { bytes in
      var reader = Reader(bytes: bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? UnsafeRawBufferPointer(rebasing: bytes[3...]) : bytes, path: path)
      while let row = try reader.next() { if row.fields != [""] { try body(row) } }
    }
  }

  /// The fields of a text that is one row, or none; `nil` if quotes are not as they have to be, or there are more rows.
  package static func fields(of text: String) -> [String]? {
    Array(text.utf8).withUnsafeBytes { bytes in
      var reader = Reader(bytes: bytes, path: "")
      guard !bytes.isEmpty else { return [] }
      guard let row = try? reader.next(), reader.position == bytes.count else { return nil }
      return row.fields
    }
  }

  private struct Reader {
    let bytes: UnsafeRawBufferPointer
    let path: String
    var position = 0
    var line = 1

    mutating func next() throws(DataSetError) -> Row? {
      guard position < bytes.count else { return nil }
      var row = Row(line: line, fields: [])
      while true {
        row.fields.append(try field())
        guard position < bytes.count else { return row }
        position += 1
        if bytes[position - 1] == UInt8(ascii: ",") { continue }
        // Behind a field stands a comma, CRLF or LF.
        if bytes[position - 1] == UInt8(ascii: "\r") { position += 1 }
        line += 1
        return row
      }
    }

    /// The field at `position`, which is then at what follows it.
    private mutating func field() throws(DataSetError) -> String {
      var content: [UInt8] = []
      let begun = line
      if position < bytes.count, bytes[position] == UInt8(ascii: "\"") {
        position += 1
        while true {
          guard position < bytes.count else { throw failure(begun, "a quote is opened and not closed") }
          let byte = bytes[position]
          position += 1
          if byte == UInt8(ascii: "\"") {
            guard position < bytes.count, bytes[position] == UInt8(ascii: "\"") else { break }
            position += 1
          }
          if byte == UInt8(ascii: "\n") { line += 1 }
          content.append(byte)
        }
        guard isAtEnd else { throw failure(line, "there is text behind a closing quote") }
      } else {
        while !isAtEnd {
          guard bytes[position] != UInt8(ascii: "\"") else { throw failure(line, "there is a quote inside a field that does not begin with one") }
          content.append(bytes[position])
          position += 1
        }
      }
      guard let text = String(validating: content, as: UTF8.self) else { throw failure(begun, "it is not UTF-8 text") }
      return text
    }

    /// Whether a field ends here.
    private var isAtEnd: Bool {
      guard position < bytes.count else { return true }
      if bytes[position] == UInt8(ascii: "\r") { return position + 1 < bytes.count && bytes[position + 1] == UInt8(ascii: "\n") }
      return bytes[position] == UInt8(ascii: ",") || bytes[position] == UInt8(ascii: "\n")
    }

    private func failure(_ line: Int, _ reason: String) -> DataSetError {
      DataSetError(
        path: path, reason: "line \(line): \(reason)", remedy: "Write fields with commas, quotes or line ends in quotes, and quotes in them twice.")
    }
  }
}
