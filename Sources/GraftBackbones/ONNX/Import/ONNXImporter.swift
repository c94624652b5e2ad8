import GraftGraph

/// Turns the nodes of an ONNX graph into a `Graph` for given input shapes.
///
/// Integer tensors (shapes, axes, masks) are computed here, on the host, so that a graph's extents are all known, and so are floats that
/// depend on no input where they are few, or no operation computes them; everything else becomes nodes. Values keep the file's order of
/// dimensions: an operation that works channels last is wrapped in two transpositions, which `Graph.sinkingTransposes()` removes.
struct ONNXImporter {
  /// What a name of the file stands for.
  enum Imported {
    /// A value the device computes or is given.
    case value(ValueID)
    /// Known now: a weight, a shape.
    case host(HostTensor)
  }

  typealias Handler = @Sendable (inout ONNXImporter, ONNXNode) throws -> Void

  let file: ONNXFile
  var graph = Graph()
  var names: [String: Imported] = [:]
  /// Bytes of what has been computed here.
  private var computedByteCount = 0
  /// Whether a value depends on no input, by its index; as far as that has been asked.
  private var isFixed: [Bool] = []
  /// Values that depend on no input and have been computed.
  private var computed: [ValueID: HostTensor] = [:]
  /// Values that have a name of the file.
  private var defined: Set<ValueID> = []
  /// Values that hold 1 where another is no number: what they test.
  var tested: [ValueID: ValueID] = [:]
  /// Names of constants that may be learned: those of the file, and what is made of them without becoming a table of something else.
  private var learned: Set<String> = []
  /// Names that some node that is read, or a graph inside one, reads or gives as an output.
  private let namesRead: Set<String>
  /// The graph's value for a host tensor that has been used as one.
  private var constants: [String: ValueID] = [:]

  private init(_ file: ONNXFile, _ part: Part) {
    self.file = file
    var namesRead = Set(part.outputs), pending = part.nodes
    while let node = pending.popLast() {
      namesRead.formUnion(node.inputs)
      for case .graph(let graph) in node.attributes.values {
        namesRead.formUnion(graph.outputs)
        pending += graph.nodes
      }
    }
    self.namesRead = namesRead
  }

  /// Every operator that is read, by its ONNX name.
  static let handlers: [String: Handler] = [
    convolutionHandlers, normalizationHandlers, elementwiseHandlers, shapeHandlers, movementHandlers, reductionHandlers, productHandlers,
    resizeHandlers, knownHandlers, conditionHandlers, attentionHandlers,
  ].reduce(into: [:]) { $0.merge($1) { _, _ in preconditionFailure("an operator has two handlers") } }

  /// - Parameters:
  ///   - shapes: the inputs' shapes by name.
  ///   - turnsImages: whether the graph takes images channels first where the file takes them channels last.
  ///   - value: the name of a value that is in the graph, whether or not an output needs it; its only output if the file's need what is not
  ///     read.
  /// - Throws: `ImportError` that names the node, for an operator, an attribute or a shape that is not supported.
  static func graph(of file: ONNXFile, shapes: [String: [Int]], turnsImages: Bool = false, with value: String? = nil) throws -> Graph {
    let part = try readablePart(of: file, with: value)
    var importer = ONNXImporter(file, part)
    importer.define(file.initializers)
    for input in file.inputs {
      guard let shape = shapes[input.name] else {
        throw ImportError(file: file.path, what: "the shape of input \(quoted(input.name)) is not known", remedy: "Export the image encoder alone.")
      }
      // What the file computes in halves or doubles is computed in the plan's format all the same.
      guard input.elementType?.isFloatingPoint ?? true else {
        throw ImportError(
          file: file.path, what: "input \(quoted(input.name)) is \(input.elementType?.rawValue ?? "?"), and floating-point numbers are read",
          remedy: "Export the model with float32 inputs.")
      }
      guard let byteCount = try? TensorError.byteCount(shape: shape, elementType: .float32), byteCount <= 1 << 40 else {
        throw ImportError(
          file: file.path, what: "input \(quoted(input.name)) would have shape \(shape)",
          remedy: "Give images of another size, or a smaller --batch-size.")
      }
      let id = importer.graph.addInput(TensorType(shape), name: input.name)
      importer.names[input.name] = .value(turnsImages ? try importer.graph.add(Transpose([0, 2, 3, 1]), [id]) : id)
      importer.defined.insert(id)
    }
    for node in part.nodes { try importer.run(node) }
    for output in part.outputs {
      guard let found = importer.names[output] else {
        throw ImportError(file: file.path, what: "no node computes the output \(quoted(output))", remedy: ImportError.fetchAgain)
      }
      switch found {
      case .value(let id): importer.graph.outputs.append(id)
      case .host(let tensor):
        // Results are floats, whatever the file has them in.
        let floats = tensor.elementType == .float32 ? tensor : HostTensor(tensor.shape, tensor.floats())
        importer.graph.outputs.append(importer.graph.addConstant(floats, name: output))
      }
    }
    return importer.graph
  }

