/// The JSON header of a safetensors file, parsed strictly.
///
/// A general JSON parser would accept duplicate names in silence and build objects many times the header's size; the
/// header's grammar is a small part of JSON, two levels deep, so it is read directly.
struct SafetensorsHeader {
  struct Entry {
    let name: String
    var dtype = ""
    var shape: [Int] = []
    var begin = 0
    var end = 0
  }

  private(set) var entries: [Entry] = []
  private(set) var metadata: [String: String] = [:]

  static let metadataKey = "__metadata__"

  init(parsing bytes: UnsafeRawBufferPointer, file: String) throws {
    var json = HeaderScanner(bytes: bytes, file: file)
    guard bytes.first == UInt8(ascii: "{") else { throw json.damaged("it does not begin with {") }
    var hasMetadata = false
    try json.object { json, key in
      if key == Self.metadataKey {
        guard !hasMetadata else { throw json.damaged("\(Self.metadataKey) is there twice") }
        hasMetadata = true
        try json.object { json, key in
          guard metadata.updateValue(try json.string(), forKey: key) == nil else {
            throw json.damaged("\(quoted(key)) is in its metadata twice")
          }
        }
      } else {
        entries.append(try Self.entry(&json, name: key))
      }
    }
    try json.finish()
  }

  private static func entry(_ json: inout HeaderScanner, name: String) throws -> Entry {
    var entry = Entry(name: name)
    var seen: Set<String> = []
    try json.object { json, key in
      guard seen.insert(key).inserted else { throw json.damaged("\(quoted(name)) has two \(quoted(key))") }
      switch key {
      case "dtype": entry.dtype = try json.string()
      case "shape": entry.shape = try json.integers()
      case "data_offsets":
        let offsets = try json.integers()
        guard offsets.count == 2 else { throw json.damaged("\(quoted(name)) has \(offsets.count) data_offsets") }
        (entry.begin, entry.end) = (offsets[0], offsets[1])
      default: throw json.damaged("\(quoted(name)) has the unknown field \(quoted(key))")
      }
    }
    guard seen.count == 3 else { throw json.damaged("\(quoted(name)) lacks dtype, shape or data_offsets") }
    return entry
  }
}

/// Reads objects, strings and lists of non-negative integers out of JSON text.
struct HeaderScanner {
  let bytes: UnsafeRawBufferPointer
  let file: String
  private var position = 0

  init(bytes: UnsafeRawBufferPointer, file: String) {
    (self.bytes, self.file) = (bytes, file)
  }

  func damaged(_ what: String) -> ImportError {
    ImportError(file: file, what: "its header is not valid near byte \(position): \(what)", remedy: ImportError.fetchAgain)
  }

  /// Calls `member` with each key; it must read the value.
  mutating func object(_ member: (inout HeaderScanner, String) throws -> Void) throws {
    try expect("{")
    if take("}") { return }
    repeat {
      let key = try string()
      try expect(":")
      try member(&self, key)
    } while take(",")
    try expect("}")
  }

  mutating func integers() throws -> [Int] {
    try expect("[")
    var integers: [Int] = []
    if take("]") { return integers }
    repeat { integers.append(try integer()) } while take(",")
    try expect("]")
    return integers
  }

  /// After the outermost object only white space may follow.
  mutating func finish() throws {
    skipSpace()
    guard position == bytes.count else { throw damaged("text follows its end") }
  }

  mutating func string() throws -> String {
    try expect("\"")
    var text: [UInt8] = []
    while true {
      guard let byte = next() else { throw damaged("a string does not end") }
      switch byte {
      case UInt8(ascii: "\""):
        guard let string = String(validating: text, as: UTF8.self) else { throw damaged("a string is not UTF-8") }
        return string
      case UInt8(ascii: "\\"): text += try escaped()
      case 0..<0x20: throw damaged("a string holds a control character")
      default: text.append(byte)
      }
    }
  }

  private mutating func escaped() throws -> [UInt8] {
    switch next() {
    case UInt8(ascii: "\""): return [UInt8(ascii: "\"")]
    case UInt8(ascii: "\\"): return [UInt8(ascii: "\\")]
    case UInt8(ascii: "/"): return [UInt8(ascii: "/")]
    case UInt8(ascii: "b"): return [0x08]
    case UInt8(ascii: "f"): return [0x0C]
    case UInt8(ascii: "n"): return [0x0A]
    case UInt8(ascii: "r"): return [0x0D]
    case UInt8(ascii: "t"): return [0x09]
    case UInt8(ascii: "u"):
      var value = try hexadecimal()
      if (0xD800..<0xDC00).contains(value), next() == UInt8(ascii: "\\"), next() == UInt8(ascii: "u") {
        let low = try hexadecimal()
        guard (0xDC00..<0xE000).contains(low) else { throw damaged("half of a surrogate pair is missing") }
        value = 0x10000 + (value - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(value) else { throw damaged("half of a surrogate pair is missing") }
      return Array(String(scalar).utf8)
    default: throw damaged("an escape is not known")
    }
  }

  private mutating func hexadecimal() throws -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard let digit = next().flatMap({ Character(Unicode.Scalar($0)).hexDigitValue }) else { throw damaged("an escape is not hexadecimal") }
      value = value << 4 | UInt32(digit)
    }
    return value
  }

  private mutating func integer() throws -> Int {
    skipSpace()
    let start = position
    var value = 0
    while position < bytes.count, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[position]) {
      let (product, productOverflow) = value.multipliedReportingOverflow(by: 10)
      let (sum, sumOverflow) = product.addingReportingOverflow(Int(bytes[position] - UInt8(ascii: "0")))
      guard !productOverflow, !sumOverflow else { throw damaged("a number is too large") }
      value = sum
      position += 1
    }
    guard position > start, position == start + 1 || bytes[start] != UInt8(ascii: "0") else { throw damaged("a count is expected") }
    return value
  }

  private mutating func next() -> UInt8? {
    guard position < bytes.count else { return nil }
    defer { position += 1 }
    return bytes[position]
  }

  private mutating func skipSpace() {
    while position < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[position]) { position += 1 }
  }

  private mutating func take(_ character: Unicode.Scalar) -> Bool {
    skipSpace()
    guard position < bytes.count, bytes[position] == UInt8(ascii: character) else { return false }
    position += 1
    return true
  }

  private mutating func expect(_ character: Unicode.Scalar) throws {
    guard take(character) else { throw damaged("\(character) is expected") }
  }
}
