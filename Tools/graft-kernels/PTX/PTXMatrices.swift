/// What the lanes of a warp do together: exchanges, asynchronous copies, and products of matrices.
extension PTXDecoder {
  mutating func acrossLanes(_ words: [Substring], _ operands: [Substring]) throws -> PTXStep? {
    switch words[0] {
    case "shfl": return try exchange(words, operands)
    case "cp": return try copy(words, operands)
    case "ldmatrix": return try loadMatrices(words, operands)
    case "mma": return try multiply(words, operands)
    case "wgmma": return try multiplyByGroups(words, operands)
    // fence.proxy.async
    case "fence": return { warp, _ in warp.group.shared.showWrites(of: warp.number) }
    default: return nil
    }
  }

  private mutating func exchange(_ words: [Substring], _ operands: [Substring]) throws -> PTXStep? {
    guard words.contains("bfly") else { return nil }
    let (to, from, distance) = (
      try register(operands[0], bitCount: 32), try register(operands[1], bitCount: 32), try register(operands[2], bitCount: 32)
    )
    return { warp, mask in
      try requireAll(mask)
      let x = try warp.lanes(from), by = try warp.lanes(distance), values = (0..<32).map { x[$0 ^ Int(by[$0] & 31)] }, y = try warp.target(to)
      for lane in 0..<32 { y[lane] = values[lane] }
    }
  }

  // MARK: Copies

  private mutating func copy(_ words: [Substring], _ operands: [Substring]) throws -> PTXStep? {
    if words.contains("commit_group") { return { warp, _ in warp.copies.commit() } }
    if words.contains("wait_group") {
      guard let count = Int(operands[0]) else { return nil }
      return { warp, _ in
        for copy in warp.copies.wait(count) { try warp.group.shared.endCopy(copy.address, copy.data, by: warp.number) }
      }
    }
    guard operands.count == 4, let byteCount = Int(operands[2]) else { return nil }
    let (to, from, count) = (try address(operands[0]), try address(operands[1]), try register(operands[3], bitCount: 32))
    return { warp, mask in
      warp.noteTurns(try lanesAddresses(to, warp, mask), byteCount)
      try forEachLane(mask) { lane in
        let (target, source, valid) = (Int(try to(warp, lane)), try from(warp, lane), Int(try warp.value(count, lane)))
        guard source % UInt64(byteCount) == 0, valid == 0 || valid == byteCount else { throw PTXError("a copy of \(valid) bytes from \(source)") }
        var data = [UInt8](repeating: 0, count: byteCount)
        if valid > 0 {
          try warp.group.memory.read(source, byteCount, by: warp.group.index)
          guard let pointer = UnsafeRawPointer(bitPattern: UInt(source)) else { throw PTXError("global memory at 0") }
          data = Array(UnsafeRawBufferPointer(start: pointer, count: byteCount))
        }
        try warp.group.shared.beginCopy(target, byteCount, by: warp.number)
        warp.copies.add(AsyncCopy(address: target, data: data))
      }
    }
  }

  /// 8 × 8 matrices of 16-bit numbers, four at a time; lane l names row l % 8 of matrix l / 8.
  private mutating func loadMatrices(_ words: [Substring], _ operands: [Substring]) throws -> PTXStep? {
    let to = try registers(operands[0], bitCount: 32), from = try address(operands[1]), isTransposed = words.contains("trans")
    guard to.count == 4, words.contains("x4") else { return nil }
    return { warp, mask in
      try requireAll(mask)
      let starts = try lanesAddresses(from, warp, mask)
      warp.noteTurns(starts, 16)
      for start in starts { try warp.group.shared.read(start, 16, by: warp.number) }
      for (matrix, register) in to.enumerated() {
        func element(_ row: Int, _ column: Int) -> UInt32 {
          UInt32(warp.group.shared.load(starts[8 * matrix + row] + 2 * column, as: UInt16.self))
        }
        let y = try warp.target(register)
        for lane in 0..<32 {
          let (g, t) = (lane / 4, lane % 4 * 2)
          y[lane] = isTransposed ? element(t, g) | element(t + 1, g) << 16 : element(g, t) | element(g, t + 1) << 16
        }
      }
    }
  }

  // MARK: Products

