/// 32 work-items that go through a kernel together.
final class PTXWarp {
  unowned let group: PTXWorkGroup
  let number: Int
  private let words: UnsafeMutablePointer<UInt32>
  /// Of each register: whether it was written, and whether an instruction under way will write it.
  private var states: [State]
  private var alive: UInt32
  private var frames: [Frame]
  private(set) var isDone = false
  var waitsAtBarrier = false
  /// The instruction that is carried out.
  private(set) var place = 0
  var copies = AsyncGroups<AsyncCopy>()
  var products = AsyncGroups<AsyncProduct>()
  /// Whether `wgmma.fence` has shown the registers to products.
  var hasProductFence = false

  private enum State: UInt8 { case unwritten, written, underWay }

  /// Lanes that go the same way until they meet the others.
  private struct Frame {
    var place: Int
    let lanes: UInt32
    let meeting: Int
  }

  init(_ number: Int, of group: PTXWorkGroup) {
    (self.number, self.group) = (number, group)
    let kernel = group.kernel
    words = .allocate(capacity: kernel.wordCount)
    words.initialize(repeating: 0xFFFF_FFFF, count: kernel.wordCount)
    states = Array(repeating: .unwritten, count: kernel.registerCount)
    let count = min(32, group.itemCount - 32 * number)
    alive = count == 32 ? .max : (1 << UInt32(count)) - 1
    frames = [Frame(place: 0, lanes: alive, meeting: -1)]
    for (register, value) in kernel.literals { fill(register) { _ in value } }
    fill(kernel.threadIndex) { UInt64(32 * number + $0) }
    fill(kernel.groupIndex) { _ in UInt64(group.index) }
    fill(kernel.groupCount) { _ in UInt64(group.groupCount) }
    fill(kernel.groupSize) { _ in UInt64(group.itemCount) }
  }

  deinit { words.deallocate() }

  private func fill(_ register: PTXRegister, _ value: (Int) -> UInt64) {
    states[register.index] = .written
    switch register.bitCount {
    case 1: words[register.word] = value(0) == 0 ? 0 : .max
    case 64: for lane in 0..<32 { wide(register)[lane] = value(lane) }
    default: for lane in 0..<32 { words[register.word + lane] = UInt32(truncatingIfNeeded: value(lane)) }
    }
  }

  // MARK: Registers

  private func wide(_ register: PTXRegister) -> UnsafeMutablePointer<UInt64> {
    UnsafeMutableRawPointer(words + register.word).assumingMemoryBound(to: UInt64.self)
  }

  private func check(_ register: PTXRegister) throws {
    guard states[register.index] == .written else {
      throw PTXError(states[register.index] == .underWay ? "a sum is read while it is under way" : "a register is read that was never written")
    }
  }

  /// The lanes of a register of 16 or 32 bits, for reading.
  func lanes(_ register: PTXRegister) throws -> UnsafePointer<UInt32> {
    try check(register)
    return UnsafePointer(words + register.word)
  }

  func wideLanes(_ register: PTXRegister) throws -> UnsafePointer<UInt64> {
    try check(register)
    return UnsafePointer(wide(register))
  }

  func bits(_ register: PTXRegister) throws -> UInt32 {
    try check(register)
    return words[register.word]
  }

  private func write(_ register: PTXRegister) throws {
    guard states[register.index] != .underWay else { throw PTXError("a sum is written while it is under way") }
    states[register.index] = .written
  }

  /// The lanes of a register of 16 or 32 bits, for writing.
  func target(_ register: PTXRegister) throws -> UnsafeMutablePointer<UInt32> {
    try write(register)
    return words + register.word
  }

  func wideTarget(_ register: PTXRegister) throws -> UnsafeMutablePointer<UInt64> {
    try write(register)
    return wide(register)
  }

  func setBits(_ register: PTXRegister, _ value: UInt32, _ mask: UInt32) throws {
    let old = states[register.index] == .written ? words[register.word] : 0
    try write(register)
    words[register.word] = (old & ~mask) | (value & mask)
  }

  /// A lane of any register of a number, as bits.
  func value(_ register: PTXRegister, _ lane: Int) throws -> UInt64 {
    try register.bitCount == 64 ? wideLanes(register)[lane] : UInt64(lanes(register)[lane])
  }

  func set(_ register: PTXRegister, _ lane: Int, _ value: UInt64) throws {
    if register.bitCount == 64 {
      try wideTarget(register)[lane] = value
    } else {
      try target(register)[lane] = UInt32(truncatingIfNeeded: register.bitCount == 16 ? value & 0xFFFF : value)
    }
  }

  /// Takes registers away until what is under way has written them; what they hold stays.
  func begin(_ registers: [PTXRegister]) { for register in registers { states[register.index] = .underWay } }

  func end(_ registers: [PTXRegister]) { for register in registers { states[register.index] = .written } }

  /// A register's lanes whatever is under way.
  func rawLanes(_ register: PTXRegister) -> UnsafeMutablePointer<UInt32> { words + register.word }

  // MARK: Running

  /// Goes on for so many instructions, or to a barrier, or to the end.
  func run(_ limit: Int) throws {
    let instructions = group.kernel.instructions
    var left = limit
    while left > 0 {
      left -= 1
      while let top = frames.last, top.place == top.meeting || top.lanes & alive == 0 { frames.removeLast() }
      guard let top = frames.last else {
        isDone = true
        return
      }
      place = top.place
      guard place < instructions.count else { throw PTXError("\(group.kernel.name) runs past its end") }
      let mask = top.lanes & alive
      do {
        switch instructions[place].kind {
        case .step(let step):
          frames[frames.count - 1].place += 1
          var lanes = mask
          if let predicate = instructions[place].predicate {
            let bits = try bits(predicate)
            lanes &= instructions[place].isNegated ? ~bits : bits
          }
          if lanes != 0 { try step(self, lanes) }
        case .branch(let target): try branch(instructions[place], to: target, mask)
        case .barrier:
          guard mask == alive else { throw PTXError("a barrier that not all lanes of a warp come to") }
          frames[frames.count - 1].place += 1
          waitsAtBarrier = true
          return
        case .exit:
          alive &= ~mask
          guard alive == 0 else { continue }
          guard products.isEmpty else { throw PTXError("products are under way at the end") }
          guard copies.isEmpty else { throw PTXError("copies are under way at the end") }
          isDone = true
          return
        }
      } catch let error as PTXError {
        throw PTXError("\(error.description): \(instructions[place].text) (\(group.kernel.name), group \(group.index), warp \(number))")
      }
    }
  }

  private func branch(_ instruction: PTXInstruction, to target: Int, _ mask: UInt32) throws {
    let top = frames.count - 1
    guard let predicate = instruction.predicate else {
      frames[top].place = target
      return
    }
    let bits = try bits(predicate), taken = mask & (instruction.isNegated ? ~bits : bits)
    if taken == mask {
      frames[top].place = target
    } else if taken == 0 {
      frames[top].place += 1
    } else {
      let next = frames[top].place + 1
      frames[top].place = instruction.meeting
      frames.append(Frame(place: target, lanes: taken, meeting: instruction.meeting))
      frames.append(Frame(place: next, lanes: mask & ~taken, meeting: instruction.meeting))
    }
  }
}
