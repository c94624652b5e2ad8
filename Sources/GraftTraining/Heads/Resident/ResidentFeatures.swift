import GraftDevice
import GraftGraph

/// Features on a device, and what their rows show, in blocks of rows: all of them at once where its memory allows, else one block after the other.
///
/// A plan that computes with the rows has variables for the blocks (`addBlocks`) and is run once over all of them, or once a block.
final class ResidentFeatures {
  let device: any Device
  /// C: classes, labels or numbers.
  let outputCount: Int
  let targets: ResidentTargets
  private let source: any FeatureSource
  /// Rows of each block a plan sees: all of the data, or one block that is filled again and again.
  let blockRowCounts: [Int]
  /// The first row of each block, in turn.
  let firstRows: [Int]
  /// Mean of the losses: what each sample's loss counts, `[N]`.
  let weights: [Double]

  /// Whether everything stays on the device.
  var isResident: Bool { blockRowCounts.count == firstRows.count }
  var rowCount: Int { source.rowCount }
  var dimension: Int { source.dimension }

  /// The classes' curvatures that were found last, and the λ of their head.
  var latestCurvatures: (l2: Double, values: [Double])?
  /// The vectors of the head that was solved for last, alone, and its λ.
  var latestHead: (l2: Double, vectors: ResidentVectors)?
  /// Those of the preconditioners' products that were used last.
  private var products: [FactorProducts] = []
  /// The plan whose variables hold the blocks: the classes' curvatures.
  private(set) var curvature: Plan
  private var isFilled = false

  /// Numbers in one block's logits at most, so that they lie in a buffer any device has and in 32-bit counts.
  static let blockElementCount = 1 << 25
  /// Of a GPU's memory, what features may take.
  private static let share = 0.6
  /// What they may take of memory that is this process's too.
  private static let hostByteLimit = 1 << 30

  /// Our own invariant: there are rows, and a target for each.
  ///
  /// - Parameters:
  ///   - headCount: heads that are evaluated together at most.
  ///   - blockRowLimit: rows of a block at most.
  ///   - byteLimit: bytes the features may take; `nil`: as the device's memory allows.
  init(
    _ source: any FeatureSource, outputCount: Int, targets: ResidentTargets, device: any Device, headCount: Int, blockRowLimit: Int, byteLimit: Int?
  ) throws {
    precondition(source.rowCount > 0)
    (self.source, self.outputCount, self.targets, self.device) = (source, outputCount, targets, device)
    let rows = source.rowCount, width = max(headCount * outputCount, source.dimension)
    let blockRows = max(1, min(blockRowLimit, Self.blockElementCount / max(1, width), rows))
    firstRows = Array(stride(from: 0, to: rows, by: blockRows))
    let limit = byteLimit ?? (device.traits.isGPU ? Int(Self.share * Double(device.traits.memoryByteCount)) : Self.hostByteLimit)
    let byteCount = rows.multipliedReportingOverflow(by: 4 * source.dimension)
    if byteCount.overflow || byteCount.partialValue > limit {
      blockRowCounts = [blockRows]
    } else {
      blockRowCounts = firstRows.map { min(blockRows, rows - $0) }
    }
    weights = (0..<rows).map { targets.weight(ofRow: $0, of: rows) }
    curvature = try Self.curvaturePlan(blockRowCounts, dimension: source.dimension, outputCount: outputCount, targets, device: device)
  }

  /// The features' variables in a graph, one a block; a plan finds its memory by their names.
  static func addBlocks(_ rowCounts: [Int], dimension: Int, to graph: inout Graph) -> [ValueID] {
    rowCounts.enumerated().map { graph.addVariable(TensorType([$1, dimension]), name: "features \($0)") }
  }

  /// Runs `plan` over all blocks.
  ///
  /// - Parameters:
  ///   - prepare: writes what else a block needs, before it is run: rows of the data, and its number among the plan's blocks.
  ///   - collect: after each run: the blocks it covered, with the rows of each.
  func run(
    _ plan: Plan, prepare: (Range<Int>, Int) throws -> Void, collect: ([(block: Int, rows: Range<Int>)]) throws -> Void
  ) throws {
    if isResident {
      if !isFilled { try forEachBlock { index, _, values in try curvature.write(values, to: curvature.graph.inputs[index]) } }
      isFilled = true
      let blocks = firstRows.indices.map { (block: $0, rows: rows(of: $0)) }
      for (block, rows) in blocks { try prepare(rows, block) }
      try plan.run()
      return try collect(blocks)
    }
    try forEachBlock { _, rows, values in
      try curvature.write(values, to: curvature.graph.inputs[0])
      try prepare(rows, 0)
      try plan.run()
      try collect([(0, rows)])
    }
  }

