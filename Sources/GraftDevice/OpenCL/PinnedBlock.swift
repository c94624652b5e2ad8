import COpenCL
import Synchronization

/// How often this side has waited for a device.
final class HostWaits: Sendable {
  private let waits = Atomic<Int>(0)
  var count: Int { waits.load(ordering: .relaxed) }
  func add() { waits.add(1, ordering: .relaxed) }
}

/// Host memory that the driver allocated page-locked, mapped for as long as it lives: what a device can read and write on its own.
///
/// `@unchecked Sendable`: the address never changes; who may touch the memory is its owner's business.
final class PinnedBlock: @unchecked Sendable {
  let capacity: Int
  let address: UnsafeMutableRawPointer
  private let memory: MemoryHandle
  private let queue: QueueHandle

  /// - Parameter queue: one that nothing else is queued in, for mapping waits for what is.
  init(capacity: Int, context: ContextHandle, queue: QueueHandle, device: String, waits: HostWaits) throws(DeviceError) {
    var status: cl_int = 0
    let raw = clCreateBuffer(context.raw, cl_mem_flags(CL_MEM_ALLOC_HOST_PTR | CL_MEM_READ_WRITE), capacity, nil, &status)
    memory = MemoryHandle(adopting: try adopt(raw, status, "clCreateBuffer(staging, \(ByteText.of(capacity)))", on: device))
    waits.add()
    let mapped = clEnqueueMapBuffer(
      queue.raw, memory.raw, cl_bool(CL_TRUE), cl_map_flags(CL_MAP_READ | CL_MAP_WRITE), 0, capacity, 0, nil, nil, &status)
    guard status == CL_SUCCESS, let mapped else {
      throw DeviceError(status: status == CL_SUCCESS ? CL_MAP_FAILURE : status, call: "clEnqueueMapBuffer(staging)", on: device)
    }
    (self.capacity, self.queue, address) = (capacity, queue, mapped)
  }

  /// Our own invariant: no transfer is under way.
  deinit {
    clEnqueueUnmapMemObject(queue.raw, memory.raw, address, 0, nil, nil)
    // Some drivers free nothing before they are told to begin.
    clFlush(queue.raw)
  }
}
