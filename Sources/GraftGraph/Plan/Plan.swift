import GraftDevice

/// A graph made ready for a device: optimised, lowered to launches, memory placed, weights packed.
///
/// Inputs are written, the launches run, outputs read; the plan can run as often as one likes. Inputs and outputs keep their
/// memory between runs, everything else shares one arena.
public final class Plan {
  public let graph: Graph
  public let device: any Device
  /// Bytes of the arena, of what is kept (packed weights, constants) and of inputs.
  public let arenaByteCount: Int
  public let keptByteCount: Int
  /// All the device memory it takes, by use.
  public let memory: PlanMemory
  /// Of inputs and outputs.
  private let slices: [ValueID: BufferSlice]
  private let launches: [Launch]
  /// Which launches are the same one for other images.
  private let sources: [Int]
  private let prepared: any PreparedLaunches

  /// What one launch took, with those that do the same for other images of the batch.
  public struct Timing: Sendable {
    public let label: String
    public let kernel: String
    public private(set) var seconds: Double
    public private(set) var flops: Double
    public private(set) var bytes: Double

    fileprivate mutating func add(seconds: Double, flops: Double, bytes: Double) {
      self.seconds += seconds
      self.flops += flops
      self.bytes += bytes
    }
  }

  /// - Parameters:
  ///   - graph: as read from a model file or built by hand.
  ///   - other: a plan on the same device whose variables this one uses too, by their names; others of its variables are its own.
  /// - Throws: `PlanMemoryError` before anything is allocated; `ShapeError`, `LoweringError`, `DeviceError`, `BuildError`.
  public init(_ graph: Graph, device: any Device, options: PlanOptions = PlanOptions(), variablesOf other: Plan? = nil) throws {
    self.device = device
    var (graph, schedule) = try Plan.build(graph, device: device, options: options)

    let shared = try Plan.sharedVariables(of: graph, with: other)
    // All that is going to be allocated, before any of it is.
    let fixedValues = schedule.fixedValues.filter { shared[$0] == nil }
    var memory = Plan.fixedMemory(graph, fixedValues)
    memory.activations = schedule.memory.byteCount
    memory.weights += schedule.preparedByteCounts.reduce(0, +)
    for case .value(let id)? in schedule.preparation.flatMap(\.operands) where !fixedValues.contains(id) {
      memory.preparation = max(memory.preparation, graph.constant(id).map(Plan.deviceByteCount) ?? 0)
    }
    if options.isStreamed, device.traits.kind == .openCL {
      memory.inputs += (graph.inputs + graph.outputs).reduce(0) { $0 + graph.type(of: $1).byteCount }
    }
    try memory.check(on: device.traits, limit: options.memoryLimit, largestBlock: schedule.blocks.map(\.byteCount).max() ?? 0)
    self.memory = memory

    let arena = try Arena(schedule.memory, on: device)
    arenaByteCount = schedule.memory.byteCount
    var (fixed, kept) = try Plan.placeFixed(graph, fixedValues, device: device)
    var preparedBuffers: [BufferSlice] = []
    for byteCount in schedule.preparedByteCounts {
      preparedBuffers.append(BufferSlice(try device.allocate(byteCount: byteCount)))
      kept += byteCount
    }
    keptByteCount = kept
    fixed.merge(shared) { $1 }
    for id in graph.inputs + graph.outputs where fixed[id] == nil {
      fixed[id] = schedule.outside(id, arena: arena, fixed: fixed)
    }
    slices = fixed

    func place(_ launch: PlannedLaunch, firstImage: Int, extra: [ValueID: BufferSlice] = [:]) -> Launch {
      let buffers = launch.operands.map { operand -> BufferSlice? in
        switch operand {
        case .value(let id): extra[id] ?? schedule.slice(of: id, firstImage: firstImage, arena: arena, fixed: fixed)
        case .prepared(let index): preparedBuffers[index]
        case .scratch(let index): schedule.scratch(index, arena: arena)
        case nil: nil
        }
      }
      return Launch(
        launch.kernel, buffers: buffers, parameters: launch.parameters, grid: launch.grid, label: launch.label, flops: launch.flops,
        bytes: launch.bytes)
    }
    // Preparation, one constant at a time, so that raw weights never all lie on the device beside the packed ones.
    var uses: [ValueID: Int] = [:]
    for case .value(let id)? in schedule.preparation.flatMap(\.operands) { uses[id, default: 0] += 1 }
    for launch in schedule.preparation {
      var extra: [ValueID: BufferSlice] = [:]
      for case .value(let id)? in launch.operands where fixed[id] == nil {
        extra.merge(try Plan.placeFixed(graph, [id], device: device).slices) { a, _ in a }
      }
      try device.prepare([place(launch, firstImage: 0, extra: extra)]).enqueue()
      if device.traits.kind == .openCL, !extra.isEmpty { try device.finish() }
      for case .value(let id)? in launch.operands {
        uses[id, default: 0] -= 1
        guard uses[id] == 0, fixed[id] == nil else { continue }
        schedule.release(id)
        graph.release(id)
      }
    }
    self.graph = graph
    try device.finish()
    launches = schedule.steps.map { place(schedule.launches[$0.launch], firstImage: $0.firstImage) }
    sources = schedule.steps.map(\.launch)
    prepared = try device.prepare(launches)
  }

