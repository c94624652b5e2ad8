import COpenCL
import Synchronization

/// Page-locked host memory through which writes pass while the device is busy.
///
/// A blocking write would wait for all work queued before it. Copying into a block that the driver can transfer from on
/// its own lets the caller go on at once. Blocks are used in turn, and a turn waits for the block's last transfer, which
/// bounds the memory. Batches of a network have blocks of their own: `OpenCLBatchStream`.
final class StagingRing: Sendable {
  /// Larger writes (weights, mostly) do not pass through here.
  static let maximumByteCount = 32 << 20
  private static let blockCount = 4

  private struct Place: Sendable {
    var block: PinnedBlock
    /// The transfer that last read from it.
    var transfer: EventHandle?
  }

  private struct State {
    var places = [Place?](repeating: nil, count: blockCount)
    var turn = 0
  }

  private let device: String
  private let context: ContextHandle
  /// A queue of its own: mapping must not wait for what the compute queue is doing.
  private let queue: QueueHandle
  private let waits: HostWaits
  private let state = Mutex(State())

  init(device: String, context: ContextHandle, queue: QueueHandle, waits: HostWaits) {
    (self.device, self.context, self.queue, self.waits) = (device, context, queue, waits)
  }

  deinit {
    // A release has nobody to tell of an error, and the command that failed has told its own caller.
    state.withLock { state in
      for place in state.places { try? place?.transfer?.wait("clWaitForEvents(write)", on: device) }
    }
  }

  /// Copies `source` into the next block and has `enqueue` queue the transfer from there.
  func write(
    _ source: UnsafeRawBufferPointer, enqueue: (UnsafeRawPointer) throws(DeviceError) -> EventHandle
  ) throws(DeviceError) {
    guard let start = source.baseAddress else { return }
    try state.withLock { state throws(DeviceError) in
      let turn = state.turn
      state.turn = (turn + 1) % Self.blockCount
      if let transfer = state.places[turn]?.transfer {
        state.places[turn]?.transfer = nil
        if !transfer.isDone { waits.add() }
        try transfer.wait("clWaitForEvents(write)", on: device)
      }
      let block: PinnedBlock
      if let old = state.places[turn]?.block, old.capacity >= source.count {
        block = old
      } else {
        state.places[turn] = nil
        block = try PinnedBlock(
          capacity: BufferPool.capacity(for: source.count), context: context, queue: queue, device: device, waits: waits)
        state.places[turn] = Place(block: block)
      }
      block.address.copyMemory(from: start, byteCount: source.count)
      state.places[turn]?.transfer = try enqueue(UnsafeRawPointer(block.address))
    }
  }
}
