/// Reads the dictionary in a `.npy` header: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
///
/// Only this form is understood: quoted text without escapes, `True` and `False`, and a tuple of whole numbers. Nothing
/// nests, so no input can make it recurse.
struct PythonLiteral {
  struct Header {
    var descr: String
    var fortranOrder: Bool
    var shape: [Int]
  }

  struct Failure: Error {
    let reason: String
  }

  private let bytes: UnsafeRawBufferPointer
  private var position = 0

  /// More dimensions than any array has (NumPy's limit is 64).
  private static let mostDimensions = 64

  init(bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  mutating func header() throws(Failure) -> Header {
    var descr: String?
    var fortranOrder: Bool?
    var shape: [Int]?
    try expect("{")
    while !skip("}") {
      let key = try text()
      try expect(":")
      switch key {
      case "descr" where descr == nil:
        if peek() == UInt8(ascii: "[") { throw Failure(reason: "records (structured arrays) are not supported") }
        descr = try text()
      case "fortran_order" where fortranOrder == nil: fortranOrder = try boolean()
      case "shape" where shape == nil: shape = try tuple()
      default: throw Failure(reason: "unexpected key '\(key)'")
      }
      if !skip(",") {
        try expect("}")
        break
      }
    }
    guard peek() == nil else { throw Failure(reason: "something follows the dictionary") }
    guard let descr, let fortranOrder, let shape else { throw Failure(reason: "'descr', 'fortran_order' or 'shape' is missing") }
    return Header(descr: descr, fortranOrder: fortranOrder, shape: shape)
  }

  /// The next byte that is not white space, left in place.
  private mutating func peek() -> UInt8? {
    while position < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[position]) { position += 1 }
    return position < bytes.count ? bytes[position] : nil
  }

  private mutating func skip(_ character: Unicode.Scalar) -> Bool {
    guard peek() == UInt8(ascii: character) else { return false }
    position += 1
    return true
  }

  private mutating func expect(_ character: Unicode.Scalar) throws(Failure) {
    guard skip(character) else { throw Failure(reason: "'\(character)' expected at byte \(position)") }
  }

  private mutating func text() throws(Failure) -> String {
    guard let quote = peek(), quote == UInt8(ascii: "'") || quote == UInt8(ascii: "\"") else {
      throw Failure(reason: "quoted text expected at byte \(position)")
    }
    let start = position + 1
    guard let end = bytes[start...].firstIndex(of: quote), end - start <= 64 else { throw Failure(reason: "text at byte \(start) does not end") }
    let characters = bytes[start..<end]
    guard characters.allSatisfy({ $0 >= 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "\\") }) else {
      throw Failure(reason: "strange characters at byte \(start)")
    }
    position = end + 1
    return String(decoding: characters, as: UTF8.self)
  }

  private mutating func boolean() throws(Failure) -> Bool {
    _ = peek()
    for (word, value) in [("True", true), ("False", false)] where bytes[position...].starts(with: word.utf8) {
      position += word.utf8.count
      return value
    }
    throw Failure(reason: "True or False expected at byte \(position)")
  }

  private mutating func tuple() throws(Failure) -> [Int] {
    var extents: [Int] = []
    try expect("(")
    while !skip(")") {
      guard extents.count < Self.mostDimensions else { throw Failure(reason: "more than \(Self.mostDimensions) dimensions") }
      extents.append(try number())
      if !skip(",") {
        try expect(")")
        break
      }
    }
    return extents
  }

  private mutating func number() throws(Failure) -> Int {
    _ = peek()
    let start = position
    while position < bytes.count, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[position]), position - start < 20 { position += 1 }
    guard let value = Int(String(decoding: bytes[start..<position], as: UTF8.self)) else {
      throw Failure(reason: "a number of elements expected at byte \(start)")
    }
    // Python 2 wrote long numbers as 12L.
    if position < bytes.count, bytes[position] == UInt8(ascii: "L") { position += 1 }
    return value
  }
}
