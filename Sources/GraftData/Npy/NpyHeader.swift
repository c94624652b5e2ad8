import GraftGraph

/// What the first bytes of a `.npy` file say about the rest: format, order, shape and where the elements begin.
///
/// Source: the format's description, NumPy enhancement proposal 1 (`numpy.lib.format`).
package struct NpyHeader: Equatable {
  /// How one element lies in the file.
  package enum Element: Equatable {
    case number(ElementType)
    /// `<U…`: so many UTF-32 code units, zero-padded.
    case unicode(characters: Int)
    /// `|S…`: so many bytes, zero-padded.
    case bytes(count: Int)

    package var byteCount: Int {
      switch self {
      case .number(let type): type.byteCount
      case .unicode(let characters): characters * 4
      case .bytes(let count): count
      }
    }
  }

  package var element: Element
  package var isBigEndian: Bool
  package var isFortranOrder: Bool
  package var shape: [Int]
  /// Where the first element lies.
  package var dataOffset: Int

  /// No header that we read is longer; NumPy itself refuses more than 10,000 bytes.
  package static let largestByteCount = 1 << 16

  /// Reads the header at the start of a file.
  ///
  /// - Parameter bytes: the file, or at least its first `largestByteCount` bytes.
  /// - Throws: `NpyError`.
  package init(parsing bytes: UnsafeRawBufferPointer, path: String) throws(NpyError) {
    func failure(_ reason: String) -> NpyError { NpyError(path: path, reason: reason) }
    guard bytes.count >= 10, bytes.prefix(6).elementsEqual([0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59]) else {
      throw failure("it does not begin as a .npy file does; save it with numpy.save")
    }
    let (headerStart, headerCount): (Int, Int)
    switch bytes[6] {
    case 1: (headerStart, headerCount) = (10, Int(bytes[8]) | Int(bytes[9]) << 8)
    case 2, 3:
      guard bytes.count >= 12 else { throw failure("the header is cut short") }
      (headerStart, headerCount) = (12, (0..<4).reduce(0) { $0 | Int(bytes[8 + $1]) << (8 * $1) })
    default: throw failure("format version \(bytes[6]).\(bytes[7]) is not known; versions 1 to 3 are")
    }
    guard headerCount <= Self.largestByteCount - 12 else { throw failure("its header claims \(headerCount) bytes; only plain arrays are read") }
    guard headerCount <= bytes.count - headerStart else { throw failure("the header is cut short") }

    var literal = PythonLiteral(bytes: UnsafeRawBufferPointer(rebasing: bytes[headerStart..<headerStart + headerCount]))
    let fields: PythonLiteral.Header
    do { fields = try literal.header() } catch { throw failure("the header is damaged: \(error.reason)") }
    (element, isBigEndian) = try Self.element(fields.descr, path: path)
    (isFortranOrder, shape, dataOffset) = (fields.fortranOrder, fields.shape, headerStart + headerCount)
    _ = try dataByteCount(path: path)
  }

  /// A header for elements we write: little endian, row by row.
  package init(elementType: ElementType, shape: [Int]) {
    (element, isBigEndian, isFortranOrder, self.shape, dataOffset) = (.number(elementType), false, false, shape, 0)
    dataOffset = encoded().count
  }

  package var elementCount: Int { shape.reduce(1, *) }

  /// Bytes of all elements, checked for overflow.
  package func dataByteCount(path: String) throws(NpyError) -> Int {
    var count = element.byteCount
    for extent in shape {
      let (product, overflow) = count.multipliedReportingOverflow(by: extent)
      guard extent >= 0, !overflow else { throw NpyError(path: path, reason: "shape \(shape) is not one an array can have") }
      count = product
    }
    return count
  }

  private static func element(_ descr: String, path: String) throws(NpyError) -> (Element, isBigEndian: Bool) {
    func failure(_ reason: String) -> NpyError { NpyError(path: path, reason: reason) }
    var code = Substring(descr)
    var isBigEndian = false
    if let first = code.first, "<>=|".contains(first) {
      isBigEndian = first == ">"
      code.removeFirst()
    }
    let numbers: [Substring: ElementType] = [
      "f2": .float16, "f4": .float32, "f8": .float64, "i1": .int8, "i2": .int16, "i4": .int32, "i8": .int64, "u1": .uint8, "u2": .uint16,
      "u4": .uint32, "u8": .uint64, "b1": .bool, "?": .bool,
    ]
    if let type = numbers[code] { return (.number(type), isBigEndian) }
    if let kind = code.first, kind == "U" || kind == "S", let count = Int(code.dropFirst()), count > 0, count <= 1 << 20 {
      return (kind == "U" ? .unicode(characters: count) : .bytes(count: count), isBigEndian)
    }
    switch code.first {
    case "O":
      throw failure("it holds Python objects, which are never unpickled; save plain numbers or strings (array.astype(float) or array.astype(str))")
    case "c": throw failure("complex numbers are not supported")
    default: throw failure("elements of type '\(descr)' are not supported; floats, integers, booleans and strings are")
    }
  }

  /// The header's bytes, equal to those that NumPy 2 writes.
  ///
  /// The first extent is padded to 21 digits, so that a longer array's header takes the same place.
  package func encoded() -> [UInt8] {
    let order = element.byteCount == 1 ? "|" : "<"
    let code =
      switch element {
      case .number(let type): order + Self.code(type)
      case .unicode(let characters): "<U\(characters)"
      case .bytes(let count): "|S\(count)"
      }
    let extents = shape.map(String.init).joined(separator: ", ") + (shape.count == 1 ? "," : "")
    var text = "{'descr': '\(code)', 'fortran_order': False, 'shape': (\(extents)), }"
    if let first = shape.first { text += String(repeating: " ", count: max(0, 21 - String(first).count)) }
    // Version 1 counts its header in 16 bits; a shape of so many extents is none of ours.
    let unpadded = 10 + text.utf8.count + 1
    text += String(repeating: " ", count: 64 - unpadded % 64) + "\n"
    precondition(text.utf8.count <= UInt16.max, "a .npy header of \(text.utf8.count) bytes")
    let count = text.utf8.count
    return [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59, 1, 0, UInt8(count & 0xFF), UInt8(count >> 8)] + Array(text.utf8)
  }

  private static func code(_ type: ElementType) -> String {
    switch type {
    case .float64: "f8"
    case .float32: "f4"
    case .float16: "f2"
    case .bfloat16: "u2"  // NumPy has no such type: the bits are kept.
    case .int64: "i8"
    case .int32: "i4"
    case .int16: "i2"
    case .int8: "i1"
    case .uint64: "u8"
    case .uint32: "u4"
    case .uint16: "u2"
    case .uint8: "u1"
    case .bool: "b1"
    }
  }
}

/// A `.npy` file that cannot be read, and why.
public struct NpyError: Error, CustomStringConvertible, Equatable {
  public let path: String
  public let reason: String

  public init(path: String, reason: String) { (self.path, self.reason) = (path, reason) }

  public var description: String { "cannot read \(path): \(reason)." }
}
