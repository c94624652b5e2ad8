import Foundation

/// What each lane computes by itself.
extension PTXDecoder {
  mutating func arithmetic(_ words: [Substring], _ operands: [Substring]) throws -> PTXStep? {
    guard let type = words.last, !operands.isEmpty else { return nil }
    switch words[0] {
    case "setp": return try comparison(words, operands)
    case "selp": return try selection(type, operands)
    case "cvt": return try conversion(words, operands)
    case "bfe": return type == "u32" ? try ternary(operands) { Self.field($0, $1, $2) } : nil
    case "prmt": return try ternary(operands) { Self.permuted($0, $1, $2) }
    default: break
    }
    if type == "pred" { return try logic(words[0], operands) }
    if type == "f32" { return try floatingPoint(words, operands) }
    switch try Self.bitCount(type) {
    case 16: return try shortInteger(words, operands)
    case 64: return try wideInteger(words, operands)
    default: return try integer(words, operands)
    }
  }

  // MARK: Lanes

  private mutating func unary(_ operands: [Substring], _ f: @escaping (UInt32) -> UInt32) throws -> PTXStep {
    let (to, a) = (try register(operands[0], bitCount: 32), try register(operands[1], bitCount: 32))
    return { warp, mask in
      let x = try warp.lanes(a), y = try warp.target(to)
      forEachLane(mask) { y[$0] = f(x[$0]) }
    }
  }

  private mutating func binary(_ operands: [Substring], _ f: @escaping (UInt32, UInt32) -> UInt32) throws -> PTXStep {
    let (to, a, b) = (try register(operands[0], bitCount: 32), try register(operands[1], bitCount: 32), try register(operands[2], bitCount: 32))
    return { warp, mask in
      let x = try warp.lanes(a), y = try warp.lanes(b), z = try warp.target(to)
      forEachLane(mask) { z[$0] = f(x[$0], y[$0]) }
    }
  }

  private mutating func ternary(_ operands: [Substring], _ f: @escaping (UInt32, UInt32, UInt32) -> UInt32) throws -> PTXStep {
    let (to, a) = (try register(operands[0], bitCount: 32), try register(operands[1], bitCount: 32))
    let (b, c) = (try register(operands[2], bitCount: 32), try register(operands[3], bitCount: 32))
    return { warp, mask in
      let x = try warp.lanes(a), y = try warp.lanes(b), z = try warp.lanes(c), result = try warp.target(to)
      forEachLane(mask) { result[$0] = f(x[$0], y[$0], z[$0]) }
    }
  }

  private mutating func wide(_ operands: [Substring], _ f: @escaping (UInt64, UInt64) -> UInt64) throws -> PTXStep {
    let to = try register(operands[0], bitCount: 64), a = try register(operands[1], bitCount: 64)
    let b = operands.count > 2 ? try register(operands[2], bitCount: 64) : a
    return { warp, mask in
      let x = try warp.wideLanes(a), y = try warp.wideLanes(b), z = try warp.wideTarget(to)
      forEachLane(mask) { z[$0] = f(x[$0], y[$0]) }
    }
  }

  // MARK: Numbers

  private mutating func floatingPoint(_ words: [Substring], _ operands: [Substring]) throws -> PTXStep? {
    func number(_ bits: UInt32) -> Float { Float(bitPattern: bits) }
    switch words[0] {
    case "add": return try binary(operands) { (number($0) + number($1)).bitPattern }
    case "sub": return try binary(operands) { (number($0) - number($1)).bitPattern }
    case "mul": return try binary(operands) { (number($0) * number($1)).bitPattern }
    case "div": return try binary(operands) { (number($0) / number($1)).bitPattern }
    case "min": return try binary(operands) { Float.minimum(number($0), number($1)).bitPattern }
    case "max": return try binary(operands) { Float.maximum(number($0), number($1)).bitPattern }
    case "fma": return try ternary(operands) { number($2).addingProduct(number($0), number($1)).bitPattern }
    case "neg": return try unary(operands) { $0 ^ 0x8000_0000 }
    case "abs": return try unary(operands) { $0 & 0x7FFF_FFFF }
    case "rcp": return try unary(operands) { (1 / number($0)).bitPattern }
    case "sqrt": return try unary(operands) { number($0).squareRoot().bitPattern }
    case "ex2": return try unary(operands) { exp2(number($0)).bitPattern }
    case "lg2": return try unary(operands) { log2(number($0)).bitPattern }
    default: return nil
    }
  }

