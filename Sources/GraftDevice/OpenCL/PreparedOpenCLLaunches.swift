import COpenCL

/// Launches as kernels whose arguments are set: to run them, only the grids have to be passed.
final class PreparedOpenCLLaunches: PreparedLaunches {
  private let device: OpenCLDevice
  private let commands: [Command]
  /// Launches there were, those with an empty grid among them.
  private let launchCount: Int
  /// What the kernels' arguments point to.
  private let launches: [Launch]
  private let subBuffers: [SliceKey: MemoryHandle]

  private struct Command {
    let kernel: KernelHandle
    /// Three work-item counts, then three work-group sizes.
    let grid: [Int]
    let launch: Int
  }

  private struct SliceKey: Hashable {
    let buffer: ObjectIdentifier
    let byteOffset: Int
    let byteCount: Int
  }

  /// Launches are handed to the driver in batches of this many, so that it starts while the rest is being queued.
  private static let flushInterval = 32

  init(_ launches: [Launch], device: OpenCLDevice, program: (KernelReference) -> ProgramHandle?) throws(DeviceError) {
    var commands: [Command] = []
    var subBuffers: [SliceKey: MemoryHandle] = [:]
    for (index, launch) in launches.enumerated() {
      let sizes = launch.grid.globalSize
      guard sizes.x != 0, sizes.y != 0, sizes.z != 0 else { continue }
      let call = Self.call(launch)
      guard let program = program(launch.kernel) else { throw DeviceError(status: CL_INVALID_PROGRAM, call: call, on: device.info.identifier) }
      let kernel = try Self.makeKernel(launch, program, device)
      for (position, slice) in launch.buffers.enumerated() {
        try Self.set(slice, at: position, of: kernel, call: call, device, &subBuffers)
      }
      if !launch.parameters.isEmpty {
        try check(
          clSetKernelArg(kernel.raw, cl_uint(launch.buffers.count), launch.parameters.count, launch.parameters),
          "clSetKernelArg(\(launch.kernel.function), \(launch.parameters.count) bytes of parameters)", on: device.info.identifier)
      }
      commands.append(Command(kernel: kernel, grid: try Self.checkedGrid(launch, kernel, device.info), launch: index))
    }
    (self.device, self.commands, self.launches, self.subBuffers) = (device, commands, launches, subBuffers)
    launchCount = launches.count
  }

  func enqueue() throws(DeviceError) {
    guard !commands.isEmpty else { return }
    try device.queueCommands { queue throws(DeviceError) in try enqueue(on: queue) }
  }

  /// Queues every launch; for `OpenCLDevice.queueCommands`.
  func enqueue(on queue: cl_command_queue) throws(DeviceError) {
    for (index, command) in commands.enumerated() {
      try run(command, on: queue, event: nil)
      if index % Self.flushInterval == Self.flushInterval - 1 { try check(clFlush(queue), "clFlush", on: device.info.identifier) }
    }
  }

  /// Whether it was prepared by `device`.
  func belongs(to other: OpenCLDevice) -> Bool { device === other }

  func profile() throws(DeviceError) -> [Double] {
    var seconds = [Double](repeating: 0, count: launchCount)
    guard !commands.isEmpty else { return seconds }
    try device.queueProfiled { queue throws(DeviceError) in
      for command in commands {
        var raw: cl_event?
        try run(command, on: queue, event: &raw)
        let call = Self.call(launches[command.launch])
        let event = EventHandle(adopting: try adopt(raw, CL_SUCCESS, call, on: device.info.identifier))
        try device.wait(for: event, call)
        let info = InfoQuery(call: "clGetEventProfilingInfo", device: device.info.identifier) {
          clGetEventProfilingInfo(event.raw, $0, $1, $2, $3)
        }
        let start = try info.value(CL_PROFILING_COMMAND_START, cl_ulong(0))
        let end = try info.value(CL_PROFILING_COMMAND_END, cl_ulong(0))
        seconds[command.launch] = end > start ? Double(end - start) * 1e-9 : 0
      }
    }
    return seconds
  }

