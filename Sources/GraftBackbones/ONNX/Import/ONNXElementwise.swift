import GraftGraph

/// Operators that work element by element.
extension ONNXImporter {
  static let elementwiseHandlers: [String: Handler] = [
    "Relu": { try $0.unary($1, .relu) },
    "Sigmoid": { try $0.unary($1, .sigmoid) },
    "Tanh": { try $0.unary($1, .tanh) },
    "Erf": { try $0.unary($1, .erf) },
    "Exp": { try $0.unary($1, .exp) },
    "Log": { try $0.unary($1, .log) },
    "Sqrt": { try $0.unary($1, .sqrt) },
    "Reciprocal": { try $0.unary($1, .reciprocal) },
    "Neg": { try $0.unary($1, .negate) },
    "Abs": { try $0.unary($1, .absolute) },
    "Softplus": { try $0.unary($1, .softplus) },
    "HardSwish": { try $0.unary($1, .hardSwish) },
    "LeakyRelu": { try $0.unary($1, .leakyReLU($1.float("alpha") ?? 0.01)) },
    "Elu": { try $0.unary($1, .elu($1.float("alpha") ?? 1)) },
    "HardSigmoid": { try $0.unary($1, .hardSigmoid($1.float("alpha") ?? 0.2, $1.float("beta") ?? 0.5)) },
    "Gelu": { try $0.unary($1, $1.string("approximate") == "tanh" ? .geluTanh : .gelu) },
    "Clip": { try $0.clip($1) },
    "PRelu": { try $0.prelu($1) },
    "Add": { try $0.binary($1, .add) },
    "Sub": { try $0.binary($1, .subtract) },
    "Mul": { try $0.binary($1, .multiply) },
    "Div": { try $0.binary($1, .divide) },
    "Pow": { try $0.power($1) },
    "Sum": { try $0.variadic($1, .add) },
    "Max": { try $0.variadic($1, .maximum) },
    "Min": { try $0.variadic($1, .minimum) },
    "Mean": { try $0.mean($1) },
    "Dropout": { try $0.dropout($1) },
    "Identity": { try $0.identity($1) },
    "Cast": { try $0.cast($1) },
    "CastLike": { try $0.castLike($1) },
    "Shrink": { try $0.shrink($1) },
    "Mish": { try $0.mish($1) },
    "Swish": { try $0.swish($1) },
    "Selu": { try $0.selu($1) },
    "Celu": { try $0.celu($1) },
    "Softsign": { try $0.softsign($1) },
    "Softmax": { try $0.softmax($1, logarithm: false) },
    "LogSoftmax": { try $0.softmax($1, logarithm: true) },
  ]

  mutating func unary(_ node: ONNXNode, _ activation: GraftGraph.Activation) throws {
    if let tensor = allHost(node)?.first {
      let y = tensor.doubles().map { activation($0) }
      define(node, host: try hostTensor(tensor.shape, y, like: tensor, node))
    } else {
      try define(node, try add(Unary(activation), [try value(node, 0)], node))
    }
  }

  mutating func clip(_ node: ONNXNode) throws {
    func bound(_ attribute: String, _ input: Int) throws -> HostTensor? {
      if let value = try node.float(attribute) { return HostTensor([], [value]) }
      guard has(node, input) else { return nil }
      let value = try host(node, input, attribute)
      guard value.elementCount > 0 else { throw node.error("its \(attribute) is empty", remedy: ImportError.fetchAgain) }
      return value
    }
    let (least, most) = (try bound("min", 1), try bound("max", 2))
    // Integers stay what they are: who divides them next rounds.
    let hasFloats = [least, most].contains { $0?.elementType.isFloatingPoint ?? false }
    if !hasFloats, let tensor = allHost(node)?.first, !tensor.elementType.isFloatingPoint {
      let low = least?.integers()[0] ?? .min, high = most?.integers()[0] ?? .max
      return define(node, host: HostTensor(tensor.shape, integers: tensor.integers().map { min(max($0, low), high) }))
    }
    let low = least?.floats()[0] ?? -.greatestFiniteMagnitude, high = most?.floats()[0] ?? .greatestFiniteMagnitude
    try define(node, try add(Unary(.clip(low, high)), [try value(node, 0)], node))
  }

  mutating func prelu(_ node: ONNXNode) throws {
    let x = try value(node, 0)
    var slope = try value(node, 1)
    // A slope a channel is [C, 1, 1]; of [C] that is what older opsets mean, and what is left where it does not fit the last dimension.
    let isChannels = shape(slope).count == 1 && shape(x).count > 2 && shape(slope)[0] == shape(x)[1] && shape(slope)[0] != 1
    if isChannels, file.opsetVersion < 7 || shape(slope)[0] != shape(x).last {
      slope = try add(Reshape([shape(slope)[0]] + Array(repeating: 1, count: shape(x).count - 2)), [slope], node)
    }
    try define(node, try add(Binary(.prelu), [x, slope], node))
  }