  private mutating func integer(_ words: [Substring], _ operands: [Substring]) throws -> PTXStep? {
    let isSigned = words.last?.hasPrefix("s") == true
    func signed(_ bits: UInt32) -> Int32 { Int32(bitPattern: bits) }
    switch words[0] {
    case "add": return try binary(operands, &+)
    case "sub": return try binary(operands, &-)
    case "mul" where words.contains("wide"): return try wideProduct(operands, isSigned: isSigned)
    case "mul" where words.contains("hi"):
      return try binary(operands) {
        isSigned
          ? UInt32(truncatingIfNeeded: (Int64(signed($0)) * Int64(signed($1))) >> 32) : UInt32(truncatingIfNeeded: (UInt64($0) * UInt64($1)) >> 32)
      }
    case "mul": return try binary(operands, &*)
    case "mad" where words.contains("wide"): return try wideProduct(operands, isSigned: isSigned)
    case "mad" where words.contains("lo"): return try ternary(operands) { $0 &* $1 &+ $2 }
    // A quotient by zero is unspecified there.
    case "div":
      return try binary(operands) {
        $1 == 0 ? .max : isSigned ? UInt32(bitPattern: signed($0).dividedReportingOverflow(by: signed($1)).partialValue) : $0 / $1
      }
    case "rem":
      return try binary(operands) {
        $1 == 0 ? $0 : isSigned ? UInt32(bitPattern: signed($0).remainderReportingOverflow(dividingBy: signed($1)).partialValue) : $0 % $1
      }
    case "min": return try binary(operands) { isSigned ? UInt32(bitPattern: min(signed($0), signed($1))) : min($0, $1) }
    case "max": return try binary(operands) { isSigned ? UInt32(bitPattern: max(signed($0), signed($1))) : max($0, $1) }
    case "neg": return try unary(operands) { 0 &- $0 }
    case "and": return try binary(operands, &)
    case "or": return try binary(operands, |)
    case "xor": return try binary(operands, ^)
    case "not": return try unary(operands) { ~$0 }
    // By 32 and more nothing, or the sign, stays.
    case "shl": return try binary(operands) { $0 << $1 }
    case "shr": return try binary(operands) { isSigned ? UInt32(bitPattern: signed($0) >> $1) : $0 >> $1 }
    default: return nil
    }
  }

  /// 16 bits, in registers of 32 whose upper half is 0.
  private mutating func shortInteger(_ words: [Substring], _ operands: [Substring]) throws -> PTXStep? {
    let isSigned = words.last?.hasPrefix("s") == true
    func number(_ bits: UInt32) -> Int32 { isSigned ? Int32(Int16(truncatingIfNeeded: bits)) : Int32(bits & 0xFFFF) }
    let f: (Int32, Int32) -> Int32
    switch words[0] {
    case "add": f = (&+)
    case "sub": f = (&-)
    case "mul" where words.contains("lo"): f = (&*)
    case "mul" where words.contains("hi"): f = { Int32(truncatingIfNeeded: (Int64($0) * Int64($1)) >> 16) }
    case "mul" where words.contains("wide"):
      let (to, a, b) = (try register(operands[0], bitCount: 32), try register(operands[1], bitCount: 16), try register(operands[2], bitCount: 16))
      return { warp, mask in
        let x = try warp.lanes(a), y = try warp.lanes(b), z = try warp.target(to)
        forEachLane(mask) { z[$0] = UInt32(bitPattern: number(x[$0]) &* number(y[$0])) }
      }
    case "min": f = { min($0, $1) }
    case "max": f = { max($0, $1) }
    case "and": f = (&)
    case "or": f = (|)
    case "xor": f = (^)
    case "shl": f = { $1 > 15 ? 0 : $0 << $1 }
    case "shr": f = { $0 >> min($1, 31) }
    case "neg": f = { a, _ in -a }
    case "not": f = { a, _ in ~a }
    default: return nil
    }
    let (to, a) = (try register(operands[0], bitCount: 16), try register(operands[1], bitCount: 16))
    let b = operands.count > 2 ? try register(operands[2], bitCount: 16) : a
    return { warp, mask in
      let x = try warp.lanes(a), y = try warp.lanes(b), z = try warp.target(to)
      forEachLane(mask) { z[$0] = UInt32(bitPattern: f(number(x[$0]), number(y[$0]))) & 0xFFFF }
    }
  }

