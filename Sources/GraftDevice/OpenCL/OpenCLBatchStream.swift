import COpenCL

/// Batches through a list of launches, in two in-order queues; arrows are events that the other queue waits for.
///
///     transfers   in(b) ──┐          in(b+1) ──┐  out(b) ──────┐
///                         ↓                    │    ↑          ↓
///     compute             copy(b) launches(b) copy'(b) copy(b+1) launches(b+1) copy'(b+1)
///
/// `in` writes a page-locked block to a landing buffer and `copy` moves it on to the launches' input; `copy'` moves the result
/// to a buffer that `out` reads into a page-locked block. The two copies on the device, some thousandth of a network's traffic, free
/// the landing buffer as soon as the batch before it has begun, and let the next batch overwrite the result at once. So
/// `in(b+1)` runs under the launches of b and `out(b)` under those of b+1; `out(b)` is queued behind `in(b+1)`, because the queue is
/// in order and `out(b)` waits for b.
///
/// Order across the queues, besides what each keeps by itself:
///
/// | command | after | since |
/// |---|---|---|
/// | in(b) | copy(b−1) | it overwrites what that reads |
/// | copy(b) | in(b) | |
/// | copy'(b) | out(b−1) | it overwrites what that reads |
/// | out(b) | copy'(b) | |
/// | the host's write for b+2 | out(b), by `collect` | the block of b is used again; in(b) is done before out(b) |
///
/// So the host waits once a batch, for a result that is two batches old.
final class OpenCLBatchStream: BatchStream {
  let depth = 2
  private let device: OpenCLDevice
  private let launches: PreparedOpenCLLaunches
  private let input, output: BufferSlice
  /// On the device.
  private let landing, leaving: OpenCLBuffer
  /// A block a batch under way.
  private let arriving, results: [PinnedBlock]
  private var batches: [Batch] = []
  private var submitted = 0
  /// What `in` waits for next: the launches' copy of the batch before, or what the compute queue held when the stream began.
  private var landingIsRead: EventHandle
  /// What the next `copy'` waits for.
  private var lastOut: EventHandle?
  private var lastTransfer: EventHandle?

  private struct Batch {
    let place: Int
    let resultByteCount: Int
    /// How far the compute queue is when it is done.
    let turn: UInt64
    /// `in`, `copy`, `copy'`: in order, so that the first that failed is the reason.
    let steps: [Step]
    var out: Step?
  }

  private struct Step {
    let call: String
    let event: EventHandle
  }

  init(_ launches: PreparedOpenCLLaunches, input: BufferSlice, output: BufferSlice, on device: OpenCLDevice) throws(DeviceError) {
    (self.device, self.launches, self.input, self.output) = (device, launches, input, output)
    landing = try OpenCLBuffer(byteCount: input.byteCount, from: device.pool)
    leaving = try OpenCLBuffer(byteCount: output.byteCount, from: device.pool)
    var arriving: [PinnedBlock] = [], results: [PinnedBlock] = []
    for _ in 0..<depth {
      arriving.append(try device.makePinnedBlock(capacity: max(1, input.byteCount)))
      results.append(try device.makePinnedBlock(capacity: max(1, output.byteCount)))
    }
    (self.arriving, self.results) = (arriving, results)
    // In the compute queue, since commands of the buffers' last owner may still be there. Zeros, for a short batch leaves the
    // rest as it is.
    let memory = landing.memory, byteCount = max(1, input.byteCount)
    landingIsRead = try device.queueCommands { queue throws(DeviceError) in
      try device.event("clEnqueueFillBuffer(\(ByteText.of(byteCount)))") { event in
        var zero: UInt8 = 0
        return clEnqueueFillBuffer(queue, memory.raw, &zero, 1, 0, byteCount, 0, nil, event)
      }
    }.result
  }

  /// Transfers must be done before the pool hands the buffers on: it trusts in the compute queue's order alone.
  deinit {
    // In order, so the last is enough. Whatever failed has been told, or is not wanted any more.
    if let lastTransfer { try? device.wait(for: lastTransfer, "clWaitForEvents(the last transfer)") }
  }

