import CKernels
import GraftDevice

// In which format an operand lies, and how it is brought into the one that a kernel reads.
//
// What a plan computes is stored in the plan's precision; inputs, constants and results are float32. Integers are what they are.

/// The format of every value of a graph in memory.
struct ValueFormats {
  /// By the value's number; no more than this is kept of the graph, whose constants may be let go.
  private let precisions: [Precision]
  private let types: [TensorType]

  /// A view has the format of the value whose memory it shares; what isn't a float32 is moved as one is, four bytes at a time.
  init(_ graph: Graph, layouts: [ValueID: RowLayout], options: PlanOptions) {
    let precision = options.precision
    types = graph.values.map(\.type)
    // What is computed from parameters alone, or is a statistic or a loss, is small, and rounding it would cost digits that nothing
    // later brings back: variances, norms, the scale of a normalisation.
    var staysWide = Set(graph.variables)
    for node in graph.nodes {
      let known = node.inputs.allSatisfy { staysWide.contains($0) || graph.constant($0) != nil }
      if node.operation.resultIsFloat32 || (known && node.inputs.contains(where: staysWide.contains)) { staysWide.insert(node.output) }
    }
    if options.endsInFloat32, precision != .float32 { staysWide.formUnion(Self.endOfNetwork(graph)) }
    precisions = graph.values.indices.map { index in
      let root = layouts[ValueID(index)]?.root ?? ValueID(index)
      guard case .node = graph[root].source, graph.type(of: root).elementType == .float32, !staysWide.contains(root) else { return .float32 }
      return precision
    }
  }

  /// What a network ends with, where that is one vector a sample: pooled features, or the scores of classes and their softmax, back to
  /// the last products and what they multiply. A score of 10 in 8 bits is off by up to 0.03, and its probability by as much of itself;
  /// such vectors cost next to nothing.
  private static func endOfNetwork(_ graph: Graph) -> Set<ValueID> {
    // Where parameters are trained, matrices of gradients are vectors a row too.
    guard graph.variables.isEmpty else { return [] }
    var users: [ValueID: [ValueID]] = [:], found: Set<ValueID> = [], beforeProducts: Set<ValueID> = []
    for node in graph.nodes { for input in node.inputs { users[input, default: []].append(node.output) } }
    for node in graph.nodes.reversed() {
      let readers = users[node.output] ?? [], isProduct = node.operation is MatMul || node.operation is Conv2D
      guard graph.type(of: node.output).shape.dropFirst().count(where: { $0 > 1 }) <= 1, !(node.operation is SeparableConv2D),
        graph.outputs.contains(node.output) || !readers.isEmpty, readers.allSatisfy(found.contains)
      else { continue }
      let isBeforeProducts = readers.contains(where: beforeProducts.contains)
      if isProduct && isBeforeProducts { continue }
      found.insert(node.output)
      if isProduct || isBeforeProducts { beforeProducts.insert(node.output) }
    }
    return found
  }

  func precision(of id: ValueID) -> Precision { precisions[id.index] }

  /// Bytes of a value of that type.
  func byteCount(of id: ValueID, as type: TensorType) -> Int {
    type.elementType == .float32 ? type.elementCount * precision(of: id).byteCount : type.byteCount
  }

  /// Bytes of the whole value.
  func byteCount(of id: ValueID) -> Int { byteCount(of: id, as: types[id.index]) }
}

extension LoweringContext {
  func precision(of id: ValueID) -> Precision { formats.precision(of: id) }

  func precision(of operand: Operand) -> Precision {
    switch operand {
    case .value(let id): precision(of: id)
    case .scratch(let index): scratchPrecisions[index]
    case .prepared(let index): preparedPrecisions[index]
    }
  }

  /// Bytes of what launches see of a value.
  func byteCount(of id: ValueID) -> Int { formats.byteCount(of: id, as: type(id)) }

  /// A value as kernels read activations: in the plan's precision. Our own invariant: float32 values are dense.
  mutating func stored(_ id: ValueID) -> Operand {
    precision(of: id) == precision ? .value(id) : converted(id, to: precision)
  }

  /// A value as kernels read parameters: in float32. Our own invariant: it is dense.
  mutating func parameter(_ id: ValueID) -> Operand {
    precision(of: id) == .float32 ? .value(id) : converted(id, to: .float32)
  }

  /// Appends what computes the node's result in float32, and its conversion to the format the result has.
  mutating func computeInFloat32(_ emit: (inout LoweringContext, Operand) -> Void) {
    guard precision(of: output) != .float32 else { return emit(&self, .value(output)) }
    let count = type(output).elementCount
    let wide = scratch(elementCount: count, precision: .float32)
    emit(&self, wide)
    convert(wide, to: .value(output), elementCount: count)
  }

  private mutating func converted(_ id: ValueID, to precision: Precision) -> Operand {
    let count = type(id).elementCount
    return derived(from: id, key: "as \(precision)", elementCount: count, precision: precision) { context, target in
      context.convert(.value(id), to: target, elementCount: count)
    }
  }

  /// Appends a dense conversion.
  mutating func convert(_ source: Operand, to target: Operand, elementCount: Int) {
    guard elementCount > 0 else { return }
    if traits.family == .gpu {
      let p = copyParameters(dims: [elementCount], from: [1], to: [1]), width = vector([elementCount], [source, target])
      let (variant, bytes, format) = move("copy", from: source, to: target, elementCount: elementCount)
      return launchItems(
        "copy", variant, [source, target], p, count: elementCount / width, options: LoweringContext.vectorOption(width) + [.init("RANK", 1)],
        flops: 0, bytes: bytes, precision: format)
    }
    // Rows of 1024, so that threads share them, and the rest.
    let whole = elementCount / 1024 * 1024
    for (start, rows, length) in [(0, whole / 1024, 1024), (whole, 1, elementCount - whole)] where rows * length > 0 {
      let p = copyParameters(dims: [rows, length], from: [length, 1], to: [length, 1], offsetX: start, offsetY: start)
      launchMove("copy", from: source, to: target, p, grid: Grid(divideUp(rows, 16)), elementCount: rows * length)
    }
  }

  /// Appends one of the CPU family's copies (Kernels/cpu/copy.cl), in the variant that turns the source's format into the target's.
  mutating func launchMove(
    _ function: String, from source: Operand, to target: Operand, _ parameters: GraftCopyParams, grid: Grid, elementCount: Int
  ) {
    let (variant, bytes, format) = move(function, from: source, to: target, elementCount: elementCount)
    launch("copy", variant, [source, target], parameters, grid: grid, flops: 0, bytes: bytes, precision: format)
  }

  /// The variant of a copying function that turns the source's format into the target's, the bytes it moves, and the format its
  /// program is compiled for.
  func move(_ function: String, from source: Operand, to target: Operand, elementCount: Int) -> (variant: String, bytes: Double, Precision) {
    let (from, to) = (precision(of: source), precision(of: target))
    let variant = from == to ? function : to == .float32 ? "\(function)_to_float" : "\(function)_from_float"
    return (variant, Double((from.byteCount + to.byteCount) * elementCount), to == .float32 ? from : to)
  }
}
