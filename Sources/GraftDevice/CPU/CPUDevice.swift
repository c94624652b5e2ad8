import CKernels
import Foundation

/// This machine's processor, without any driver: the CPU family compiled natively, on a pool of threads.
///
/// Everything happens at once, in the caller's thread and the pool's; `finish` has nothing to wait for.
public final class CPUDevice: Device {
  public let traits: DeviceTraits
  private let instructionSet: InstructionSet
  private let pool: Pool

  /// Owns the C pool. `@unchecked Sendable`: `lock` makes one caller at a time.
  private final class Pool: @unchecked Sendable {
    let handle: OpaquePointer
    let lock = NSLock()
    init(_ handle: OpaquePointer) { self.handle = handle }
    deinit { graft_pool_destroy(handle) }
  }

  /// - Parameters:
  ///   - threadCount: threads to compute with; `nil` takes every core the process may use.
  ///   - instructionSet: `nil` takes the best, or what the environment's `GRAFT_ISA` says.
  /// - Throws: `DeviceError` if the instruction set is not to be had or the threads can't be started.
  public init(threadCount: Int? = nil, instructionSet: InstructionSet? = nil) throws(DeviceError) {
    let chosen: InstructionSet = if let instructionSet { instructionSet } else { try InstructionSet.chosen() }
    guard graft_isa_supported(chosen.raw) != 0 else {
      throw DeviceError(device: "cpu", call: "use \(chosen.name)", name: "not available", remedy: "This processor lacks that instruction set.")
    }
    let cores = CPUDevice.availableCores()
    let threads = threadCount ?? cores
    guard threads >= 1, threads <= 4096 else {
      throw DeviceError(device: "cpu", call: "start \(threads) threads", name: "out of range", remedy: "Give a number from 1 to 4096.")
    }
    guard let handle = graft_pool_create(Int32(threads)) else {
      throw DeviceError(device: "cpu", call: "start \(threads) threads", name: "no resources", remedy: "Try fewer with --threads.")
    }
    pool = Pool(handle)
    self.instructionSet = chosen
    let memory = CPUDevice.memoryByteCount()
    var traits = DeviceTraits(
      kind: .cpu, identifier: "cpu", name: CPUDevice.processorName(), vendor: "", driver: "none needed", family: .cpu, computeUnits: cores,
      memoryByteCount: memory, maximumBufferByteCount: memory, localMemoryByteCount: 0, maximumWorkGroupSize: 1,
      vectorWidth: Int(graft_isa_vector_width(chosen.raw)), panelVectors: Int(graft_isa_panel_vectors(chosen.raw)), instructionSet: chosen.name,
      numericFormats: chosen.numericFormats, isGPU: false, threadCount: threads)
    traits.lastCacheByteCount = Int(graft_last_cache_bytes())
    traits.sliceAlignmentByteCount = 2
    traits.multipliesBFloat16Pairs = chosen == .avx512bf16
    self.traits = traits
  }

  /// What one entry of the processor's address cache covers where the system gives huge pages (x86-64, and ARM with pages of
  /// 4 KiB): activations and weights are larger than the thousands of small pages it remembers, and as many page faults fewer
  /// are taken when a plan is made.
  private static let hugePageByteCount = 2 << 20

  public func allocate(byteCount: Int) throws(DeviceError) -> any DeviceBuffer {
    var memory: UnsafeMutableRawPointer?
    let wholePages = byteCount / CPUDevice.hugePageByteCount * CPUDevice.hugePageByteCount
    let status = posix_memalign(&memory, wholePages > 0 ? CPUDevice.hugePageByteCount : 64, max(byteCount, 64))
    guard status == 0, let memory else {
      throw DeviceError(
        device: "cpu", call: "allocate \(byteCount) bytes", code: Int(status), name: "out of memory", remedy: "Use a smaller --batch-size.")
    }
    // A wish: systems without huge pages refuse it, and nothing is lost. Whole pages only, so that no more memory is taken.
    if wholePages > 0 { madvise(memory, wholePages, MADV_HUGEPAGE) }
    return CPUBuffer(memory, byteCount: byteCount, owner: pool)
  }

  public func write(_ source: UnsafeRawBufferPointer, to slice: BufferSlice) throws(DeviceError) {
    let to = try pointer(of: slice, transferring: source.count, "write")
    guard let from = source.baseAddress else { return }
    pool.lock.withLock { _ = memcpy(to, from, source.count) }
  }

  public func read(_ slice: BufferSlice, into destination: UnsafeMutableRawBufferPointer) throws(DeviceError) {
    let from = try pointer(of: slice, transferring: destination.count, "read")
    guard let to = destination.baseAddress else { return }
    pool.lock.withLock { _ = memcpy(to, from, destination.count) }
  }

  public func prepare(_ launches: [Launch]) throws -> any PreparedLaunches {
    var resolved: [graft_kernel_function] = []
    for launch in launches {
      let call = "prepare \(launch.kernel.function) of the \(launch.kernel.family.rawValue) family, for \(launch.label)"
      guard launch.kernel.family == .cpu,
        let function = graft_kernel_find(instructionSet.raw, launch.kernel.precision.storage, launch.kernel.function)
      else {
        throw DeviceError(
          device: "cpu", call: call, name: "no such kernel",
          remedy: "This device runs the kernels of the CPU family only; use an OpenCL device for others.")
      }
      let sizes = launch.grid.globalSize
      guard [sizes.x, sizes.y, sizes.z].allSatisfy({ (0...Int(Int32.max)).contains($0) }) else {
        throw DeviceError(device: "cpu", call: call, name: "a grid of \(sizes)", remedy: "Use a smaller --batch-size.")
      }
      resolved.append(function)
    }
    return try PreparedCPULaunches(device: self, launches: launches, functions: resolved)
  }

