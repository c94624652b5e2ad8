import GraftGraph

/// Convolution, pooling and normalisation: the operators that know channels.
extension ONNXImporter {
  static let convolutionHandlers: [String: Handler] = [
    "Conv": { try $0.convolution($1) },
    "MaxPool": { try $0.pool($1, .maximum) },
    "AveragePool": { try $0.pool($1, .average) },
    "GlobalAveragePool": { try $0.globalPool($1, .mean) },
    "GlobalMaxPool": { try $0.globalPool($1, .maximum) },
    "BatchNormalization": { try $0.batchNorm($1) },
    "LRN": { try $0.localResponseNorm($1) },
    "LayerNormalization": { try $0.layerNorm($1) },
  ]

  /// Far more than any network pads; what asks for more is damaged, and would fill memory with zeros.
  static let largestPad = 4096

  /// kernel, strides, dilations and padding of a window over height and width.
  private struct Window {
    var size, stride, dilation: Pair
    var padding: Padding2D
  }

  private func window(_ node: ONNXNode, size: [Int], input: [Int]) throws -> Window {
    func pair(_ attribute: String, _ values: [Int]?) throws -> Pair {
      let values = values ?? [1, 1]
      guard values.count == 2, values.allSatisfy({ (1...1 << 20).contains($0) }) else {
        throw node.error(
          "its \(attribute) \(values) should be two positive numbers", remedy: "Only operators on images (two spatial dimensions) are supported.")
      }
      return Pair(values[0], values[1])
    }
    let (size, stride) = (try pair("kernel_shape", size), try pair("strides", node.integers("strides")))
    let dilation = try pair("dilations", node.integers("dilations"))
    var pads = try node.integers("pads") ?? [0, 0, 0, 0]
    let automatic = try node.string("auto_pad") ?? "NOTSET"
    switch automatic {
    case "NOTSET", "": break
    case "VALID": pads = [0, 0, 0, 0]
    case "SAME_UPPER", "SAME_LOWER":
      func total(_ extent: Int, _ size: Int, _ stride: Int, _ dilation: Int) -> (Int, Int) {
        let all = max(0, ((extent + stride - 1) / stride - 1) * stride + (size - 1) * dilation + 1 - extent)
        return automatic == "SAME_UPPER" ? (all / 2, all - all / 2) : (all - all / 2, all / 2)
      }
      let (h, w) = (total(input[2], size.h, stride.h, dilation.h), total(input[3], size.w, stride.w, dilation.w))
      pads = [h.0, w.0, h.1, w.1]
    default: throw node.error("its auto_pad \(quoted(automatic)) is not known", remedy: ImportError.fetchAgain)
    }
    guard pads.count == 4, pads.allSatisfy({ (0...Self.largestPad).contains($0) }) else {
      throw node.error("its pads \(pads) should be four numbers from 0 to \(Self.largestPad)", remedy: ImportError.fetchAgain)
    }
    return Window(size: size, stride: stride, dilation: dilation, padding: Padding2D(top: pads[0], left: pads[1], bottom: pads[2], right: pads[3]))
  }

  private func image(_ node: ONNXNode, _ id: ValueID) throws -> [Int] {
    guard shape(id).count == 4 else {
      throw node.error(
        "its input has shape \(shape(id)), and an image [N, C, H, W] is expected",
        remedy: "Only operators on images (two spatial dimensions) are supported.")
    }
    return shape(id)
  }

  mutating func convolution(_ node: ONNXNode) throws {
    let x = try value(node, 0), w = try value(node, 1)
    let input = try image(node, x), weights = try image(node, w)
    if let size = try node.integers("kernel_shape"), size != Array(weights[2...]) {
      throw node.error("its kernel_shape \(size) is not that of its weights \(weights)", remedy: ImportError.fetchAgain)
    }
    let window = try window(node, size: Array(weights[2...]), input: input)
    let conv = Conv2D(
      stride: window.stride, padding: window.padding, dilation: window.dilation, groups: try node.integer("group") ?? 1, hasBias: has(node, 2))
    let y = try add(conv, [try channelsLast(x), w] + (has(node, 2) ? [try value(node, 2)] : []), node)
    try define(node, try channelsFirst(y))
  }

  mutating func pool(_ node: ONNXNode, _ function: Pool2D.Function) throws {
    try refuseOutputs(node, after: 1)
    let x = try value(node, 0)
    guard let size = try node.integers("kernel_shape") else { throw node.error("it has no kernel_shape", remedy: ImportError.fetchAgain) }
    let window = try window(node, size: size, input: try image(node, x))
    var pool = Pool2D(
      function, size: window.size, stride: window.stride, padding: window.padding, ceilMode: try node.integer("ceil_mode") ?? 0 != 0,
      countsPadding: try node.integer("count_include_pad") ?? 0 != 0)
    pool.dilation = window.dilation
    try define(node, try channelsFirst(try add(pool, [try channelsLast(x)], node)))
  }

  mutating func globalPool(_ node: ONNXNode, _ function: Reduce.Function) throws {
    let x = try value(node, 0), rank = shape(x).count
    guard rank >= 3 else { throw node.error("its input has shape \(shape(x)), and [N, C, …] is expected", remedy: ImportError.fetchAgain) }
    try define(node, try add(Reduce(function, axes: Array(2..<rank), keepsDimensions: true), [x], node))
  }

  mutating func batchNorm(_ node: ONNXNode) throws {
    try refuseOutputs(node, after: 1)
    guard try node.integer("training_mode") ?? 0 == 0, try node.integer("spatial") ?? 1 == 1 else {
      throw node.error("it normalises with the statistics of a batch", remedy: "Export the model in inference mode.")
    }
    let x = try value(node, 0)
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
    let norm = LayerNorm(epsilon: try node.float("epsilon") ?? 1e-5, hasScale: true, hasShift: has(node, 2))
    var inputs = [x, try value(node, 1)] + (has(node, 2) ? [try value(node, 2)] : [])
    if first != dimensions.count - 1 {
      inputs[0] = try add(Reshape([dimensions[..<first].reduce(1, *), inner]), [x], node)
    }
    for index in inputs.indices.dropFirst() where shape(inputs[index]) != [inner] { inputs[index] = try add(Reshape([inner]), [inputs[index]], node) }
    let y = try add(norm, inputs, node)
    try define(node, shape(y) == dimensions ? y : try add(Reshape(dimensions), [y], node))
  }
}