  private mutating func wideInteger(_ words: [Substring], _ operands: [Substring]) throws -> PTXStep? {
    let isSigned = words.last?.hasPrefix("s") == true
    switch words[0] {
    case "add": return try wide(operands, &+)
    case "sub": return try wide(operands, &-)
    case "mul" where words.contains("lo"): return try wide(operands, &*)
    case "mad" where words.contains("lo"):
      let (to, c) = (try register(operands[0], bitCount: 64), try register(operands[3], bitCount: 64))
      let (a, b) = (try register(operands[1], bitCount: 64), try register(operands[2], bitCount: 64))
      return { warp, mask in
        let x = try warp.wideLanes(a), y = try warp.wideLanes(b), z = try warp.wideLanes(c), result = try warp.wideTarget(to)
        forEachLane(mask) { result[$0] = x[$0] &* y[$0] &+ z[$0] }
      }
    case "div": return try wide(operands) { $1 == 0 ? .max : isSigned ? UInt64(bitPattern: Self.quotient($0, $1)) : $0 / $1 }
    case "rem": return try wide(operands) { $1 == 0 ? $0 : isSigned ? $0 &- $1 &* UInt64(bitPattern: Self.quotient($0, $1)) : $0 % $1 }
    case "and": return try wide(operands, &)
    case "or": return try wide(operands, |)
    case "xor": return try wide(operands, ^)
    case "neg": return try wide(operands) { x, _ in 0 &- x }
    case "not": return try wide(operands) { x, _ in ~x }
    case "min": return try wide(operands) { isSigned ? UInt64(bitPattern: min(Int64(bitPattern: $0), Int64(bitPattern: $1))) : min($0, $1) }
    case "max": return try wide(operands) { isSigned ? UInt64(bitPattern: max(Int64(bitPattern: $0), Int64(bitPattern: $1))) : max($0, $1) }
    case "shl", "shr":
      let (to, a, b) = (try register(operands[0], bitCount: 64), try register(operands[1], bitCount: 64), try register(operands[2], bitCount: 32))
      let isLeft = words[0] == "shl"
      return { warp, mask in
        let x = try warp.wideLanes(a), y = try warp.lanes(b), z = try warp.wideTarget(to)
        forEachLane(mask) { z[$0] = isLeft ? x[$0] << y[$0] : isSigned ? UInt64(bitPattern: Int64(bitPattern: x[$0]) >> y[$0]) : x[$0] >> y[$0] }
      }
    default: return nil
    }
  }

  private static func quotient(_ a: UInt64, _ b: UInt64) -> Int64 {
    Int64(bitPattern: a).dividedReportingOverflow(by: Int64(bitPattern: b)).partialValue
  }

  /// Two factors of 32 bits, a result of 64, and what is added to it.
  private mutating func wideProduct(_ operands: [Substring], isSigned: Bool) throws -> PTXStep {
    let (to, a, b) = (try register(operands[0], bitCount: 64), try register(operands[1], bitCount: 32), try register(operands[2], bitCount: 32))
    let c = operands.count > 3 ? try register(operands[3], bitCount: 64) : literal(0, bitCount: 64)
    return { warp, mask in
      let x = try warp.lanes(a), y = try warp.lanes(b), z = try warp.wideLanes(c), result = try warp.wideTarget(to)
      forEachLane(mask) {
        let product =
          isSigned ? UInt64(bitPattern: Int64(Int32(bitPattern: x[$0])) * Int64(Int32(bitPattern: y[$0]))) : UInt64(x[$0]) * UInt64(y[$0])
        result[$0] = product &+ z[$0]
      }
    }
  }

