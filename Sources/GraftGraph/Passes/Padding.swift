extension Graph {
  /// With borders around images that only a convolution or a pooling looks at as that operation's own padding.
  ///
  /// TensorFlow's convolutions pad more at one side than at the other, and are written so in model files. Gradients are to be added
  /// after this pass.
  public func joiningPadding() throws -> Graph {
    var rewriter = try Rewriter(self)
    for node in nodes {
      let inputs = node.inputs.map { rewriter.value($0) }
      if let border = inputs.first.flatMap({ rewriter.border(of: $0) }),
        let joined = node.operation.padded(by: border, window: node.inputs.count > 1 ? type(of: node.inputs[1]).shape : [])
      {
        let inputs = [border.x] + inputs.dropFirst()
        rewriter.define(node.output, as: try rewriter.add(joined, inputs, name: node.name))
      } else {
        try rewriter.keep(node)
      }
    }
    return try rewriter.finished().removingDeadNodes()
  }

  /// Whether no number of a value is below zero, as far as the operation that computes it says.
  fileprivate func isNeverNegative(_ id: ValueID) -> Bool {
    guard let node = producer(of: id) else { return false }
    switch node.operation {
    case let unary as Unary: return unary.activation.isNeverNegative
    case let binary as Binary: return binary.activation.isNeverNegative
    case let convolution as Conv2D: return convolution.activation.isNeverNegative
    case let pool as Pool2D: return pool.function == .maximum && isNeverNegative(node.inputs[0])
    default: return false
    }
  }
}

/// An image with numbers around it.
private struct Border {
  let x: ValueID
  let padding: Padding2D
  let value: Float
  /// No number of the image is below zero.
  let isNeverNegative: Bool
}

extension Rewriter {
  /// The image and what was put around its rows and columns, if that is how a value of the new graph is computed.
  fileprivate func border(of id: ValueID) -> Border? {
    guard let node = new.producer(of: id), let pad = node.operation as? Pad, pad.before.count == 4, pad.before[0] == 0, pad.after[0] == 0,
      pad.before[3] == 0, pad.after[3] == 0
    else { return nil }
    let padding = Padding2D(top: pad.before[1], left: pad.before[2], bottom: pad.after[1], right: pad.after[2])
    return Border(x: node.inputs[0], padding: padding, value: pad.value, isNeverNegative: new.isNeverNegative(node.inputs[0]))
  }
}

extension Operation {
  /// The operation on the image without its border, with the same result; `nil` where there is none.
  ///
  /// - Parameter window: the shape of the second input, a convolution's weights.
  fileprivate func padded(by border: Border, window: [Int]) -> (any Operation)? {
    if var convolution = self as? Conv2D {
      let reach = Pair((window[2] - 1) * convolution.dilation.h, (window[3] - 1) * convolution.dilation.w)
      convolution.padding = convolution.padding + border.padding
      return border.value == 0 && convolution.padding.isWithin(reach) ? convolution : nil
    }
    guard var pool = self as? Pool2D, !pool.ceilMode else { return nil }
    let hadPadding = pool.padding != Padding2D()
    pool.padding = pool.padding + border.padding
    guard pool.padding.isWithin(Pair((pool.size.h - 1) * pool.dilation.h, (pool.size.w - 1) * pool.dilation.w)) else { return nil }
    switch pool.function {
    case .maximum:
      // Every window sees the image, and what it sees there is no less than the border.
      return border.value <= -Float.greatestFiniteMagnitude || border.value == 0 && border.isNeverNegative ? pool : nil
    case .average:
      guard border.value == 0, !hadPadding || pool.countsPadding else { return nil }
      pool.countsPadding = true
      return pool
    }
  }
}

extension Padding2D {
  fileprivate static func + (a: Padding2D, b: Padding2D) -> Padding2D {
    Padding2D(top: a.top + b.top, left: a.left + b.left, bottom: a.bottom + b.bottom, right: a.right + b.right)
  }

  /// Whether every window of a reach of so many pixels beyond its first sees some of the image.
  fileprivate func isWithin(_ reach: Pair) -> Bool { max(top, bottom) <= reach.h && max(left, right) <= reach.w }
}
