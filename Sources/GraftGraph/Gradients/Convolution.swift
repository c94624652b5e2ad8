extension Conv2D {
  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] {
    let (x, w) = (context.inputs[0], context.inputs[1])
    var unfused = self
    unfused.activation = .none
    let dy = try context.upstreamBefore(activation, unfused: unfused)
    var gradients: [ValueID?] = [
      context.needs(x) ? try inputGradient(&context, dy) : nil, context.needs(w) ? try weightGradient(&context, dy) : nil,
    ]
    if hasBias { gradients.append(context.needs(context.inputs[2]) ? try context.summed(dy, to: context.shape(context.inputs[2])) : nil) }
    if hasResidual { gradients.append(dy) }
    return gradients
  }

  /// A pointwise convolution's is a product; others have kernels of their own.
  private func weightGradient(_ context: inout GradientContext, _ dy: ValueID) throws -> ValueID {
    let (x, w) = (context.inputs[0], context.inputs[1]), (xs, ws, ds) = (context.shape(x), context.shape(w), context.shape(dy))
    guard ws[2] == 1, ws[3] == 1, groups == 1, padding == Padding2D() else {
      return try context.add(Conv2DWeightGradient(of: self, size: Pair(ws[2], ws[3])), [x, dy])
    }
    let pixels = ds[0] * ds[1] * ds[2]
    let seen =
      stride == Pair(1)
      ? x : try context.add(Slice(starts: [0, 0, 0, 0], sizes: [ds[0], ds[1], ds[2], xs[3]], steps: [1, stride.h, stride.w, 1]), [x])
    let product = try context.add(
      MatMul(transposeA: true), [try context.reshaped(dy, to: [pixels, ds[3]]), try context.reshaped(seen, to: [pixels, xs[3]])])
    return try context.reshaped(product, to: ws)
  }

  /// Rows (or columns) of the image whose numbers leave the same rest when divided by the stride, and the taps that reach them.
  private struct Residue {
    /// The first such row, and how many there are.
    let start, count: Int
    /// Taps in the order in which a convolution of dy meets them: descending.
    let taps: [Int]
    /// Rows of dy between neighbouring taps, and zeros before and after it; negative: rows to leave out.
    let dilation, before, after: Int

    /// `nil` where there is no such row. Row h receives from dy's row (h + padding − tap · dilation) / stride.
    init?(_ rest: Int, extent: Int, gradient: Int, size: Int, stride: Int, padding: Int, dilation: Int) {
      guard rest < extent else { return nil }
      (start, count) = (rest, (extent - rest + stride - 1) / stride)
      let reaching = (0..<size).filter { (rest + padding - $0 * dilation) % stride == 0 }
      taps = reaching.reversed()
      guard let first = reaching.first, let last = reaching.last else {
        (self.dilation, before, after) = (1, 0, 0)
        return
      }
      let step = reaching.count > 1 ? reaching[1] - first : stride
      self.dilation = max(1, step * dilation / stride)
      // The largest tap meets dy's row (rest + padding − last dilation) / stride first.
      before = -((rest + padding - last * dilation) / stride)
      after = count + (reaching.count - 1) * self.dilation - before - gradient
    }
  }

  /// A convolution of dy with the weights turned round, for each class of pixels with the same rest by the stride: with what falls
  /// between two steps there is nothing to multiply (gathered, without atomic sums).
  private func inputGradient(_ context: inout GradientContext, _ dy: ValueID) throws -> ValueID {
    let (xs, ws) = (context.shape(context.inputs[0]), context.shape(context.inputs[1])), ds = context.shape(dy)
    let rows = (0..<stride.h).compactMap {
      Residue($0, extent: xs[1], gradient: ds[1], size: ws[2], stride: stride.h, padding: padding.top, dilation: dilation.h)
    }
    let columns = (0..<stride.w).compactMap {
      Residue($0, extent: xs[2], gradient: ds[2], size: ws[3], stride: stride.w, padding: padding.left, dilation: dilation.w)
    }
    var parts: [(value: ValueID, place: Place.Placement)] = []
    for r in rows {
      for c in columns where !r.taps.isEmpty && !c.taps.isEmpty {
        let weights = try turned(&context, rows: r.taps, columns: c.taps)
        // What a negative padding leaves out.
        let (top, left) = (max(0, -r.before), max(0, -c.before)), (bottom, right) = (max(0, -r.after), max(0, -c.after))
        var seen = dy
        if top + left + bottom + right > 0 {
          let sizes = [ds[0], ds[1] - top - bottom, ds[2] - left - right, ds[3]]
          guard sizes[1] > 0, sizes[2] > 0 else { continue }
          seen = try context.add(Slice(starts: [0, top, left, 0], sizes: sizes, steps: [1, 1, 1, 1]), [dy])
        }
        let convolution = Conv2D(
          padding: Padding2D(top: max(0, r.before), left: max(0, c.before), bottom: max(0, r.after), right: max(0, c.after)),
          dilation: Pair(r.dilation, c.dilation), groups: groups)
        let part = try context.add(convolution, [seen, weights])
        parts.append((part, .init(starts: [0, r.start, c.start, 0], steps: [1, stride.h, stride.w, 1])))
      }
    }
    if stride == Pair(1), parts.count == 1 { return parts[0].value }
    return try context.add(Place(xs, parts.map(\.place)), parts.map(\.value))
  }

  /// Weights [O, C/groups, kh, kw] as those of the way back, [C, O/groups, rows, columns]: the given taps in their order.
  private func turned(_ context: inout GradientContext, rows: [Int], columns: [Int]) throws -> ValueID {
    let w = context.inputs[1], ws = context.shape(w), (outputs, inputs) = (ws[0] / groups, ws[1])
    func step(_ taps: [Int]) -> Int { taps.count > 1 ? taps[1] - taps[0] : -1 }
    var value = w
    if rows.count * columns.count > 1 || ws[2] * ws[3] > 1 {
      value = try context.add(
        Slice(starts: [0, 0, rows[0], columns[0]], sizes: [ws[0], ws[1], rows.count, columns.count], steps: [1, 1, step(rows), step(columns)]), [w])
    }
    let taps = [rows.count, columns.count]
    value = try context.reshaped(value, to: [groups, outputs, inputs] + taps)
    if outputs > 1 && inputs > 1 { value = try context.add(Transpose([0, 2, 1, 3, 4]), [value]) }
    return try context.reshaped(value, to: [groups * inputs, outputs] + taps)
  }
}

extension Pool2D {
  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] {
    [try context.add(Pool2DGradient(of: self), [context.inputs[0], context.upstream])]
  }
}