  func submit(_ bytes: UnsafeRawBufferPointer, resultByteCount: Int) throws(DeviceError) {
    precondition(
      batches.count < depth && (1...input.byteCount).contains(bytes.count) && (1...output.byteCount).contains(resultByteCount),
      "a batch that the stream has no room for")
    guard let start = bytes.baseAddress else { return }
    let place = submitted % depth
    submitted += 1
    arriving[place].address.copyMemory(from: start, byteCount: bytes.count)
    let arrived = try transfer("clEnqueueWriteBuffer(a batch, \(ByteText.of(bytes.count)))", after: landingIsRead) { queue, count, list, event in
      clEnqueueWriteBuffer(queue, landing.memory.raw, cl_bool(CL_FALSE), 0, bytes.count, arriving[place].address, count, list, event)
    }
    try queueOut()
    let target = try device.buffer(of: input).memory, source = try device.buffer(of: output).memory
    let queued = try device.queueCommands { queue throws(DeviceError) -> [Step] in
      let copied = try step("clEnqueueCopyBuffer(a batch)", after: arrived.event) { count, list, event in
        clEnqueueCopyBuffer(queue, landing.memory.raw, target.raw, 0, input.byteOffset, input.byteCount, count, list, event)
      }
      try launches.enqueue(on: queue)
      let left = try step("clEnqueueCopyBuffer(a result)", after: lastOut) { count, list, event in
        clEnqueueCopyBuffer(queue, source.raw, leaving.memory.raw, output.byteOffset, 0, output.byteCount, count, list, event)
      }
      return [copied, left]
    }
    landingIsRead = queued.result[0].event
    batches.append(Batch(place: place, resultByteCount: resultByteCount, turn: queued.turn, steps: [arrived] + queued.result))
  }

  func isFirstDone() -> Bool {
    guard let first = batches.first else { return true }
    if first.out == nil {
      guard first.steps.allSatisfy(\.event.isDone) else { return false }
      // A failure is told by `collect`.
      guard (try? queueOut()) != nil else { return true }
    }
    return batches.first?.out?.event.isDone ?? true
  }

  func collect(into result: UnsafeMutableRawBufferPointer) throws(DeviceError) {
    precondition(batches.first.map { $0.resultByteCount >= result.count } ?? result.isEmpty, "a result that was not asked for")
    try queueOut()
    guard let batch = batches.first, let out = batch.out else { return }
    do {
      try device.wait(for: out.event, out.call)
    } catch {
      // What failed first is the reason; what waited for it only says so.
      for step in batch.steps {
        if let status = step.event.failure { throw DeviceError(status: status, call: step.call, on: device.info.identifier) }
      }
      throw error
    }
    batches.removeFirst()
    device.noteDone(batch.turn)
    if let start = result.baseAddress { start.copyMemory(from: results[batch.place].address, byteCount: result.count) }
  }

  /// Queues `out` of the youngest batch, unless it is.
  private func queueOut() throws(DeviceError) {
    guard let last = batches.indices.last, batches[last].out == nil else { return }
    let batch = batches[last], byteCount = batch.resultByteCount
    guard let left = batch.steps.last else { return }
    let out = try transfer("clEnqueueReadBuffer(a result, \(ByteText.of(byteCount)))", after: left.event) { queue, count, list, event in
      clEnqueueReadBuffer(queue, leaving.memory.raw, cl_bool(CL_FALSE), 0, byteCount, results[batch.place].address, count, list, event)
    }
    batches[last].out = out
    lastOut = out.event
  }

  private func transfer(
    _ call: String, after event: EventHandle,
    _ enqueue: (cl_command_queue, cl_uint, UnsafePointer<cl_event?>, UnsafeMutablePointer<cl_event?>) -> cl_int
  ) throws(DeviceError) -> Step {
    let queued = try device.queueTransfers { queue throws(DeviceError) -> Step in
      try step(call, after: event) { count, list, event in
        guard let list else { return cl_int(CL_INVALID_EVENT_WAIT_LIST) }
        return enqueue(queue, count, list, event)
      }
    }
    lastTransfer = queued.event
    return queued
  }

  private func step(
    _ call: String, after event: EventHandle?, _ enqueue: (cl_uint, UnsafePointer<cl_event?>?, UnsafeMutablePointer<cl_event?>) -> cl_int
  ) throws(DeviceError) -> Step {
    let event = try device.event(call) { target in
      guard let event else { return enqueue(0, nil, target) }
      var raw: cl_event? = event.raw
      return enqueue(1, &raw, target)
    }
    return Step(call: call, event: event)
  }
}