  mutating func binary(_ node: ONNXNode, _ function: Binary.Function) throws {
    if let tensors = allHost(node), tensors.count == 2 {
      // Integers divide towards zero, as ONNX says. What is large and not of integers becomes a node.
      let isOfIntegers = !tensors[0].elementType.isFloatingPoint
      if isOfIntegers || broadcastShape(tensors[0].shape, tensors[1].shape)?.reduce(1, *) ?? 0 <= Self.hostLimit {
        return define(node, host: try elementwise(node, tensors, like: tensors[0]) { function($0, $1) })
      }
    }
    if function == .add, let only = try operandBesideNothing(node) { return try define(node, only) }
    try define(node, try add(Binary(function), [try value(node, 0), try value(node, 1)], node))
  }

  /// The operand of a sum whose other one is zero throughout, as a mask that hides nothing is, and does not widen it.
  private mutating func operandBesideNothing(_ node: ONNXNode) throws -> ValueID? {
    guard node.inputs.count == 2 else { return nil }
    for (index, other) in [(0, 1), (1, 0)] {
      guard case .value(let mask) = try imported(node, index), case .value(let x) = try imported(node, other),
        let expansion = graph.producer(of: mask), expansion.operation is Expand, broadcastShape(shape(x), shape(mask)) == shape(x),
        let number = graph.constant(expansion.inputs[0]), number.elementCount == 1, number.doubles() == [0],
        number.shape.isEmpty || graph[expansion.inputs[0]].isFixed
      else { continue }
      return x
    }
    return nil
  }

  /// Powers that are products or roots are those; others go through a logarithm.
  mutating func power(_ node: ONNXNode) throws {
    let exponent = try known(node, 1).flatMap { $0.elementCount == 1 ? $0.doubles()[0] : nil }
    // The exponent's dimensions count for the result's.
    let ranks = try (0...1).map { shape(of: try imported(node, $0)).count }
    guard let exponent, [0.5, 1, 2, 3].contains(exponent), allHost(node) == nil, ranks[1] <= ranks[0] else { return try binary(node, .power) }
    let x = try value(node, 0)
    switch exponent {
    case 0.5: try define(node, try add(Unary(.sqrt), [x], node))
    case 1: try identity(node)
    default:
      let square = try add(Binary(.multiply), [x, x], node)
      try define(node, exponent == 2 ? square : try add(Binary(.multiply), [square, x], node))
    }
  }

  mutating func variadic(_ node: ONNXNode, _ function: Binary.Function) throws {
    if node.inputs.count == 2 { return try binary(node, function) }
    if let tensors = allHost(node), tensors.count == node.inputs.count, !tensors[0].elementType.isFloatingPoint {
      let first = tensors[0]
      let result = try tensors.dropFirst().reduce(first) { try elementwise(node, [$0, $1], like: first) { function($0, $1) } }
      return define(node, host: result)
    }
    var result = try value(node, 0)
    for index in node.inputs.indices.dropFirst() { result = try add(Binary(function), [result, try value(node, index)], node) }
    try define(node, result)
  }

  mutating func mean(_ node: ONNXNode) throws {
    var result = try value(node, 0)
    for index in node.inputs.indices.dropFirst() { result = try add(Binary(.add), [result, try value(node, index)], node) }
    let factor = graph.addConstant(HostTensor([], [1 / Float(node.inputs.count)]), isFixed: true)
    try define(node, try add(Binary(.multiply), [result, factor], node))
  }

  mutating func identity(_ node: ONNXNode) throws {
    try refuseOutputs(node, after: 1)
    switch try imported(node, 0) {
    case .host(let tensor): define(node, host: tensor)
    case .value(let id): try define(node, id)
    }
  }

  private mutating func dropout(_ node: ONNXNode) throws {
    if has(node, 2), try host(node, 2, "training_mode").doubles().contains(where: { $0 != 0 }) {
      throw node.error("it drops values at random, as in training", remedy: "Export the model in inference mode.")
    }
    try identity(node)
  }

  private mutating func cast(_ node: ONNXNode) throws {
    guard let target = try elementType(node, "to") else { throw node.error("the type it casts to is missing", remedy: ImportError.fetchAgain) }
    try cast(node, to: target)
  }

  private mutating func castLike(_ node: ONNXNode) throws { try cast(node, to: elementType(of: try imported(node, 1))) }

  /// The number format that an attribute names; nil if it is not there.
  func elementType(_ node: ONNXNode, _ attribute: String) throws -> ElementType? {
    guard let number = try node.integer(attribute) else { return nil }
    let code = Int32(clamping: number)
    guard let type = ElementType(onnx: code) else {
      throw node.error("it makes tensors of format \(ElementType.onnxName(code)), which is not supported", remedy: "Export the model without it.")
    }
    return type
  }

  /// What depends on data is a float.
  func elementType(of imported: Imported) -> ElementType {
    if case .host(let tensor) = imported { tensor.elementType } else { .float32 }
  }

