/// Memory on a device. Freed (or returned to the device's pool) when the last reference goes.
public protocol DeviceBuffer: AnyObject, Sendable {
  var byteCount: Int { get }
}

/// Launches whose programs are compiled and whose arguments are resolved: run again and again at little cost.
public protocol PreparedLaunches: AnyObject {
  /// Queues every launch, in order; returns without waiting where the device can work on its own.
  func enqueue() throws(DeviceError)
  /// Runs every launch alone and waits for it: seconds each, in order.
  func profile() throws(DeviceError) -> [Double]
}

/// What runs launches: an OpenCL device, or this machine's CPU without any driver.
///
/// Commands take effect in the order they were given, from whatever thread.
public protocol Device: AnyObject, Sendable {
  var traits: DeviceTraits { get }

  /// Uninitialised memory, aligned to at least 64 bytes. A byte count of 0 is allowed.
  func allocate(byteCount: Int) throws(DeviceError) -> any DeviceBuffer
  /// Copies from host memory; returns when the source may be reused.
  func write(_ source: UnsafeRawBufferPointer, to slice: BufferSlice) throws(DeviceError)
  /// Waits for what was queued before, then copies to host memory.
  func read(_ slice: BufferSlice, into destination: UnsafeMutableRawBufferPointer) throws(DeviceError)
  /// Compiles (or finds in the cache) what the launches need.
  func prepare(_ launches: [Launch]) throws -> any PreparedLaunches
  /// Waits until everything queued is done.
  func finish() throws(DeviceError)
  /// A stream of batches through prepared launches, which read `input` and write `output`.
  func stream(_ launches: any PreparedLaunches, input: BufferSlice, output: BufferSlice) throws(DeviceError) -> any BatchStream
  /// How many times this side has waited for the device so far.
  var hostWaitCount: Int { get }
}

/// What a device is and can do.
public struct DeviceTraits: Sendable {
  public enum Kind: String, Sendable, Codable { case cpu, openCL = "opencl" }

  public var kind: Kind
  /// What `--device` takes to choose it: "cpu", "opencl:0".
  public var identifier: String
  public var name: String
  public var vendor: String
  public var driver: String
  /// Which kernels it runs.
  public var family: KernelFamily
  /// Cores, or what OpenCL calls compute units.
  public var computeUnits: Int
  public var memoryByteCount: Int
  /// The largest single buffer.
  public var maximumBufferByteCount: Int
  public var localMemoryByteCount: Int
  public var maximumWorkGroupSize: Int
  /// CPU family: floats in one vector of the kernels (16, 8 or 4). Weights are packed for it.
  public var vectorWidth: Int
  /// CPU family: vectors in a full panel of packed weights (`PANEL_VECTORS` of Kernels/cpu/tile.h).
  public var panelVectors: Int
  /// CPU family: the instruction set the kernels use: "avx512bf16", "avx512", "avx2", "neon", "portable"; a driver's own name for OpenCL.
  public var instructionSet: String
  /// The formats its arithmetic and its storage know, in words: "float32", "float16 storage".
  public var numericFormats: [String]
  /// True for OpenCL devices of type GPU.
  public var isGPU: Bool
  /// Threads the device computes with; 0 where the driver decides.
  public var threadCount: Int

  /// Whether its memory is the processor's, as an integrated GPU's is.
  public var sharesHostMemory = false
  /// Where it is on the machine's bus, if the driver says: a GPU that two drivers list has one address.
  public var busAddress: String?

  /// Whether its kernels multiply bfloat16 two at a time, twice as fast as float32.
  public var multipliesBFloat16Pairs = false

  /// Slices of buffers start at multiples of this: OpenCL's base address alignment; 2 where any element will do.
  public var sliceAlignmentByteCount = 4

  /// GPU family: what multiplies matrices of short numbers; `nil` where plain kernels do, or nobody has looked yet.
  public var matrixUnit: MatrixUnit?

  /// CPU family: bytes of the last cache before memory that the device's threads share; 0 where that is not known.
  public var lastCacheByteCount = 0