  /// Turns one node into what it computes.
  mutating func run(_ node: ONNXNode) throws {
    guard node.domain.isEmpty, let handler = Self.handlers[node.opType] else {
      throw node.error("the operator is not supported", remedy: "Export the model without it, or choose a backbone that has none.")
    }
    do {
      try handler(&self, node)
    } catch let error as ShapeError {
      throw node.error(
        error.message, remedy: "Check the input's shape and --batch-size: a model that was exported for a fixed batch takes no other.")
    }
  }

  /// What becomes a graph of a file: some outputs and the nodes that those need.
  private struct Part {
    let outputs: [String]
    let nodes: [ONNXNode]
  }

  /// All that the file's outputs need, or if not all of that is read what the value of this name needs.
  ///
  /// Nodes that nothing needs may be of any operator. Others that are not read are refused, before anything else happens.
  private static func readablePart(of file: ONNXFile, with value: String?) throws -> Part {
    func unknown(_ nodes: [ONNXNode]) -> [ONNXNode] { nodes.filter { !$0.domain.isEmpty || handlers[$0.opType] == nil } }
    let asked = file.nodes.flatMap(\.outputs).filter { $0 == value && !$0.isEmpty }
    var outputs = file.outputs.map(\.name)
    if !asked.isEmpty, !unknown(file.nodes(neededFor: outputs)).isEmpty { outputs = asked }
    let nodes = file.nodes(neededFor: outputs + asked), unknown = unknown(nodes)
    guard let first = unknown.first else {
      guard (7...24).contains(file.opsetVersion) else {
        throw ImportError(
          file: file.path, what: "it uses opset \(file.opsetVersion), and opsets 7 to 24 are read", remedy: "Export it with one of those.")
      }
      return Part(outputs: outputs, nodes: nodes)
    }
    let kinds = Set(unknown.map { $0.domain.isEmpty ? $0.opType : "\($0.domain).\($0.opType)" }).sorted()
    throw first.error(
      "the operator\(kinds.count == 1 ? " \(quoted(kinds[0])) is" : "s \(listed(kinds)) are") not supported (\(unknown.count) of \(file.nodes.count) nodes)",
      remedy: "Export the model without \(kinds.count == 1 ? "it" : "them"), or choose a backbone that has none.")
  }

  // MARK: Names

  func has(_ node: ONNXNode, _ index: Int) -> Bool { index < node.inputs.count && !node.inputs[index].isEmpty }

  func imported(_ node: ONNXNode, _ index: Int) throws -> Imported {
    guard has(node, index) else { throw node.error("its input \(index) is missing", remedy: ImportError.fetchAgain) }
    guard let found = names[node.inputs[index]] else {
      throw node.error("its input \(quoted(node.inputs[index])) is computed by no node before it", remedy: ImportError.fetchAgain)
    }
    return found
  }