  /// The graph lowered for a device, its programs built. Where one for the matrix unit cannot be, the plain kernels have to do.
  private static func build(_ graph: Graph, device: any Device, options: PlanOptions) throws -> (graph: Graph, schedule: Schedule) {
    let lowered = try lower(graph, device: device, options: options)
    guard let openCL = device as? OpenCLDevice else { return lowered }
    let kernels = (lowered.schedule.preparation + lowered.schedule.launches).map(\.kernel)
    do {
      try openCL.build(kernels)
      return lowered
    } catch let error as BuildError where ProductKernel.forced == nil && error.options.contains("-DMATRIX_UNIT=") {
      openCL.refuseMatrixUnit(error)
      return try lower(graph, device: device, options: options)
    }
  }

  /// The same for a device, with its matrix unit and what tuning has found for it.
  static func lower(_ graph: Graph, device: any Device, options: PlanOptions) throws -> (graph: Graph, schedule: Schedule) {
    var (options, traits) = (options, device.traits)
    if options.format != .float32, let openCL = device as? OpenCLDevice { traits.matrixUnit = try openCL.matrixUnit() }
    if let unit = traits.matrixUnit, options.usable(unit) == nil {
      DeviceNotes.noteOnce(
        "\(traits.identifier) \(traits.name): its matrix unit takes small float16 numbers for zeros, gradients among them, so training in float16 "
          + "runs on the plain kernels, which are slower; bfloat16 has no such numbers.")
      traits.matrixUnit = nil
    }
    announce(options.format, on: traits)
    if options.tuning == nil, traits.family == .gpu { options.tuning = KernelTuning.stored(for: device) }
    return try lower(graph, traits: traits, options: options)
  }

  /// Says that a device computes products otherwise than its matrix unit, or the format's name, lets one expect.
  static func announce(_ format: ComputeFormat, on traits: DeviceTraits) {
    guard format != .float32, traits.matrixUnit?.formats.contains(format) != true else { return }
    if format == .tf32 {
      DeviceNotes.noteOnce("\(traits.identifier) \(traits.name): it has no matrix unit for tf32, so everything is computed in float32.")
    } else if let unit = traits.matrixUnit {
      DeviceNotes.noteOnce(
        "\(traits.identifier) \(traits.name): its matrix unit, \(unit), does not multiply \(format), so products in it run on the plain kernels, "
          + "which are slower.")
    }
  }

  /// The graph optimised, and its launches: all that needs no device.
  ///
  /// - Throws: `PlanMemoryError` for a value no kernel could count through; `ShapeError`, `LoweringError`.
  static func lower(_ graph: Graph, traits: DeviceTraits, options: PlanOptions) throws -> (graph: Graph, schedule: Schedule) {
    var (graph, traits) = (options.optimizes ? try graph.optimized() : graph, traits)
    try PlanMemory.checkValues(of: graph, on: traits)
    if let byteCount = options.lastCacheByteCount { traits.lastCacheByteCount = byteCount }
    if options.optimizes { graph = try graph.fusingSeparable(traits: traits, options: options) }
    return (graph, try Schedule(graph, traits: traits, options: options))
  }

  /// The kernels that a plan would run products with.
  package static func productChoices(_ graph: Graph, device: any Device, options: PlanOptions) throws -> [ProductChoice] {
    try lower(graph, device: device, options: options).schedule.choices
  }

  /// The other plan's memory for each variable of that name and type.
  ///
  /// - Throws: `ShapeError` for one of another type.
  private static func sharedVariables(of graph: Graph, with other: Plan?) throws -> [ValueID: BufferSlice] {
    guard let other else { return [:] }
    var known: [String: ValueID] = [:]
    for id in other.graph.inputs where other.graph.variables.contains(id) { known[other.graph[id].name] = id }
    var shared: [ValueID: BufferSlice] = [:]
    for id in graph.inputs where graph.variables.contains(id) {
      guard let theirs = known[graph[id].name], let slice = other.slices[theirs] else { continue }
      guard other.graph.type(of: theirs) == graph.type(of: id) else {
        throw ShapeError(graph[id].name, "it is \(other.graph.type(of: theirs)) in one plan and \(graph.type(of: id)) in the other")
      }
      shared[id] = slice
    }
    return shared
  }

