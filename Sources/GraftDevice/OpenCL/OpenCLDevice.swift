import COpenCL
import Foundation
import Synchronization

/// Any OpenCL 1.2 device, through the ICD loader.
///
/// One in-order queue takes all commands but a stream's transfers, which have an in-order queue of their own, ordered with the
/// first by events (`OpenCLBatchStream`). Nothing waits but `read`, `finish`, `profile`, a stream's `collect` and, while the
/// device is busy, a write larger than a staging block; each wait is counted.
public final class OpenCLDevice: Device {
  public let traits: DeviceTraits
  public let info: OpenCLDeviceInfo

  let context: ContextHandle
  let pool: BufferPool
  private let queue: QueueHandle
  /// Of streams.
  private let transferQueue: QueueHandle
  /// For mapping page-locked memory, which must not wait for the others.
  private let mappingQueue: QueueHandle
  private let waits = HostWaits()
  /// Of tests.
  let failures: CallFailures?
  private let builder: ProgramBuilder
  private let staging: StagingRing
  /// Held while commands are queued, so that a list of launches stays together.
  private let progress = Mutex(Progress())

  private struct Found {
    let unit: MatrixUnit?
    /// Whether a program for it could not be built, so that it is done without.
    var isRefused = false
  }
  private let foundUnit = Mutex<Found?>(nil)

  private struct Progress {
    /// How many times commands were queued, and up to which of these all is known to be done.
    var queued: UInt64 = 0
    var done: UInt64 = 0
    /// For profiling; made when first asked for.
    var profilingQueue: QueueHandle?
  }

  /// - Parameter family: the kernels to run; by default those of the device's kind.
  /// - Throws: `DeviceError` if the device cannot be used or opened.
  public convenience init(_ info: OpenCLDeviceInfo, family: KernelFamily? = nil) throws(DeviceError) {
    let environment = ProcessInfo.processInfo.environment
    let cache = info.keepsPrograms(environment: environment) ? ProgramCache(directory: nil) : ProgramCache(environment: environment)
    try self.init(info, family: family, sources: .embedded, cache: cache)
  }

  /// - Parameters:
  ///   - reusesBuffers: false keeps freed memory from being handed out again: for simulators that watch what is written.
  ///   - computeUnits: how many to plan for, if not as many as there are: a test's large GPU.
  ///   - failures: calls that a test has fail.
  package init(
    _ info: OpenCLDeviceInfo, family: KernelFamily? = nil, sources: KernelSources, cache: ProgramCache, reusesBuffers: Bool = true,
    computeUnits: Int? = nil, failures: CallFailures? = nil
  ) throws(DeviceError) {
    let name = info.identifier
    if let obstacle = info.obstacle {
      throw DeviceError(device: name, call: "open \(info.name)", name: "not usable", remedy: "This device cannot be used: \(obstacle).")
    }
    var status: cl_int = 0
    var device: cl_device_id? = info.id.raw
    // Naming the platform matters: some loaders cannot tell it from the device.
    let properties = [cl_context_properties(CL_CONTEXT_PLATFORM), cl_context_properties(bitPattern: info.id.platform), 0]
    let rawContext = clCreateContext(properties, 1, &device, nil, nil, &status)
    context = ContextHandle(adopting: try adopt(rawContext, status, "clCreateContext", on: name))
    queue = try Self.makeQueue(info, context, properties: 0)
    transferQueue = try Self.makeQueue(info, context, properties: 0)
    mappingQueue = try Self.makeQueue(info, context, properties: 0)
    (self.info, self.failures) = (info, failures)
    var traits = info.traits(family: family)
    traits.computeUnits = computeUnits ?? traits.computeUnits
    self.traits = traits
    pool = BufferPool(info, context: context, reusesBuffers: reusesBuffers, failures: failures)
    builder = ProgramBuilder(info, context: context, sources: sources, cache: cache, failures: failures)
    staging = StagingRing(device: name, context: context, queue: mappingQueue, waits: waits)
  }

  deinit {
    clFinish(transferQueue.raw)
    clFinish(queue.raw)
  }

