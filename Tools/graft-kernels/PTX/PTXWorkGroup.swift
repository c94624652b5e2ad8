/// A work-group: its warps, which take turns at random between barriers, and its local memory.
final class PTXWorkGroup {
  let kernel: PTXKernel
  let index, groupCount, itemCount: Int
  let parameters: [UInt8]
  let memory: PTXGlobalMemory
  var shared: PTXSharedMemory

  init(_ kernel: PTXKernel, index: Int, groupCount: Int, itemCount: Int, parameters: [UInt8], memory: PTXGlobalMemory) {
    (self.kernel, self.index, self.groupCount, self.itemCount) = (kernel, index, groupCount, itemCount)
    (self.parameters, self.memory) = (parameters, memory)
    shared = PTXSharedMemory(byteCount: kernel.sharedByteCount)
  }

  func run(_ generator: inout some RandomNumberGenerator) throws {
    let warps = (0..<(itemCount + 31) / 32).map { PTXWarp($0, of: self) }
    while true {
      let live = warps.filter { !$0.isDone }
      guard !live.isEmpty else { return }
      guard let next = live.filter({ !$0.waitsAtBarrier }).randomElement(using: &generator) else {
        guard live.count == warps.count else { throw PTXError("\(kernel.name): a barrier when some warps have ended") }
        for warp in live { warp.waitsAtBarrier = false }
        shared.phase += 1
        continue
      }
      // Some go far ahead of others, some take turns with every few instructions.
      try next.run([3, 50, 100_000].randomElement(using: &generator) ?? 50)
    }
  }
}

/// Local memory, and who used each word of it since the last barrier.
struct PTXSharedMemory {
  private(set) var bytes: [UInt8]
  /// Barriers so far.
  var phase: Int32 = 0
  private var words: [Word]

  private struct Word {
    var writtenIn: Int32 = -1
    var readIn: Int32 = -1
    var writer: UInt8 = 0
    /// A bit a warp.
    var readers: UInt32 = 0
    /// Warps' copies that may write it at any time, plus one.
    var copier: UInt8 = 0
    /// Products that may read it at any time.
    var productCount: UInt16 = 0
    /// The warp that wrote it and has not shown it to the asynchronous proxy since, plus one.
    var unshownWriter: UInt8 = 0
  }

  init(byteCount: Int) {
    let count = (byteCount + 15) / 16 * 16
    // What nobody has written is no number.
    bytes = Array(repeating: 0xFF, count: count)
    words = Array(repeating: Word(), count: count / 4)
  }

  private func check(_ address: Int, _ byteCount: Int) throws {
    guard address % byteCount == 0 else { throw PTXError("local memory at \(address) is not aligned to \(byteCount) bytes") }
    guard address >= PTXKernel.firstSharedByte, address + byteCount <= bytes.count else { throw PTXError("outside local memory: \(address)") }
  }

  /// A warp reads so many bytes, a power of two.
  mutating func read(_ address: Int, _ byteCount: Int, by warp: Int) throws {
    try check(address, byteCount)
    for index in address / 4...(address + byteCount - 1) / 4 {
      let word = words[index]
      if word.copier != 0 { throw PTXError("local memory is read while warp \(word.copier - 1) copies to it") }
      if word.writtenIn == phase, word.writer != UInt8(warp) {
        throw PTXError("a race: warp \(word.writer) wrote local memory since the last barrier")
      }
      if word.readIn != phase { (words[index].readIn, words[index].readers) = (phase, 0) }
      words[index].readers |= 1 << UInt32(warp)
    }
  }

  /// A warp is about to write so many bytes.
  mutating func write(_ address: Int, _ byteCount: Int, by warp: Int) throws {
    try check(address, byteCount)
    for index in address / 4...(address + byteCount - 1) / 4 {
      let word = words[index]
      if word.copier != 0 { throw PTXError("local memory is written while warp \(word.copier - 1) copies to it") }
      if word.productCount > 0 { throw PTXError("local memory is written while a product reads it") }
      if word.writtenIn == phase, word.writer != UInt8(warp) {
        throw PTXError("a race: warp \(word.writer) wrote local memory since the last barrier")
      }
      if word.readIn == phase, word.readers & ~(1 << UInt32(warp)) != 0 {
        throw PTXError("a race: another warp read local memory since the last barrier")
      }
      (words[index].writtenIn, words[index].writer, words[index].unshownWriter) = (phase, UInt8(warp), UInt8(warp + 1))
    }
  }

