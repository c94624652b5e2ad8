import GraftGraph

/// Operators that normalise.
extension ONNXImporter {
  static let normalizationHandlers: [String: Handler] = [
    "BatchNormalization": { try $0.batchNorm($1) },
    "InstanceNormalization": { try $0.instanceNorm($1) },
    "GroupNormalization": { try $0.groupNorm($1) },
    "LayerNormalization": { try $0.layerNorm($1) },
    "RMSNormalization": { try $0.rootMeanSquareNorm($1) },
    "LRN": { try $0.localResponseNorm($1) },
    "LpNormalization": { try $0.lpNorm($1) },
    "MeanVarianceNormalization": { try $0.meanVarianceNorm($1) },
  ]

  mutating func batchNorm(_ node: ONNXNode) throws {
    try refuseOutputs(node, after: 1)
    let x = try value(node, 0)
    // Statistics of a batch of one are that sample's own: weights are standardised so.
    // Before opset 14 further outputs say that it is trained.
    let isTrained = file.opsetVersion < 14 && node.outputs.dropFirst().contains { !$0.isEmpty }
    let usesBatch = try isTrained || node.integer("training_mode") ?? 0 != 0
    if usesBatch, shape(x).count >= 3, shape(x)[0] == 1 { return try normalised(node, x, groups: shape(x)[1]) }
    guard !usesBatch, try node.integer("spatial") ?? 1 == 1 else {
      throw node.error("it normalises with the statistics of a batch", remedy: "Export the model in inference mode.")
    }
    guard shape(x).count >= 2 else { throw node.error("its input has shape \(shape(x)), and [N, C, …] is expected", remedy: ImportError.fetchAgain) }
    let vectors = try (1...4).map { try value(node, $0) }
    let norm = BatchNorm(epsilon: Double(try node.float("epsilon") ?? 1e-5))
    if shape(x).count == 2 {
      try define(node, try add(norm, [x] + vectors, node))
    } else {
      try define(node, try channelsFirst(try add(norm, [try channelsLast(x)] + vectors, node)))
    }
  }

  mutating func localResponseNorm(_ node: ONNXNode) throws {
    guard let size = try node.integer("size"), (1...1 << 20).contains(size) else {
      throw node.error("its size is missing or not positive", remedy: ImportError.fetchAgain)
    }
    let norm = LocalResponseNorm(
      size: size, alpha: try node.float("alpha") ?? 1e-4, beta: try node.float("beta") ?? 0.75, k: try node.float("bias") ?? 1)
    let x = try value(node, 0)
    guard shape(x).count >= 3 else { throw node.error("its input has shape \(shape(x)), and [N, C, …] is expected", remedy: ImportError.fetchAgain) }
    try define(node, try channelsFirst(try add(norm, [try channelsLast(x)], node)))
  }

  mutating func layerNorm(_ node: ONNXNode) throws {
    try refuseOutputs(node, after: 1)
    let x = try value(node, 0), dimensions = shape(x)
    let first = try axis(node, try node.integer("axis") ?? -1, rank: dimensions.count)
    let inner = dimensions[first...].reduce(1, *)
    /// Whether a scale or shift has a number for each element of a row, and the same for all rows.
    func isRow(_ id: ValueID) -> Bool {
      let shape = shape(id)
      if broadcastShape(shape, dimensions) != dimensions { return shape.reduce(1, *) == inner }
      return Array(shape.drop { $0 == 1 }) == Array(dimensions[first...].drop { $0 == 1 })
    }
    var rest = [try value(node, 1)] + (has(node, 2) ? [try value(node, 2)] : [])
    var inputs = [first == dimensions.count - 1 ? x : try add(Reshape([dimensions[..<first].reduce(1, *), inner]), [x], node)]
    let hasScale = isRow(rest[0]), hasShift = hasScale && rest.count == 2 && isRow(rest[1])
    for vector in rest.prefix(hasShift ? 2 : hasScale ? 1 : 0) {
      inputs.append(shape(vector) == [inner] ? vector : try add(Reshape([inner]), [vector], node))
    }
    rest.removeFirst(inputs.count - 1)
    var y = try add(LayerNorm(epsilon: try node.float("epsilon") ?? 1e-5, hasScale: hasScale, hasShift: hasShift), inputs, node)
    if shape(y) != dimensions { y = try add(Reshape(dimensions), [y], node) }
    // What broadcasts in another way is applied afterwards.
    for (index, vector) in rest.enumerated() {
      guard broadcastShape(shape(vector), dimensions) == dimensions else {
        throw node.error("its vectors \(shape(vector)) do not fit \(dimensions)", remedy: ImportError.fetchAgain)
      }
      y = try add(Binary(index == 0 && !hasScale ? .multiply : .add), [y, vector], node)
    }
    try define(node, y)
  }

  mutating func instanceNorm(_ node: ONNXNode) throws {
    let x = try value(node, 0)
    guard shape(x).count >= 3 else { throw node.error("its input has shape \(shape(x)), and [N, C, …] is expected", remedy: ImportError.fetchAgain) }
    try normalised(node, x, groups: shape(x)[1])
  }