  /// Where a slice begins in host memory.
  fileprivate func pointer(of slice: BufferSlice) throws(DeviceError) -> UnsafeMutableRawPointer {
    guard let buffer = slice.buffer as? CPUBuffer, buffer.owner === pool else {
      throw DeviceError(device: "cpu", call: "use a buffer", name: "a buffer of another device", remedy: "Allocate it on this device; report this.")
    }
    return buffer.start + slice.byteOffset
  }

  private func pointer(of slice: BufferSlice, transferring byteCount: Int, _ verb: String) throws(DeviceError) -> UnsafeMutableRawPointer {
    guard byteCount <= slice.byteCount else {
      throw DeviceError(
        device: "cpu", call: "\(verb) \(byteCount) bytes", name: "beyond the slice", remedy: "The slice has \(slice.byteCount) bytes; report this.")
    }
    return try pointer(of: slice)
  }

  public func finish() throws(DeviceError) {}

  fileprivate func run(_ launches: UnsafeBufferPointer<graft_launch>, seconds: UnsafeMutablePointer<Double>?) {
    pool.lock.withLock { graft_pool_run(pool.handle, launches.baseAddress, launches.count, seconds) }
  }

  /// The cores this process may run on (its affinity mask), at least 1.
  private static func availableCores() -> Int {
    max(1, Int(graft_available_cores()))
  }

  /// The machine's memory, or less where a control group (a container, a batch job) allows less.
  private static func memoryByteCount() -> Int {
    min(Int(clamping: ProcessInfo.processInfo.physicalMemory), ControlGroup.memoryLimitByteCount() ?? .max)
  }

  private static func processorName() -> String {
    let text = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
    let line = text.split(separator: "\n").first { $0.hasPrefix("model name") }
    let name = line?.split(separator: ":", maxSplits: 1).last.map { $0.trimmingCharacters(in: .whitespaces) }
    return name.flatMap { $0.isEmpty ? nil : $0 } ?? "CPU"
  }
}

/// Host memory. `@unchecked Sendable`: kernels and copies touch it under the device's lock only.
final class CPUBuffer: DeviceBuffer, @unchecked Sendable {
  let start: UnsafeMutableRawPointer
  let byteCount: Int

  /// The pool of the device that allocated it: what tells its device from others.
  let owner: AnyObject

  init(_ start: UnsafeMutableRawPointer, byteCount: Int, owner: AnyObject) { (self.start, self.byteCount, self.owner) = (start, byteCount, owner) }
  deinit { free(start) }
}

/// Launches as the C pool takes them: one block of memory for buffers, one for parameters.
private final class PreparedCPULaunches: PreparedLaunches {
  private let device: CPUDevice
  /// Keeps the buffers alive.
  private let launches: [Launch]
  private let table: UnsafeMutableBufferPointer<graft_launch>
  private let arguments: UnsafeMutableBufferPointer<UnsafeMutableRawPointer?>
  private let parameters: UnsafeMutableRawBufferPointer

  /// Our own invariant: one function a launch, and grids that fit 32 bits.
  ///
  /// - Throws: `DeviceError` for a buffer of another device.
  init(device: CPUDevice, launches: [Launch], functions: [graft_kernel_function]) throws(DeviceError) {
    // Before anything is allocated, so that an error leaves nothing behind.
    var pointers: [UnsafeMutableRawPointer?] = []
    for launch in launches {
      for slice in launch.buffers { pointers.append(try slice.map { slice throws(DeviceError) in try device.pointer(of: slice) }) }
    }
    (self.device, self.launches) = (device, launches)
    func aligned(_ count: Int) -> Int { (count + 15) & ~15 }
    table = .allocate(capacity: launches.count)
    arguments = .allocate(capacity: pointers.count)
    _ = arguments.initialize(from: pointers)
    parameters = .allocate(byteCount: launches.reduce(0) { $0 + aligned($1.parameters.count) }, alignment: 16)
    var (argument, parameter) = (0, 0)
    for (index, launch) in launches.enumerated() {
      let firstArgument = argument
      argument += launch.buffers.count
      let at = UnsafeMutableRawBufferPointer(rebasing: parameters[parameter..<parameter + launch.parameters.count])
      at.copyBytes(from: launch.parameters)
      let grid = launch.grid.globalSize
      (table.baseAddress! + index).initialize(
        to: graft_launch(
          function: functions[index], buffers: UnsafePointer(arguments.baseAddress! + firstArgument), parameters: UnsafeRawPointer(at.baseAddress),
          x: Int32(grid.x), y: Int32(grid.y), z: Int32(grid.z)))
      parameter += aligned(launch.parameters.count)
    }
  }

  deinit {
    table.deallocate()
    arguments.deallocate()
    parameters.deallocate()
  }

  func enqueue() throws(DeviceError) { device.run(UnsafeBufferPointer(table), seconds: nil) }

  func profile() throws(DeviceError) -> [Double] {
    var seconds = [Double](repeating: 0, count: launches.count)
    seconds.withUnsafeMutableBufferPointer { device.run(UnsafeBufferPointer(table), seconds: $0.baseAddress) }
    return seconds
  }
}
