/// Between registers and memory.
extension PTXDecoder {
  mutating func movement(_ words: [Substring], _ operands: [Substring]) throws -> PTXStep? {
    guard let type = words.last, operands.count == 2 else { return nil }
    switch words[0] {
    case "mov": return try move(type, operands)
    case "ld": return try load(words, operands)
    case "st": return try store(words, operands)
    default: return nil
    }
  }

  private mutating func move(_ type: Substring, _ operands: [Substring]) throws -> PTXStep {
    let bitCount = try Self.bitCount(type)
    if operands[0].hasPrefix("{") || operands[1].hasPrefix("{") {
      let isSplit = operands[0].hasPrefix("{"), half = UInt64(bitCount / 2)
      let parts = try registers(operands[isSplit ? 0 : 1], bitCount: bitCount / 2),
        whole = try register(operands[isSplit ? 1 : 0], bitCount: bitCount)
      guard parts.count == 2 else { throw PTXError("a mov of \(parts.count) parts") }
      return { warp, mask in
        try forEachLane(mask) { lane in
          if isSplit {
            let value = try warp.value(whole, lane)
            try warp.set(parts[0], lane, value & ((1 << half) - 1))
            try warp.set(parts[1], lane, value >> half)
          } else {
            let low = try warp.value(parts[0], lane) & ((1 << half) - 1)
            try warp.set(whole, lane, low | warp.value(parts[1], lane) << half)
          }
        }
      }
    }
    let (to, from) = (try register(operands[0], bitCount: bitCount), try register(operands[1], bitCount: bitCount))
    switch bitCount {
    // A number that is not 0 is true.
    case 1: return { warp, mask in try warp.setBits(to, warp.bits(from), mask) }
    case 64:
      return { warp, mask in
        let x = try warp.wideLanes(from), y = try warp.wideTarget(to)
        forEachLane(mask) { y[$0] = x[$0] }
      }
    default:
      return { warp, mask in
        let x = try warp.lanes(from), y = try warp.target(to)
        forEachLane(mask) { y[$0] = x[$0] }
      }
    }
  }

  private enum Space: String { case param, const, shared, global }

  private mutating func load(_ words: [Substring], _ operands: [Substring]) throws -> PTXStep? {
    guard let type = words.last, let space = Space(rawValue: String(words[1])) else { return nil }
    let byteCount = try Self.bitCount(type) / 8, isSigned = type.hasPrefix("s")
    let to = try registers(operands[0], bitCount: byteCount * 8), from = try address(operands[1])
    guard to.count.nonzeroBitCount == 1, to.count <= 4 else { return nil }
    return { warp, mask in
      let group = warp.group
      if space == .shared { warp.noteTurns(try lanesAddresses(from, warp, mask), byteCount * to.count) }
      try forEachLane(mask) { lane in
        let start = try from(warp, lane)
        switch space {
        case .global: try group.memory.read(start, byteCount * to.count, by: group.index)
        case .shared: try group.shared.read(Int(start), byteCount * to.count, by: warp.number)
        case .param, .const: break
        }
        for (index, register) in to.enumerated() {
          let place = start + UInt64(index * byteCount), value: UInt64
          switch space {
          case .param: value = try number(group.parameters, Int(place), byteCount)
          case .const: value = try number(group.kernel.constants, Int(place), byteCount)
          case .shared: value = try number(group.shared.bytes, Int(place), byteCount)
          case .global:
            guard let pointer = UnsafeRawPointer(bitPattern: UInt(place)) else { throw PTXError("global memory at 0") }
            value = number(pointer, byteCount)
          }
          try warp.set(register, lane, isSigned ? extended(value, byteCount, register.bitCount) : value)
        }
      }
    }
  }

