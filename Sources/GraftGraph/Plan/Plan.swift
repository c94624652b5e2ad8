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

  /// - Parameter graph: as read from a model file or built by hand.
  /// - Throws: `ShapeError`, `LoweringError`, `DeviceError`, `BuildError`.
  public init(_ graph: Graph, device: any Device, options: PlanOptions = PlanOptions()) throws {
    try device.traits.check(options.precision)
    let graph = options.optimizes ? try graph.optimized() : graph
    (self.graph, self.device) = (graph, device)
    if let large = graph.values.first(where: { $0.type.shape.reduce(1) { $0 * max(1, $1) } > Int(Int32.max) }) {
      throw DeviceError(
        device: device.traits.identifier, call: "plan '\(large.name)' \(large.type)", name: "more than 2³¹ elements",
        remedy: "Use a smaller --batch-size.")
    }
    var traits = device.traits
    if let byteCount = options.lastCacheByteCount { traits.lastCacheByteCount = byteCount }
    let schedule = try Schedule(graph, traits: traits, options: options)
    guard schedule.memory.byteCount <= device.traits.maximumBufferByteCount else {
      throw DeviceError(
        device: device.traits.identifier, call: "place \(schedule.memory.byteCount) bytes of activations", name: "out of memory",
        remedy: "The device's largest buffer holds \(device.traits.maximumBufferByteCount) bytes: use a smaller --batch-size.")
    }
    let arena = try device.allocate(byteCount: schedule.memory.byteCount)
    arenaByteCount = schedule.memory.byteCount
    var (fixed, kept) = try Plan.placeFixed(graph, schedule.fixedValues, device: device)
    var preparedBuffers: [BufferSlice] = []
    for byteCount in schedule.preparedByteCounts {
      preparedBuffers.append(BufferSlice(try device.allocate(byteCount: byteCount)))
      kept += byteCount
    }
    keptByteCount = kept
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
    for launch in schedule.preparation {
      var extra: [ValueID: BufferSlice] = [:]
      for case .value(let id)? in launch.operands where fixed[id] == nil {
        extra.merge(try Plan.placeFixed(graph, [id], device: device).slices) { a, _ in a }
      }
      try device.prepare([place(launch, firstImage: 0, extra: extra)]).enqueue()
      if device.traits.kind == .openCL, !extra.isEmpty { try device.finish() }
    }
    try device.finish()
    launches = schedule.steps.map { place(schedule.launches[$0.launch], firstImage: $0.firstImage) }
    sources = schedule.steps.map(\.launch)
    prepared = try device.prepare(launches)
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
