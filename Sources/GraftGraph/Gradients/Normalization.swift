extension Softmax {
  /// dx = y (dy − Σ dy y), of the logarithm dx = dy − exp(y) Σ dy.
  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] {
    let (y, dy) = (context.output, context.upstream)
    if logarithm {
      let total = try context.add(Reduce(.sum, axes: [axis], keepsDimensions: true), [dy])
      return [try context.binary(.subtract, dy, try context.binary(.multiply, try context.add(Unary(.exp), [y]), total))]
    }
    let total = try context.add(Reduce(.sum, axes: [axis], keepsDimensions: true), [try context.binary(.multiply, dy, y)])
    return [try context.binary(.multiply, y, try context.binary(.subtract, dy, total))]
  }
}

extension LayerNorm {
  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] {
    let x = context.inputs[0], dy = context.upstream
    var gradients: [ValueID?] = [nil]
    if context.needs(x) {
      gradients[0] = try context.add(
        LayerNormGradient(epsilon: epsilon, hasScale: hasScale), [x, dy] + (hasScale ? [context.inputs[1]] : []))
    }
    let vectors = Array(context.inputs.dropFirst())
    guard vectors.contains(where: context.needs) else { return gradients + vectors.map { _ in nil } }
    let normal = try context.add(LayerNorm(epsilon: epsilon, hasScale: false, hasShift: false), [x])
    let sums = try context.channelSums(dy, normal)
    if hasScale { gradients.append(sums.product) }
    if hasShift { gradients.append(sums.plain) }
    return gradients
  }
}

extension LocalResponseNorm {
  /// With b = k + α/n Σ x² over the window and y = x b^−β:  dx = dy b^−β − (2 α β / n) x Σ dy x b^(−β−1) over the windows that x is in.
  /// Sums over windows are products with a banded matrix.
  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] {
    let (x, dy) = (context.inputs[0], context.upstream), channels = context.shape(x).last!
    // band[c', c] = 1 where c' lies in c's window.
    let band = context.graph.addConstant(
      HostTensor(
        [channels, channels],
        (0..<channels).flatMap { from in (0..<channels).map { from >= $0 - (size - 1) / 2 && from <= $0 + size / 2 ? Float(1) : 0 } }),
      name: "windows")
    let squares = try context.add(MatMul(), [try context.binary(.multiply, x, x), band])
    let base = try context.binary(.add, try context.scaled(squares, by: alpha / Float(size)), context.constant(k))
    let power = try context.binary(.power, base, context.constant(-beta))
    let spread = try context.binary(.divide, try context.binary(.multiply, dy, try context.binary(.multiply, x, power)), base)
    let gathered = try context.add(MatMul(transposeB: true), [spread, band])
    let others = try context.scaled(try context.binary(.multiply, x, gathered), by: 2 * alpha * beta / Float(size))
    return [try context.binary(.subtract, try context.binary(.multiply, dy, power), others)]
  }
}
