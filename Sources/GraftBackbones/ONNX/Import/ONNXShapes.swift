import GraftGraph

/// Operators that move elements, and the arithmetic of shapes.
extension ONNXImporter {
  static let shapeHandlers: [String: Handler] = [
    "Constant": { try $0.constant($1) },
    "ConstantOfShape": { try $0.constantOfShape($1) },
    "Shape": { try $0.shapeOf($1) },
    "Reshape": { try $0.reshape($1) },
    "Flatten": { try $0.flatten($1) },
    "Squeeze": { try $0.squeeze($1) },
    "Unsqueeze": { try $0.unsqueeze($1) },
    "Transpose": { try $0.transpose($1) },
    "Concat": { try $0.concat($1) },
    "Split": { try $0.split($1) },
    "Slice": { try $0.slice($1) },
    "Gather": { try $0.gather($1) },
    "Pad": { try $0.pad($1) },
    "Expand": { try $0.expand($1) },
    "ReduceMean": { try $0.reduce($1, .mean) },
    "ReduceSum": { try $0.reduce($1, .sum) },
    "ReduceMax": { try $0.reduce($1, .maximum) },
    "TopK": { try $0.topK($1) },
  ]

  /// Elements a tensor that is computed on the host may have: shapes are tiny, and a hostile file should not fill memory.
  static let hostLimit = 1 << 16
  /// Elements that nodes may make out of nothing (ConstantOfShape), all together.
  private static let filledLimit = 1 << 24

  mutating func constant(_ node: ONNXNode) throws {
    if let tensor = try node.tensor("value") { return define(node, host: tensor) }
    if let value = try node.float("value_float") { return define(node, host: HostTensor([], [value])) }
    if let values = try node.floats("value_floats") { return define(node, host: HostTensor([values.count], values)) }
    if let value = try node.integer("value_int") { return define(node, host: HostTensor([], integers: [Int64(value)])) }
    if let values = try node.integers("value_ints") { return define(node, host: HostTensor([values.count], integers: values.map(Int64.init))) }
    throw node.error("its value is none of tensor, number or list of numbers", remedy: "Export the model without it.")
  }

  mutating func constantOfShape(_ node: ONNXNode) throws {
    let shape = try host(node, 0, "shape").integers().map { Int($0) }
    let value = try node.tensor("value")
    guard let count = try? TensorError.byteCount(shape: shape, elementType: .uint8), count <= Self.filledLimit - filledCount else {
      throw node.error("the shape \(shape) it asks for is not one it can have", remedy: ImportError.fetchAgain)
    }
    filledCount += count
    let element = value?.doubles().first ?? 0
    let like = value ?? HostTensor([1], [0])
    define(node, host: try hostTensor(shape, Array(repeating: element, count: count), like: like, node))
  }

  /// A shape that a file asks for, refused if negative or out of proportion.
  func checked(_ node: ONNXNode, _ shape: [Int]) throws -> [Int] {
    let bytes = try? TensorError.byteCount(shape: shape, elementType: .uint8)
    guard let bytes, bytes <= Self.hostLimit else {
      throw node.error("the shape \(shape) it asks for is not one it can have", remedy: ImportError.fetchAgain)
    }
    return shape
  }

  private func shape(of imported: Imported) -> [Int] {
    switch imported {
    case .value(let id): shape(id)
    case .host(let tensor): tensor.shape
    }
  }

  mutating func shapeOf(_ node: ONNXNode) throws {
    let dimensions = shape(of: try imported(node, 0)), rank = dimensions.count
    func clamp(_ value: Int) -> Int { min(max(value < 0 ? value + rank : value, 0), rank) }
    let start = clamp(try node.integer("start") ?? 0), end = clamp(try node.integer("end") ?? rank)
    let part = start < end ? Array(dimensions[start..<end]) : []
    define(node, host: HostTensor([part.count], integers: part.map(Int64.init)))
  }