  /// An input as a value of the graph.
  mutating func value(_ node: ONNXNode, _ index: Int) throws -> ValueID {
    switch try imported(node, index) {
    case .value(let id): return id
    case .host(let tensor):
      if let known = constants[node.inputs[index]] { return known }
      // Kernels read floats: integers beside data (an exponent, say) become some.
      let floats = tensor.elementType.isFloatingPoint ? tensor : HostTensor(tensor.shape, tensor.floats())
      let id = graph.addConstant(floats, name: node.inputs[index], isFixed: !learned.contains(node.inputs[index]))
      constants[node.inputs[index]] = id
      return id
    }
  }

  /// An input that has to be known now.
  mutating func host(_ node: ONNXNode, _ index: Int, _ role: String) throws -> HostTensor {
    if let tensor = try known(node, index) { return tensor }
    throw node.error("its \(role) depends on the data, and has to be a constant of the model", remedy: "Export the model with constant shapes.")
  }

  /// An input as integers, from an attribute in older opsets and from an input in newer ones.
  mutating func integers(_ node: ONNXNode, attribute: String, input: Int) throws -> [Int]? {
    if let values = try node.integers(attribute) { return values }
    guard has(node, input) else { return nil }
    return try host(node, input, attribute).integers().map { Int($0) }
  }

  /// The inputs if they are of integers, or few numbers, and known now: what is computed with here. Larger ones become nodes.
  func allHost(_ node: ONNXNode) -> [HostTensor]? {
    var tensors: [HostTensor] = []
    for name in node.inputs where !name.isEmpty {
      guard case .host(let tensor)? = names[name], !tensor.elementType.isFloatingPoint || tensor.elementCount <= Self.hostLimit else { return nil }
      tensors.append(tensor)
    }
    return tensors.isEmpty ? nil : tensors
  }

  // MARK: What is known

  /// An input that depends on no input of the model, computed; nil for one that does.
  mutating func known(_ node: ONNXNode, _ index: Int) throws -> HostTensor? {
    switch try imported(node, index) {
    case .host(let tensor): tensor
    case .value(let id): try known(id, node)
    }
  }

  /// Whether a value depends on no input of the model.
  private mutating func isKnown(_ id: ValueID) -> Bool {
    while isFixed.count <= id.index {
      let next = ValueID(isFixed.count)
      let producer = graph.producer(of: next)
      isFixed.append(producer?.inputs.allSatisfy { isFixed[$0.index] } ?? (graph.constant(next) != nil))
    }
    return isFixed[id.index]
  }

  /// Whether an input depends on an input of the model.
  mutating func dependsOnData(_ node: ONNXNode, _ index: Int) throws -> Bool {
    if case .value(let id) = try imported(node, index) { !isKnown(id) } else { false }
  }

  mutating func known(_ id: ValueID, _ node: ONNXNode) throws -> HostTensor? {
    guard isKnown(id) else { return nil }
    // What is missing, each before what needs it: values are numbered in an order in which they can be computed.
    var missing: Set<ValueID> = [], pending = [id]
    while let next = pending.popLast() {
      guard graph.constant(next) == nil, computed[next] == nil, missing.insert(next).inserted else { continue }
      pending += graph.producer(of: next)?.inputs ?? []
    }
    func tensor(_ id: ValueID) -> HostTensor? { graph.constant(id) ?? computed[id] }
    for next in missing.sorted(by: { $0.index < $1.index }) {
      guard let producer = graph.producer(of: next) else { continue }
      let inputs = producer.inputs.compactMap(tensor)
      if let reshape = producer.operation as? Reshape {
        computed[next] = inputs[0].reshaped(reshape.shape)
      } else {
        try reserve(node, shape(next), .float32, limit: Self.largestComputed)
        computed[next] = producer.operation.reference(inputs.map(ReferenceTensor.init)).tensor
      }
    }
    return tensor(id)
  }

  /// Elements a tensor of floats may have that is computed with here where a node could do it.
  static let hostLimit = 1 << 16
  /// Elements that arithmetic here makes at a time.
  static let largestComputed = 1 << 22
  /// Bytes that are made here, all together: masks and tables are small, and a hostile file should not fill memory.
  private static let computedLimit = 1 << 29

