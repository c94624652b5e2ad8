import CKernels
import GraftDevice

/// The gradients of an attention's q, k and v, from scores that are computed once more: no matrix of them lies in memory.
///
/// Inputs: those of the attention, its result y and dy, both [B, Tq, H·D]. With w the softmax and δ = Σ dy y over each head's row:
/// dv = wᵀ dy, g = w (dy vᵀ − δ), dq = scale g k, dk = scale gᵀ q. The result is [B, T, 3·H·D] for packed operands, as they lie;
/// else [B, Tq + 2 Tk, H·D]: the rows of dq, dk and dv. Kernels that compute dk and dv follow one that computes dq; nothing is added
/// atomically.
public struct AttentionGradient: Operation {
  public static let kind = "attentionGradient"
  public var attention: Attention

  public init(of attention: Attention) { self.attention = attention }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(inputs.count > 2, Self.kind, "\(inputs.count) inputs were given")
    let y = try attention.outputType(Array(inputs.dropLast(2)))
    try ShapeError.expect(
      inputs.suffix(2).allSatisfy { $0.shape == y.shape }, Self.kind,
      "two tensors \(y.shape) are expected, \(inputs.suffix(2).map(\.shape)) were found")
    let extents = Attention.Extents(attention, inputs.map(\.shape))
    if attention.layout == .packed { return TensorType(inputs[0].shape) }
    return TensorType([extents.images, extents.queries + 2 * extents.keys, extents.heads * extents.size])
  }

  /// How dq, dk and dv lie in the result.
  private func results(_ extents: Attention.Extents) -> [GraftHeads] {
    if attention.layout == .packed { return extents.operands(.packed) }
    let width = extents.heads * extents.size, rows = extents.queries + 2 * extents.keys
    return [0, extents.queries, extents.queries + extents.keys].map { first in
      var heads = extents.tokens(rows)
      heads.offset = Int32(first * width)
      return heads
    }
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor { sums(inputs) { $0 } }

  /// Of each result the sum of its terms' magnitudes: what an error of a term by a share of itself is a share of.
  package func magnitudes(_ inputs: [ReferenceTensor]) -> ReferenceTensor { sums(inputs) { abs($0) } }

  private func sums(_ inputs: [ReferenceTensor], of term: (Double) -> Double) -> ReferenceTensor {
    let extents = Attention.Extents(attention, inputs.map(\.shape)), layouts = extents.operands(attention.layout), rows = results(extents)
    let y = extents.tokens(extents.queries), scale = Double(attention.scale)
    let (forward, upstream) = (inputs[inputs.count - 2].values, inputs[inputs.count - 1].values)
    let values = attention.layout == .packed ? Array(repeating: inputs[0].values, count: 3) : inputs[..<3].map(\.values)
    var result = ReferenceTensor(zeros: try! outputType(inputs.map { TensorType($0.shape) }).shape)
    attention.forEachRow(extents, inputs) { image, head, query, weights in
      var delta = 0.0
      for d in 0..<extents.size { delta += forward[y.at(image, head, query, d)] * upstream[y.at(image, head, query, d)] }
      for (key, weight) in weights.enumerated() {
        var slope = -delta
        for d in 0..<extents.size { slope += upstream[y.at(image, head, query, d)] * values[2][layouts[2].at(image, head, key, d)] }
        for d in 0..<extents.size {
          result.values[rows[0].at(image, head, query, d)] += term(scale * weight * slope * values[1][layouts[1].at(image, head, key, d)])
          result.values[rows[1].at(image, head, key, d)] += term(scale * weight * slope * values[0][layouts[0].at(image, head, query, d)])
          result.values[rows[2].at(image, head, key, d)] += term(weight * upstream[y.at(image, head, query, d)])
        }
      }
    }
    return result
  }

  /// Scores and slopes for both kernels, and three products.
  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { queryFlops(inputs) + keyFlops(inputs) }

  private func scoreCount(_ extents: Attention.Extents) -> Double {
    Double(extents.images * extents.heads * extents.queries) * Double(extents.keys)
  }
  private func queryFlops(_ inputs: [TensorType]) -> Double {
    let extents = Attention.Extents(attention, inputs.map(\.shape))
    return scoreCount(extents) * Double(6 * extents.size + 7)
  }
  private func keyFlops(_ inputs: [TensorType]) -> Double {
    let extents = Attention.Extents(attention, inputs.map(\.shape))
    return scoreCount(extents) * Double(8 * extents.size + 5)
  }

  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool {
    hasImages.suffix(2).allSatisfy { $0 } && attention.isComputedByImage(Array(inputs.dropLast(2)), hasImages: Array(hasImages.dropLast(2)))
  }

  public func lower(_ context: inout LoweringContext) throws {
    let types = context.inputs.map { context.type($0) }, extents = Attention.Extents(attention, types.map(\.shape)), lies = results(extents)
    var p = GraftAttentionGradientParams(forward: attention.parameters(context), dq: lies[0], dk: lies[1], dv: lies[2])
    let (operands, mask) = attention.storedOperands(&context)
    let y = context.stored(context.inputs[context.inputs.count - 2]), dy = context.stored(context.inputs[context.inputs.count - 1])
    let statistics = context.scratch(elementCount: 2 * extents.images * extents.heads * extents.queries, precision: .float32)
    let ofQueries = operands + [mask, y, dy, statistics, .value(context.output)], ofKeys = operands + [mask, dy, statistics, .value(context.output)]
    switch context.traits.family {
    case .cpu:
      let queries = AttentionTiling(rows: extents.queries, parameters: p.forward, context: context)
      p.forward.rowsPerItem = Int32(queries.rowsPerItem)
      context.launch("attention", "attention_gradient_queries", ofQueries, p, grid: queries.grid, flops: queryFlops(types))
      let keys = AttentionTiling(rows: extents.keys, parameters: p.forward, context: context)
      p.forward.rowsPerItem = Int32(keys.rowsPerItem)
      context.launch("attention", "attention_gradient_keys", ofKeys, p, grid: keys.grid, flops: keyFlops(types))
    case .gpu:
      let ofValues = operands[..<2] + [mask, dy, statistics, .value(context.output)], forward = p.forward
      let reads = [(operands[0], forward.q), (operands[1], forward.k), (operands[2], forward.v), (dy, forward.y)]
      let valueFlops = keyFlops(types) - queryFlops(types)
      // Two pairs of scores beside the sums: no more than five of those.
      if !context.attentionGradientOnMatrixUnit(
        .queries, ofQueries, reads: reads + [(y, forward.y)], writes: p.dq, p, flops: queryFlops(types))
      {
        context.launchAttention(
          "attention_gradient_queries", ofQueries, p, forward: forward, rows: extents.queries, mostSums: 5, flops: queryFlops(types))
      }
      if !context.attentionGradientOnMatrixUnit(.keys, ofKeys, reads: reads, writes: p.dk, p, flops: queryFlops(types)) {
        context.launchAttention("attention_gradient_keys", ofKeys, p, forward: forward, rows: extents.keys, flops: queryFlops(types))
      }
      if !context.attentionGradientOnMatrixUnit(
        .values, Array(ofValues), reads: [reads[0], reads[1], reads[3]], writes: p.dv, p, flops: valueFlops)
      {
        context.launchAttention("attention_gradient_values", Array(ofValues), p, forward: forward, rows: extents.keys, flops: valueFlops)
      }
    }
  }
}