  /// The same elements under another shape, on the host or as a node.
  private mutating func view(_ node: ONNXNode, _ dimensions: [Int]) throws {
    switch try imported(node, 0) {
    case .host(let tensor):
      _ = try Reshape(dimensions).outputType([TensorType(tensor.shape, tensor.elementType)])
      define(node, host: tensor.reshaped(dimensions))
    case .value(let id): try define(node, try add(Reshape(dimensions), [id], node))
    }
  }

  mutating func reshape(_ node: ONNXNode) throws {
    let from = shape(of: try imported(node, 0))
    var wanted = try integers(node, attribute: "shape", input: 1) ?? []
    let allowsZero = try node.integer("allowzero") ?? 0 != 0
    for d in wanted.indices where wanted[d] == 0 && !allowsZero {
      guard d < from.count else { throw node.error("its shape \(wanted) copies a dimension that \(from) lacks", remedy: ImportError.fetchAgain) }
      wanted[d] = from[d]
    }
    guard wanted.allSatisfy({ $0 >= -1 }), wanted.count(where: { $0 == -1 }) <= 1 else {
      throw node.error("its shape \(wanted) is not one", remedy: ImportError.fetchAgain)
    }
    if let free = wanted.firstIndex(of: -1) {
      var known = 1
      for (d, extent) in wanted.enumerated() where d != free {
        let (product, overflow) = known.multipliedReportingOverflow(by: extent)
        guard !overflow else { throw node.error("its shape \(wanted) is not one", remedy: ImportError.fetchAgain) }
        known = product
      }
      guard known > 0 else { throw node.error("its shape \(wanted) is ambiguous", remedy: ImportError.fetchAgain) }
      wanted[free] = from.reduce(1, *) / known
    }
    // A model exported for one sample says so in its reshapes; the batch is what may differ.
    if wanted.reduce(1, { $0.multipliedReportingOverflow(by: $1).partialValue }) != from.reduce(1, *), let first = wanted.first, first == 1,
      let batch = from.first, batch > 1,
      wanted.dropFirst().reduce(batch, { $0.multipliedReportingOverflow(by: $1).partialValue }) == from.reduce(1, *)
    {
      wanted[0] = batch
    }
    try view(node, wanted)
  }

  mutating func flatten(_ node: ONNXNode) throws {
    let from = shape(of: try imported(node, 0))
    let given = try node.integer("axis") ?? 1
    let axis = given == from.count ? given : try axis(node, given, rank: from.count)
    try view(node, [from[..<axis].reduce(1, *), from[axis...].reduce(1, *)])
  }

  mutating func squeeze(_ node: ONNXNode) throws {
    let from = shape(of: try imported(node, 0))
    let axes = try integers(node, attribute: "axes", input: 1)?.map { try axis(node, $0, rank: from.count) }
    let dropped = axes ?? from.indices.filter { from[$0] == 1 }
    guard dropped.allSatisfy({ from[$0] == 1 }) else {
      throw node.error("it drops dimensions \(dropped) of \(from), which are not 1", remedy: ImportError.fetchAgain)
    }
    try view(node, from.indices.filter { !dropped.contains($0) }.map { from[$0] })
  }

  mutating func unsqueeze(_ node: ONNXNode) throws {
    let from = shape(of: try imported(node, 0))
    let given = try integers(node, attribute: "axes", input: 1) ?? []
    let rank = from.count + given.count
    guard rank <= 16 else { throw node.error("it makes \(rank) dimensions", remedy: ImportError.fetchAgain) }
    let axes = Set(try given.map { try axis(node, $0, rank: rank) })
    guard axes.count == given.count else { throw node.error("its axes \(given) repeat", remedy: ImportError.fetchAgain) }
    var rest = from[...]
    try view(node, (0..<rank).map { axes.contains($0) ? 1 : rest.popFirst() ?? 1 })
  }