  /// Parts of a GPU that a work-group runs on, each with local memory of its own. What Intel's drivers count as compute units are vector
  /// engines, of which there are sixteen in such a part (Xe-HPG; eight wider ones in Xe-HPC, and up to sixteen before).
  public var multiprocessors: Int { max(1, isGPU && vendor.hasPrefix("Intel") ? computeUnits / 16 : computeUnits) }

  public init(
    kind: Kind, identifier: String, name: String, vendor: String, driver: String, family: KernelFamily, computeUnits: Int,
    memoryByteCount: Int, maximumBufferByteCount: Int, localMemoryByteCount: Int, maximumWorkGroupSize: Int, vectorWidth: Int, panelVectors: Int,
    instructionSet: String, numericFormats: [String], isGPU: Bool, threadCount: Int
  ) {
    (self.kind, self.identifier, self.name, self.vendor, self.driver) = (kind, identifier, name, vendor, driver)
    (self.family, self.computeUnits, self.memoryByteCount) = (family, computeUnits, memoryByteCount)
    (self.maximumBufferByteCount, self.localMemoryByteCount) = (maximumBufferByteCount, localMemoryByteCount)
    (self.maximumWorkGroupSize, self.vectorWidth, self.panelVectors) = (maximumWorkGroupSize, vectorWidth, panelVectors)
    self.instructionSet = instructionSet
    (self.numericFormats, self.isGPU, self.threadCount) = (numericFormats, isGPU, threadCount)
  }
}

/// A call to a device that failed.
public struct DeviceError: Error, CustomStringConvertible, Sendable {
  /// The device's identifier or name.
  public let device: String
  /// The call: "clEnqueueNDRangeKernel(gemm)", "allocate 4 GiB".
  public let call: String
  /// The status code, if there is one, and its symbolic name.
  public let code: Int?
  public let name: String
  /// What to do.
  public let remedy: String
  /// Whether it came of waiting for work, which the device took and did not finish.
  public let isOfWaiting: Bool
  /// Whether something was asked for that is not to be had.
  public let isOfChoice: Bool

  public init(
    device: String, call: String, code: Int? = nil, name: String, remedy: String, isOfWaiting: Bool = false, isOfChoice: Bool = false
  ) {
    (self.device, self.call, self.code, self.name, self.remedy) = (device, call, code, name, remedy)
    (self.isOfWaiting, self.isOfChoice) = (isOfWaiting, isOfChoice)
  }

  /// Whether the device ran out of memory: a smaller batch may fit.
  ///
  /// What cannot be allocated is said when work is queued. NVIDIA's drivers have the same CL_OUT_OF_RESOURCES, when one waits for it, for a
  /// kernel that went wrong and took the context along.
  public var isOutOfMemory: Bool {
    if name == "CL_OUT_OF_RESOURCES" { return !isOfWaiting }
    return name == "CL_MEM_OBJECT_ALLOCATION_FAILURE" || name == "CL_OUT_OF_HOST_MEMORY" || name == "out of memory"
  }

  /// Whether the device, or its context, is gone: nothing that is tried on it can succeed.
  public var isLost: Bool {
    switch code {
    case -2, -14, -34, -36, -1108, -1121, -9999: true
    case -5: isOfWaiting
    default: false
    }
  }

  public var description: String {
    "\(device): \(call) failed with \(name)\(code.map { " (\($0))" } ?? ""). \(remedy)"
  }
}

/// A kernel that the driver's compiler refused.
public struct BuildError: Error, CustomStringConvertible, Sendable {
  public let device: String
  public let kernel: String
  public let options: String
  /// The compiler's whole log.
  public let log: String

  public init(device: String, kernel: String, options: String, log: String) {
    (self.device, self.kernel, self.options, self.log) = (device, kernel, options, log)
  }

  public var description: String {
    "\(device): clBuildProgram failed: the driver's compiler refused kernel \(kernel) (options: \(options)). Use --device cpu, and report this log:\n\(log)"
  }
}
