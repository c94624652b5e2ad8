import GraftGraph
import Testing

/// Which networks give an image other features beside other images.
@Suite struct ImageIndependenceTests {
  /// A network of an input [images, 4, 6] and what it does with it.
  struct Network: Sendable, CustomTestStringConvertible {
    let testDescription: String
    /// The kind of the node that joins images.
    let joins: String?
    let build: @Sendable (inout Graph, ValueID, _ images: Int) throws -> ValueID
  }

  static let networks: [Network] = [
    Network(testDescription: "a mean of everything is subtracted", joins: Reduce.kind) { graph, x, _ in
      try graph.add(Binary(.subtract), [x, try graph.add(Reduce(.mean, axes: [0, 1, 2], keepsDimensions: true), [x])])
    },
    Network(testDescription: "a mean of each image is subtracted", joins: nil) { graph, x, _ in
      try graph.add(Binary(.subtract), [x, try graph.add(Reduce(.mean, axes: [1, 2], keepsDimensions: true), [x])])
    },
    Network(testDescription: "images become tokens", joins: Reduce.kind) { graph, x, images in
      let flat = try graph.add(Reshape([1, images * 4, 6]), [x])
      let y = try graph.add(Binary(.multiply), [flat, try graph.add(Reduce(.maximum, axes: [1], keepsDimensions: true), [flat])])
      return try graph.add(Reshape([images, 4, 6]), [y])
    },
    Network(testDescription: "attention along the batch", joins: Softmax.kind) { graph, x, _ in
      let scores = try graph.add(MatMul(transposeB: true), [x, x])
      return try graph.add(MatMul(), [try graph.add(Softmax(axis: 0), [scores]), x])
    },
    Network(testDescription: "attention with the batch as tokens", joins: Attention.kind) { graph, x, _ in
      let turned = try graph.add(Transpose([1, 0, 2]), [x])
      return try graph.add(Transpose([1, 0, 2]), [try graph.add(Attention(heads: 2, scale: 0.5, layout: .tokens), [turned, turned, turned])])
    },
    Network(testDescription: "attention with tokens first", joins: nil) { graph, x, images in
      // As PyTorch's MultiheadAttention: [T, N·heads, D], then [N·heads, T, D].
      let turned = try graph.add(Transpose([1, 0, 2]), [x])
      let heads = try graph.add(Transpose([1, 0, 2]), [try graph.add(Reshape([4, images * 2, 3]), [turned])])
      let scores = try graph.add(Softmax(axis: 2), [try graph.add(MatMul(transposeB: true), [heads, heads])])
      let y = try graph.add(Transpose([1, 0, 2]), [try graph.add(MatMul(), [scores, heads])])
      return try graph.add(Transpose([1, 0, 2]), [try graph.add(Reshape([4, images, 6]), [y])])
    },
    Network(testDescription: "windows of an image", joins: nil) { graph, x, images in
      let windows = try graph.add(Transpose([0, 2, 1, 3]), [try graph.add(Reshape([images, 4, 2, 3]), [x])])
      let rows = try graph.add(Reshape([images * 2, 4, 3]), [windows])
      let y = try graph.add(Attention(heads: 1, scale: 1, layout: .tokens), [rows, rows, rows])
      return try graph.add(Transpose([0, 2, 1, 3]), [try graph.add(Reshape([images, 2, 4, 3]), [y])])
    },
    Network(testDescription: "products of each pair of images", joins: MatMul.kind) { graph, x, images in
      let rows = try graph.add(Reshape([images, 24]), [x])
      return try graph.add(MatMul(transposeB: true), [rows, rows])
    },
    Network(testDescription: "sums of each pair of images", joins: Binary.kind) { graph, x, images in
      let sums = try graph.add(Binary(.add), [x, try graph.add(Reshape([images, 1, 4, 6]), [x])])
      return try graph.add(Reduce(.sum, axes: [1], keepsDimensions: false), [sums])
    },
    Network(testDescription: "the first image for all", joins: Slice.kind) { graph, x, _ in
      try graph.add(Binary(.add), [x, try graph.add(Slice(starts: [0, 0, 0], sizes: [1, 4, 6], steps: [1, 1, 1]), [x])])
    },
    Network(testDescription: "the first token of each image", joins: nil) { graph, x, images in
      let first = try graph.add(Slice(starts: [0, 0, 0], sizes: [images, 1, 6], steps: [1, 1, 1]), [x])
      return try graph.add(Concat(axis: 1), [first, x])
    },
    Network(testDescription: "normalised along the batch", joins: LayerNorm.kind) { graph, x, _ in
      let turned = try graph.add(Transpose([2, 1, 0]), [x])
      return try graph.add(Transpose([2, 1, 0]), [try graph.add(LayerNorm(epsilon: 1e-5, hasScale: false, hasShift: false), [turned])])
    },
    Network(testDescription: "statistics of the batch", joins: ChannelMoments.kind) { graph, x, _ in
      let mean = try graph.add(Slice(starts: [0, 0], sizes: [1, 6], steps: [1, 1]), [try graph.add(ChannelMoments(), [x])])
      return try graph.add(Binary(.subtract), [x, mean])
    },
    Network(testDescription: "a view of each image after the other", joins: nil) { graph, x, images in
      let views = try graph.add(Concat(axis: 0), [x, try graph.add(Unary(.relu), [x])])
      let rows = try graph.add(Softmax(axis: 1), [views])
      return try graph.add(Reduce(.mean, axes: [0], keepsDimensions: false), [try graph.add(Reshape([2, images, 4, 6]), [rows])])
    },
    Network(testDescription: "what joins images is not used", joins: nil) { graph, x, _ in
      _ = try graph.add(Reduce(.mean, axes: [0], keepsDimensions: true), [x])
      return try graph.add(Unary(.tanh), [x])
    },
  ]

  /// What the graph says is what happens to rows of the result when other images change.
  @Test(arguments: networks, [2, 3, 4, 6])
  func theNodeThatJoinsImagesIsFound(_ network: Network, images: Int) throws {
    var graph = Graph()
    let x = graph.addInput(TensorType([images, 4, 6]), name: "x")
    graph.outputs = [try network.build(&graph, x, images)]
    #expect(graph.nodeJoiningImages()?.operation.kind == network.joins)

    var generator = Generator(7)
    let input = ReferenceTensor([images, 4, 6], &generator)
    func rows(_ input: ReferenceTensor) throws -> [[Double]] {
      let y = try #require(graph.reference([input]).first?.values), length = y.count / images
      return (0..<images).map { Array(y[$0 * length..<($0 + 1) * length]) }
    }
    let before = try rows(input)
    var changesOthers = false
    for image in 0..<images {
      var changed = input
      for place in image * 24..<(image + 1) * 24 { changed.values[place] += 1 + Double(place % 5) }
      let after = try rows(changed)
      changesOthers = changesOthers || (0..<images).contains { $0 != image && after[$0] != before[$0] }
      #expect(after[image] != before[image])
    }
    #expect(changesOthers == (network.joins != nil))
  }

  @Test func oneImageHasNoNeighbours() throws {
    var graph = Graph()
    let x = graph.addInput(TensorType([1, 4]), name: "x")
    graph.outputs = [try graph.add(Reduce(.mean, axes: [0, 1], keepsDimensions: true), [x])]
    #expect(graph.nodeJoiningImages() == nil)
  }
}