  mutating func transpose(_ node: ONNXNode) throws {
    let rank = shape(of: try imported(node, 0)).count
    let operation = Transpose(try node.integers("perm") ?? (0..<rank).reversed())
    if case .host(let tensor) = try imported(node, 0), !tensor.elementType.isFloatingPoint {
      _ = try operation.outputType([TensorType(tensor.shape)])
      let y = operation.reference([ReferenceTensor(tensor)])
      return define(node, host: try hostTensor(y.shape, y.values, like: tensor, node))
    }
    try define(node, try add(operation, [try value(node, 0)], node))
  }

  mutating func concat(_ node: ONNXNode) throws {
    guard let given = try node.integer("axis") else { throw node.error("it has no axis", remedy: ImportError.fetchAgain) }
    if let tensors = allHost(node), let first = tensors.first, tensors.reduce(0, { $0 + $1.elementCount }) <= Self.hostLimit {
      let operation = Concat(axis: try axis(node, given, rank: first.shape.count))
      _ = try operation.outputType(tensors.map { TensorType($0.shape) })
      let y = operation.reference(tensors.map(ReferenceTensor.init))
      return define(node, host: try hostTensor(y.shape, y.values, like: first, node))
    }
    let inputs = try node.inputs.indices.map { try value(node, $0) }
    guard let first = inputs.first else { throw node.error("it has no inputs", remedy: ImportError.fetchAgain) }
    try define(node, try add(Concat(axis: try axis(node, given, rank: shape(first).count)), inputs, node))
  }

  mutating func split(_ node: ONNXNode) throws {
    let x = try value(node, 0), dimensions = shape(x)
    let axis = try axis(node, try node.integer("axis") ?? 0, rank: dimensions.count)
    let parts = node.outputs.count
    let each = (dimensions[axis] + parts - 1) / max(1, parts)
    let sizes =
      try integers(node, attribute: "split", input: 1)
      ?? (0..<parts).map { min(each, max(0, dimensions[axis] - $0 * each)) }
    guard sizes.count == parts, sizes.allSatisfy({ $0 >= 0 && $0 <= dimensions[axis] }), sizes.reduce(0, +) == dimensions[axis] else {
      throw node.error("its parts \(sizes) are not the \(dimensions[axis]) there are", remedy: ImportError.fetchAgain)
    }
    var start = 0
    for (output, size) in sizes.enumerated() {
      var starts = Array(repeating: 0, count: dimensions.count), extents = dimensions
      (starts[axis], extents[axis]) = (start, size)
      try define(node, try add(Slice(starts: starts, sizes: extents, steps: Array(repeating: 1, count: dimensions.count)), [x], node), output: output)
      start += size
    }
  }

  /// Values and indices; the indices are floats here, like every other number that depends on the data.
  mutating func topK(_ node: ONNXNode) throws {
    let x = try value(node, 0), dimensions = shape(x)
    let axis = try axis(node, try node.integer("axis") ?? -1, rank: dimensions.count)
    guard axis == dimensions.count - 1 else {
      throw node.error("it selects along axis \(axis) of \(dimensions), not along the last", remedy: "Transpose what it selects from first.")
    }
    guard try node.integer("largest") ?? 1 == 1 else {
      throw node.error("it selects the smallest", remedy: "Select the greatest of the negated values instead.")
    }
    guard let counts = try integers(node, attribute: "k", input: 1) ?? node.integer("k").map({ [$0] }), counts.count == 1 else {
      throw node.error("it does not say how many", remedy: ImportError.fetchAgain)
    }
    let found = try add(TopK(counts[0]), [x], node), rows = dimensions.dropLast() + [1, counts[0]], lead = Array(repeating: 0, count: axis)
    for output in 0..<2 {
      let part = try add(Slice(starts: lead + [output, 0], sizes: Array(rows), steps: rows.map { _ in 1 }), [found], node)
      try define(node, try add(Reshape(dimensions.dropLast() + [counts[0]]), [part], node), output: output)
    }
  }