  private func rows(of block: Int) -> Range<Int> {
    firstRows[block]..<(firstRows.indices.contains(block + 1) ? firstRows[block + 1] : rowCount)
  }

  /// Each block's rows, the last one of a refilled block with rows of zeros behind them.
  private func forEachBlock(_ body: (Int, Range<Int>, UnsafeRawBufferPointer) throws -> Void) throws {
    let width = dimension
    var staged = [Float](repeating: 0, count: (blockRowCounts.max() ?? 0) * width)
    var (block, filled) = (0, 0)
    func hand(over block: Int) throws {
      let count = (isResident ? blockRowCounts[block] : blockRowCounts[0]) * width
      for index in filled * width..<max(count, filled * width) { staged[index] = 0 }
      try staged.withUnsafeBytes { try body(block, rows(of: block), UnsafeRawBufferPointer(rebasing: $0[..<(4 * count)])) }
    }
    try source.forEachChunk { chunk in
      var next = 0
      while next < chunk.rowCount, block < firstRows.count {
        let count = min(chunk.rowCount - next, rows(of: block).count - filled)
        staged.withUnsafeMutableBufferPointer { staged in
          for index in 0..<count * width { staged[filled * width + index] = chunk.values[next * width + index] }
        }
        (next, filled) = (next + count, filled + count)
        if filled == rows(of: block).count {
          try hand(over: block)
          (block, filled) = (block + 1, 0)
        }
      }
    }
  }

  /// Products with a preconditioner's factors, of which all may be there for another head already.
  func products(of preconditioner: SoftmaxPreconditioner) throws -> FactorProducts {
    let wanted = preconditioner.factors.map(\.bucket)
    if let known = products.first(where: { known in wanted.allSatisfy(known.buckets.contains) }) { return known }
    if products.count >= 4 { products.removeFirst() }
    products.append(try FactorProducts(preconditioner, device: device))
    return products[products.count - 1]
  }

  // MARK: Curvature

  /// Per output and block the sum of w·p·(1 − p): what the Hessian's block of an output is weighted by.
  ///
  /// Inputs: blocks, W `[C, D]`, b `[C]`, and the blocks' weights `[rows, 1]`. Results: `[C]` a block.
  private static func curvaturePlan(
    _ rowCounts: [Int], dimension: Int, outputCount: Int, _ targets: ResidentTargets, device: any Device
  ) throws -> Plan {
    var graph = Graph()
    let blocks = addBlocks(rowCounts, dimension: dimension, to: &graph)
    let weight = graph.addInput(TensorType([outputCount, dimension]), name: "weight"), bias = graph.addInput(TensorType([outputCount]), name: "bias")
    for (block, rows) in zip(blocks, rowCounts) {
      let counts = graph.addInput(TensorType([rows, 1]), name: "sample weights")
      let logits = try graph.add(MatMul(transposeB: true, hasBias: true), [block, weight, bias], name: "logits")
      let shares = try targets.addShares(to: &graph, outputs: logits)
      let squares = try graph.add(Binary(.multiply), [shares, shares], name: "squares")
      let spread = try graph.add(Binary(.subtract), [shares, squares], name: "curvature")
      let weighted = try graph.add(Binary(.multiply), [spread, counts], name: "curvature")
      graph.outputs.append(try graph.add(Reduce(.sum, axes: [0], keepsDimensions: false), [weighted], name: "curvature"))
    }
    return try Plan(graph, device: device, options: options)
  }

  /// Rows are no images.
  static var options: PlanOptions {
    var options = PlanOptions()
    options.imageCount = 0
    return options
  }

  /// The mean of w·p·(1 − p) of each output, or another loss's second derivative, for a head whose parameters `place` writes: W where the first slice is, b where the second.
  func curvatures(placing place: (BufferSlice, BufferSlice) throws -> Void) throws -> [Double] {
    if let known = targets.knownCurvature { return [Double](repeating: known, count: outputCount) }
    let plan = curvature, inputs = plan.graph.inputs, first = blockRowCounts.count
    try place(try plan.slice(of: inputs[first]), try plan.slice(of: inputs[first + 1]))
    var sums = [Double](repeating: 0, count: outputCount)
    try run(plan) { rows, block in
      try plan.write(padded(rows, to: blockRowCounts[block]) { Float(weights[$0]) }, to: inputs[first + 2 + block])
    } collect: { blocks in
      for (block, _) in blocks { for (index, value) in try plan.read(plan.graph.outputs[block]).enumerated() { sums[index] += Double(value) } }
    }
    return sums
  }

  /// A number a row, and zeros for rows that only fill a block.
  func padded(_ rows: Range<Int>, to count: Int, _ value: (Int) -> Float) -> [Float] {
    rows.map(value) + [Float](repeating: 0, count: count - rows.count)
  }
}