  private static func makeQueue(
    _ info: OpenCLDeviceInfo, _ context: ContextHandle, properties: cl_command_queue_properties
  ) throws(DeviceError) -> QueueHandle {
    var status: cl_int = 0
    let raw = clCreateCommandQueue(context.raw, info.id.raw, properties, &status)
    return QueueHandle(adopting: try adopt(raw, status, "clCreateCommandQueue", on: info.identifier))
  }

  // MARK: Device

  public func allocate(byteCount: Int) throws(DeviceError) -> any DeviceBuffer {
    try OpenCLBuffer(byteCount: byteCount, from: pool)
  }

  public func write(_ source: UnsafeRawBufferPointer, to slice: BufferSlice) throws(DeviceError) {
    let memory = try memory(of: slice, transferring: source.count, "write")
    guard let start = source.baseAddress, !source.isEmpty else { return }
    func enqueue(from start: UnsafeRawPointer) throws(DeviceError) -> EventHandle {
      try queueTransfer("clEnqueueWriteBuffer(\(ByteText.of(source.count)))") { queue, event in
        clEnqueueWriteBuffer(queue, memory.raw, cl_bool(CL_FALSE), slice.byteOffset, source.count, start, 0, nil, event)
      }.event
    }
    if source.count <= StagingRing.maximumByteCount, progress.withLock({ $0.done < $0.queued }) {
      try staging.write(source, enqueue: enqueue(from:))
    } else {
      // Nothing to overlap with, or more than is worth copying twice.
      try wait(for: enqueue(from: start), "clWaitForEvents(write)")
    }
  }

  public func read(_ slice: BufferSlice, into destination: UnsafeMutableRawBufferPointer) throws(DeviceError) {
    let memory = try memory(of: slice, transferring: destination.count, "read")
    guard let start = destination.baseAddress, !destination.isEmpty else { return try finish() }
    // Queued under the lock, awaited outside it: others go on queueing meanwhile.
    let transfer = try queueTransfer("clEnqueueReadBuffer(\(ByteText.of(destination.count)))") { queue, event in
      clEnqueueReadBuffer(queue, memory.raw, cl_bool(CL_FALSE), slice.byteOffset, destination.count, start, 0, nil, event)
    }
    try wait(for: transfer.event, "clWaitForEvents(read)")
    noteDone(transfer.turn)
  }

  public func prepare(_ launches: [Launch]) throws -> any PreparedLaunches {
    let programs = try builder.programs(for: launches.map(\.kernel))
    return try PreparedOpenCLLaunches(launches, device: self) { programs[self.builder.key($0)] }
  }

  public func finish() throws(DeviceError) {
    let turn = progress.withLock { $0.queued }
    try finish(queue, "clFinish")
    try finish(transferQueue, "clFinish(transfers)")
    noteDone(turn)
  }

  public func stream(_ launches: any PreparedLaunches, input: BufferSlice, output: BufferSlice) throws(DeviceError) -> any BatchStream {
    guard let launches = launches as? PreparedOpenCLLaunches, launches.belongs(to: self) else {
      throw DeviceError(
        device: info.identifier, call: "make a stream", name: "launches of another device", remedy: "Prepare them on this device; report this.")
    }
    _ = (try buffer(of: input), try buffer(of: output))
    return try OpenCLBatchStream(launches, input: input, output: output, on: self)
  }

  public var hostWaitCount: Int { waits.count }