  mutating func slice(_ node: ONNXNode) throws {
    let source = try imported(node, 0), dimensions = shape(of: source)
    guard let starts = try integers(node, attribute: "starts", input: 1), let ends = try integers(node, attribute: "ends", input: 2) else {
      throw node.error("it has no starts or no ends", remedy: ImportError.fetchAgain)
    }
    let axes = try integers(node, attribute: "axes", input: 3) ?? Array(starts.indices)
    let steps = try integers(node, attribute: "steps", input: 4) ?? Array(repeating: 1, count: starts.count)
    guard starts.count == ends.count, axes.count == starts.count, steps.count == starts.count, !steps.contains(0) else {
      throw node.error("its starts, ends, axes and steps do not belong together", remedy: ImportError.fetchAgain)
    }
    var operation = Slice(starts: dimensions.map { _ in 0 }, sizes: dimensions, steps: dimensions.map { _ in 1 })
    for (index, given) in axes.enumerated() {
      let d = try axis(node, given, rank: dimensions.count), extent = dimensions[d], step = steps[index]
      // Exporters write the largest integer for "to the end".
      func place(_ value: Int, _ low: Int, _ high: Int) -> Int {
        min(max(value < 0 ? value.addingReportingOverflow(extent).partialValue : value, low), high)
      }
      let forward = step > 0
      let start = forward ? place(starts[index], 0, extent) : place(starts[index], 0, extent - 1)
      let end = forward ? place(ends[index], 0, extent) : (ends[index] < -extent ? -1 : place(ends[index], -1, extent - 1))
      let span = forward ? end - start : start - end
      let magnitude = Int(step.magnitude > UInt(Int.max) ? UInt(Int.max) : step.magnitude)
      (operation.starts[d], operation.steps[d]) = (start, span <= 0 ? 1 : step)
      operation.sizes[d] = span <= 0 ? 0 : (span - 1) / magnitude + 1
      if operation.sizes[d] <= 1 { operation.steps[d] = 1 }
      if operation.sizes[d] == 0 { operation.starts[d] = 0 }
    }
    if case .host(let tensor) = source, !tensor.elementType.isFloatingPoint {
      _ = try operation.outputType([TensorType(tensor.shape)])
      let y = operation.reference([ReferenceTensor(tensor)])
      return define(node, host: try hostTensor(y.shape, y.values, like: tensor, node))
    }
    try define(node, try add(operation, [try value(node, 0)], node))
  }

  /// Elements by constant indices: on the host for shapes, as slices for data.
  mutating func gather(_ node: ONNXNode) throws {
    let source = try imported(node, 0), dimensions = shape(of: source)
    let indices = try host(node, 1, "indices")
    let axis = try axis(node, try node.integer("axis") ?? 0, rank: dimensions.count)
    let wanted = try indices.integers().map { index -> Int in
      let place = index < 0 ? Int(index) + dimensions[axis] : Int(index)
      guard place >= 0, place < dimensions[axis] else {
        throw node.error("its index \(index) lies outside \(dimensions)", remedy: ImportError.fetchAgain)
      }
      return place
    }
    let result = Array(dimensions[..<axis]) + indices.shape + dimensions[(axis + 1)...]
    if case .host(let tensor) = source, !tensor.elementType.isFloatingPoint || tensor.elementCount <= Self.hostLimit {
      _ = try checked(node, result)
      let x = ReferenceTensor(tensor)
      let outer = dimensions[..<axis].reduce(1, *), inner = dimensions[(axis + 1)...].reduce(1, *)
      var values: [Double] = []
      for o in 0..<outer {
        for place in wanted { values += x.values[(o * dimensions[axis] + place) * inner..<(o * dimensions[axis] + place + 1) * inner] }
      }
      return define(node, host: try hostTensor(result, values, like: tensor, node))
    }
    guard wanted.count <= 64, !wanted.isEmpty else {
      throw node.error("it gathers \(wanted.count) parts", remedy: "Only a few constant indices are supported.")
    }
    let x = try value(node, 0)
    let parts = try wanted.map { place in
      var starts = Array(repeating: 0, count: dimensions.count), extents = dimensions
      (starts[axis], extents[axis]) = (place, 1)
      return try add(Slice(starts: starts, sizes: extents, steps: Array(repeating: 1, count: dimensions.count)), [x], node)
    }
    let joined = parts.count == 1 ? parts[0] : try add(Concat(axis: axis), parts, node)
    try define(node, try add(Reshape(result), [joined], node))
  }

