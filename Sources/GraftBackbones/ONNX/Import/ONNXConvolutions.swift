import GraftGraph

/// Convolution and pooling: operators on images, and on sequences, which are images one pixel high.
extension ONNXImporter {
  static let convolutionHandlers: [String: Handler] = [
    "Conv": { try $0.convolution($1) },
    "MaxPool": { try $0.pool($1, .maximum) },
    "AveragePool": { try $0.pool($1, .average) },
    "GlobalAveragePool": { try $0.globalPool($1, .mean) },
    "GlobalMaxPool": { try $0.globalPool($1, .maximum) },
  ]

  /// Far more than any network pads; what asks for more is damaged, and would fill memory with zeros.
  static let largestPad = 4096

  /// kernel, strides, dilations and padding of a window over height and width.
  private struct Window {
    var size, stride, dilation: Pair
    var padding: Padding2D
  }

  private func window(_ node: ONNXNode, size: [Int], input: [Int]) throws -> Window {
    // A sequence has one spatial dimension: its window is one pixel high.
    let isSequence = size.count == 1
    func pair(_ attribute: String, _ given: [Int]?) throws -> Pair {
      let values = isSequence && given?.count == 1 ? [1] + (given ?? []) : given ?? [1, 1]
      guard values.count == 2, values.allSatisfy({ (1...1 << 20).contains($0) }) else {
        throw node.error(
          "its \(attribute) \(values) should be two positive numbers", remedy: "Only operators on images (two spatial dimensions) are supported.")
      }
      return Pair(values[0], values[1])
    }
    let (size, stride) = (try pair("kernel_shape", size), try pair("strides", node.integers("strides")))
    let dilation = try pair("dilations", node.integers("dilations"))
    var pads = try node.integers("pads") ?? [0, 0, 0, 0]
    if isSequence, pads.count == 2 { pads = [0, pads[0], 0, pads[1]] }
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

  /// An image [N, C, H, W], or a sequence [N, C, L] as one.
  private mutating func image(_ node: ONNXNode, _ id: ValueID) throws -> ValueID {
    let dimensions = shape(id)
    guard dimensions.count == 4 || dimensions.count == 3 else {
      throw node.error(
        "its input has shape \(dimensions), and an image [N, C, H, W] is expected",
        remedy: "Only operators on images and sequences (one or two spatial dimensions) are supported.")
    }
    return dimensions.count == 4 ? id : try add(Reshape([dimensions[0], dimensions[1], 1, dimensions[2]]), [id], node)
  }

  /// What an image became, channels last, as the file has it: without its height if it had none before.
  private mutating func defineImage(_ node: ONNXNode, _ id: ValueID, rank: Int) throws {
    let y = try channelsFirst(id), dimensions = shape(y)
    try define(node, rank == 4 ? y : try add(Reshape([dimensions[0], dimensions[1], dimensions[3]]), [y], node))
  }

  mutating func convolution(_ node: ONNXNode) throws {
    let source = try value(node, 0), given = try value(node, 1), weights = shape(given)
    let x = try image(node, source), w = try image(node, given)
    if let size = try node.integers("kernel_shape"), size != Array(weights[2...]) {
      throw node.error("its kernel_shape \(size) is not that of its weights \(weights)", remedy: ImportError.fetchAgain)
    }
    guard weights.count == shape(source).count else {
      throw node.error("its weights \(weights) do not fit its input \(shape(source))", remedy: ImportError.fetchAgain)
    }
    let window = try window(node, size: Array(weights[2...]), input: shape(x))
    let conv = Conv2D(
      stride: window.stride, padding: window.padding, dilation: window.dilation, groups: try node.integer("group") ?? 1, hasBias: has(node, 2))
    let y = try add(conv, [try channelsLast(x), w] + (has(node, 2) ? [try value(node, 2)] : []), node)
    try defineImage(node, y, rank: weights.count)
  }

  mutating func pool(_ node: ONNXNode, _ function: Pool2D.Function) throws {
    try refuseOutputs(node, after: 1)
    let source = try value(node, 0), rank = shape(source).count, x = try image(node, source)
    guard let size = try node.integers("kernel_shape"), size.count == rank - 2 else {
      throw node.error("it has no kernel_shape for its input", remedy: ImportError.fetchAgain)
    }
    var window = try window(node, size: size, input: shape(x))
    let ceilMode = try node.integer("ceil_mode") ?? 0 != 0
    if ceilMode, window.dilation == Pair(1, 1) {
      // The last window may go on past the padding, the only one past all of it: what lies there counts for nothing.
      let p = window.padding, padded = (h: shape(x)[2] + p.top + p.bottom, w: shape(x)[3] + p.left + p.right)
      if window.size.h > padded.h, window.size.h < padded.h + window.stride.h { window.size.h = padded.h }
      if window.size.w > padded.w, window.size.w < padded.w + window.stride.w { window.size.w = padded.w }
    }
    var pool = Pool2D(
      function, size: window.size, stride: window.stride, padding: window.padding, ceilMode: ceilMode,
      countsPadding: try node.integer("count_include_pad") ?? 0 != 0)
    pool.dilation = window.dilation
    try defineImage(node, try add(pool, [try channelsLast(x)], node), rank: rank)
  }

  mutating func globalPool(_ node: ONNXNode, _ function: Reduce.Function) throws {
    let x = try value(node, 0), rank = shape(x).count
    guard rank >= 3 else { throw node.error("its input has shape \(shape(x)), and [N, C, …] is expected", remedy: ImportError.fetchAgain) }
    try define(node, try add(Reduce(function, axes: Array(2..<rank), keepsDimensions: true), [x], node))
  }
}