  private func run(_ command: Command, on queue: cl_command_queue, event: UnsafeMutablePointer<cl_event?>?) throws(DeviceError) {
    try device.retryingWithoutPool {
      command.grid.withUnsafeBufferPointer { grid in
        guard let sizes = grid.baseAddress else { return cl_int(CL_INVALID_WORK_DIMENSION) }
        return clEnqueueNDRangeKernel(queue, command.kernel.raw, 3, nil, sizes, sizes + 3, 0, nil, event)
      }
    } call: {
      Self.call(launches[command.launch])
    }
  }

  private static func call(_ launch: Launch) -> String { "clEnqueueNDRangeKernel(\(launch.kernel.function), for \(launch.label))" }

  private static func makeKernel(_ launch: Launch, _ program: ProgramHandle, _ device: OpenCLDevice) throws(DeviceError) -> KernelHandle {
    let reference = launch.kernel
    let path = "\(reference.family.rawValue)/\(reference.file).cl"
    var status: cl_int = 0
    let raw = clCreateKernel(program.raw, reference.function, &status)
    let name = device.info.identifier
    let kernel = KernelHandle(adopting: try adopt(raw, status, "clCreateKernel(\(reference.function) of \(path))", on: name))
    let info = InfoQuery(call: "clGetKernelInfo", device: name) { clGetKernelInfo(kernel.raw, $0, $1, $2, $3) }
    let expected = Int(try info.value(CL_KERNEL_NUM_ARGS, cl_uint(0)))
    let given = launch.buffers.count + (launch.parameters.isEmpty ? 0 : 1)
    guard given == expected else {
      throw DeviceError(
        device: name, call: "clSetKernelArg(\(reference.function))", code: Int(CL_INVALID_KERNEL_ARGS), name: "CL_INVALID_KERNEL_ARGS",
        remedy: "\(path) declares \(expected) arguments and \(launch.label) gives \(given); report this.")
    }
    return kernel
  }

  /// A whole buffer as it is, a part of one as a sub-buffer (shared by the launches that use the same part), none as null.
  private static func set(
    _ slice: BufferSlice?, at position: Int, of kernel: KernelHandle, call: String, _ device: OpenCLDevice,
    _ subBuffers: inout [SliceKey: MemoryHandle]
  ) throws(DeviceError) {
    let setting = "clSetKernelArg(\(position)) before \(call)"
    guard let slice else {
      var none: cl_mem?
      return try check(clSetKernelArg(kernel.raw, cl_uint(position), MemoryLayout<cl_mem?>.size, &none), setting, on: device.info.identifier)
    }
    let buffer = try device.buffer(of: slice)
    var memory = buffer.memory
    // OpenCL has no empty sub-buffers; a kernel that is given an empty slice does not touch it.
    if slice.byteOffset > 0, slice.byteCount > 0 {
      let key = SliceKey(buffer: ObjectIdentifier(buffer), byteOffset: slice.byteOffset, byteCount: slice.byteCount)
      if let existing = subBuffers[key] {
        memory = existing
      } else {
        memory = try makeSubBuffer(slice, of: buffer, device.info)
        subBuffers[key] = memory
      }
    }
    var raw: cl_mem? = memory.raw
    try check(clSetKernelArg(kernel.raw, cl_uint(position), MemoryLayout<cl_mem?>.size, &raw), setting, on: device.info.identifier)
  }

  private static func makeSubBuffer(_ slice: BufferSlice, of buffer: OpenCLBuffer, _ info: OpenCLDeviceInfo) throws(DeviceError) -> MemoryHandle {
    let call = "clCreateSubBuffer(\(slice.byteCount) bytes at \(slice.byteOffset))"
    guard slice.byteOffset % info.sliceAlignment == 0 else {
      throw DeviceError(
        device: info.identifier, call: call, code: Int(CL_MISALIGNED_SUB_BUFFER_OFFSET), name: "CL_MISALIGNED_SUB_BUFFER_OFFSET",
        remedy: "Slices of this device's buffers start at multiples of \(info.sliceAlignment) bytes; report this.")
    }
    var region = cl_buffer_region(origin: slice.byteOffset, size: slice.byteCount)
    var status: cl_int = 0
    let raw = clCreateSubBuffer(
      buffer.memory.raw, cl_mem_flags(CL_MEM_READ_WRITE), cl_buffer_create_type(CL_BUFFER_CREATE_TYPE_REGION), &region, &status)
    return MemoryHandle(adopting: try adopt(raw, status, call, on: info.identifier))
  }
}
