import CKernels
import GraftDevice

/// Where a launch's argument comes from, before memory has been placed.
public enum Operand: Sendable, Hashable {
  /// A value of the graph.
  case value(ValueID)
  /// Memory that lives from the node's first launch to its last.
  case scratch(Int)
  /// Memory filled once, when the plan is made: packed weights.
  case prepared(Int)
}

/// A launch whose memory has not been placed.
package struct PlannedLaunch: Sendable {
  var kernel: KernelReference
  var operands: [Operand?]
  var parameters: [UInt8]
  var grid: Grid
  var label: String
  var flops: Double
  var bytes: Double
  /// The node it belongs to, as a number in the graph's order.
  var time: Int
}

/// The images of a batch that are computed together.
struct BatchTile {
  var images: Int
  /// The values whose first dimension counts images.
  var values: Set<ValueID>
}

/// How the rows of a value lie in memory.
package struct RowLayout: Sendable, Equatable {
  /// The value whose memory this one shares; itself if none.
  var root: ValueID
  /// Elements from the root's start.
  var offset: Int
  /// Elements from one row (pixel) to the next: the last extent, unless the value is a slice of a wider one.
  var stride: Int
}

/// What an operation sees while it turns a node into launches.
public struct LoweringContext {
  public let traits: DeviceTraits
  public let options: PlanOptions
  public let graph: Graph
  public internal(set) var node: Graph.Node
  /// The node's number in the graph's order.
  var time = 0
  /// The part of the batch that launches are for; `nil`: all of it.
  var tile: BatchTile?
  let layouts: [ValueID: RowLayout]
  let formats: ValueFormats
  /// The format in which the node's result lies in memory, and its kernels compute: the plan's, but for what stays float32.
  var precision: Precision { formats.precision(of: node.output) }
  /// The same, and how exactly products are computed.
  var format: ComputeFormat { options.format(of: precision) }
  var launches: [PlannedLaunch] = []
  var preparation: [PlannedLaunch] = []
  /// Bytes of each prepared block, and what it was made from, so that two users of one weight share it.
  var preparedByteCounts: [Int] = []
  var preparedPrecisions: [Precision] = []
  var preparedKeys: [String: Int] = [:]
  var scratchByteCounts: [Int] = []
  var scratchPrecisions: [Precision] = []
  /// The kernels of products so far.
  var choices: [ProductChoice] = []

  public var inputs: [ValueID] { node.inputs }
  public var output: ValueID { node.output }
  /// The type of what launches see of a value: as many images as the tile has.
  public func type(_ id: ValueID) -> TensorType {
    var type = graph.type(of: id)
    if let tile, tile.values.contains(id) { type.shape[0] = tile.images }
    return type
  }
  public func shape(_ id: ValueID) -> [Int] { type(id).shape }

  /// Elements between the rows of a value: its last extent, or more if it is a slice of the channels of a wider one.
  public func rowStride(_ id: ValueID) -> Int { layouts[id]?.stride ?? shape(id).last ?? 1 }

  /// Whether a value is computed in place, inside another's memory.
  func sharesMemory(_ id: ValueID, _ other: ValueID) -> Bool {
    guard let layout = layouts[id], layout.root != id else { return false }
    return layout.root == (layouts[other]?.root ?? other)
  }

  /// Memory for this node alone, in the plan's precision unless another is given.
  public mutating func scratch(elementCount: Int, precision: Precision? = nil) -> Operand {
    let precision = precision ?? self.precision
    scratchPrecisions.append(precision)
    scratchByteCounts.append(max(4, elementCount * precision.byteCount))
    return .scratch(scratchByteCounts.count - 1)
  }

  /// What is computed from a value alone, like packed weights: once if the value is a constant, on every run if it is not.
  ///
  /// `key` tells apart what is derived from one value in different ways.
  public mutating func derived(
    from source: ValueID, key: String, elementCount: Int, precision: Precision? = nil, _ emit: (inout LoweringContext, Operand) throws -> Void
  ) rethrows -> Operand {
    guard graph.constant(source) != nil else {
      let target = scratch(elementCount: elementCount, precision: precision)
      try emit(&self, target)
      return target
    }
    let name = "\(source.index) \(key) \(precision ?? self.precision)"
    if let known = preparedKeys[name] { return .prepared(known) }
    let precision = precision ?? self.precision
    preparedPrecisions.append(precision)
    preparedByteCounts.append(max(4, elementCount * precision.byteCount))
    preparedKeys[name] = preparedByteCounts.count - 1
    let target = Operand.prepared(preparedByteCounts.count - 1)
    let before = launches.count
    try emit(&self, target)
    preparation += launches[before...]
    launches.removeSubrange(before...)
    return target
  }

  /// Zeros, written when the plan is made; one block serves every node.
  public mutating func zeros(elementCount: Int) -> Operand {
    let rounded = divideUp(max(1, elementCount), 1024) * 1024
    if let known = preparedKeys["zeros \(rounded) \(precision)"] { return .prepared(known) }
    preparedPrecisions.append(precision)
    preparedByteCounts.append(rounded * precision.byteCount)
    preparedKeys["zeros \(rounded) \(precision)"] = preparedByteCounts.count - 1
    let target = Operand.prepared(preparedByteCounts.count - 1)
    let before = launches.count
    fill(target, elementCount: rounded, value: 0)
    preparation += launches[before...]
    launches.removeSubrange(before...)
    return target
  }

  /// Appends a fill.
  mutating func fill(_ target: Operand, elementCount: Int, value: Float) {
    let p = GraftFillParams(count: Int64(elementCount), value: value), stored = precision(of: target)
    let bytes = Double(elementCount * stored.byteCount)
    switch traits.family {
    case .cpu: launch("copy", "fill_value", [target], p, grid: Grid(divideUp(elementCount, 16384)), flops: 0, bytes: bytes, precision: stored)
    case .gpu: launchItems("copy", "fill_value", [target], p, count: elementCount, flops: 0, bytes: bytes, precision: stored)
    }
  }

  /// Appends a launch of the device's family; its values are in the plan's precision unless another is given.
  public mutating func launch<Parameters: BitwiseCopyable>(
    _ file: String, _ function: String, _ operands: [Operand?], _ parameters: Parameters, grid: Grid,
    options: [KernelReference.Option] = [], flops: Double? = nil, bytes: Double? = nil, precision: Precision? = nil
  ) {
    let types = node.inputs.map { type($0) }
    launches.append(
      PlannedLaunch(
        kernel: KernelReference(traits.family, file: file, function: function, options: options, precision: precision ?? self.precision),
        operands: operands,
        parameters: Launch.bytes(of: parameters), grid: grid, label: "\(node.operation.kind) \(node.name)",
        flops: flops ?? node.operation.flops(types, type(node.output)),
        bytes: bytes ?? Double(node.inputs.reduce(byteCount(of: node.output)) { $0 + byteCount(of: $1) }), time: time))
  }

  /// The threads of the CPU family's device, for splitting work.
  var workerCount: Int { traits.threadCount > 0 ? traits.threadCount : max(1, traits.computeUnits) }
}

/// ⌈a / b⌉.
func divideUp(_ a: Int, _ b: Int) -> Int { (a + b - 1) / b }

/// A node the device's family has no kernel for.
public struct LoweringError: Error, CustomStringConvertible {
  public let operation: String
  public let node: String
  public let message: String
  public init(_ context: LoweringContext, _ message: String) {
    (operation, node) = (context.node.operation.kind, context.node.name)
    self.message = message
  }
  public var description: String { "\(operation) '\(node)': \(message)" }
}