  mutating func pad(_ node: ONNXNode) throws {
    let x = try value(node, 0), rank = shape(x).count
    let mode = try node.string("mode") ?? "constant"
    guard mode == "constant" else { throw node.error("its mode \(quoted(mode)) is not supported", remedy: "Only constant padding is.") }
    guard let pads = try integers(node, attribute: "pads", input: 1) else { throw node.error("it has no pads", remedy: ImportError.fetchAgain) }
    let axes = try (has(node, 3) ? host(node, 3, "axes").integers().map { try axis(node, Int($0), rank: rank) } : Array(0..<rank))
    guard pads.count == 2 * axes.count, pads.allSatisfy((-Self.largestPad...Self.largestPad).contains) else {
      throw node.error("its pads \(pads) do not fit \(shape(x))", remedy: ImportError.fetchAgain)
    }
    let value = try node.float("value") ?? (has(node, 2) ? host(node, 2, "value").floats().first ?? 0 : 0)
    var (before, after) = (Array(repeating: 0, count: rank), Array(repeating: 0, count: rank))
    for (index, axis) in axes.enumerated() { (before[axis], after[axis]) = (pads[index], pads[index + axes.count]) }
    var result = x
    // Negative padding cuts off.
    if pads.contains(where: { $0 < 0 }) {
      let starts = before.map { max(0, -$0) }
      let sizes = shape(x).indices.map { shape(x)[$0] - starts[$0] - max(0, -after[$0]) }
      result = try add(Slice(starts: starts, sizes: sizes, steps: Array(repeating: 1, count: rank)), [x], node)
      (before, after) = (before.map { max(0, $0) }, after.map { max(0, $0) })
    }
    try define(node, try add(Pad(before: before, after: after, value: value), [result], node))
  }

  mutating func expand(_ node: ONNXNode) throws {
    let wanted = try host(node, 1, "shape").integers().map { Int($0) }
    let from = shape(of: try imported(node, 0))
    guard wanted.allSatisfy({ $0 >= 0 }), let shape = broadcastShape(from, wanted) else {
      throw node.error("\(from) does not expand to \(wanted)", remedy: ImportError.fetchAgain)
    }
    if case .host(let tensor) = try imported(node, 0), !tensor.elementType.isFloatingPoint {
      _ = try checked(node, shape)
      let y = Expand(shape).reference([ReferenceTensor(tensor)])
      return define(node, host: try hostTensor(shape, y.values, like: tensor, node))
    }
    let x = try value(node, 0)
    try define(node, shape == from ? x : try add(Expand(shape), [x], node))
  }

  mutating func reduce(_ node: ONNXNode, _ function: Reduce.Function) throws {
    let x = try value(node, 0), rank = shape(x).count
    let given = try integers(node, attribute: "axes", input: 1)
    if given?.isEmpty ?? true, try node.integer("noop_with_empty_axes") ?? 0 != 0 { return try define(node, x) }
    let axes = try given.flatMap { $0.isEmpty ? nil : $0 }?.map { try axis(node, $0, rank: rank) } ?? Array(0..<rank)
    let keeps = try node.integer("keepdims") ?? 1 != 0
    try define(node, try add(Reduce(function, axes: axes, keepsDimensions: keeps), [x], node))
  }
}
