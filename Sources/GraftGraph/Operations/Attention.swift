import CKernels
import Foundation
import GraftDevice

/// Attention: y = softmax(scale · q kᵀ + mask) v for each head, the heads' results beside each other.
///
/// B images, H heads of size D, Tq queries and Tk keys. Inputs by `layout`, then the mask where there is one, which broadcasts to
/// [P, H, Tq, Tk] where P divides B, and is image i mod P's: with windows for images, each place in a picture has a mask of its own
/// (Liu et al., "Swin Transformer", 2021). y: [B, Tq, H·D]. No kernel keeps the matrix of scores in memory (Dao et al.,
/// "FlashAttention", 2022). The gradient is `AttentionGradient`.
public struct Attention: Operation {
  public static let kind = "attention"

  /// How q, k and v lie.
  public enum Layout: Sendable, Hashable, CaseIterable {
    /// One input [B, T, 3·H·D]: of each token its queries, its keys and its values, as one linear layer makes them.
    case packed
    /// q: [B, Tq, H·D], k and v: [B, Tk, H·D].
    case tokens
    /// q: [B, H, Tq, D], k and v: [B, H, Tk, D].
    case heads
  }

  public var heads: Int
  public var scale: Float
  public var layout: Layout
  public var hasMask: Bool

  /// The largest D that has kernels.
  public static let largestHeadSize = 256

  public init(heads: Int, scale: Float, layout: Layout, hasMask: Bool = false) {
    (self.heads, self.scale, self.layout, self.hasMask) = (heads, scale, layout, hasMask)
  }

