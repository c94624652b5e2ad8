extension MatMul {
  /// dA = dY Bᵀ and dB = Aᵀ dY, each transposed as its input is, summed over batches that were repeated; the bias's gradient sums the
  /// rows of dY.
  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] {
    let (a, b) = (context.inputs[0], context.inputs[1]), (sa, sb) = (context.shape(a), context.shape(b))
    var unfused = self
    unfused.activation = .none
    let dy = try context.upstreamBefore(activation, unfused: unfused), sy = context.shape(dy)
    var gradients: [ValueID?] = [nil, nil]
    if context.needs(a) {
      let da =
        transposeA
        ? try context.add(MatMul(transposeA: transposeB, transposeB: true), [b, dy])
        : try context.add(MatMul(transposeB: !transposeB), [dy, b])
      gradients[0] = try context.summed(da, to: sa)
    }
    if context.needs(b) {
      var (left, upstream) = (a, dy)
      // One matrix for every row of a batch: one long product.
      if sb.dropLast(2).allSatisfy({ $0 == 1 }), !transposeA, sa.dropLast(2) == sy.dropLast(2) {
        left = try context.reshaped(a, to: [sa.dropLast().reduce(1, *), sa[sa.count - 1]])
        upstream = try context.reshaped(dy, to: [sy.dropLast().reduce(1, *), sy[sy.count - 1]])
      }
      let db =
        transposeB
        ? try context.add(MatMul(transposeA: true, transposeB: transposeA), [upstream, left])
        : try context.add(MatMul(transposeA: !transposeA), [left, upstream])
      gradients[1] = try context.summed(db, to: sb)
    }
    if hasBias { gradients.append(context.needs(context.inputs[2]) ? try context.summed(dy, to: context.shape(context.inputs[2])) : nil) }
    if hasResidual { gradients.append(dy) }
    return gradients
  }
}
