import GraftGraph

/// Cases of attention and its gradients.
extension OperationSamples {
  package static let attentions: [OperationSample] = {
    var samples: [OperationSample] = []
    func add(
      _ layout: Attention.Layout, images: Int = 1, heads: Int, queries: Int, keys: Int? = nil, size: Int, scale: Float? = nil, mask: [Int]? = nil,
      range: ClosedRange<Double> = -1...1
    ) {
      let sample = attention(
        layout, images: images, heads: heads, queries: queries, keys: keys, size: size, scale: scale, mask: mask, range: range)
      samples.append(sample)
      guard let forward = sample.operation as? Attention, let y = try? forward.outputType(sample.inputs) else { return }
      samples.append(
        OperationSample(
          operation: AttentionGradient(of: forward), inputs: sample.inputs + [y, y], range: range, terms: sample.terms + queries))
    }
    // One of everything; extents about those of blocks and tiles; a head as long as they may be. Few programs: compilers take their time.
    for layout in Attention.Layout.allCases { add(layout, heads: 1, queries: 1, size: 1) }
    add(.packed, images: 2, heads: 3, queries: 17, size: 8)
    add(.packed, images: 1, heads: 2, queries: 67, size: 64)
    add(.packed, images: 2, heads: 1, queries: 33, size: 5)
    add(.packed, images: 1, heads: 3, queries: 25, size: 32, mask: [25, 25])
    add(.tokens, images: 2, heads: 2, queries: 9, keys: 70, size: 20)
    add(.tokens, images: 3, heads: 1, queries: 31, keys: 66, size: 20, mask: [3, 1, 1, 66])
    add(.heads, images: 2, heads: 3, queries: 13, keys: 19, size: 13, mask: [2, 3, 13, 19])
    add(.heads, images: 1, heads: 2, queries: 30, keys: 34, size: 80, mask: [2, 30, 1])
    add(.heads, images: 1, heads: 1, queries: 25, keys: 37, size: 160)
    add(.tokens, images: 1, heads: 1, queries: 27, keys: 130, size: 256)
    // Scores to ±60 and exponents far beyond float32's if nothing were subtracted from them.
    add(.packed, images: 1, heads: 2, queries: 70, size: 16, scale: 1, range: -2...2)
    add(.packed, images: 1, heads: 1, queries: 12, size: 8, scale: 40, range: -1...1)
    return samples
  }()

  package static func attention(
    _ layout: Attention.Layout, images: Int = 1, heads: Int, queries: Int, keys: Int? = nil, size: Int, scale: Float? = nil, mask: [Int]? = nil,
    range: ClosedRange<Double> = -1...1
  ) -> OperationSample {
    let keys = keys ?? queries
    let attention = Attention(heads: heads, scale: scale ?? 1 / Float(size).squareRoot(), layout: layout, hasMask: mask != nil)
    let shapes: [[Int]]
    switch layout {
    case .packed: shapes = [[images, queries, 3 * heads * size]]
    case .tokens: shapes = [queries, keys, keys].map { [images, $0, heads * size] }
    case .heads: shapes = [queries, keys, keys].map { [images, heads, $0, size] }
    }
    let inputs = (shapes + (mask.map { [$0] } ?? [])).map { TensorType($0) }
    // An error of a score is a relative one of its weight: what rounding does grows with the scores.
    let steepness = Double(attention.scale) * range.upperBound * range.upperBound
    let terms = keys + Int(Double(size) * max(1, steepness * steepness))
    return OperationSample(operation: attention, inputs: inputs, range: range, terms: terms)
  }
}
