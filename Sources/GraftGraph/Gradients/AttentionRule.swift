extension Attention {
  /// One node for q, k and v; a mask's gradient, where it is asked for, is that of the scores, step by step.
  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] {
    let operands = Array(context.inputs[..<operandCount])
    var gradients: [ValueID?] = operands.map { _ in nil }
    if operands.contains(where: context.needs) {
      let all = try context.add(AttentionGradient(of: self), context.inputs + [context.output, context.upstream])
      if layout == .packed {
        gradients = [all]
      } else {
        let extents = Extents(self, context.inputs.map { context.shape($0) }), width = extents.heads * extents.size
        var first = 0
        for (index, count) in [extents.queries, extents.keys, extents.keys].enumerated() {
          if context.needs(operands[index]) {
            let rows = try context.add(
              Slice(starts: [0, first, 0], sizes: [extents.images, count, width], steps: [1, 1, 1]), [all])
            gradients[index] = try layout == .heads ? context.byHeads(rows, extents) : rows
          }
          first += count
        }
      }
    }
    if hasMask { gradients.append(context.needs(context.inputs[operandCount]) ? try maskGradient(&context) : nil) }
    return gradients
  }

  /// softmax'(scores), summed over what the mask was repeated along. This one does take the matrix of scores.
  private func maskGradient(_ context: inout GradientContext) throws -> ValueID {
    let mask = context.inputs[operandCount], extents = Extents(self, context.inputs.map { context.shape($0) })
    var operands: [ValueID] = []
    for (index, count) in [extents.queries, extents.keys, extents.keys].enumerated() {
      let width = extents.heads * extents.size
      switch layout {
      case .packed:
        let part = try context.add(
          Slice(starts: [0, 0, index * width], sizes: [extents.images, count, width], steps: [1, 1, 1]), [context.inputs[0]])
        operands.append(try context.byHeads(part, extents))
      case .tokens: operands.append(try context.byHeads(context.inputs[index], extents))
      case .heads: operands.append(context.inputs[index])
      }
    }
    let scores = try context.scaled(try context.add(MatMul(transposeB: true), [operands[0], operands[1]]), by: scale)
    // A mask of fewer images than there are comes again and again: images are split so that it broadcasts.
    let shape = context.shape(scores), maskShape = context.shape(mask), count = Self.imageCount(ofMask: maskShape)
    let split = count > 1 && count < shape[0] ? [shape[0] / count, count] + shape.dropFirst() : shape
    let masked = try context.binary(.add, try context.reshaped(scores, to: split), mask)
    let weights = try context.add(Softmax(axis: 3), [try context.reshaped(masked, to: shape)])
    let slopes = try context.add(MatMul(transposeB: true), [try context.byHeads(context.upstream, extents), operands[2]])
    let total = try context.add(Reduce(.sum, axes: [3], keepsDimensions: true), [try context.binary(.multiply, slopes, weights)])
    let gradient = try context.binary(.multiply, weights, try context.binary(.subtract, slopes, total))
    return try context.summed(try context.reshaped(gradient, to: split), to: maskShape)
  }
}

extension GradientContext {
  /// [B, T, H·D] as [B, H, T, D].
  fileprivate mutating func byHeads(_ tokens: ValueID, _ extents: Attention.Extents) throws -> ValueID {
    let shape = self.shape(tokens)
    return try add(Transpose([0, 2, 1, 3]), [try reshaped(tokens, to: [shape[0], shape[1], extents.heads, extents.size])])
  }
}