  /// D = A B + C with A 16 × k and B k × 8 (PTX ISA, "Matrix Fragments for mma.m16n8k16").
  private mutating func multiply(_ words: [Substring], _ operands: [Substring]) throws -> PTXStep? {
    guard operands.count == 4, words.count == 10, let k = ["m16n8k16": 16, "m16n8k8": 8][words[3]] else { return nil }
    let parts = try operands.map { try registers($0, bitCount: 32) }, format = words[7]
    let unpacked = try Self.unpacking(format), isShort = format != "tf32"
    guard parts[0].count == 4, parts[3].count == 4, parts[1].count == (isShort ? k / 4 : 4), parts[2].count == (isShort ? k / 8 : 2) else {
      return nil
    }
    return { warp, mask in
      try requireAll(mask)
      var (a, b) = ([Double](repeating: 0, count: 16 * k), [Double](repeating: 0, count: k * 8))
      for (i, register) in parts[1].enumerated() {
        let x = try warp.lanes(register)
        for lane in 0..<32 {
          let row = lane / 4 + 8 * (i % 2), (low, high) = unpacked(x[lane])
          if isShort {
            let column = lane % 4 * 2 + 8 * (i / 2)
            (a[row * k + column], a[row * k + column + 1]) = (low, high)
          } else {
            a[row * k + lane % 4 + 4 * (i / 2)] = low
          }
        }
      }
      for (i, register) in parts[2].enumerated() {
        let x = try warp.lanes(register)
        for lane in 0..<32 {
          let (low, high) = unpacked(x[lane])
          if isShort {
            let row = lane % 4 * 2 + 8 * i
            (b[row * 8 + lane / 4], b[(row + 1) * 8 + lane / 4]) = (low, high)
          } else {
            b[(lane % 4 + 4 * i) * 8 + lane / 4] = low
          }
        }
      }
      for i in 0..<4 {
        let c = try warp.lanes(parts[3][i])
        let sums = (0..<32).map { lane in
          let (row, column) = (lane / 4 + 8 * (i / 2), lane % 4 * 2 + i % 2)
          var sum = 0.0
          for e in 0..<k { sum += a[row * k + e] * b[e * 8 + column] }
          return Float(Double(Float(bitPattern: c[lane])) + sum).bitPattern
        }
        let y = try warp.target(parts[0][i])
        for lane in 0..<32 { y[lane] = sums[lane] }
      }
    }
  }

  /// Both numbers of a word; of one that holds a single number, that one.
  private static func unpacking(_ format: Substring) throws -> (UInt32) -> (Double, Double) {
    switch format {
    case "f16":
      { (Double(Float16(bitPattern: UInt16(truncatingIfNeeded: $0))), Double(Float16(bitPattern: UInt16(truncatingIfNeeded: $0 >> 16)))) }
    case "bf16": { (Double(Float(bitPattern: $0 << 16)), Double(Float(bitPattern: $0 & 0xFFFF_0000))) }
    // The lowest 13 bits are not looked at.
    case "tf32": { (Double(Float(bitPattern: $0 & 0xFFFF_E000)), 0) }
    default: throw PTXError("unknown format .\(format)")
    }
  }

  /// Four warps multiply 64 × 16 by 16 × n out of local memory (PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions"); each
  /// computes 16 rows here, and all of them have to be asked.
  private mutating func multiplyByGroups(_ words: [Substring], _ operands: [Substring]) throws -> PTXStep? {
    switch words[1] {
    case "fence": return { warp, _ in warp.hasProductFence = true }
    case "commit_group": return { warp, _ in warp.products.commit() }
    case "wait_group":
      guard let count = Int(operands[0]) else { return nil }
      return { warp, _ in for product in warp.products.wait(count) { try warp.finish(product) } }
    default: break
    }
    guard words[1] == "mma_async", words.count == 8, operands.count == 8, words[4].hasPrefix("m64n"), words[4].hasSuffix("k16"),
      let columns = Int(words[4].dropFirst(4).dropLast(3)), operands[4] == "1", operands[5] == "1"
    else { return nil }
    let sums = try registers(operands[0], bitCount: 32), unpacked = try Self.unpacking(words[6])
    let (first, second) = (try register(operands[1], bitCount: 64), try register(operands[2], bitCount: 64)),
      adds = try register(operands[3], bitCount: 1)
    let (isTransposedA, isTransposedB) = (operands[6] == "1", operands[7] == "1")
    guard sums.count == columns / 2 else { return nil }
    return { warp, mask in
      try requireAll(mask)
      guard warp.hasProductFence else { throw PTXError("a product without wgmma.fence before it") }
      guard try warp.bits(adds) == .max else { throw PTXError("a product that does not add") }
      let rows = 16 * (warp.number % 4)..<16 * (warp.number % 4) + 16
      let a = try PTXDescriptor(first, warp).addresses(rows: rows, isTransposed: isTransposedA)
      let b = try PTXDescriptor(second, warp).addresses(rows: 0..<columns, isTransposed: isTransposedB)
      for address in a + b { try warp.group.shared.beginProduct(address, by: warp.number) }
      func values(_ addresses: [Int]) -> [Double] { addresses.map { unpacked(UInt32(warp.group.shared.load($0, as: UInt16.self))).0 } }
      warp.products.add(AsyncProduct(sums: sums, a: values(a), b: values(b), addresses: a + b))
      warp.begin(sums)
    }
  }
}

