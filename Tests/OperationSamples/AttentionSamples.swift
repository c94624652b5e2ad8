import GraftDevice
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
      samples.append(gradient(of: sample))
    }
    // One of everything; extents about those of blocks and tiles; a head as long as they may be. Few programs: compilers take their time.
    for layout in Attention.Layout.allCases { add(layout, heads: 1, queries: 1, size: 1) }
    add(.packed, images: 2, heads: 3, queries: 17, size: 8)
    add(.packed, images: 1, heads: 2, queries: 67, size: 64)
    add(.packed, images: 2, heads: 1, queries: 33, size: 5)
    add(.packed, images: 1, heads: 3, queries: 25, size: 32, mask: [25, 25])
    add(.tokens, images: 2, heads: 2, queries: 9, keys: 70, size: 20)
    add(.tokens, images: 4, heads: 1, queries: 31, keys: 66, size: 20, mask: [2, 1, 1, 66])
    add(.heads, images: 2, heads: 3, queries: 13, keys: 19, size: 13, mask: [2, 3, 13, 19])
    add(.heads, images: 1, heads: 2, queries: 30, keys: 34, size: 80, mask: [2, 30, 1])
    add(.heads, images: 1, heads: 1, queries: 25, keys: 37, size: 160)
    add(.tokens, images: 1, heads: 1, queries: 27, keys: 130, size: 256)
    // Scores to ±60 and exponents far beyond float32's if nothing were subtracted from them.
    add(.packed, images: 1, heads: 2, queries: 70, size: 16, scale: 1, range: -2...2)
    add(.packed, images: 1, heads: 1, queries: 12, size: 8, scale: 40, range: -1...1)
    return samples
  }()

  /// Heads of the sizes that matrix units read and none of the others has, in copies of 16, 8 and 4 bytes; on some units they are cut
  /// into parts.
  package static let attentionsOnMatrixUnit: [OperationSample] = [
    attention(.heads, heads: 1, queries: 66, keys: 47, size: 80),
    attention(.packed, heads: 1, queries: 35, size: 96),
    attention(.tokens, heads: 1, queries: 20, keys: 81, size: 128),
    attention(.heads, heads: 1, queries: 20, keys: 33, size: 124, mask: [33]),
    attention(.packed, heads: 1, queries: 17, size: 46),
  ]

  package static let attentionGradientsOnMatrixUnit: [OperationSample] = attentionsOnMatrixUnit.map(gradient)

  /// One for a simulator: more than a warp's rows and a step of keys, and less than a block of either.
  package static let attentionOnMatrixUnit = attention(.tokens, heads: 1, queries: 18, keys: 35, size: 20, mask: [18, 1])

  /// The gradients of a case of attention.
  package static func gradient(of sample: OperationSample) -> OperationSample {
    guard let forward = sample.operation as? Attention, let y = try? forward.outputType(sample.inputs) else { return sample }
    return OperationSample(
      operation: AttentionGradient(of: forward), inputs: sample.inputs + [y, y], range: sample.range, terms: sample.terms + y.shape[1])
  }

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

extension OperationSample {
  /// How far from the reference the results of attention and of its gradients on a matrix unit may be beside what float32's arithmetic
  /// does: weights, the greatest of them 1, and what gradients multiply them with are rounded to the format before they are
  /// multiplied, each by so much of itself.
  ///
  /// - Returns: none for other operations, and in float32.
  package func weightErrors(_ tensors: [HostTensor], precision: Precision) -> [Double] {
    guard precision != .float32 else { return [] }
    // Half of the distance to the next number; in float16 the smallest are further from each other.
    let (share, smallest) = precision == .bfloat16 ? (0x1p-8, 0) : (0x1p-11, 0x1p-25)
    let largest = max(abs(range.lowerBound), abs(range.upperBound))
    if let gradient = operation as? AttentionGradient {
      let tokens = gradient.attention.layout == .heads ? 2 : 1, isPacked = gradient.attention.layout == .packed
      let terms = Double(max(inputs[0].shape[tokens], inputs[isPacked ? 0 : 1].shape[tokens]))
      let least = smallest * terms * largest * max(1, Double(gradient.attention.scale))
      return gradient.magnitudes(tensors.map(ReferenceTensor.init)).values.map { share * $0 + least }
    }
    guard let attention = operation as? Attention else { return [] }
    var magnitudes = tensors
    let isPacked = attention.layout == .packed, values = isPacked ? 0 : 2, width = isPacked ? tensors[0].shape[2] / 3 : 0
    let numbers = tensors[values].floats().enumerated().map { isPacked && $0.offset % (3 * width) < 2 * width ? $0.element : abs($0.element) }
    magnitudes[values] = HostTensor(tensors[values].shape, numbers)
    let keys = inputs[values].shape[attention.layout == .heads ? 2 : 1]
    return attention.reference(magnitudes.map(ReferenceTensor.init)).values.map { share * $0 + smallest * Double(keys) * largest }
  }
}
