import GraftDevice

/// A graph's launches in the order they run, tile by tile, and the memory they need; nothing is allocated yet.
struct Schedule {
  /// A launch, and the image its tile begins with.
  struct Step {
    /// Which of `launches`.
    var launch: Int
    var firstImage: Int
  }

  /// What was lowered: each launch once, however many tiles it runs for.
  let launches: [PlannedLaunch]
  let preparation: [PlannedLaunch]
  let preparedByteCounts: [Int]
  /// The kernels of products.
  let choices: [ProductChoice]
  let traits: DeviceTraits
  let precision: Precision
  let steps: [Step]
  let memory: MemoryPlan

  private var graph: Graph
  private let layouts: [ValueID: RowLayout]
  private let formats: ValueFormats
  /// Results in float32 that were computed in another format.
  private let wideResults: [ValueID: Operand]
  private let tiling: BatchTiling
  let blocks: [Lifetime]
  private let blockOf: [Operand: Int]
  /// Roots that exist for one tile only.
  private let withinTile: Set<ValueID>

  /// In which format a value lies.
  func precision(of id: ValueID) -> Precision { formats.precision(of: id) }

  /// - Throws: `LoweringError`.
  init(_ graph: Graph, traits: DeviceTraits, options: PlanOptions) throws {
    let layouts = graph.rowLayouts(alignmentByteCount: traits.sliceAlignmentByteCount, elementByteCount: options.precision.byteCount)
    let tiling = BatchTiling(graph, layouts: layouts, traits: traits, options: options)
    let formats = ValueFormats(graph, layouts: layouts, options: options)
    (self.graph, self.layouts, self.formats, self.tiling) = (graph, layouts, formats, tiling)
    (self.traits, precision) = (traits, options.precision)
    guard let firstNode = graph.nodes.first else {
      (launches, preparation, preparedByteCounts, choices, steps) = ([], [], [], [], [])
      (memory, blocks, blockOf, withinTile, wideResults) = (MemoryPlan([]), [], [:], [], [:])
      return
    }

    var context = LoweringContext(traits: traits, options: options, graph: graph, node: firstNode, layouts: layouts, formats: formats)
    var steps: [Step] = []
    var segmentOf: [Int] = []
    for (number, segment) in tiling.segments.enumerated() {
      func lower(_ images: Int) throws -> Range<Int> {
        let first = context.launches.count
        context.tile = images == tiling.batch ? nil : BatchTile(images: images, values: tiling.withImages)
        for (time, node) in zip(segment.nodes, graph.nodes[segment.nodes]) where !(node.operation.isView && layouts[node.output] != nil) {
          (context.node, context.time) = (node, time)
          try node.operation.lower(&context)
        }
        segmentOf += Array(repeating: number, count: context.launches.count - first)
        return first..<context.launches.count
      }
      let whole = try lower(segment.images)
      let tiles = tiling.batch / segment.images
      for tile in 0..<tiles { steps += whole.map { Step(launch: $0, firstImage: tile * segment.images) } }
      if tiling.batch % segment.images != 0 {
        steps += try lower(tiling.batch % segment.images).map { Step(launch: $0, firstImage: tiles * segment.images) }
      }
    }
    // Results as their readers expect them.
    var wideResults: [ValueID: Operand] = [:]
    (context.tile, context.time) = (nil, graph.nodes.count)
    for output in graph.outputs where formats.precision(of: output) != .float32 && wideResults[output] == nil {
      if let producer = graph.producer(of: output) { context.node = producer }
      let count = graph.type(of: output).elementCount, first = context.launches.count
      let target = context.scratch(elementCount: count, precision: .float32)
      context.convert(.value(output), to: target, elementCount: count)
      wideResults[output] = target
      steps += (first..<context.launches.count).map { Step(launch: $0, firstImage: 0) }
      segmentOf += Array(repeating: max(0, tiling.segments.count - 1), count: context.launches.count - first)
    }
    self.wideResults = wideResults
    (launches, preparation, preparedByteCounts, choices) = (context.launches, context.preparation, context.preparedByteCounts, context.choices)
    self.steps = steps

    // Which segments touch each root; those that one tiled segment alone touches live in the tile.
    func root(_ id: ValueID) -> ValueID { layouts[id]?.root ?? id }
    func isFixed(_ id: ValueID) -> Bool { if case .node = graph[id].source { false } else { true } }
    let results = Set(graph.outputs.map(root))
    var touching: [ValueID: Set<Int>] = [:]
    for (launch, segment) in zip(launches, segmentOf) {
      for case .value(let id)? in launch.operands where !isFixed(root(id)) { touching[root(id), default: []].insert(segment) }
    }
    let withinTile = Set(
      touching.compactMap { id, segments -> ValueID? in
        guard let segment = segments.first, segments.count == 1, !results.contains(id), tiling.withImages.contains(id) else { return nil }
        return tiling.segments[segment].images < tiling.batch ? id : nil
      })

    // Lifetimes, in nodes. What outlives a tile is there while its whole segment runs.
    var blocks: [Lifetime] = []
    var blockOf: [Operand: Int] = [:]
    func touch(_ operand: Operand, _ first: Int, _ last: Int, byteCount: Int) {
      if let index = blockOf[operand] {
        blocks[index].first = min(blocks[index].first, first)
        blocks[index].last = max(blocks[index].last, last)
      } else {
        blockOf[operand] = blocks.count
        blocks.append(Lifetime(byteCount: byteCount, first: first, last: last))
      }
    }
    for (launch, segmentIndex) in zip(launches, segmentOf) {
      let segment = tiling.segments[segmentIndex], time = launch.time
      for case let operand? in launch.operands {
        switch operand {
        case .value(let id) where !isFixed(root(id)):
          let byteCount = formats.byteCount(of: root(id))
          if withinTile.contains(root(id)) {
            touch(.value(root(id)), time, time, byteCount: byteCount / tiling.batch * segment.images)
          } else if segment.images < tiling.batch {
            touch(.value(root(id)), segment.nodes.lowerBound, segment.nodes.upperBound - 1, byteCount: byteCount)
          } else {
            touch(.value(root(id)), time, time, byteCount: byteCount)
          }
        case .scratch(let index): touch(operand, time, time, byteCount: context.scratchByteCounts[index])
        default: break
        }
      }
    }
    for output in graph.outputs where !isFixed(root(output)) {
      touch(.value(root(output)), graph.nodes.count, graph.nodes.count, byteCount: formats.byteCount(of: root(output)))
    }
    (self.blocks, self.blockOf, self.withinTile) = (blocks, blockOf, withinTile)
    memory = MemoryPlan(blocks, largestBuffer: traits.maximumBufferByteCount)
  }

