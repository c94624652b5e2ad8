import COpenCL
import Synchronization

/// Page-locked host memory through which writes pass while the device is busy.
///
/// A blocking write would wait for all work queued before it. Copying into a block that the driver can transfer from on
/// its own lets the caller go on at once: the device computes one batch while the next is on its way. Blocks are used in
/// turn, and a turn waits for the block's last transfer, which bounds the memory.
final class StagingRing: Sendable {
  /// Larger writes (weights, mostly) do not pass through here.
  static let maximumByteCount = 32 << 20
  private static let blockCount = 4

  /// Host memory the driver allocated, mapped for as long as it lives.
  ///
  /// `@unchecked Sendable`: blocks are reached through `state` only, under its lock.
  private final class Block: @unchecked Sendable {
    let capacity: Int
    let address: UnsafeMutableRawPointer
    /// The transfer that last read from it.
    var transfer: EventHandle?
    private let memory: MemoryHandle
    private let queue: QueueHandle

    init(capacity: Int, context: ContextHandle, queue: QueueHandle, device: String) throws(DeviceError) {
      var status: cl_int = 0
      let flags = cl_mem_flags(CL_MEM_ALLOC_HOST_PTR | CL_MEM_READ_ONLY)
      let raw = clCreateBuffer(context.raw, flags, capacity, nil, &status)
      memory = MemoryHandle(adopting: try adopt(raw, status, "clCreateBuffer(staging, \(ByteText.of(capacity)))", on: device))
      let mapped = clEnqueueMapBuffer(
        queue.raw, memory.raw, cl_bool(CL_TRUE), cl_map_flags(CL_MAP_WRITE_INVALIDATE_REGION), 0, capacity, 0, nil, nil, &status)
      guard status == CL_SUCCESS, let mapped else {
        throw DeviceError(status: status == CL_SUCCESS ? CL_MAP_FAILURE : status, call: "clEnqueueMapBuffer(staging)", on: device)
      }
      (self.capacity, self.queue, address) = (capacity, queue, mapped)
    }

    deinit {
      // A release has nobody to tell of an error, and the command that failed has told its own caller.
      try? transfer?.wait("clWaitForEvents(write)", on: "")
      clEnqueueUnmapMemObject(queue.raw, memory.raw, address, 0, nil, nil)
    }
  }

  private struct State {
    var blocks = [Block?](repeating: nil, count: blockCount)
    var turn = 0
  }

  private let device: String
  private let context: ContextHandle
  /// A queue of its own: mapping must not wait for what the compute queue is doing.
  private let queue: QueueHandle
  private let state = Mutex(State())

  init(device: String, context: ContextHandle, queue: QueueHandle) {
    (self.device, self.context, self.queue) = (device, context, queue)
  }

  /// Copies `source` into the next block and has `enqueue` queue the transfer from there.
  func write(
    _ source: UnsafeRawBufferPointer, enqueue: (UnsafeRawPointer) throws(DeviceError) -> EventHandle
  ) throws(DeviceError) {
    try state.withLock { state throws(DeviceError) in
      let turn = state.turn
      state.turn = (turn + 1) % Self.blockCount
      let block: Block
      if let old = state.blocks[turn], old.capacity >= source.count {
        block = old
      } else {
        state.blocks[turn] = nil
        block = try Block(capacity: BufferPool.capacity(for: source.count), context: context, queue: queue, device: device)
        state.blocks[turn] = block
      }
      if let transfer = block.transfer {
        block.transfer = nil
        try transfer.wait("clWaitForEvents(write)", on: device)
      }
      block.address.copyMemory(from: source.baseAddress ?? UnsafeRawPointer(block.address), byteCount: source.count)
      block.transfer = try enqueue(UnsafeRawPointer(block.address))
    }
  }
}