  private mutating func logic(_ operation: Substring, _ operands: [Substring]) throws -> PTXStep? {
    let to = try register(operands[0], bitCount: 1), a = try register(operands[1], bitCount: 1)
    let b = operands.count > 2 ? try register(operands[2], bitCount: 1) : a
    let f: (UInt32, UInt32) -> UInt32
    switch operation {
    case "and": f = (&)
    case "or": f = (|)
    case "xor": f = (^)
    case "not": f = { x, _ in ~x }
    default: return nil
    }
    return { warp, mask in try warp.setBits(to, f(warp.bits(a), warp.bits(b)), mask) }
  }

  // MARK: Choices

  private mutating func comparison(_ words: [Substring], _ operands: [Substring]) throws -> PTXStep? {
    guard words.count == 3, operands.count == 3 else { return nil }
    let (relation, type) = (words[1], words[2]), to = try register(operands[0], bitCount: 1), bitCount = try Self.bitCount(type)
    let (a, b) = (try register(operands[1], bitCount: bitCount), try register(operands[2], bitCount: bitCount))
    func step(_ holds: @escaping (UInt64, UInt64) -> Bool) -> PTXStep {
      { warp, mask in
        var bits: UInt32 = 0
        if bitCount == 64 {
          let x = try warp.wideLanes(a), y = try warp.wideLanes(b)
          forEachLane(mask) { if holds(x[$0], y[$0]) { bits |= 1 << UInt32($0) } }
        } else {
          let x = try warp.lanes(a), y = try warp.lanes(b)
          forEachLane(mask) { if holds(UInt64(x[$0]), UInt64(y[$0])) { bits |= 1 << UInt32($0) } }
        }
        try warp.setBits(to, bits, mask)
      }
    }
    if type == "f32" || type == "f16" {
      let isHalf = type == "f16"
      func number(_ bits: UInt64) -> Float { isHalf ? Float(Float16(bitPattern: UInt16(bits))) : Float(bitPattern: UInt32(bits)) }
      func isNone(_ x: UInt64, _ y: UInt64) -> Bool { number(x).isNaN || number(y).isNaN }
      switch relation {
      case "num": return step { !isNone($0, $1) }
      case "nan": return step { isNone($0, $1) }
      default:
        // "ltu": also where one is no number.
        let takesNone = relation.count == 3 && relation.hasSuffix("u")
        guard let holds: (Float, Float) -> Bool = Self.relation(takesNone ? relation.dropLast() : relation) else { return nil }
        return step { isNone($0, $1) ? takesNone : holds(number($0), number($1)) }
      }
    }
    if type.hasPrefix("s") {
      guard let holds: (Int64, Int64) -> Bool = Self.relation(relation) else { return nil }
      func number(_ bits: UInt64) -> Int64 {
        bitCount == 64 ? Int64(bitPattern: bits) : bitCount == 32 ? Int64(Int32(truncatingIfNeeded: bits)) : Int64(Int16(truncatingIfNeeded: bits))
      }
      return step { holds(number($0), number($1)) }
    }
    guard let holds: (UInt64, UInt64) -> Bool = Self.relation(relation) else { return nil }
    return step(holds)
  }

  private static func relation<Number: Comparable>(_ name: Substring) -> ((Number, Number) -> Bool)? {
    switch name {
    case "eq": (==)
    case "ne": (!=)
    case "lt", "lo": (<)
    case "le", "ls": (<=)
    case "gt", "hi": (>)
    case "ge", "hs": (>=)
    default: nil
    }
  }

  private mutating func selection(_ type: Substring, _ operands: [Substring]) throws -> PTXStep {
    let bitCount = try Self.bitCount(type), to = try register(operands[0], bitCount: bitCount)
    let (a, b, chosen) = (
      try register(operands[1], bitCount: bitCount), try register(operands[2], bitCount: bitCount), try register(operands[3], bitCount: 1)
    )
    return { warp, mask in
      let bits = try warp.bits(chosen)
      if bitCount == 64 {
        let x = try warp.wideLanes(a), y = try warp.wideLanes(b), z = try warp.wideTarget(to)
        forEachLane(mask) { z[$0] = bits >> UInt32($0) & 1 == 1 ? x[$0] : y[$0] }
      } else {
        let x = try warp.lanes(a), y = try warp.lanes(b), z = try warp.target(to)
        forEachLane(mask) { z[$0] = bits >> UInt32($0) & 1 == 1 ? x[$0] : y[$0] }
      }
    }
  }