/// Where an operand of `wgmma` lies in local memory.
private struct PTXDescriptor {
  let start, leading, stride, swizzle: Int

  init(_ register: PTXRegister, _ warp: PTXWarp) throws {
    let bits = try warp.value(register, 0)
    for lane in 1..<32 where try warp.value(register, lane) != bits { throw PTXError("lanes with different descriptors") }
    (start, leading, stride) = (Int(bits & 0x3FFF) << 4, Int(bits >> 16 & 0x3FFF) << 4, Int(bits >> 32 & 0x3FFF) << 4)
    swizzle = Int(bits >> 62)
    guard bits >> 49 & 7 == 0, swizzle == 1 || swizzle == 2 else { throw PTXError("a descriptor that is not known: \(bits)") }
  }

  /// Of each row's 16 elements along k.
  ///
  /// Along k, rows are as long as the swizzle's pattern, eight of them `stride` bytes from the next eight. Across k (`isTransposed`) a
  /// pattern's length of rows lies beside each other, the next ones `leading` bytes away, eight steps along k `stride` from the next.
  func addresses(rows: Range<Int>, isTransposed: Bool) -> [Int] {
    let width = swizzle == 1 ? 128 : 64, across = width / 2, mask = swizzle == 1 ? 7 : 3
    return rows.flatMap { row in
      (0..<16).map { k in
        let offset =
          isTransposed
          ? row / across * leading + row % across * 2 + k / 8 * stride + k % 8 * width : row / 8 * stride + row % 8 * width + k * 2
        let address = start + offset
        return address ^ (address >> 7 & mask) << 4
      }
    }
  }
}

/// What a warp has begun and not waited for: of `cp.async` and `wgmma`, in groups that end in the order of their commits. Done when it is
/// waited for, and not before.
struct AsyncGroups<Item> {
  private var open: [Item] = []
  private var groups: [[Item]] = []
  var isEmpty: Bool { open.isEmpty && groups.allSatisfy(\.isEmpty) }
  var all: [Item] { groups.flatMap { $0 } + open }

  mutating func add(_ item: Item) { open.append(item) }

  mutating func commit() {
    groups.append(open)
    open = []
  }

  /// Those that are done when only so many groups may be left.
  mutating func wait(_ count: Int) -> [Item] {
    let done = groups.dropLast(count)
    groups.removeFirst(done.count)
    return done.flatMap { $0 }
  }
}

/// Bytes on their way to local memory.
struct AsyncCopy {
  let address: Int
  let data: [UInt8]
}

/// A warp's share of a product.
struct AsyncProduct {
  let sums: [PTXRegister]
  /// 16 rows and n columns, of 16 numbers each.
  let a, b: [Double]
  let addresses: [Int]
}

extension PTXWarp {
  /// Adds a product to its sums, which may be read again if no other is under way to them.
  func finish(_ product: AsyncProduct) throws {
    for address in product.addresses { try group.shared.endProduct(address, by: number) }
    for (i, register) in product.sums.enumerated() {
      let y = rawLanes(register)
      for lane in 0..<32 {
        let (row, column) = (lane / 4 + 8 * (i % 4 / 2), 8 * (i / 4) + 2 * (lane % 4) + i % 2)
        var sum = 0.0
        for e in 0..<16 { sum += product.a[row * 16 + e] * product.b[column * 16 + e] }
        y[lane] = Float(Double(Float(bitPattern: y[lane])) + sum).bitPattern
      }
    }
    let pending = Set(products.all.flatMap(\.sums))
    end(product.sums.filter { !pending.contains($0) })
  }
}

private func requireAll(_ mask: UInt32) throws {
  if mask != .max { throw PTXError("an instruction of all lanes that some do not come to") }
}