  /// Between floating-point formats a cast is nothing here; integers stay on the host.
  private mutating func cast(_ node: ONNXNode, to target: ElementType) throws {
    switch try imported(node, 0) {
    case .value(let id):
      if target.isFloatingPoint { return try define(node, id) }
      guard let tensor = try known(node, 0) else {
        throw node.error("it turns values that depend on the data into integers", remedy: "Export the model without it.")
      }
      cast(node, tensor, to: target)
    case .host(let tensor): cast(node, tensor, to: target)
    }
  }

  private mutating func cast(_ node: ONNXNode, _ tensor: HostTensor, to target: ElementType) {
    let integers = target == .bool ? tensor.doubles().map { $0 == 0 ? 0 : 1 } : target.isFloatingPoint ? [] : tensor.integers()
    define(node, host: target.isFloatingPoint ? HostTensor(tensor.shape, tensor.floats()) : HostTensor(tensor.shape, integers: integers))
  }

  // MARK: In several steps

  /// x tanh(log(1 + exp x)) (Misra 2019).
  mutating func mish(_ node: ONNXNode) throws {
    let x = try value(node, 0)
    let gate = try add(Unary(.tanh), [try add(Unary(.softplus), [x], node)], node)
    try define(node, try add(Binary(.multiply), [x, gate], node))
  }

  /// x sigmoid(α x).
  mutating func swish(_ node: ONNXNode) throws {
    let x = try value(node, 0), alpha = try node.float("alpha") ?? 1
    let gate = try add(Unary(.sigmoid), [try scaled(x, by: alpha, node)], node)
    try define(node, try add(Binary(.multiply), [x, gate], node))
  }

  /// γ x, and γ α (exp x − 1) below zero (Klambauer et al. 2017).
  mutating func selu(_ node: ONNXNode) throws {
    let elu = try add(Unary(.elu(try node.float("alpha") ?? 1.673263192176818848)), [try value(node, 0)], node)
    try define(node, try scaled(elu, by: try node.float("gamma") ?? 1.050700987355480493, node))
  }

  /// x, and α (exp(x/α) − 1) below zero (Barron 2017).
  mutating func celu(_ node: ONNXNode) throws {
    let alpha = try node.float("alpha") ?? 1
    guard alpha != 0 else { throw node.error("its alpha is 0", remedy: ImportError.fetchAgain) }
    let elu = try add(Unary(.elu(1)), [try scaled(try value(node, 0), by: 1 / alpha, node)], node)
    try define(node, try scaled(elu, by: alpha, node))
  }

  /// x / (1 + |x|).
  mutating func softsign(_ node: ONNXNode) throws {
    let x = try value(node, 0)
    let one = graph.addConstant(HostTensor([], [1]), isFixed: true)
    let size = try add(Binary(.add), [try add(Unary(.absolute), [x], node), one], node)
    try define(node, try add(Binary(.divide), [x, size], node))
  }

  /// x ∓ bias beyond ± lambd, 0 between them.
  private mutating func shrink(_ node: ONNXNode) throws {
    let x = try value(node, 0), (limit, bias) = (try node.float("lambd") ?? 0.5, try node.float("bias") ?? 0)
    func number(_ value: Float) -> ValueID { graph.addConstant(HostTensor([], [value]), isFixed: true) }
    let isAbove = try add(Binary(.greater), [x, number(limit)], node), isBelow = try add(Binary(.greater), [number(-limit), x], node)
    let above = try add(Binary(.masked), [try add(Binary(.subtract), [x, number(bias)], node), isAbove], node)
    let below = try add(Binary(.masked), [try add(Binary(.add), [x, number(bias)], node), isBelow], node)
    try define(node, try add(Binary(.add), [above, below], node))
  }

  /// A value times a number.
  mutating func scaled(_ x: ValueID, by factor: Float, _ node: ONNXNode) throws -> ValueID {
    factor == 1 ? x : try add(Binary(.multiply), [x, graph.addConstant(HostTensor([], [factor]), isFixed: true)], node)
  }

  /// Before opset 13 softmax runs over all dimensions from the axis on.
  mutating func softmax(_ node: ONNXNode, logarithm: Bool) throws {
    let x = try value(node, 0), dimensions = shape(x)
    let old = file.opsetVersion < 13
    guard !dimensions.isEmpty else { throw node.error("its input is a scalar", remedy: ImportError.fetchAgain) }
    let axis = try axis(node, try node.integer("axis") ?? (old ? min(1, dimensions.count - 1) : -1), rank: dimensions.count)
    guard old, dimensions[(axis + 1)...].contains(where: { $0 != 1 }) else {
      return try define(node, try add(Softmax(axis: axis, logarithm: logarithm), [x], node))
    }
    let flat = try add(Reshape([dimensions[..<axis].reduce(1, *), dimensions[axis...].reduce(1, *)]), [x], node)
    try define(node, try add(Reshape(dimensions), [try add(Softmax(axis: 1, logarithm: logarithm), [flat], node)], node))
  }
}
