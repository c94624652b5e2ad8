/// Makes steps of statements, and lays out the registers they name.
struct PTXDecoder {
  /// Names in scope; a name of an inner scope hides that of an outer one.
  var names: [String: PTXRegister] = [:]
  private var hidden: [[String: PTXRegister?]] = []
  /// Registers that are declared as many: their bits by what their names begin with.
  private var families: [String: Int] = [:]
  /// Addresses of arrays, in whichever memory.
  var symbols: [String: UInt64] = [:]
  private(set) var wordCount = 0, registerCount = 0
  private(set) var literals: [Literal: PTXRegister] = [:]
  private(set) var sharedByteCount = PTXKernel.firstSharedByte
  private(set) var branches: [Int: String] = [:]

  struct Literal: Hashable {
    let value: UInt64
    let bitCount: Int
  }

  // MARK: Declarations

  /// `.param .u64 .ptr .global .align 2 name,` or `.param .align 4 .b8 name[108]`.
  mutating func declareParameters(_ lines: [Substring]) throws -> ([(offset: Int, byteCount: Int)], Int) {
    var result: [(offset: Int, byteCount: Int)] = [], end = 0
    for line in lines {
      guard let begin = line.range(of: ".param ") else { continue }
      let words = line[begin.upperBound...].split { $0 == " " || $0 == "," || $0 == "\t" || $0 == ")" }
      guard let last = words.last else { continue }
      let name = last.prefix { $0 != "[" }, count = last.dropFirst(name.count + 1).prefix { $0 != "]" }
      guard let byteCount = count.isEmpty ? (words.contains(".u64") ? 8 : words.contains(".u32") ? 4 : nil) : Int(count) else {
        throw PTXError("unknown parameter: \(line)")
      }
      end = (end + 7) / 8 * 8
      symbols[String(name)] = UInt64(end)
      result.append((end, byteCount))
      end += byteCount
    }
    return (result, end)
  }

  /// `.reg .b32 %r<412>`, `.reg .b64 a, b`, `.shared .align 128 .b8 tiles[32768]`.
  mutating func declare(_ statement: Substring) throws {
    let words = statement.split { $0 == " " || $0 == "\t" || $0 == "," }
    if words.first == ".shared" {
      guard words.count == 5, let alignment = Int(words[2]), let open = words[4].firstIndex(of: "["),
        let count = Int(words[4][open...].dropFirst().dropLast())
      else { throw PTXError("unknown array: \(statement)") }
      sharedByteCount = (sharedByteCount + alignment - 1) / alignment * alignment
      symbols[String(words[4][..<open])] = UInt64(sharedByteCount)
      sharedByteCount += count
      return
    }
    guard words.count >= 3, let bitCount = Self.bitCounts[words[1].dropFirst()] else { throw PTXError("unknown registers: \(statement)") }
    for name in words.dropFirst(2) {
      if let open = name.firstIndex(of: "<") {
        families[String(name[..<open])] = bitCount
      } else {
        // Braces do not nest here, so the scope that is open is the statement's.
        hidden[hidden.count - 1][String(name)] = .some(names[String(name)])
        names[String(name)] = add(bitCount)
      }
    }
  }

  mutating func openScope() { hidden.append([:]) }

  mutating func closeScope() {
    for (name, outer) in hidden.popLast() ?? [:] { names[name] = outer }
  }

  private static let bitCounts: [Substring: Int] = [
    "pred": 1, "b8": 8, "u8": 8, "s8": 8, "b16": 16, "u16": 16, "s16": 16, "f16": 16, "b32": 32, "u32": 32, "s32": 32, "f32": 32, "b64": 64,
    "u64": 64,
    "s64": 64,
  ]

  private mutating func add(_ bitCount: Int) -> PTXRegister {
    if bitCount == 64 { wordCount = (wordCount + 1) / 2 * 2 }
    let register = PTXRegister(word: wordCount, bitCount: bitCount, index: registerCount)
    wordCount += bitCount == 1 ? 1 : bitCount == 64 ? 64 : 32
    registerCount += 1
    return register
  }

  mutating func special(_ name: String) -> PTXRegister {
    let register = add(32)
    names[name] = register
    return register
  }

  mutating func literal(_ value: UInt64, bitCount: Int) -> PTXRegister {
    let key = Literal(value: value, bitCount: bitCount)
    if let known = literals[key] { return known }
    let register = add(bitCount)
    literals[key] = register
    return register
  }

  // MARK: Operands

