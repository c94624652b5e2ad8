extension Unary {
  /// y = act(x scale + shift).
  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] {
    let x = context.inputs[0]
    var before = context.upstream
    if activation != .none {
      if activation.hasDerivativeOfResult {
        before = try context.add(ActivationGradient(activation), [context.output, context.upstream])
      } else {
        let argument =
          hasScale || hasShift ? try context.add(Unary(.none, hasScale: hasScale, hasShift: hasShift), context.inputs) : x
        before = try context.add(ActivationGradient(activation), [argument, context.upstream])
      }
    }
    var gradients: [ValueID?] = [nil]
    if context.needs(x) { gradients[0] = hasScale ? try context.add(Unary(.none, hasScale: true), [before, context.inputs[1]]) : before }
    let vectors = Array(context.inputs.dropFirst())
    guard vectors.contains(where: context.needs) else { return gradients + vectors.map { _ in nil } }
    let sums = try context.channelSums(before, x)
    if hasScale { gradients.append(sums.product) }
    if hasShift { gradients.append(sums.plain) }
    return gradients
  }
}

extension Binary {
  /// The upstream gradient through each operand's partial derivative, summed over what was repeated. Of equal operands of a maximum
  /// or minimum each takes half.
  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] {
    let (a, b) = (context.inputs[0], context.inputs[1])
    guard function != .equal, function != .greater else { return [nil, nil] }
    let dy = try context.upstreamBefore(activation, unfused: Binary(function))
    func result() throws -> ValueID { activation == .none ? context.output : try context.add(Binary(function), [a, b]) }
    /// dy for the operand `mine` where it is chosen, half of it where both are equal.
    func chosen(_ mine: ValueID, _ other: ValueID) throws -> ValueID {
      let isGreater = function == .maximum ? try context.binary(.greater, mine, other) : try context.binary(.greater, other, mine)
      let isEqual = try context.scaled(try context.binary(.equal, mine, other), by: 0.5)
      return try context.binary(.multiply, dy, try context.binary(.add, isGreater, isEqual))
    }
    func left() throws -> ValueID {
      switch function {
      case .add, .subtract: dy
      case .multiply: try context.binary(.multiply, dy, b)
      case .divide: try context.binary(.divide, dy, b)
      case .maximum, .minimum: try chosen(a, b)
      case .power:
        // b a^(b − 1)
        try context.binary(
          .multiply, dy, try context.binary(.multiply, b, try context.binary(.power, a, try context.binary(.subtract, b, context.constant(1)))))
      case .prelu:
        // 1 where a ≥ 0, b elsewhere: 1 + [a < 0] (b − 1)
        try context.binary(
          .multiply, dy,
          try context.binary(
            .add,
            try context.binary(
              .multiply, try context.binary(.greater, context.constant(0), a), try context.binary(.subtract, b, context.constant(1))),
            context.constant(1)))
      case .masked: try context.binary(.masked, dy, b)
      case .equal, .greater: dy
      }
    }
    func right() throws -> ValueID {
      switch function {
      case .add: dy
      case .subtract: try context.add(Unary(.negate), [dy])
      case .multiply: try context.binary(.multiply, dy, a)
      case .divide: try context.add(Unary(.negate), [try context.binary(.multiply, dy, try context.binary(.divide, try result(), b))])
      case .maximum, .minimum: try chosen(b, a)
      case .power: try context.binary(.multiply, dy, try context.binary(.multiply, try result(), try context.add(Unary(.log), [a])))
      case .prelu: try context.binary(.multiply, dy, try context.binary(.minimum, a, context.constant(0)))
      case .equal, .greater, .masked: dy
      }
    }
    return [
      context.needs(a) ? try context.summed(try left(), to: context.shape(a)) : nil,
      context.needs(b) && function != .masked ? try context.summed(try right(), to: context.shape(b)) : nil,
    ]
  }
}

extension BatchNorm {
  /// With fixed statistics it is y = x s + t, s = scale/√(variance + ε); the statistics themselves take no gradient.
  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] {
    let (x, scale, mean, variance) = (context.inputs[0], context.inputs[1], context.inputs[3], context.inputs[4])
    let factor = try context.add(
      Unary(.reciprocal), [try context.add(Unary(.sqrt), [try context.binary(.add, variance, context.constant(Float(epsilon)))])])
    var gradients: [ValueID?] = [nil, nil, nil, nil, nil]
    if context.needs(x) {
      gradients[0] = try context.add(Unary(.none, hasScale: true), [context.upstream, try context.binary(.multiply, scale, factor)])
    }
    guard context.needs(scale) || context.needs(context.inputs[2]) else { return gradients }
    // Σ dy (x − mean) factor = (Σ dy x − mean Σ dy) factor
    let sums = try context.channelSums(context.upstream, x)
    gradients[2] = sums.plain
    gradients[1] = try context.binary(
      .multiply, try context.binary(.subtract, sums.product, try context.binary(.multiply, mean, sums.plain)), factor)
    return gradients
  }
}

extension NormalizeImage {
  /// Bytes take no gradient, and what normalises them is fixed.
  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] { context.inputs.map { _ in nil } }
}
