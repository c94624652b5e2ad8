// Operations that move elements: the gradient moves back.

extension Slice {
  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] {
    [try context.add(Place(context.shape(context.inputs[0]), [.init(starts: starts, steps: steps)]), [context.upstream])]
  }
}

extension Pad {
  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] {
    let sizes = context.shape(context.inputs[0])
    return [try context.add(Slice(starts: before, sizes: sizes, steps: sizes.map { _ in 1 }), [context.upstream])]
  }
}

extension Concat {
  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] {
    var position = 0
    var gradients: [ValueID?] = []
    for input in context.inputs {
      let sizes = context.shape(input)
      var starts = sizes.map { _ in 0 }
      starts[axis] = position
      position += sizes[axis]
      gradients.append(
        context.needs(input) ? try context.add(Slice(starts: starts, sizes: sizes, steps: sizes.map { _ in 1 }), [context.upstream]) : nil)
    }
    return gradients
  }
}

extension Expand {
  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] {
    [try context.summed(context.upstream, to: context.shape(context.inputs[0]))]
  }
}

extension Reduce {
  /// The upstream gradient for every element that went into a result; a mean's is divided among them, a maximum's among those equal
  /// to it.
  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] {
    let x = context.inputs[0], shape = context.shape(x)
    let kept = shape.indices.map { axes.contains($0) ? 1 : shape[$0] }
    let upstream = try context.reshaped(context.upstream, to: kept)
    switch function {
    case .sum: return [try context.add(Expand(shape), [upstream])]
    case .mean:
      let count = axes.reduce(1) { $0 * shape[$1] }
      return [try context.add(Expand(shape), [try context.scaled(upstream, by: 1 / Float(count))])]
    case .maximum:
      let isGreatest = try context.binary(.equal, x, try context.reshaped(context.output, to: kept))
      let count = try context.add(Reduce(.sum, axes: axes, keepsDimensions: true), [isGreatest])
      return [try context.binary(.multiply, isGreatest, try context.binary(.divide, upstream, count))]
    }
  }
}