  /// Its matrix unit, looked for when first asked; the answer is kept for as long as the device is open, unless a test forces one.
  ///
  /// A unit that should be there and is not is noted once: products then run on the plain kernels, and are much slower.
  ///
  /// - Parameter again: whether to try although it is on disk what came of it with this driver.
  public func matrixUnit(again: Bool = false) throws(DeviceError) -> MatrixUnit? {
    guard traits.family == .gpu else { return nil }
    if foundUnit.withLock({ $0?.isRefused == true }) { return nil }
    if MatrixUnitChoice.forced != nil { return try MatrixUnits.find(on: self).unit }
    if let known = foundUnit.withLock({ $0 }) { return known.unit }
    let found = try MatrixUnits.find(on: self, again: again)
    let isFirst = foundUnit.withLock { known in
      defer { known = known ?? Found(unit: found.unit) }
      return known == nil
    }
    if isFirst, !found.failures.isEmpty {
      DeviceNotes.note(
        "\(info.identifier) \(info.name): \(found.unit == nil ? "no matrix unit can be used" : "a format has no matrix unit"), so products in it run on "
          + "the plain kernels, which are slower. \(found.failures.joined(separator: " "))")
    }
    if isFirst, !found.groupFailures.isEmpty {
      DeviceNotes.note(
        "\(info.identifier) \(info.name): groups of warps cannot multiply (wgmma), so products run on what single warps multiply, which is slower. "
          + found.groupFailures.joined(separator: " "))
    }
    if isFirst, !found.attentionFailures.isEmpty {
      DeviceNotes.note(
        "\(info.identifier) \(info.name): attention cannot use the matrix unit, so it runs on the plain kernels, which are slower. "
          + found.attentionFailures.joined(separator: " "))
    }
    if isFirst, !found.attentionGradientFailures.isEmpty {
      DeviceNotes.note(
        "\(info.identifier) \(info.name): gradients of attention cannot use the matrix unit, so they run on the plain kernels, which are slower. "
          + found.attentionGradientFailures.joined(separator: " "))
    }
    return found.unit
  }

  /// Does without the matrix unit from now on, because a program for it could not be built, and says so.
  package func refuseMatrixUnit(_ reason: any Error) {
    foundUnit.withLock { $0 = Found(unit: nil, isRefused: true) }
    DeviceNotes.note(
      "\(info.identifier) \(info.name): products run on the plain kernels, which are slower, because one for the matrix unit cannot be built. "
        + String("\(reason)".prefix(800)))
  }

  /// Builds the programs of these kernels side by side, so that plans that use them find them ready.
  ///
  /// - Throws: `BuildError`, `KernelSourceError` or `DeviceError`, of the first program that fails.
  package func build(_ kernels: [KernelReference]) throws { _ = try builder.programs(for: kernels) }

  /// How the programs so far came to be.
  package var programStatistics: ProgramStatistics { builder.statistics }

  /// Bytes of freed buffers that wait to be used again.
  package var pooledByteCount: Int { pool.keptByteCount }

  /// How many owners the driver counts for the context and, together, for the programs: they grow if handles leak.
  package func referenceCounts() throws(DeviceError) -> (context: Int, programs: Int) {
    let context = InfoQuery(call: "clGetContextInfo", device: info.identifier) { clGetContextInfo(self.context.raw, $0, $1, $2, $3) }
    return (Int(try context.value(CL_CONTEXT_REFERENCE_COUNT, cl_uint(0))), try builder.programReferenceCount())
  }

  // MARK: Queueing

  /// Runs `body` with the compute queue while no other thread queues anything, then has the driver start.
  ///
  /// - Returns: what `body` does, and how far the queue is when that is done: for `noteDone`.
  @discardableResult func queueCommands<Result>(
    _ body: (cl_command_queue) throws(DeviceError) -> Result
  ) throws(DeviceError) -> (result: Result, turn: UInt64) {
    try progress.withLock { progress throws(DeviceError) in
      progress.queued += 1
      let result = try body(queue.raw)
      try check(clFlush(queue.raw), "clFlush", on: info.identifier)
      return (result, progress.queued)
    }
  }

  /// Runs `body` with the queue of transfers, then has the driver start.
  func queueTransfers<Result>(_ body: (cl_command_queue) throws(DeviceError) -> Result) throws(DeviceError) -> Result {
    let result = try body(transferQueue.raw)
    try check(clFlush(transferQueue.raw), "clFlush(transfers)", on: info.identifier)
    return result
  }

  /// Makes a call that gives an event.
  func event(_ call: String, _ enqueue: (UnsafeMutablePointer<cl_event?>) -> cl_int) throws(DeviceError) -> EventHandle {
    var event: cl_event?
    try retryingWithoutPool {
      enqueue(&event)
    } call: {
      call
    }
    return EventHandle(adopting: try adopt(event, CL_SUCCESS, call, on: info.identifier))
  }