  /// Says that a tensor of this shape is going to be made here; refused if that is no shape, or out of proportion.
  mutating func reserve(_ node: ONNXNode, _ shape: [Int], _ elementType: ElementType, limit: Int = .max) throws {
    guard let count = try? TensorError.byteCount(shape: shape, elementType: .uint8), count <= limit,
      count * elementType.byteCount <= Self.computedLimit - computedByteCount
    else { throw node.error("the shape \(shape) it asks for is not one it can have", remedy: ImportError.fetchAgain) }
    computedByteCount += count * elementType.byteCount
  }

  // MARK: Shapes

  func shape(_ id: ValueID) -> [Int] { graph.type(of: id).shape }

  func shape(of imported: Imported) -> [Int] {
    switch imported {
    case .value(let id): shape(id)
    case .host(let tensor): tensor.shape
    }
  }

  /// An axis as the file gives it (negative ones count from the end), checked.
  func axis(_ node: ONNXNode, _ value: Int, rank: Int) throws -> Int {
    let axis = value < 0 ? value + rank : value
    guard axis >= 0, axis < rank else {
      throw node.error("its axis \(value) does not fit a tensor of \(rank) dimensions", remedy: ImportError.fetchAgain)
    }
    return axis
  }

  mutating func add(_ operation: any Operation, _ inputs: [ValueID], _ node: ONNXNode) throws -> ValueID {
    let id = try graph.add(any: operation, inputs, name: node.name.isEmpty ? node.outputs.first ?? "" : node.name)
    // Only what a name of the file stands for is a place to cut.
    graph.rename(id, "")
    return id
  }

  mutating func define(_ node: ONNXNode, _ id: ValueID, output: Int = 0) throws {
    guard output < node.outputs.count, !node.outputs[output].isEmpty else { return }
    let name = node.outputs[output]
    var id = id
    if !defined.insert(id).inserted {
      // An identity: what it repeats keeps its name, and the file's outputs get a value of their own.
      guard file.outputs.contains(where: { $0.name == name }) else {
        names[name] = .value(id)
        graph.addName(name, of: id)
        return
      }
      id = try graph.add(Reshape(shape(id)), [id], name: name)
      defined.insert(id)
    }
    graph.rename(id, name)
    names[name] = .value(id)
  }

  /// Operators whose result holds elements of their inputs as they are.
  private static let movements: Set = [
    "Identity", "Cast", "Dropout", "Concat", "Slice", "Split", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose",
  ]

  /// The constants of a graph.
  mutating func define(_ initializers: [String: HostTensor]) {
    for (name, tensor) in initializers {
      names[name] = .host(tensor)
      learned.insert(name)
    }
  }

  /// Leaves names out that are seen no longer: those of a graph inside a node, which another may use again.
  mutating func forget(_ old: Set<String>) {
    for name in old {
      names[name] = nil
      constants[name] = nil
    }
    learned.subtract(old)
  }

  mutating func define(_ node: ONNXNode, host tensor: HostTensor, output: Int = 0) {
    guard output < node.outputs.count, !node.outputs[output].isEmpty else { return }
    if node.opType == "Constant" || node.inputs.contains(where: learned.contains) && (Self.movements.contains(node.opType) || tensor.isVector) {
      learned.insert(node.outputs[output])
    }
    names[node.outputs[output]] = .host(tensor)
  }

  /// Refuses a second output that something reads.
  func refuseOutputs(_ node: ONNXNode, after first: Int) throws {
    for name in node.outputs.dropFirst(first) where !name.isEmpty {
      if namesRead.contains(name) {
        throw node.error("its output \(quoted(name)) is used, and only the first \(first) can be", remedy: "Export the model without it.")
      }
    }
  }

  // MARK: Layout

  /// An image of the file, `[N, C, H, W]`, as `[N, H, W, C]`.
  mutating func channelsLast(_ id: ValueID) throws -> ValueID {
    let rank = shape(id).count
    return try graph.add(Transpose([0] + Array(2..<rank) + [1]), [id])
  }

  mutating func channelsFirst(_ id: ValueID) throws -> ValueID {
    let rank = shape(id).count
    return try graph.add(Transpose([0, rank - 1] + Array(1..<rank - 1)), [id])
  }
}
