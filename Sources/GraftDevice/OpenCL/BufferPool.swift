import COpenCL
import Synchronization

/// The device's memory: hands out buffers and keeps those given back for the next that asks for about as much.
///
/// Reuse needs no waiting: commands go through one in-order queue, so what is queued for the old owner runs before anything
/// the new one queues. A stream, which has a second queue, begins with an event of the first and ends when its transfers have.
final class BufferPool: Sendable {
  private let device: String
  private let context: ContextHandle
  private let maximumByteCount: Int
  /// Kept buffers beyond this many bytes are freed.
  private let keptByteLimit: Int
  private let reusesBuffers: Bool
  private let failures: CallFailures?
  private let kept = Mutex(Kept())

  private struct Kept {
    var byCapacity: [Int: [MemoryHandle]] = [:]
    var byteCount = 0
  }

  init(_ info: OpenCLDeviceInfo, context: ContextHandle, reusesBuffers: Bool = true, failures: CallFailures? = nil) {
    (self.reusesBuffers, self.failures) = (reusesBuffers, failures)
    device = info.identifier
    self.context = context
    maximumByteCount = info.maximumBufferByteCount
    keptByteLimit = min(info.memoryByteCount / 8, 512 << 20)
  }

  /// Memory for `byteCount` bytes; contents undefined.
  ///
  /// - Throws: `DeviceError` if the device allows no such buffer, or has no memory even after the kept ones are freed.
  func take(byteCount: Int) throws(DeviceError) -> (memory: MemoryHandle, capacity: Int) {
    guard byteCount >= 0, byteCount <= maximumByteCount else {
      throw DeviceError(
        device: device, call: "allocate \(ByteText.of(byteCount))", name: "out of memory",
        remedy: "The device's largest single buffer is \(ByteText.of(maximumByteCount)): use a smaller --batch-size, or --device cpu.")
    }
    let capacity = min(Self.capacity(for: byteCount), maximumByteCount)
    if reusesBuffers, let memory = reuse(capacity) { return (memory, capacity) }
    do {
      return (try create(capacity), capacity)
    } catch  where error.isOutOfMemory {
      trim()
      return (try create(capacity), capacity)
    }
  }

  /// Keeps a buffer for reuse, or frees it where enough are kept.
  func giveBack(_ memory: MemoryHandle, capacity: Int) {
    kept.withLock { kept in
      guard kept.byteCount + capacity <= keptByteLimit else { return }
      kept.byCapacity[capacity, default: []].append(memory)
      kept.byteCount += capacity
    }
  }

  /// Frees every kept buffer.
  func trim() {
    let freed = kept.withLock { kept in
      let freed = kept.byCapacity
      kept = Kept()
      return freed
    }
    withExtendedLifetime(freed) {}
  }

  /// Bytes kept for reuse.
  var keptByteCount: Int { kept.withLock { $0.byteCount } }

  /// Sizes rounded up to eighths of a power of two, at least 4 KiB: few distinct sizes, and at most 1/8 more than asked for.
  static func capacity(for byteCount: Int) -> Int {
    guard byteCount > 4096 else { return 4096 }
    let power = Int.bitWidth - 1 - (byteCount - 1).leadingZeroBitCount
    let step = max(512, (1 << power) / 8)
    let (sum, overflow) = byteCount.addingReportingOverflow(step - 1)
    return overflow ? byteCount : sum / step * step
  }

  private func reuse(_ capacity: Int) -> MemoryHandle? {
    kept.withLock { kept in
      guard let memory = kept.byCapacity[capacity]?.popLast() else { return nil }
      kept.byteCount -= capacity
      return memory
    }
  }

  private func create(_ capacity: Int) throws(DeviceError) -> MemoryHandle {
    var status: cl_int = 0
    let call = "clCreateBuffer(\(ByteText.of(capacity)))"
    if let status = failures?.status(of: "clCreateBuffer") { throw DeviceError(status: status, call: call, on: device) }
    let raw = clCreateBuffer(context.raw, cl_mem_flags(CL_MEM_READ_WRITE), capacity, nil, &status)
    return MemoryHandle(adopting: try adopt(raw, status, call, on: device))
  }
}

/// A buffer of an OpenCL device; its memory returns to the pool with the last reference.
final class OpenCLBuffer: DeviceBuffer {
  let byteCount: Int
  let memory: MemoryHandle
  let pool: BufferPool
  private let capacity: Int

  init(byteCount: Int, from pool: BufferPool) throws(DeviceError) {
    let (memory, capacity) = try pool.take(byteCount: byteCount)
    (self.byteCount, self.memory, self.capacity, self.pool) = (byteCount, memory, capacity, pool)
  }

  deinit { pool.giveBack(memory, capacity: capacity) }
}