  func makePinnedBlock(capacity: Int) throws(DeviceError) -> PinnedBlock {
    try PinnedBlock(capacity: capacity, context: context, queue: mappingQueue, device: info.identifier, waits: waits)
  }

  /// Waits for a command, which counts unless it is done.
  func wait(for event: EventHandle, _ call: @autoclosure () -> String) throws(DeviceError) {
    if !event.isDone { waits.add() }
    try event.wait(call(), on: info.identifier)
    if let status = failures?.status(of: "clWaitForEvents") {
      throw DeviceError(status: status, call: call(), on: info.identifier, isOfWaiting: true)
    }
  }

  private func finish(_ queue: QueueHandle, _ call: String) throws(DeviceError) {
    waits.add()
    let status = clFinish(queue.raw)
    guard status == CL_SUCCESS else { throw DeviceError(status: status, call: call, on: info.identifier, isOfWaiting: true) }
  }

  /// Runs `body` with a queue that keeps times, after all that was queued before and before all that follows.
  func queueProfiled(_ body: (cl_command_queue) throws(DeviceError) -> Void) throws(DeviceError) {
    try progress.withLock { progress throws(DeviceError) in
      let profiling: QueueHandle
      if let existing = progress.profilingQueue {
        profiling = existing
      } else {
        profiling = try Self.makeQueue(info, context, properties: cl_command_queue_properties(CL_QUEUE_PROFILING_ENABLE))
        progress.profilingQueue = profiling
      }
      try finish(queue, "clFinish")
      try body(profiling.raw)
      try finish(profiling, "clFinish(profiling)")
    }
  }

  /// Queues one transfer. A driver that allocates late may only now find that memory is short: then what the pool keeps is
  /// freed, and the transfer tried once more.
  private func queueTransfer(
    _ call: String, _ enqueue: (cl_command_queue, UnsafeMutablePointer<cl_event?>) -> cl_int
  ) throws(DeviceError) -> (event: EventHandle, turn: UInt64) {
    try progress.withLock { progress throws(DeviceError) in
      progress.queued += 1
      let handle = try event(call) { enqueue(queue.raw, $0) }
      try check(clFlush(queue.raw), "clFlush", on: info.identifier)
      return (handle, progress.queued)
    }
  }

  /// Makes a call; if the device is short of memory, waits, frees what the pool keeps, and makes it once more.
  func retryingWithoutPool(_ enqueue: () -> cl_int, call: () -> String) throws(DeviceError) {
    func attempt() -> cl_int { failures.flatMap { $0.status(of: String(call().prefix { $0 != "(" })) } ?? enqueue() }
    let status = attempt()
    guard status != CL_SUCCESS else { return }
    let error = DeviceError(status: status, call: call(), on: info.identifier)
    guard error.isOutOfMemory, pool.keptByteCount > 0 else { throw error }
    try finish(queue, "clFinish")
    pool.trim()
    try check(attempt(), call(), on: info.identifier)
  }

  /// Takes note that the compute queue's commands up to a turn are done.
  func noteDone(_ turn: UInt64) {
    progress.withLock { $0.done = max($0.done, turn) }
  }

  // MARK: Slices

  /// The OpenCL memory behind a slice's buffer.
  func buffer(of slice: BufferSlice) throws(DeviceError) -> OpenCLBuffer {
    guard let buffer = slice.buffer as? OpenCLBuffer, buffer.pool === pool else {
      throw DeviceError(
        device: info.identifier, call: "use a buffer", name: "a buffer of another device", remedy: "Allocate it on this device; report this.")
    }
    return buffer
  }

  private func memory(of slice: BufferSlice, transferring byteCount: Int, _ verb: String) throws(DeviceError) -> MemoryHandle {
    guard byteCount <= slice.byteCount else {
      throw DeviceError(
        device: info.identifier, call: "\(verb) \(byteCount) bytes", name: "beyond the slice",
        remedy: "The slice has \(slice.byteCount) bytes; report this.")
    }
    return try buffer(of: slice).memory
  }
}
