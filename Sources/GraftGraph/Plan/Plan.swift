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
  private let slices: [ValueID: BufferSlice]
  private let launches: [Launch]
  private let prepared: any PreparedLaunches

  /// What one launch took.
  public struct Timing: Sendable {
    public let label: String
    public let kernel: String
    public let seconds: Double
    public let flops: Double
    public let bytes: Double
  }

  /// - Parameters:
  ///   - graph: as read from a model file or built by hand.
  ///   - optimizes: whether the passes run first; false is for tests of single operations.
  ///   - memoryLimit: bytes of device memory the plan may take; by default all that the device has.
  /// - Throws: `PlanMemoryError` before anything is allocated; `ShapeError`, `LoweringError`, `DeviceError`, `BuildError`.
  public init(_ graph: Graph, device: any Device, optimizes: Bool = true, memoryLimit: Int? = nil) throws {
    let graph = optimizes ? try graph.optimized() : graph
    (self.graph, self.device) = (graph, device)
    try PlanMemory.checkValues(of: graph, on: device.traits)
    let layouts = graph.rowLayouts(alignmentByteCount: device.traits.sliceAlignmentByteCount)
    guard let firstNode = graph.nodes.first else {
      // Nothing to compute: outputs are inputs or constants.
      memory = Plan.fixedMemory(graph, graph.outputs)
      try memory.check(on: device.traits, limit: memoryLimit)
      (slices, keptByteCount) = try Plan.placeFixed(graph, graph.outputs, device: device)
      (launches, arenaByteCount) = ([], 0)
      prepared = try device.prepare([])
      return
    }
    var context = LoweringContext(traits: device.traits, graph: graph, node: firstNode, layouts: layouts)
    var scratchOwner: [Int] = []
    for node in graph.nodes where !(node.operation.isView && layouts[node.output] != nil) {
      context.node = node
      try node.operation.lower(&context)
      // Scratch made by this node belongs to it.
      scratchOwner += Array(repeating: node.output.index, count: context.scratchByteCounts.count - scratchOwner.count)
    }

    // Lifetimes, in launches, of the roots of values and of scratch.
    let isFixed = { (id: ValueID) -> Bool in if case .node = graph[id].source { false } else { true } }
    func root(_ id: ValueID) -> ValueID { layouts[id]?.root ?? id }
    var blocks: [Lifetime] = []
    var blockOf: [Operand: Int] = [:]
    func touch(_ operand: Operand, _ time: Int, byteCount: Int) {
      if let index = blockOf[operand] {
        blocks[index].first = min(blocks[index].first, time)
        blocks[index].last = max(blocks[index].last, time)
      } else {
        blockOf[operand] = blocks.count
        blocks.append(Lifetime(byteCount: byteCount, first: time, last: time))
      }
    }
    for (time, launch) in context.launches.enumerated() {
      for case let operand? in launch.operands {
        switch operand {
        case .value(let id) where !isFixed(root(id)): touch(.value(root(id)), time, byteCount: graph.type(of: root(id)).byteCount)
        case .scratch(let index): touch(operand, time, byteCount: context.scratchByteCounts[index])
        default: break
        }
      }
    }
    let end = context.launches.count
    for output in graph.outputs where !isFixed(root(output)) {
      touch(.value(root(output)), end, byteCount: graph.type(of: root(output)).byteCount)
    }
    let placement = MemoryPlan(blocks)

    // Inputs, and the constants that launches read as they are.
    let readDirectly = Set(
      context.launches.flatMap(\.operands).compactMap { if case .value(let id)? = $0, isFixed(root(id)) { root(id) } else { nil } })
    let fixed = readDirectly.union(graph.inputs).union(graph.outputs.map(root).filter(isFixed))

    // All that is going to be allocated, before any of it is.
    var memory = Plan.fixedMemory(graph, Array(fixed))
    memory.activations = placement.byteCount
    memory.weights += context.preparedByteCounts.reduce(0, +)
    for case .value(let id)? in context.preparation.flatMap(\.operands) where !fixed.contains(id) {
      memory.preparation = max(memory.preparation, graph.constant(id).map(Plan.deviceByteCount) ?? 0)
    }
    try memory.check(on: device.traits, limit: memoryLimit)
    self.memory = memory

    let arena = try device.allocate(byteCount: placement.byteCount)
    arenaByteCount = placement.byteCount
    var (slices, kept) = try Plan.placeFixed(graph, fixed.sorted { $0.index < $1.index }, device: device)
    var preparedBuffers: [BufferSlice] = []
    for byteCount in context.preparedByteCounts {
      preparedBuffers.append(BufferSlice(try device.allocate(byteCount: byteCount)))
      kept += byteCount
    }
    keptByteCount = kept

    // Every value's slice of the arena or of what is fixed.
    for index in graph.values.indices {
      let id = ValueID(index)
      let (root, offset) = (root(id), (layouts[id]?.offset ?? 0) * 4)
      if let block = blockOf[.value(root)] {
        slices[id] = BufferSlice(arena, byteOffset: placement.offsets[block] + offset, byteCount: blocks[block].byteCount - offset)
      } else if root != id, let slice = slices[root] {
        slices[id] = slice
      }
    }
    self.slices = slices

    func place(_ launch: PlannedLaunch, extra: [ValueID: BufferSlice] = [:]) -> Launch {
      let buffers = launch.operands.map { operand -> BufferSlice? in
        switch operand {
        case .value(let id): slices[id] ?? extra[id]
        case .prepared(let index): preparedBuffers[index]
        case .scratch(let index):
          blockOf[.scratch(index)].map { BufferSlice(arena, byteOffset: placement.offsets[$0], byteCount: blocks[$0].byteCount) }
        case nil: nil
        }
      }
      return Launch(
        launch.kernel, buffers: buffers, parameters: launch.parameters, grid: launch.grid, label: launch.label, flops: launch.flops,
        bytes: launch.bytes)
    }
    // Preparation, one constant at a time, so that raw weights never all lie on the device beside the packed ones.
    for launch in context.preparation {
      var extra: [ValueID: BufferSlice] = [:]
      for case .value(let id)? in launch.operands where slices[id] == nil {
        extra.merge(try Plan.placeFixed(graph, [id], device: device).slices) { a, _ in a }
      }
      try device.prepare([place(launch, extra: extra)]).enqueue()
      if device.traits.kind == .openCL, !extra.isEmpty { try device.finish() }
    }
    try device.finish()
    launches = context.launches.map { place($0) }
    prepared = try device.prepare(launches)
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

  /// Runs once, a launch at a time.
  public func profile() throws -> [Timing] {
    zip(launches, try prepared.profile()).map {
      Timing(label: $0.label, kernel: $0.kernel.function, seconds: $1, flops: $0.flops, bytes: $0.bytes)
    }
  }
}