  /// Inputs and constants that must be on the device as they are, besides the graph's inputs and outputs.
  var fixedValues: [ValueID] {
    var fixed = Set(graph.inputs)
    func add(_ id: ValueID) {
      let root = layouts[id]?.root ?? id
      if case .node = graph[root].source { return }
      fixed.insert(root)
    }
    for launch in launches { for case .value(let id)? in launch.operands { add(id) } }
    graph.outputs.forEach(add)
    return fixed.sorted { $0.index < $1.index }
  }

  /// Where a launch of a tile that begins with `firstImage` finds a value: in the arena, or in what is `fixed`.
  func slice(of id: ValueID, firstImage: Int, arena: Arena, fixed: [ValueID: BufferSlice]) -> BufferSlice? {
    let layout = layouts[id] ?? RowLayout(root: id, offset: 0, stride: 0)
    let isInTile = withinTile.contains(layout.root)
    let skipped = isInTile || !tiling.withImages.contains(id) ? 0 : formats.byteCount(of: layout.root) / tiling.batch * firstImage
    let offset = layout.offset * formats.precision(of: id).byteCount + skipped
    if let block = blockOf[.value(layout.root)] {
      return arena.slice(memory.offsets[block] + offset, byteCount: blocks[block].byteCount - offset)
    }
    guard let slice = fixed[layout.root] else { return nil }
    return offset == 0 ? slice : BufferSlice(slice.buffer, byteOffset: slice.byteOffset + offset, byteCount: slice.byteCount - offset)
  }

  /// Where a graph's input or result is written and read, in float32.
  func outside(_ id: ValueID, arena: Arena, fixed: [ValueID: BufferSlice]) -> BufferSlice? {
    if case .scratch(let index)? = wideResults[id] { return scratch(index, arena: arena) }
    return slice(of: id, firstImage: 0, arena: arena, fixed: fixed)
  }

  /// Lets go of a constant's elements.
  mutating func release(_ id: ValueID) { graph.release(id) }

  func scratch(_ index: Int, arena: Arena) -> BufferSlice? {
    blockOf[.scratch(index)].map { arena.slice(memory.offsets[$0], byteCount: blocks[$0].byteCount) }
  }
}