  // MARK: Formats

  private mutating func conversion(_ words: [Substring], _ operands: [Substring]) throws -> PTXStep? {
    guard words.count >= 3 else { return nil }
    let (from, to) = (words[words.count - 1], words[words.count - 2])
    switch (to, from) {
    case ("bf16x2", "f32"): return try binary(operands) { bfloat16(Float(bitPattern: $0)) << 16 | bfloat16(Float(bitPattern: $1)) }
    case ("f16x2", "f32"): return try binary(operands) { float16(Float(bitPattern: $0)) << 16 | float16(Float(bitPattern: $1)) }
    // To the nearest, ties away from zero: what is none stays none.
    case ("tf32", "f32"): return try unary(operands) { Float(bitPattern: $0).isFinite ? ($0 &+ 0x1000) & 0xFFFF_E000 : $0 }
    case ("f32", "f16"): return try unary(operands) { Float(Float16(bitPattern: UInt16(truncatingIfNeeded: $0))).bitPattern }
    case ("f16", "f32"): return try unary(operands) { float16(Float(bitPattern: $0)) }
    case ("f32", "s32"): return try unary(operands) { Float(Int32(bitPattern: $0)).bitPattern }
    case ("f32", "u32"): return try unary(operands) { Float($0).bitPattern }
    case ("s32", "f32") where words.contains("rzi"):
      return try unary(operands) {
        let number = Double(Float(bitPattern: $0))
        return number.isNaN ? 0 : UInt32(bitPattern: Int32(max(-2_147_483_648, min(2_147_483_647, number.rounded(.towardZero)))))
      }
    case ("f32", "f32"):
      let rule: FloatingPointRoundingRule? =
        words.contains("rni") ? .toNearestOrEven : words.contains("rmi") ? .down : words.contains("rzi") ? .towardZero : nil
      guard let rule else { return nil }
      return try unary(operands) { Float(bitPattern: $0).rounded(rule).bitPattern }
    default:
      guard !to.hasPrefix("f"), !to.hasPrefix("bf"), !from.hasPrefix("f") else { return nil }
      let (source, target) = (try Self.bitCount(from), try Self.bitCount(to)), isSigned = from.hasPrefix("s")
      let (result, a) = (try register(operands[0], bitCount: target), try register(operands[1], bitCount: source))
      return { warp, mask in
        try forEachLane(mask) { lane in
          let bits = try warp.value(a, lane)
          let wide =
            isSigned
            ? UInt64(
              bitPattern: source == 8
                ? Int64(Int8(truncatingIfNeeded: bits))
                : source == 16
                  ? Int64(Int16(truncatingIfNeeded: bits))
                  : source == 32 ? Int64(Int32(truncatingIfNeeded: bits)) : Int64(bitPattern: bits))
            : source == 64 ? bits : bits & ((1 << UInt64(source)) - 1)
          try warp.set(result, lane, target == 64 ? wide : wide & ((1 << UInt64(target)) - 1))
        }
      }
    }
  }

  private static func field(_ value: UInt32, _ begin: UInt32, _ count: UInt32) -> UInt32 {
    UInt32(truncatingIfNeeded: (UInt64(value) >> UInt64(begin & 255)) & ((1 << UInt64(min(count & 255, 32))) - 1))
  }

  private static func permuted(_ low: UInt32, _ high: UInt32, _ selector: UInt32) -> UInt32 {
    let bytes = UInt64(high) << 32 | UInt64(low)
    return (0..<4).reduce(0) { $0 | UInt32(truncatingIfNeeded: bytes >> UInt64((selector >> (4 * $1) & 7) * 8) & 255) << (8 * $1) }
  }
}

/// The nearest bfloat16, ties to even, in the low 16 bits.
func bfloat16(_ number: Float) -> UInt32 {
  if number.isNaN { return 0x7FFF }
  let bits = number.bitPattern
  return UInt32(truncatingIfNeeded: (UInt64(bits) + 0x7FFF + UInt64(bits >> 16 & 1)) >> 16)
}

func float16(_ number: Float) -> UInt32 { UInt32(Float16(number).bitPattern) }
