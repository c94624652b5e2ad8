/// The kernels of a PTX text, decoded.
struct PTXProgram {
  let kernels: [String: PTXKernel]

  /// - Throws: `PTXError` for what the interpreter does not know.
  init(_ text: String) throws {
    var kernels: [String: PTXKernel] = [:], constants: [String: [UInt8]] = [:]
    var header: [Substring] = [], body: [Substring]?, name = ""
    for var line in text.split(separator: "\n") {
      if let comment = line.range(of: "//") { line = line[..<comment.lowerBound] }
      let words = line.drop(while: \.isWhitespace)
      if body != nil {
        if line.hasPrefix("}") {
          kernels[name] = try PTXKernel(name: name, header: header, body: body ?? [], constants: constants)
          (header, body) = ([], nil)
        } else if !words.isEmpty, line != "{" {
          body?.append(words)
        }
      } else if let entry = words.range(of: ".entry ") {
        name = String(words[entry.upperBound...].prefix { $0 != "(" })
        header = [words]
      } else if line.hasPrefix("{") {
        body = []
      } else if words.hasPrefix(".const") {
        let (symbol, bytes) = try Self.constant(words)
        constants[symbol] = bytes
      } else if !name.isEmpty {
        header.append(words)
      }
    }
    self.kernels = kernels
  }

  /// `.const .align 8 .b8 TABLE[1032] = {0, 0, …};`
  private static func constant(_ line: Substring) throws -> (String, [UInt8]) {
    guard let type = line.range(of: " .b8 "), let open = line.firstIndex(of: "{"), let close = line.lastIndex(of: "}") else {
      throw PTXError("unknown constant: \(line.prefix(80))")
    }
    let bytes = line[line.index(after: open)..<close].split(separator: ",").compactMap { UInt8($0.filter { !$0.isWhitespace }) }
    return (String(line[type.upperBound...].prefix { $0 != "[" }), bytes)
  }
}

/// A register of a warp: 32 lanes, or a bit for each of them.
struct PTXRegister: Hashable {
  /// Where its lanes begin, in words of 32 bits.
  let word: Int
  /// 1, 16, 32 or 64; one of 16 bits takes 32.
  let bitCount: Int
  /// Its number among all.
  let index: Int
}

/// What a lane computes with its registers; the mask tells which lanes do.
typealias PTXStep = (_ warp: PTXWarp, _ mask: UInt32) throws -> Void

struct PTXInstruction {
  enum Kind {
    case step(PTXStep)
    case branch(to: Int)
    case barrier
    case exit
  }
  var kind: Kind
  var predicate: PTXRegister?
  var isNegated = false
  let text: String
  /// Of a branch: the first instruction that all lanes come to, whichever way they go; the count of instructions if there is none.
  var meeting = 0
}

/// A kernel and how it lays out what it needs.
final class PTXKernel {
  let name: String
  private(set) var instructions: [PTXInstruction] = []
  /// Each parameter's bytes begin at its offset.
  let parameters: [(offset: Int, byteCount: Int)]
  let parameterByteCount: Int
  /// Local memory, with the part below `PTXKernel.firstSharedByte` that belongs to nobody.
  let sharedByteCount: Int
  let constants: [UInt8]
  let wordCount: Int, registerCount: Int
  /// Registers that have one value from the beginning.
  let literals: [(register: PTXRegister, value: UInt64)]
  let threadIndex, groupIndex: PTXRegister
  let groupCount, groupSize: PTXRegister
  /// Of each instruction: how often local memory was asked, and how often it would have been without two rows of one bank.
  var turns: [(asked: Int, needed: Int)] = []

  /// The address of the first array in local memory.
  static let firstSharedByte = 1024

