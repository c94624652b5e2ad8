import GraftGraph

/// Shapes, and operators that change nothing else.
extension ONNXImporter {
  static let shapeHandlers: [String: Handler] = [
    "Constant": { try $0.constant($1) },
    "ConstantOfShape": { try $0.constantOfShape($1) },
    "Shape": { try $0.shapeOf($1) },
    "Reshape": { try $0.reshape($1) },
    "Flatten": { try $0.flatten($1) },
    "Squeeze": { try $0.squeeze($1) },
    "Unsqueeze": { try $0.unsqueeze($1) },
    "Size": { try $0.sizeOf($1) },
  ]

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
    guard value?.elementCount ?? 1 == 1 else { throw node.error("its value is not one number", remedy: ImportError.fetchAgain) }
    let element = try value.map { try hostTensor([], Array($0.doubles().prefix(1)), like: $0, node) } ?? HostTensor([], [0])
    try reserve(node, shape, element.elementType)
    define(node, host: element.expanded(to: shape))
  }

  mutating func shapeOf(_ node: ONNXNode) throws {
    let dimensions = shape(of: try imported(node, 0)), rank = dimensions.count
    func clamp(_ value: Int) -> Int { min(max(value < 0 ? value + rank : value, 0), rank) }
    let start = clamp(try node.integer("start") ?? 0), end = clamp(try node.integer("end") ?? rank)
    let part = start < end ? Array(dimensions[start..<end]) : []
    define(node, host: HostTensor([part.count], integers: part.map(Int64.init)))
  }

  mutating func sizeOf(_ node: ONNXNode) throws {
    define(node, host: HostTensor([], integers: [Int64(shape(of: try imported(node, 0)).reduce(1, *))]))
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
    let isOfOneImage = wanted.first == 1
    for d in wanted.indices where wanted[d] == 0 && !allowsZero {
      guard d < from.count else { throw node.error("its shape \(wanted) copies a dimension that \(from) lacks", remedy: ImportError.fetchAgain) }
      wanted[d] = from[d]
    }
    guard wanted.allSatisfy({ $0 >= -1 }), wanted.count(where: { $0 == -1 }) <= 1 else {
      throw node.error("its shape \(wanted) is not one", remedy: ImportError.fetchAgain)
    }
    if let free = wanted.firstIndex(of: -1) {
      if isOfOneImage, let batch = batchOfMore, try dependsOnData(node, 0), from.first.map({ $0 % batch }) == 0 { wanted[0] = batch }
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

  /// The number of images, if there are several and the file was exported for one.
  private var batchOfMore: Int? {
    guard case .fixed(1) = file.inputs.first?.shape?.first, let batch = graph.inputs.first.flatMap({ shape($0).first }), batch > 1 else { return nil }
    return batch
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
}