  private mutating func store(_ words: [Substring], _ operands: [Substring]) throws -> PTXStep? {
    guard let type = words.last, ["global", "shared"].contains(words[1]) else { return nil }
    let byteCount = try Self.bitCount(type) / 8, isShared = words[1] == "shared"
    let to = try address(operands[0]), from = try registers(operands[1], bitCount: byteCount * 8)
    return { warp, mask in
      let group = warp.group
      if isShared { warp.noteTurns(try lanesAddresses(to, warp, mask), byteCount * from.count) }
      try forEachLane(mask) { lane in
        let start = try to(warp, lane)
        if isShared {
          try group.shared.write(Int(start), byteCount * from.count, by: warp.number)
        } else {
          try group.memory.write(start, byteCount * from.count, by: group.index)
        }
        for (index, register) in from.enumerated() {
          let place = start + UInt64(index * byteCount), value = try warp.value(register, lane)
          if isShared {
            switch byteCount {
            case 1: group.shared.store(UInt8(truncatingIfNeeded: value), at: Int(place))
            case 2: group.shared.store(UInt16(truncatingIfNeeded: value), at: Int(place))
            case 4: group.shared.store(UInt32(truncatingIfNeeded: value), at: Int(place))
            default: group.shared.store(value, at: Int(place))
            }
          } else {
            guard let pointer = UnsafeMutableRawPointer(bitPattern: UInt(place)) else { throw PTXError("global memory at 0") }
            switch byteCount {
            case 1: pointer.storeBytes(of: UInt8(truncatingIfNeeded: value), as: UInt8.self)
            case 2: pointer.storeBytes(of: UInt16(truncatingIfNeeded: value), as: UInt16.self)
            case 4: pointer.storeBytes(of: UInt32(truncatingIfNeeded: value), as: UInt32.self)
            default: pointer.storeBytes(of: value, as: UInt64.self)
            }
          }
        }
      }
    }
  }
}

/// Where each lane of a mask points.
func lanesAddresses(_ address: PTXAddress, _ warp: PTXWarp, _ mask: UInt32) throws -> [Int] {
  var addresses: [Int] = []
  addresses.reserveCapacity(32)
  try forEachLane(mask) { addresses.append(Int(truncatingIfNeeded: try address(warp, $0))) }
  return addresses
}

private func number(_ bytes: [UInt8], _ place: Int, _ byteCount: Int) throws -> UInt64 {
  guard place >= 0, place + byteCount <= bytes.count else { throw PTXError("outside the parameters or constants: \(place)") }
  return bytes.withUnsafeBytes { bytes in bytes.baseAddress.map { number($0 + place, byteCount) } ?? 0 }
}

private func number(_ pointer: UnsafeRawPointer, _ byteCount: Int) -> UInt64 {
  switch byteCount {
  case 1: UInt64(pointer.load(as: UInt8.self))
  case 2: UInt64(pointer.loadUnaligned(as: UInt16.self))
  case 4: UInt64(pointer.loadUnaligned(as: UInt32.self))
  default: pointer.loadUnaligned(as: UInt64.self)
  }
}

/// With its sign, as far as a register reaches.
private func extended(_ value: UInt64, _ byteCount: Int, _ bitCount: Int) -> UInt64 {
  let wide: Int64 =
    switch byteCount {
    case 1: Int64(Int8(truncatingIfNeeded: value))
    case 2: Int64(Int16(truncatingIfNeeded: value))
    case 4: Int64(Int32(truncatingIfNeeded: value))
    default: Int64(bitPattern: value)
    }
  return bitCount == 64 ? UInt64(bitPattern: wide) : UInt64(bitPattern: wide) & ((1 << UInt64(bitCount)) - 1)
}

extension PTXWarp {
  /// Counts how often the 32 banks of 4 bytes of local memory have to be asked, and how often they would be if no two different words of
  /// those that are asked for together lay in one bank: 32 lanes with 4 bytes each, 16 with 8 or 8 with 16.
  func noteTurns(_ addresses: [Int], _ byteCount: Int) {
    let together = max(1, 128 / max(4, byteCount))
    var begin = 0
    while begin < addresses.count {
      let end = min(begin + together, addresses.count)
      var wordsOfBank = [Set<Int>](repeating: [], count: 32)
      for address in addresses[begin..<end] {
        for word in address / 4...(address + byteCount - 1) / 4 { wordsOfBank[word % 32].insert(word) }
      }
      group.kernel.turns[place].asked += wordsOfBank.reduce(0) { max($0, $1.count) }
      group.kernel.turns[place].needed += 1
      begin = end
    }
  }
}
