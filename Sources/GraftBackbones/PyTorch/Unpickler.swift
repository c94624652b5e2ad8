import GraftGraph

/// Reads one pickle of protocol 2 to 5 into plain values and tensor descriptions.
///
/// Of Python's classes and functions only those of `PickleGlobal` are known; any other is an error, and nothing in the
/// file is ever run. The machine is a loop over a stack, without recursion; what it can allocate is bounded by the
/// bytes it reads. The opcodes are those of Python's `pickletools`.
struct Unpickler {
  private(set) var reader: ByteReader
  var heap = PickleHeap()
  private var stack: [PickleValue] = []
  /// Heights of the stack at which a group of items begins.
  private var marks: [Int] = []
  private var memo: [Int: PickleValue] = [:]
  /// Where the opcode in work begins, for messages.
  private var opcodePosition = 0
  /// Items that calls may still copy. A few bytes can ask for a copy of a container of any size, again and again.
  private var copiesLeft: Int

  init(_ reader: ByteReader) {
    self.reader = reader
    self.copiesLeft = reader.remaining
  }

  /// The value of the pickle that begins at the reader's position; the reader then stands behind it.
  mutating func load() throws -> PickleValue {
    while true {
      opcodePosition = reader.position
      let opcode = try reader.integer(UInt8.self, "the pickle")
      if opcode == UInt8(ascii: ".") { return try pop() }
      guard heap.containerCount < PickleHeap.containerLimit else { throw damaged("it holds more than \(PickleHeap.containerLimit) objects") }
      try step(opcode)
    }
  }

  private mutating func step(_ opcode: UInt8) throws {
    switch opcode {
    // Frame
    case 0x80:
      let version = try reader.integer(UInt8.self, "the pickle's protocol")
      guard (2...5).contains(version) else { throw damaged("protocol \(version) is not read") }
    case 0x95: _ = try reader.integer(UInt64.self, "a frame")

    // Constants
    case UInt8(ascii: "N"): stack.append(.none)
    case 0x88: stack.append(.bool(true))
    case 0x89: stack.append(.bool(false))
    case UInt8(ascii: "J"): stack.append(.integer(Int64(try reader.integer(Int32.self, "a number"))))
    case UInt8(ascii: "K"): stack.append(.integer(Int64(try reader.integer(UInt8.self, "a number"))))
    case UInt8(ascii: "M"): stack.append(.integer(Int64(try reader.integer(UInt16.self, "a number"))))
    case 0x8A: stack.append(try longInteger(Int(try reader.integer(UInt8.self, "a number"))))
    case 0x8B: stack.append(try longInteger(Int(try reader.integer(Int32.self, "a number"))))
    case UInt8(ascii: "G"):
      stack.append(.float(Double(bitPattern: try reader.integer(UInt64.self, "a number").byteSwapped)))
    case 0x8C: try pushText(Int(try reader.integer(UInt8.self, "a string")))
    case UInt8(ascii: "X"): try pushText(Int(try reader.integer(UInt32.self, "a string")))
    case 0x8D: try pushText(try count64())
    // Python 2 wrote its strings as bytes.
    case UInt8(ascii: "U"): try pushText(Int(try reader.integer(UInt8.self, "a string")))
    case UInt8(ascii: "T"): try pushText(Int(try reader.integer(Int32.self, "a string")))
    case UInt8(ascii: "C"): stack.append(.bytes(try reader.array(Int(try reader.integer(UInt8.self, "bytes")), "bytes")))
    case UInt8(ascii: "B"): stack.append(.bytes(try reader.array(Int(try reader.integer(UInt32.self, "bytes")), "bytes")))
    case 0x8E, 0x96: stack.append(.bytes(try reader.array(try count64(), "bytes")))

    // Stack and memo
    case UInt8(ascii: "("): marks.append(stack.count)
    case UInt8(ascii: "0"): _ = try pop()
    case UInt8(ascii: "1"): _ = try popToMark()
    case UInt8(ascii: "2"): stack.append(try top())
    case UInt8(ascii: "q"): memo[Int(try reader.integer(UInt8.self, "a memo"))] = try top()
    case UInt8(ascii: "r"): memo[Int(try reader.integer(UInt32.self, "a memo"))] = try top()
    case 0x94: memo[memo.count] = try top()
    case UInt8(ascii: "h"): try pushMemo(Int(try reader.integer(UInt8.self, "a memo")))
    case UInt8(ascii: "j"): try pushMemo(Int(try reader.integer(UInt32.self, "a memo")))

    // Containers
    case UInt8(ascii: "]"): stack.append(heap.list())
    case UInt8(ascii: "}"): stack.append(heap.dictionary())
    case 0x8F: stack.append(heap.set())
    case UInt8(ascii: ")"): stack.append(heap.tuple([]))
    case 0x85, 0x86, 0x87: stack.append(heap.tuple(try pop(Int(opcode - 0x84))))
    case UInt8(ascii: "t"): stack.append(heap.tuple(try popToMark()))
    case 0x91: stack.append(heap.set(try popToMark()))
    case UInt8(ascii: "a"): try append(try pop(1))
    case UInt8(ascii: "e"): try append(try popToMark())
    case UInt8(ascii: "s"): try setItems(try pop(2))
    case UInt8(ascii: "u"): try setItems(try popToMark())
    case 0x90:
      let items = try popToMark()
      guard case .set(let index) = try top() else { throw damaged("items are added to what is no set") }
      heap.sets[index] += items

    // Objects
    case UInt8(ascii: "c"):
      let module = try reader.line(limit: 1024, "a class name")
      try pushGlobal(module, try reader.line(limit: 1024, "a class name"))
    case 0x93:
      let names = try pop(2)
      guard case .string(let module) = names[0], case .string(let name) = names[1] else { throw damaged("a class has no name") }
      try pushGlobal(module, name)
    case UInt8(ascii: "R"), 0x81:
      let call = try pop(2)
      guard case .global(let global) = call[0], case .tuple(let index) = call[1] else { throw damaged("it calls what is no function") }
      stack.append(try build(global, heap.tuples[index]))
    case UInt8(ascii: "b"):
      let state = try pop()
      try setState(of: try top(), state)
    case UInt8(ascii: "Q"): stack.append(try persistent(try pop()))
    default: throw damaged("opcode 0x\(String(opcode, radix: 16)) is not one that tensor files have")
    }
  }