  mutating func beginCopy(_ address: Int, _ byteCount: Int, by warp: Int) throws {
    try write(address, byteCount, by: warp)
    for index in address / 4..<(address + byteCount) / 4 { words[index].copier = UInt8(warp + 1) }
  }

  mutating func endCopy(_ address: Int, _ data: [UInt8], by warp: Int) throws {
    for index in address / 4..<(address + data.count) / 4 { words[index].copier = 0 }
    try write(address, data.count, by: warp)
    bytes.replaceSubrange(address..<address + data.count, with: data)
  }

  /// A product of a group of warps begins or ends to read two bytes, at any time of its own.
  mutating func beginProduct(_ address: Int, by warp: Int) throws {
    if words[address / 4].unshownWriter != 0 {
      throw PTXError("a product reads what warp \(words[address / 4].unshownWriter - 1) has not shown it by a fence")
    }
    try read(address, 2, by: warp)
    words[address / 4].productCount += 1
  }

  mutating func endProduct(_ address: Int, by warp: Int) throws {
    words[address / 4].productCount -= 1
    try read(address, 2, by: warp)
  }

  /// What a warp wrote is there for asynchronous products from now on.
  mutating func showWrites(of warp: Int) {
    for index in words.indices where words[index].unshownWriter == UInt8(warp + 1) { words[index].unshownWriter = 0 }
  }

  func load<Number>(_ address: Int, as type: Number.Type) -> Number { bytes.withUnsafeBytes { $0.load(fromByteOffset: address, as: type) } }

  mutating func store<Number>(_ value: Number, at address: Int) {
    bytes.withUnsafeMutableBytes { $0.storeBytes(of: value, toByteOffset: address, as: Number.self) }
  }
}

/// The parts of buffers that a launch was given, and which group wrote each element.
final class PTXGlobalMemory {
  private let slices: [(start: UInt64, end: UInt64)]
  /// The group that wrote each two bytes in this launch, plus one; by slice.
  private var writers: [[UInt32]]

  init(_ slices: [(start: UInt64, end: UInt64)]) {
    self.slices = slices
    writers = slices.map { _ in [] }
  }

  private func slice(_ address: UInt64, _ byteCount: Int) throws -> Int {
    guard address % UInt64(byteCount) == 0 else { throw PTXError("global memory is not aligned to \(byteCount) bytes") }
    guard let index = slices.firstIndex(where: { $0.start <= address && address + UInt64(byteCount) <= $0.end }) else {
      throw PTXError("outside the buffers that the kernel was given")
    }
    return index
  }

  func read(_ address: UInt64, _ byteCount: Int, by group: Int) throws {
    let index = try slice(address, byteCount)
    guard !writers[index].isEmpty else { return }
    let first = Int(address - slices[index].start) / 2
    for element in first..<first + max(1, byteCount / 2) where writers[index][element] != 0 && writers[index][element] != UInt32(group + 1) {
      throw PTXError("a race: group \(writers[index][element] - 1) wrote what this one reads")
    }
  }

  func write(_ address: UInt64, _ byteCount: Int, by group: Int) throws {
    let index = try slice(address, byteCount)
    if writers[index].isEmpty { writers[index] = Array(repeating: 0, count: Int(slices[index].end - slices[index].start) / 2 + 1) }
    let first = Int(address - slices[index].start) / 2
    for element in first..<first + max(1, byteCount / 2) {
      let writer = writers[index][element]
      // Two groups may share two bytes where elements have one.
      if writer != 0, writer != UInt32(group + 1), byteCount > 1 { throw PTXError("a race: group \(writer - 1) wrote it, too") }
      writers[index][element] = UInt32(group + 1)
    }
  }
}
