/// An ONNX model as protocol buffer fields, so that tests can write into it what no library would.
struct WireMessage {
  /// The messages whose integers matter to a reader of graphs.
  enum Kind {
    case model, graph, node, attribute, tensor

    func nested(_ field: UInt64) -> Kind? {
      switch (self, field) {
      case (.model, 7): .graph
      case (.graph, 1): .node
      case (.graph, 5), (.attribute, 5): .tensor
      case (.node, 5): .attribute
      default: nil
      }
    }
  }

  enum Value {
    case integer(UInt64)
    case bytes([UInt8])
    case word([UInt8])
    case message(WireMessage)
  }

  var kind: Kind
  var fields: [(number: UInt64, value: Value)] = []

  /// Our own invariant: the bytes are a message.
  init(_ kind: Kind, _ bytes: [UInt8]) {
    self.kind = kind
    var at = 0
    func varint() -> UInt64 {
      var (result, shift) = (UInt64(0), UInt64(0))
      while true {
        defer { (at, shift) = (at + 1, shift + 7) }
        result |= UInt64(bytes[at] & 0x7F) << shift
        if bytes[at] < 0x80 { return result }
      }
    }
    while at < bytes.count {
      let key = varint(), number = key >> 3
      switch key & 7 {
      case 0: fields.append((number, .integer(varint())))
      case 2:
        let count = Int(varint()), part = Array(bytes[at..<at + count])
        at += count
        fields.append((number, kind.nested(number).map { .message(WireMessage($0, part)) } ?? .bytes(part)))
      case let wire:
        let count = wire == 5 ? 4 : 8
        fields.append((number, .word(Array(bytes[at..<at + count]))))
        at += count
      }
    }
  }

  var bytes: [UInt8] {
    var result: [UInt8] = []
    func varint(_ value: UInt64) {
      var rest = value
      while rest >= 0x80 {
        result.append(UInt8(rest & 0x7F | 0x80))
        rest >>= 7
      }
      result.append(UInt8(rest))
    }
    for (number, value) in fields {
      switch value {
      case .integer(let integer):
        varint(number << 3)
        varint(integer)
      case .word(let word):
        varint(number << 3 | (word.count == 4 ? 5 : 1))
        result += word
      case .bytes(let part):
        varint(number << 3 | 2)
        varint(UInt64(part.count))
        result += part
      case .message(let message):
        let part = message.bytes
        varint(number << 3 | 2)
        varint(UInt64(part.count))
        result += part
      }
    }
    return result
  }

  /// The message with one integer replaced: a field of its own or of a message in it, an element of a constant of integers
  /// (or two neighbours), or every extent of a constant that is then empty.
  func variants(_ replacement: Int64) -> [WireMessage] {
    fields.indices.flatMap { index -> [WireMessage] in
      func with(_ value: Value) -> WireMessage {
        var copy = self
        copy.fields[index].value = value
        return copy
      }
      switch fields[index].value {
      case .integer:
        var variants = [with(.integer(UInt64(bitPattern: replacement)))]
        if kind == .tensor, fields[index].number == 1 { variants.append(emptied(at: index, replacement)) }
        return variants
      case .message(let message): return message.variants(replacement).map { with(.message($0)) }
      case .bytes(let bytes) where kind == .tensor && fields[index].number == 9 && holdsIntegers:
        let word = withUnsafeBytes(of: replacement.littleEndian) { Array($0) }
        return (0..<bytes.count / 8).flatMap { place -> [WireMessage] in
          [1, 2].filter { place + $0 <= bytes.count / 8 }.map { count in
            var changed = bytes
            for next in 0..<count { changed.replaceSubrange((place + next) * 8..<(place + next + 1) * 8, with: word) }
            return with(.bytes(changed))
          }
        }
      default: return []
      }
    }
  }

  private var holdsIntegers: Bool { fields.contains { if case (2, .integer(7)) = $0 { true } else { false } } }

  /// A tensor of extent 0 in one dimension and `other` in the rest: no bytes are missing.
  private func emptied(at index: Int, _ other: Int64) -> WireMessage {
    var copy = self
    for field in fields.indices {
      if fields[field].number == 1 { copy.fields[field].value = .integer(field == index ? 0 : UInt64(bitPattern: other)) }
      if fields[field].number == 9 { copy.fields[field].value = .bytes([]) }
    }
    return copy
  }
}