  /// Until opset 20 a scale and a shift are a group's, from 21 on a channel's.
  mutating func groupNorm(_ node: ONNXNode) throws {
    let x = try value(node, 0)
    guard let groups = try node.integer("num_groups"), shape(x).count >= 3, groups > 0, shape(x)[1] % groups == 0 else {
      throw node.error("its num_groups does not divide the channels of \(shape(x))", remedy: ImportError.fetchAgain)
    }
    try normalised(node, x, groups: groups)
  }

  /// Each group of channels of each sample normalised by its own statistics, then each channel times its scale (input 1) and plus its
  /// shift (input 2).
  private mutating func normalised(_ node: ONNXNode, _ x: ValueID, groups: Int) throws {
    let dimensions = shape(x), channels = dimensions[1]
    guard !dimensions.contains(0) else { throw node.error("its input has shape \(dimensions)", remedy: ImportError.fetchAgain) }
    let flat = try add(Reshape([dimensions[0] * groups, dimensions[1...].reduce(1, *) / groups]), [x], node)
    let norm = LayerNorm(epsilon: try node.float("epsilon") ?? 1e-5, hasScale: false, hasShift: false)
    var y = try add(Reshape(dimensions), [try add(norm, [flat], node)], node)
    for (input, function, neutral) in [(1, Binary.Function.multiply, 1.0), (2, .add, 0)] {
      // Exporters that scale elsewhere write ones and zeros.
      if case .host(let vector) = try imported(node, input), vector.doubles().allSatisfy({ $0 == neutral }) { continue }
      var vector = try value(node, input)
      let count = shape(vector).reduce(1, *)
      guard count == channels || count == groups else {
        throw node.error("its vectors \(shape(vector)) do not fit \(channels) channels", remedy: ImportError.fetchAgain)
      }
      vector = try add(Reshape([count, 1]), [vector], node)
      if count != channels { vector = try add(Expand([count, channels / count]), [vector], node) }
      vector = try add(Reshape([channels] + dimensions.dropFirst(2).map { _ in 1 }), [vector], node)
      y = try add(Binary(function), [y, vector], node)
    }
    try define(node, y)
  }

  /// x / ‖x‖ along one axis, 0 where there is nothing.
  private mutating func lpNorm(_ node: ONNXNode) throws {
    let x = try value(node, 0), axis = try axis(node, try node.integer("axis") ?? -1, rank: shape(x).count), p = try node.integer("p") ?? 2
    guard [1, 2].contains(p) else { throw node.error("its p is \(p), and 1 and 2 are read", remedy: "Export the model without it.") }
    let terms = try p == 1 ? add(Unary(.absolute), [x], node) : add(Binary(.multiply), [x, x], node)
    let sum = try add(Reduce(.sum, axes: [axis], keepsDimensions: true), [terms], node)
    let least = graph.addConstant(HostTensor([], [.leastNormalMagnitude]), isFixed: true)
    let size = try add(Binary(.maximum), [p == 1 ? sum : try add(Unary(.sqrt), [sum], node), least], node)
    try define(node, try add(Binary(.divide), [x, size], node))
  }

  /// (x − mean x) / (deviation + 1e-9), the epsilon that ONNX writes into the operator.
  private mutating func meanVarianceNorm(_ node: ONNXNode) throws {
    let x = try value(node, 0), rank = shape(x).count
    let axes = try (node.integers("axes") ?? [0, 2, 3]).map { try axis(node, $0, rank: rank) }
    let mean = try add(Reduce(.mean, axes: axes, keepsDimensions: true), [x], node), rest = try add(Binary(.subtract), [x, mean], node)
    let square = try add(Binary(.multiply), [rest, rest], node)
    let deviation = try add(Unary(.sqrt), [try add(Reduce(.mean, axes: axes, keepsDimensions: true), [square], node)], node)
    let epsilon = graph.addConstant(HostTensor([], [1e-9]), isFixed: true)
    try define(node, try add(Binary(.divide), [rest, try add(Binary(.add), [deviation, epsilon], node)], node))
  }

  /// x / √(mean x² + ε) times a scale (Zhang and Sennrich 2019).
  mutating func rootMeanSquareNorm(_ node: ONNXNode) throws {
    let x = try value(node, 0), rank = shape(x).count
    let first = try axis(node, try node.integer("axis") ?? -1, rank: rank)
    let square = try add(Binary(.multiply), [x, x], node)
    let mean = try add(Reduce(.mean, axes: Array(first..<rank), keepsDimensions: true), [square], node)
    let epsilon = graph.addConstant(HostTensor([], [try node.float("epsilon") ?? 1e-5]), isFixed: true)
    let size = try add(Unary(.sqrt), [try add(Binary(.add), [mean, epsilon], node)], node)
    let normal = try add(Binary(.divide), [x, size], node)
    try define(node, try add(Binary(.multiply), [normal, try value(node, 1)], node))
  }
}