  /// Inputs before the mask.
  var operandCount: Int { layout == .packed ? 1 : 3 }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    let kind = Self.kind, expected = operandCount + (hasMask ? 1 : 0), rank = layout == .heads ? 4 : 3
    try ShapeError.expect(inputs.count == expected, kind, "\(inputs.count) inputs were given, \(expected) are expected")
    let shapes = inputs.map(\.shape)
    for shape in shapes[..<operandCount] {
      try ShapeError.expect(shape.count == rank, kind, "\(layout) operands have \(rank) dimensions, \(shape) was found")
    }
    if layout != .packed {
      try ShapeError.expect(shapes[1] == shapes[2], kind, "keys \(shapes[1]) and values \(shapes[2]) differ")
      try ShapeError.expect(
        shapes[0][0] == shapes[1][0] && shapes[0][rank - 1] == shapes[1][rank - 1] && (rank == 3 || shapes[0][1] == shapes[1][1]), kind,
        "queries \(shapes[0]) and keys \(shapes[1]) do not belong together")
    }
    if layout == .heads { try ShapeError.expect(shapes[0][1] == heads, kind, "\(heads) heads are expected, \(shapes[0]) was found") }
    let parts = layout == .heads ? 1 : layout == .packed ? 3 * heads : heads
    try ShapeError.expect(heads > 0 && shapes[0][rank - 1] % parts == 0, kind, "\(shapes[0]) does not divide into \(heads) heads")
    let extents = Extents(self, shapes)
    try ShapeError.expect(extents.keys > 0, kind, "there are no keys")
    try ShapeError.expect(
      (1...Self.largestHeadSize).contains(extents.size), kind, "heads of size 1 to \(Self.largestHeadSize) are expected, \(extents.size) was found")
    if hasMask {
      let mask = shapes[expected - 1], count = Self.imageCount(ofMask: mask), scores = [count, heads, extents.queries, extents.keys]
      try ShapeError.expect(
        broadcastShape(mask, scores) == scores && (count == 1 || count > 0 && extents.images % count == 0), kind,
        "a mask \(mask) does not broadcast to \([extents.images] + scores.dropFirst())")
    }
    return TensorType([extents.images, extents.queries, heads * extents.size])
  }

  /// After how many images a mask of this shape is the first one's again.
  static func imageCount(ofMask shape: [Int]) -> Int { shape.count == 4 ? shape[0] : 1 }

  /// The extents of all operands, which `outputType` has checked.
  struct Extents {
    let images, heads, queries, keys, size: Int

    init(_ attention: Attention, _ shapes: [[Int]]) {
      let (q, k) = (shapes[0], shapes[attention.layout == .packed ? 0 : 1])
      (images, heads) = (q[0], attention.heads)
      switch attention.layout {
      case .packed: (queries, keys, size) = (q[1], q[1], q[2] / (3 * heads))
      case .tokens: (queries, keys, size) = (q[1], k[1], q[2] / heads)
      case .heads: (queries, keys, size) = (q[2], k[2], q[3])
      }
    }

    /// Tokens whose heads lie beside each other, in a tensor of so many tokens an image.
    func tokens(_ count: Int, offset: Int = 0, width: Int? = nil) -> GraftHeads {
      let width = width ?? heads * size
      return GraftHeads(image: Int32(count * width), head: Int32(size), token: Int32(width), offset: Int32(offset))
    }

    /// How q, k and v lie.
    func operands(_ layout: Layout) -> [GraftHeads] {
      switch layout {
      case .packed: (0..<3).map { tokens(queries, offset: $0 * heads * size, width: 3 * heads * size) }
      case .tokens: [tokens(queries), tokens(keys), tokens(keys)]
      case .heads:
        [queries, keys, keys].map {
          GraftHeads(image: Int32(heads * $0 * size), head: Int32($0 * size), token: Int32(size), offset: 0)
        }
      }
    }
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let extents = Extents(self, inputs.map(\.shape)), layouts = extents.operands(layout), y = extents.tokens(extents.queries)
    let values = layout == .packed ? Array(repeating: inputs[0].values, count: 3) : inputs[..<3].map(\.values)
    var result = ReferenceTensor(zeros: [extents.images, extents.queries, heads * extents.size])
    forEachRow(extents, inputs) { image, head, query, weights in
      for (key, weight) in weights.enumerated() {
        for d in 0..<extents.size {
          result.values[y.at(image, head, query, d)] += weight * values[2][layouts[2].at(image, head, key, d)]
        }
      }
    }
    return result
  }

  /// Calls `body` with the softmax of each query's scores, in double precision.
  func forEachRow(_ extents: Extents, _ inputs: [ReferenceTensor], _ body: (Int, Int, Int, [Double]) -> Void) {
    let layouts = extents.operands(layout), (q, k) = (inputs[0].values, inputs[layout == .packed ? 0 : 1].values)
    let mask = hasMask ? inputs[operandCount] : nil
    let maskImages = mask.map { Self.imageCount(ofMask: $0.shape) } ?? 1
    let maskStrides = mask.map { broadcastStrides($0.shape, to: [maskImages, heads, extents.queries, extents.keys]) } ?? []
    for image in 0..<extents.images {
      for head in 0..<heads {
        for query in 0..<extents.queries {
          let scores = (0..<extents.keys).map { key in
            var sum = 0.0
            for d in 0..<extents.size { sum += q[layouts[0].at(image, head, query, d)] * k[layouts[1].at(image, head, key, d)] }
            sum *= Double(scale)
            if let mask { sum += mask.values[zip(maskStrides, [image % maskImages, head, query, key]).reduce(0) { $0 + $1.0 * $1.1 }] }
            return sum
          }
          let greatest = scores.max() ?? 0, exponentials = scores.map { exp($0 - greatest) }, total = exponentials.reduce(0, +)
          body(image, head, query, exponentials.map { $0 / total })
        }
      }
    }
  }

  /// Two products and a softmax.
  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double {
    let extents = Extents(self, inputs.map(\.shape))
    return Double(extents.images * heads * extents.queries) * Double(extents.keys) * Double(4 * extents.size + 5)
  }

  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool {
    guard hasImages[..<operandCount].allSatisfy({ $0 }), hasMask else { return !hasMask && !hasImages.contains(false) }
    let mask = inputs[operandCount]
    return hasImages[operandCount] ? mask.rank == 4 : mask.rank < 4 || mask.shape[0] == 1
  }

  public func lower(_ context: inout LoweringContext) throws {
    var p = parameters(context)
    let (operands, mask) = storedOperands(&context)
    switch context.traits.family {
    case .cpu:
      let rows = AttentionTiling(rows: Int(p.queries), parameters: p, context: context)
      p.rowsPerItem = Int32(rows.rowsPerItem)
      context.launch("attention", "attention", operands + [mask, .value(context.output)], p, grid: rows.grid)
    case .gpu:
      guard !context.attentionOnMatrixUnit(operands, mask: mask, p) else { return }
      context.launchAttention("attention", operands + [mask, .value(context.output)], p, forward: p, rows: Int(p.queries))
    }
  }

  /// q, k and v in the plan's format, and the mask in float32.
  func storedOperands(_ context: inout LoweringContext) -> (operands: [Operand?], mask: Operand?) {
    let operands: [Operand?] =
      layout == .packed ? Array(repeating: context.stored(context.inputs[0]), count: 3) : context.inputs[..<3].map { context.stored($0) }
    return (operands, hasMask ? context.parameter(context.inputs[operandCount]) : nil)
  }

  /// What kernels are told, for as many images as the context's launches see.
  func parameters(_ context: LoweringContext) -> GraftAttentionParams {
    let shapes = context.inputs.map { context.shape($0) }, extents = Extents(self, shapes), layouts = extents.operands(layout)
    let maskImages = hasMask ? Self.imageCount(ofMask: shapes[operandCount]) : 1
    let mask =
      hasMask ? broadcastStrides(shapes[operandCount], to: [maskImages, heads, extents.queries, extents.keys]).map(Int32.init) : [0, 0, 0, 0]
    return GraftAttentionParams(
      q: layouts[0], k: layouts[1], v: layouts[2], y: extents.tokens(extents.queries), batch: Int32(extents.images), heads: Int32(heads),
      queries: Int32(extents.queries), keys: Int32(extents.keys), size: Int32(extents.size), hasMask: hasMask ? 1 : 0,
      maskImages: Int32(maskImages), maskImage: mask[0], maskHead: mask[1], maskQuery: mask[2], maskKey: mask[3], rowsPerItem: 0, scale: scale)
  }
}