  /// Bytes of a constant on the device, where floating-point numbers are float32.
  private static func deviceByteCount(_ tensor: HostTensor) -> Int {
    tensor.elementType.isFloatingPoint ? tensor.elementCount * ElementType.float32.byteCount : tensor.byteCount
  }

  /// What `placeFixed` is going to take.
  private static func fixedMemory(_ graph: Graph, _ ids: [ValueID]) -> PlanMemory {
    var memory = PlanMemory()
    for id in Set(ids) {
      if let tensor = graph.constant(id) {
        memory.weights += deviceByteCount(tensor)
      } else {
        memory.inputs += graph.type(of: id).byteCount
      }
    }
    return memory
  }

  /// Memory for inputs and constants, constants written.
  private static func placeFixed(_ graph: Graph, _ ids: [ValueID], device: any Device) throws -> (slices: [ValueID: BufferSlice], byteCount: Int) {
    var slices: [ValueID: BufferSlice] = [:]
    var total = 0
    for id in ids where slices[id] == nil {
      var tensor = graph.constant(id)
      if let found = tensor, found.elementType != .float32, found.elementType.isFloatingPoint { tensor = HostTensor(found.shape, found.floats()) }
      let byteCount = tensor?.byteCount ?? graph.type(of: id).byteCount
      let slice = BufferSlice(try device.allocate(byteCount: max(4, byteCount)))
      try tensor?.withUnsafeBytes { bytes in if !bytes.isEmpty { try device.write(bytes, to: slice) } }
      slices[id] = slice
      total += byteCount
    }
    return (slices, total)
  }

  /// Writes an input: row-major elements of its type.
  public func write(_ bytes: UnsafeRawBufferPointer, to input: ValueID) throws {
    guard let slice = slices[input], bytes.count == graph.type(of: input).byteCount else {
      throw ShapeError("input", "'\(graph[input].name)' takes \(graph.type(of: input)), \(bytes.count) bytes were given")
    }
    try device.write(bytes, to: BufferSlice(slice.buffer, byteOffset: slice.byteOffset, byteCount: bytes.count))
  }

  public func write(_ values: [Float], to input: ValueID) throws { try values.withUnsafeBytes { try write($0, to: input) } }

  /// Queues one run. Launches are in order, so a read that follows waits for it.
  public func run() throws { try prepared.enqueue() }

  /// Reads a result: row-major elements of its type.
  public func read(_ output: ValueID, into bytes: UnsafeMutableRawBufferPointer) throws {
    guard let slice = slices[output], bytes.count == graph.type(of: output).byteCount, graph.outputs.contains(output) || graph.inputs.contains(output)
    else {
      throw ShapeError("output", "'\(graph[output].name)' gives \(graph.type(of: output)), \(bytes.count) bytes were asked for")
    }
    try device.read(BufferSlice(slice.buffer, byteOffset: slice.byteOffset, byteCount: bytes.count), into: bytes)
  }

  public func read(_ output: ValueID) throws -> [Float] {
    var values = [Float](repeating: 0, count: graph.type(of: output).elementCount)
    try values.withUnsafeMutableBytes { try read(output, into: $0) }
    return values
  }

  /// Where an input or a result lies: row-major elements of its type.
  package func slice(of value: ValueID) throws(ShapeError) -> BufferSlice {
    guard let slice = slices[value], graph.inputs.contains(value) || graph.outputs.contains(value) else {
      throw ShapeError("plan", "'\(graph[value].name)' is neither an input nor an output of the plan")
    }
    return BufferSlice(slice.buffer, byteOffset: slice.byteOffset, byteCount: graph.type(of: value).byteCount)
  }

  /// A stream of batches through the plan: bytes of `input` in, bytes of `output` out, as `write`, `run` and `read` would give
  /// them. Meant for plans made with `PlanOptions.isStreamed`, which counts the memory it takes.
  public func stream(from input: ValueID, to output: ValueID) throws -> any BatchStream {
    try device.stream(prepared, input: slice(of: input), output: slice(of: output))
  }

  /// The functions that a run launches.
  package var kernels: Set<String> { Set(launches.map(\.kernel.function)) }

  /// Runs once, a launch at a time; launches that are the same for other images count as one.
  public func profile() throws -> [Timing] {
    var timings: [Timing] = []
    var places: [Int: Int] = [:]
    for ((launch, source), seconds) in zip(zip(launches, sources), try prepared.profile()) {
      if let place = places[source] {
        timings[place].add(seconds: seconds, flops: launch.flops, bytes: launch.bytes)
      } else {
        places[source] = timings.count
        timings.append(Timing(label: launch.label, kernel: launch.kernel.function, seconds: seconds, flops: launch.flops, bytes: launch.bytes))
      }
    }
    return timings
  }
}
