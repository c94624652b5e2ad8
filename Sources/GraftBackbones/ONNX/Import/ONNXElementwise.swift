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
    "Pow": { try $0.binary($1, .power) },
    "Sum": { try $0.variadic($1, .add) },
    "Max": { try $0.variadic($1, .maximum) },
    "Min": { try $0.variadic($1, .minimum) },
    "Mean": { try $0.mean($1) },
    "Dropout": { try $0.identity($1) },
    "Identity": { try $0.identity($1) },
    "Cast": { try $0.cast($1) },
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
    func bound(_ attribute: String, _ input: Int, _ otherwise: Float) throws -> Float {
      if let value = try node.float(attribute) { return value }
      guard has(node, input) else { return otherwise }
      guard let value = try host(node, input, attribute).floats().first else {
        throw node.error("its \(attribute) is empty", remedy: ImportError.fetchAgain)
      }
      return value
    }
    let (low, high) = (try bound("min", 1, -.greatestFiniteMagnitude), try bound("max", 2, .greatestFiniteMagnitude))
    try define(node, try add(Unary(.clip(low, high)), [try value(node, 0)], node))
  }

  mutating func prelu(_ node: ONNXNode) throws {
    let x = try value(node, 0)
    var slope = try value(node, 1)
    // A slope a channel is [C] in some files, [C, 1, 1] in others; [C] would broadcast along the width.
    if shape(slope).count == 1, shape(x).count > 2, shape(slope)[0] == shape(x)[1], shape(slope)[0] != 1 {
      slope = try add(Reshape([shape(slope)[0]] + Array(repeating: 1, count: shape(x).count - 2)), [slope], node)
    }
    try define(node, try add(Binary(.prelu), [x, slope], node))
  }

  mutating func binary(_ node: ONNXNode, _ function: Binary.Function) throws {
    if let tensors = allHost(node), tensors.count == 2, isSmall(tensors) || !tensors[0].elementType.isFloatingPoint {
      return define(node, host: try hostBinary(node, tensors, function))
    }
    try define(node, try add(Binary(function), [try value(node, 0), try value(node, 1)], node))
  }

  /// Whether what two tensors broadcast to is computed here; larger results of floats become nodes.
  private func isSmall(_ tensors: [HostTensor]) -> Bool {
    broadcastShape(tensors[0].shape, tensors[1].shape)?.reduce(1, *) ?? 0 <= Self.hostLimit
  }

  /// Arithmetic of shapes: integers divide towards zero, as ONNX says.
  private func hostBinary(_ node: ONNXNode, _ tensors: [HostTensor], _ function: Binary.Function) throws -> HostTensor {
    let a = ReferenceTensor(tensors[0]), b = ReferenceTensor(tensors[1])
    _ = try checked(node, try Binary(function).outputType([TensorType(a.shape), TensorType(b.shape)]).shape)
    return try hostTensor(Binary(function).reference([a, b]), like: tensors[0], node)
  }

  private func hostTensor(_ result: ReferenceTensor, like other: HostTensor, _ node: ONNXNode) throws -> HostTensor {
    try hostTensor(result.shape, result.values, like: other, node)
  }

  func hostTensor(_ shape: [Int], _ values: [Double], like other: HostTensor, _ node: ONNXNode) throws -> HostTensor {
    if other.elementType.isFloatingPoint { return HostTensor(shape, values.map(Float.init)) }
    let integers = try values.map { value -> Int64 in
      guard let integer = Int64(exactly: value.rounded(.towardZero)) else {
        throw node.error("it computes \(value), which is no integer", remedy: ImportError.fetchAgain)
      }
      return integer
    }
    return HostTensor(shape, integers: integers)
  }

  mutating func variadic(_ node: ONNXNode, _ function: Binary.Function) throws {
    if node.inputs.count == 2 { return try binary(node, function) }
    var result = try value(node, 0)
    for index in node.inputs.indices.dropFirst() { result = try add(Binary(function), [result, try value(node, index)], node) }
    try define(node, result)
  }

  mutating func mean(_ node: ONNXNode) throws {
    var result = try value(node, 0)
    for index in node.inputs.indices.dropFirst() { result = try add(Binary(.add), [result, try value(node, index)], node) }
    let factor = graph.addConstant(HostTensor([1], [1 / Float(node.inputs.count)]))
    try define(node, try add(Binary(.multiply), [result, factor], node))
  }

  mutating func identity(_ node: ONNXNode) throws {
    try refuseOutputs(node, after: 1)
    switch try imported(node, 0) {
    case .host(let tensor): define(node, host: tensor)
    case .value(let id): try define(node, id)
    }
  }

  /// Between floating-point formats a cast is nothing here; integers stay on the host.
  mutating func cast(_ node: ONNXNode) throws {
    switch try imported(node, 0) {
    case .value(let id):
      guard let code = try node.integer("to"), let target = ElementType(onnx: Int32(truncatingIfNeeded: code)), target.isFloatingPoint else {
        throw node.error("it turns values that depend on the data into integers", remedy: "Export the model without it.")
      }
      try define(node, id)
    case .host(let tensor):
      guard let code = try node.integer("to"), let target = ElementType(onnx: Int32(truncatingIfNeeded: code)) else {
        throw node.error("the type it casts to is not known", remedy: ImportError.fetchAgain)
      }
      define(node, host: target.isFloatingPoint ? HostTensor(tensor.shape, tensor.floats()) : HostTensor(tensor.shape, integers: tensor.integers()))
    }
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