  // MARK: The stack

  private mutating func pop() throws -> PickleValue {
    guard stack.count > marks.last ?? 0, let value = stack.popLast() else { throw damaged("it takes a value that is not there") }
    return value
  }

  private func top() throws -> PickleValue {
    guard stack.count > marks.last ?? 0, let value = stack.last else { throw damaged("it takes a value that is not there") }
    return value
  }

  private mutating func pop(_ count: Int) throws -> [PickleValue] {
    guard stack.count - (marks.last ?? 0) >= count else { throw damaged("it takes a value that is not there") }
    defer { stack.removeLast(count) }
    return Array(stack.suffix(count))
  }

  private mutating func popToMark() throws -> [PickleValue] {
    guard let mark = marks.popLast(), mark <= stack.count else { throw damaged("a group of items has no beginning") }
    defer { stack.removeSubrange(mark...) }
    return Array(stack[mark...])
  }

  private mutating func pushMemo(_ key: Int) throws {
    guard let value = memo[key] else { throw damaged("it refers to an object that is not there") }
    stack.append(value)
  }

  // MARK: Values

  private mutating func count64() throws -> Int {
    guard let count = Int(exactly: try reader.integer(UInt64.self, "a length")) else { throw damaged("a length is absurd") }
    return count
  }

  private mutating func pushText(_ count: Int) throws { stack.append(.string(try reader.text(count, "a string"))) }

  private mutating func longInteger(_ count: Int) throws -> PickleValue {
    let bytes = try reader.array(count, "a number")
    guard bytes.count <= 8 else { return .bigInteger(bytes) }
    var value: UInt64 = bytes.last.map { $0 >= 0x80 } == true ? .max : 0
    for byte in bytes.reversed() { value = value << 8 | UInt64(byte) }
    return .integer(Int64(bitPattern: value))
  }

  private mutating func append(_ items: [PickleValue]) throws {
    guard case .list(let index) = try top() else { throw damaged("items are appended to what is no list") }
    heap.lists[index] += items
  }

  private mutating func setItems(_ items: [PickleValue]) throws {
    guard case .dictionary(let index) = try top(), items.count.isMultiple(of: 2) else {
      throw damaged("items are set in what is no dictionary")
    }
    for position in stride(from: 0, to: items.count, by: 2) { heap.dictionaries[index].set(items[position], items[position + 1]) }
  }

  private mutating func pushGlobal(_ module: String, _ name: String) throws {
    guard let global = PickleGlobal.named(module, name) else { throw refused(module, name) }
    if case .elementType(let type) = global {
      stack.append(.elementType(type))
    } else {
      stack.append(.global(global))
    }
  }

  /// Accounts for a call that copies `count` items.
  mutating func willCopy(_ count: Int) throws {
    guard count <= copiesLeft else { throw damaged("it copies the same items over and over") }
    copiesLeft -= count
  }

  // MARK: Errors

  func damaged(_ what: String) -> ImportError {
    ImportError(file: reader.file, what: "its pickle cannot be read at byte \(opcodePosition): \(what)", remedy: ImportError.fetchAgain)
  }

  private func refused(_ module: String, _ name: String) -> ImportError {
    let whole = module.hasPrefix("torch.nn") || module.hasPrefix("torchvision.models") || module.hasPrefix("timm.")
    return ImportError(
      file: reader.file,
      what: whole
        ? "the file holds a whole pickled module (\(quoted("\(module).\(name)"))), and to load it would be to run its code"
        : "its pickle asks for \(quoted("\(module).\(name)")), and only tensors and plain containers are read from a file",
      remedy: "In Python, save only the tensors: torch.save(model.state_dict(), path).")
  }
}