extension GraftHeads {
  /// The place of an element of a head's matrix.
  func at(_ image: Int, _ head: Int, _ row: Int, _ d: Int) -> Int {
    image * Int(self.image) + head * Int(self.head) + row * Int(token) + Int(offset) + d
  }
}

/// How attention is cut into work-items on CPUs: some rows of a head each.
struct AttentionTiling {
  let rowsPerItem: Int
  let grid: Grid

  /// As `ProductTiling`: the rows by which the slowest thread is done first. Bringing the other side into the caches costs a
  /// work-item about as much as six rows do.
  init(rows: Int, parameters p: GraftAttentionParams, context: LoweringContext) {
    let width = divideUp(Int(p.size), context.traits.vectorWidth) * context.traits.vectorWidth
    // Sums of whole tiles: MOST_SUMS and SCORE_ROWS of Kernels/cpu/attention.cl.
    let most = max(1, 16_384 / (width * 24)) * 24, workers = context.workerCount, others = Int(p.heads) * Int(p.batch)
    let fewest = max(1, divideUp(rows, most))
    func cost(_ blocks: Int) -> Double {
      let share = max(1, divideUp(rows, blocks)), items = divideUp(rows, share) * others
      return (Double(divideUp(items, workers)) + 0.5) * Double(share + 6)
    }
    let candidates = fewest...max(fewest, min(divideUp(rows, 6), fewest + 4 * workers))
    rowsPerItem = max(1, divideUp(rows, candidates.min { cost($0) < cost($1) } ?? fewest))
    grid = Grid(divideUp(rows, rowsPerItem), Int(p.heads), Int(p.batch))
  }
}