  init(name: String, header: [Substring], body: [Substring], constants: [String: [UInt8]]) throws {
    self.name = name
    var decoder = PTXDecoder()
    (parameters, parameterByteCount) = try decoder.declareParameters(header)
    var constantBytes: [UInt8] = []
    for (symbol, bytes) in constants.sorted(by: { $0.key < $1.key }) {
      constantBytes += Array(repeating: 0, count: (16 - constantBytes.count % 16) % 16)
      decoder.symbols[symbol] = UInt64(constantBytes.count)
      constantBytes += bytes
    }
    self.constants = constantBytes
    (threadIndex, groupIndex) = (decoder.special("%tid.x"), decoder.special("%ctaid.x"))
    (groupCount, groupSize) = (decoder.special("%nctaid.x"), decoder.special("%ntid.x"))
    for other in ["%tid.y", "%tid.z", "%ctaid.y", "%ctaid.z", "%envreg3", "%envreg4", "%envreg5"] {
      decoder.names[other] = decoder.literal(0, bitCount: 32)
    }

    var labels: [String: Int] = [:], statements: [Substring] = []
    for line in body {
      if line.hasPrefix("$"), line.hasSuffix(":") {
        labels[String(line.dropLast())] = statements.count
        continue
      }
      for statement in line.split(separator: ";") {
        var statement = statement.drop(while: \.isWhitespace)
        while let last = statement.last, last.isWhitespace { statement.removeLast() }
        // Braces around statements, not around operands.
        if statement.hasPrefix("{") {
          decoder.openScope()
          statement = statement.dropFirst().drop(while: \.isWhitespace)
        }
        if statement == "}" {
          decoder.closeScope()
        } else if statement.hasPrefix(".reg") || statement.hasPrefix(".shared") {
          try decoder.declare(statement)
        } else if !statement.isEmpty, !statement.hasPrefix(".pragma") {
          instructions.append(try decoder.decode(statement, at: instructions.count))
          statements.append(statement)
        }
      }
    }
    for (index, label) in decoder.branches {
      guard let target = labels[label] else { throw PTXError("no label \(label)") }
      instructions[index].kind = .branch(to: target)
    }
    (sharedByteCount, wordCount, registerCount) = (decoder.sharedByteCount, decoder.wordCount, decoder.registerCount)
    literals = decoder.literals.map { (register: $0.value, value: $0.key.value) }
    turns = Array(repeating: (0, 0), count: instructions.count)
    findMeetings()
  }

  func forgetTurns() { turns = Array(repeating: (0, 0), count: instructions.count) }

  /// Gives every branch its nearest common post-dominator.
  private func findMeetings() {
    let count = instructions.count
    var leaders: Set<Int> = [0]
    for (index, instruction) in instructions.enumerated() {
      if case .branch(let target) = instruction.kind { leaders.formUnion([target, index + 1]) }
      if case .exit = instruction.kind { leaders.insert(index + 1) }
    }
    let starts = leaders.filter { $0 < count }.sorted(), exit = starts.count
    let block = Dictionary(uniqueKeysWithValues: starts.enumerated().map { ($1, $0) })
    func end(_ k: Int) -> Int { (k + 1 < starts.count ? starts[k + 1] : count) - 1 }
    let successors = starts.indices.map { k -> [Int] in
      let last = instructions[end(k)], next = block[end(k) + 1] ?? exit
      switch last.kind {
      case .branch(let target): return [block[target] ?? exit] + (last.predicate == nil ? [] : [next])
      case .exit: return [exit]
      default: return [next]
      }
    }
    var dominators = starts.indices.map { _ in Set(0...exit) } + [[exit]]
    var changes = true
    while changes {
      changes = false
      for k in starts.indices.reversed() {
        var common = dominators[successors[k][0]]
        for other in successors[k].dropFirst() { common.formIntersection(dominators[other]) }
        common.insert(k)
        if common != dominators[k] { (dominators[k], changes) = (common, true) }
      }
    }
    for k in starts.indices {
      // The nearest is the one that all others come after.
      let nearest = dominators[k].subtracting([k]).max { dominators[$0].count < dominators[$1].count } ?? exit
      instructions[end(k)].meeting = nearest < exit ? starts[nearest] : count
    }
  }
}