  /// Splits at commas outside braces and brackets.
  private static func operands(_ text: Substring) -> [Substring] {
    var (parts, depth, begin) = ([Substring](), 0, text.startIndex)
    for index in text.indices {
      switch text[index] {
      case "{", "[": depth += 1
      case "}", "]": depth -= 1
      case "," where depth == 0:
        parts.append(text[begin..<index])
        begin = text.index(after: index)
      default: break
      }
    }
    parts.append(text[begin...])
    return parts.map { $0.trimming() }.filter { !$0.isEmpty }
  }

  /// A register, or a number or an address that stays what it is.
  mutating func register(_ text: Substring, bitCount: Int) throws -> PTXRegister {
    let name = String(text)
    if let known = names[name] { return known }
    if let address = symbols[name] { return literal(address, bitCount: bitCount) }
    if let family = families[name.prefix { !$0.isNumber }.description], name.hasPrefix("%") {
      let register = add(family)
      names[name] = register
      return register
    }
    let mask = bitCount == 64 ? UInt64.max : (1 << UInt64(bitCount)) - 1
    if text.hasPrefix("0f"), let bits = UInt32(text.dropFirst(2), radix: 16) { return literal(UInt64(bits), bitCount: bitCount) }
    if text.hasPrefix("0x"), let bits = UInt64(text.dropFirst(2), radix: 16) { return literal(bits & mask, bitCount: bitCount) }
    if let number = Int64(text) { return literal(UInt64(bitPattern: number) & mask, bitCount: bitCount) }
    throw PTXError("unknown operand \(text)")
  }

  /// `{%r1, %r2}`, or one.
  mutating func registers(_ text: Substring, bitCount: Int) throws -> [PTXRegister] {
    guard text.hasPrefix("{") else { return [try register(text, bitCount: bitCount)] }
    return try Self.operands(text.dropFirst().dropLast()).map { try register($0, bitCount: bitCount) }
  }

  /// `[%rd1+108]`.
  mutating func address(_ text: Substring) throws -> PTXAddress {
    let inner = text.dropFirst().dropLast(), base = inner.prefix { $0 != "+" }
    guard text.hasPrefix("["), let offset = inner.count == base.count ? 0 : Int64(inner.dropFirst(base.count + 1)) else {
      throw PTXError("unknown address \(text)")
    }
    return PTXAddress(base: try register(base.trimming(), bitCount: 64), offset: offset)
  }

  // MARK: Statements

  mutating func decode(_ statement: Substring, at index: Int) throws -> PTXInstruction {
    var rest = statement, predicate: PTXRegister?, isNegated = false
    if rest.hasPrefix("@") {
      let name = rest.dropFirst().prefix { !$0.isWhitespace }
      isNegated = name.hasPrefix("!")
      predicate = try register(isNegated ? name.dropFirst() : name, bitCount: 1)
      rest = rest.dropFirst(name.count + 1).trimming()
    }
    let operation = rest.prefix { !$0.isWhitespace }
    let words = operation.split(separator: "."), operands = Self.operands(rest.dropFirst(operation.count))
    let kind: PTXInstruction.Kind
    switch words[0] {
    case "ret": kind = .exit
    case "bar": kind = .barrier
    case "bra":
      branches[index] = String(operands[0])
      kind = .branch(to: 0)
    default:
      guard let step = try step(words, operands) else { throw PTXError("unknown instruction: \(statement)") }
      kind = .step(step)
    }
    return PTXInstruction(kind: kind, predicate: predicate, isNegated: isNegated, text: String(statement.prefix(120)))
  }

  static func bitCount(_ type: Substring) throws -> Int {
    guard let count = bitCounts[type] else { throw PTXError("unknown type .\(type)") }
    return count
  }

  private mutating func step(_ words: [Substring], _ operands: [Substring]) throws -> PTXStep? {
    switch words[0] {
    case "ld", "st", "mov": try movement(words, operands)
    case "cp", "ldmatrix", "mma", "wgmma", "fence", "shfl": try acrossLanes(words, operands)
    default: try arithmetic(words, operands)
    }
  }
}

/// Where something lies in a memory.
struct PTXAddress {
  let base: PTXRegister
  let offset: Int64

  func callAsFunction(_ warp: PTXWarp, _ lane: Int) throws -> UInt64 { try warp.value(base, lane) &+ UInt64(bitPattern: offset) }
}

extension Substring {
  func trimming() -> Substring {
    var text = drop(while: \.isWhitespace)
    while let last = text.last, last.isWhitespace { text.removeLast() }
    return text
  }
}

/// Calls `body` with each lane of a mask.
func forEachLane(_ mask: UInt32, _ body: (Int) throws -> Void) rethrows {
  var left = mask
  while left != 0 {
    try body(left.trailingZeroBitCount)
    left &= left - 1
  }
}
