import GraftDevice
import GraftGraph
import Testing

/// Attention as model files write it, in single steps, and what the passes make of it.
@Suite struct AttentionFusionTests {
  /// Ways in which files write the same.
  enum Form: CaseIterable {
    /// One linear layer, reshaped to [B, T, 3, H, D], transposed and cut; the scale at q.
    case packed
    /// One linear layer cut into three along the channels; the scale at the scores.
    case slices
    /// Three linear layers; k transposed in one go, a divisor at the scores, and a mask.
    case separate
    /// Roots of the scale at q and at k; keys from other tokens than queries.
    case cross
    /// Images and heads as one dimension.
    case batches
    /// Heads that something else is done to: transpositions stay.
    case perHead
    /// Two windows of each picture, with biases by position and, where windows have a dimension of their own, what shifting brought
    /// together kept apart (Swin).
    case windows
    /// The same with a factor for each head at the scores (Swin v2).
    case cosine
    /// Windows in a dimension of their own all the way, and biases by position (MaxViT, Twins).
    case grid
    /// Values transposed, one image and one head, no batch.
    case matrices
  }

  private static let (images, heads, tokens, size) = (2, 3, 7, 8)

  private static func constant(_ shape: [Int], _ graph: inout Graph, _ generator: inout Generator) -> ValueID {
    graph.addConstant(HostTensor(shape, in: -0.5...0.5, &generator))
  }

  private static func number(_ value: Float, _ graph: inout Graph) -> ValueID { graph.addConstant(HostTensor([1], [value])) }

  /// A block of a transformer up to its second linear layer.
  static func graph(_ form: Form) throws -> Graph {
    var (graph, generator) = (Graph(), Generator(5))
    let width = heads * size, keys = form == .cross ? tokens + 4 : tokens, hasWindows = form == .windows || form == .cosine
    let images = hasWindows || form == .grid ? 2 * images : images
    if form == .matrices {
      let x = graph.addInput(TensorType([tokens, size]), name: "x")
      let scores = try graph.add(MatMul(transposeB: true), [x, x])
      let weights = try graph.add(Softmax(axis: 1), [try graph.add(Binary(.multiply), [number(0.3, &graph), scores])])
      graph.outputs = [try graph.add(MatMul(transposeB: true), [weights, try graph.add(Transpose([1, 0]), [x])])]
      return graph
    }
    let x = graph.addInput(TensorType([images, tokens, width]), name: "x")
    let other = form == .cross ? graph.addInput(TensorType([images, keys, width]), name: "other") : x
    func linear(_ x: ValueID, _ outputs: Int) throws -> ValueID {
      try graph.add(
        MatMul(transposeB: true, hasBias: true), [x, constant([outputs, width], &graph, &generator), constant([outputs], &graph, &generator)])
    }
    func reshape(_ x: ValueID, _ shape: [Int]) throws -> ValueID { try graph.add(Reshape(shape), [x]) }
    func transpose(_ x: ValueID, _ permutation: [Int]) throws -> ValueID { try graph.add(Transpose(permutation), [x]) }
    func slice(_ x: ValueID, _ axis: Int, _ start: Int, _ count: Int) throws -> ValueID {
      let shape = graph.type(of: x).shape
      var (starts, sizes) = (shape.map { _ in 0 }, shape)
      (starts[axis], sizes[axis]) = (start, count)
      return try graph.add(Slice(starts: starts, sizes: sizes, steps: shape.map { _ in 1 }), [x])
    }
    func times(_ x: ValueID, _ factor: Float) throws -> ValueID { try graph.add(Binary(.multiply), [x, number(factor, &graph)]) }
    func byHeads(_ x: ValueID, _ count: Int) throws -> ValueID { try transpose(try reshape(x, [images, count, heads, size]), [0, 2, 1, 3]) }

    var (q, k, v): (ValueID, ValueID, ValueID)
    switch form {
    case .packed:
      let all = try transpose(try reshape(try linear(x, 3 * width), [images, tokens, 3, heads, size]), [2, 0, 3, 1, 4])
      let parts = try (0..<3).map { try reshape(try slice(all, 0, $0, 1), [images, heads, tokens, size]) }
      (q, k, v) = (try times(parts[0], 0.4), try transpose(parts[1], [0, 1, 3, 2]), parts[2])
    case .slices:
      let all = try linear(x, 3 * width)
      let parts = try (0..<3).map { try byHeads(try slice(all, 2, $0 * width, width), tokens) }
      (q, k, v) = (parts[0], try transpose(parts[1], [0, 1, 3, 2]), parts[2])
    case .separate, .perHead, .windows, .cosine, .matrices:
      (q, v) = (try byHeads(try linear(x, width), tokens), try byHeads(try linear(x, width), tokens))
      k = try transpose(try reshape(try linear(x, width), [images, tokens, heads, size]), [0, 2, 3, 1])
      if form == .perHead { q = try graph.add(Binary(.add), [q, constant([heads, 1, size], &graph, &generator)]) }
    case .cross:
      q = try times(try byHeads(try linear(x, width), tokens), 0.7)
      k = try transpose(try times(try byHeads(try linear(other, width), keys), 0.7), [0, 1, 3, 2])
      v = try byHeads(try linear(other, width), keys)
    case .grid:
      func byWindows(_ x: ValueID) throws -> ValueID { try transpose(try reshape(x, [images / 2, 2, tokens, heads, size]), [0, 1, 3, 2, 4]) }
      (q, v) = (try byWindows(try linear(x, width)), try byWindows(try linear(x, width)))
      k = try transpose(try byWindows(try linear(x, width)), [0, 1, 2, 4, 3])
    case .batches:
      // [T, B, H·D] → [T, B·H, D] → [B·H, T, D].
      func matrices(_ x: ValueID) throws -> ValueID {
        try transpose(try reshape(try transpose(x, [1, 0, 2]), [tokens, images * heads, size]), [1, 0, 2])
      }
      (q, v) = (try matrices(try linear(x, width)), try matrices(try linear(x, width)))
      k = try transpose(try matrices(try linear(x, width)), [0, 2, 1])
    }
    var scores = try graph.add(MatMul(), [q, k])
    if form == .slices { scores = try times(scores, 0.4) }
    if form == .separate {
      scores = try graph.add(Binary(.divide), [scores, number(2.5, &graph)])
      scores = try graph.add(Binary(.add), [constant([images, 1, 1, keys], &graph, &generator), scores])
    }
    if form == .cosine { scores = try graph.add(Binary(.multiply), [scores, constant([heads, 1, 1], &graph, &generator)]) }
    if hasWindows {
      scores = try graph.add(Binary(.add), [scores, constant([1, heads, tokens, tokens], &graph, &generator)])
      scores = try reshape(scores, [images / 2, 2, heads, tokens, tokens])
      scores = try graph.add(Binary(.add), [scores, constant([1, 2, 1, tokens, tokens], &graph, &generator)])
      scores = try reshape(scores, [images, heads, tokens, tokens])
    }
    if form == .grid { scores = try graph.add(Binary(.add), [times(scores, 0.4), constant([1, heads, tokens, tokens], &graph, &generator)]) }
    let weights = try graph.add(Softmax(axis: graph.type(of: scores).rank - 1), [scores])
    var y = try graph.add(MatMul(), [weights, v])
    if form == .grid {
      y = try reshape(try transpose(y, [0, 1, 3, 2, 4]), [images, tokens, width])
    } else if form == .batches {
      y = try transpose(try reshape(try transpose(y, [1, 0, 2]), [tokens, images, width]), [1, 0, 2])
    } else {
      y = try reshape(try transpose(y, [0, 2, 1, 3]), [images, tokens, width])
    }
    graph.outputs = [try linear(y, width)]
    return graph
  }

  private func inputs(of graph: Graph) -> [ReferenceTensor] {
    var generator = Generator(6)
    return graph.inputs.map { ReferenceTensor(graph.type(of: $0).shape, &generator) }
  }

  @Test(arguments: Form.allCases) func everyFormIsOneOperation(_ form: Form) throws {
    let graph = try Self.graph(form), optimized = try graph.optimized()
    let found = optimized.nodes.compactMap { $0.operation as? Attention }
    #expect(found.count == 1 && !optimized.nodes.contains { $0.operation is Softmax })
    let layout: Attention.Layout =
      switch form {
      case .packed, .slices: .packed
      case .separate, .cross, .batches, .windows, .grid, .matrices: .tokens
      case .perHead, .cosine: .heads
      }
    #expect(found.first?.layout == layout && found.first?.heads == (form == .matrices ? 1 : Self.heads))
    #expect(found.first?.hasMask == [.separate, .windows, .cosine, .grid].contains(form))
    // Nothing is moved, but for heads that had been before.
    if layout != .heads { #expect(!optimized.nodes.contains { $0.operation is Transpose || $0.operation is Slice }) }
    let values = inputs(of: graph), expected = graph.reference(values)[0], result = optimized.reference(values)[0]
    #expect(result.shape == expected.shape && largestError(result.values.map(Float.init), expected.values) < 1e-6)
  }

  @Test(arguments: Form.allCases, TestDevices.all) func devicesComputeTheSame(_ form: Form, _ device: TestDevice) throws {
    let graph = try Self.graph(form), values = inputs(of: graph), expected = graph.reference(values)[0]
    let plan = try Plan(graph, device: device.make())
    for (id, value) in zip(plan.graph.inputs, values) { try plan.write(value.tensor.floats(), to: id) }
    try plan.run()
    #expect(largestError(try plan.read(plan.graph.outputs[0]), expected.values) < 1e-5)
  }

  /// The gradients of a fused graph are those of the single steps, in double precision; so is what a plan makes of both.
  @Test(arguments: Form.allCases) func gradientsAreThoseOfTheSteps(_ form: Form) throws {
    let graph = try Self.graph(form), values = inputs(of: graph)
    func gradients(_ graph: Graph) throws -> [ReferenceTensor] {
      var graph = graph
      graph.outputs = try graph.addGradients(of: graph.outputs[0], withRespectTo: graph.inputs).compactMap { $0 }
      let optimized = try graph.optimized()
      #expect(optimized.nodes.contains { $0.operation is AttentionGradient } == graph.nodes.contains { $0.operation is Attention })
      return optimized.reference(values)
    }
    let expected = try gradients(graph), found = try gradients(try graph.fusingAttention())
    #expect(found.count == graph.inputs.count)
    for (found, expected) in zip(found, expected) {
      let size = expected.values.reduce(1) { max($0, abs($1)) }
      #expect(found.shape == expected.shape && largestError(found.values.map(Float.init), expected.values) < 2e-6 * size)
    }
  }

  /// A learned bias that is joined with what is fixed could not be trained any more.
  @Test func masksAreJoinedUnlessTheyAreToBeTrained() throws {
    func attentions(_ graph: Graph) -> [[Int]?] {
      graph.nodes.filter { $0.operation is Attention }.map { $0.inputs.last.map { graph.type(of: $0).shape } }
    }
    let graph = try Self.graph(.windows)
    #expect(attentions(try graph.fusingAttention()) == [[2, Self.heads, Self.tokens, Self.tokens]])
    #expect(attentions(try graph.fusingAttention(joinsMasks: false)).isEmpty)
    #expect(attentions(try Self.graph(.separate).fusingAttention(joinsMasks: false)).count == 1)
  }

  /// What the fused kernels could not give, or would give wrongly.
  enum Refusal: CaseIterable { case scoresAreAResult, weightsAreUsedTwice, otherAxis, scaleAfterMask, maskedAndSeen, masksOfUnlikeWindows, longHeads }

  @Test(arguments: Refusal.allCases) func othersStayAsTheyAre(_ refusal: Refusal) throws {
    var graph = Graph()
    let size = refusal == .longHeads ? 257 : 8, shape = [refusal == .masksOfUnlikeWindows ? 4 : 2, 3, 5, size]
    let (q, k, v) = (
      graph.addInput(TensorType(shape), name: "q"), graph.addInput(TensorType(shape), name: "k"), graph.addInput(TensorType(shape), name: "v")
    )
    var scores = try graph.add(MatMul(transposeB: true), [q, k])
    let product = scores
    if refusal == .scaleAfterMask {
      let mask = graph.addInput(TensorType([5, 5]), name: "mask")
      scores = try graph.add(Binary(.multiply), [try graph.add(Binary(.add), [scores, mask]), Self.number(0.5, &graph)])
    }
    if refusal == .maskedAndSeen {
      // The second of five keys counts with a score of 0.
      let kept = graph.addConstant(HostTensor([5], [1, 0, 1, 0, 1])), added = graph.addConstant(HostTensor([5], [0, 0, 0, -.infinity, 0]))
      scores = try graph.add(Binary(.add), [try graph.add(Binary(.masked), [scores, kept]), added])
    }
    if refusal == .masksOfUnlikeWindows {
      // One for each of four images, and one that comes again after two.
      scores = try graph.add(Binary(.add), [scores, graph.addInput(TensorType([4, 1, 5, 5]), name: "mask")])
      scores = try graph.add(Reshape([2, 2, 3, 5, 5]), [scores])
      scores = try graph.add(Binary(.add), [scores, graph.addInput(TensorType([1, 2, 1, 5, 5]), name: "other mask")])
      scores = try graph.add(Reshape([4, 3, 5, 5]), [scores])
    }
    let weights = try graph.add(Softmax(axis: refusal == .otherAxis ? 2 : 3), [scores])
    graph.outputs = [try graph.add(MatMul(), [weights, v])]
    if refusal == .scoresAreAResult { graph.outputs.append(product) }
    if refusal == .weightsAreUsedTwice { graph.outputs.append(try graph.add(Unary(.sqrt), [weights])) }
    #expect(try !graph.optimized().nodes.contains { $0.operation is Attention })
  }

  /// Rows of the result and of the gradients, however many images are computed at a time.
  @Test(arguments: TestDevices.all) func rowsAreTheSameBitsInEveryBatch(_ device: TestDevice) throws {
    let (heads, tokens, size) = (2, 70, 20)
    func results(_ images: Int) throws -> [[UInt32]] {
      var graph = Graph()
      let x = graph.addInput(TensorType([images, tokens, 3 * heads * size]), name: "x")
      let seed = graph.addInput(TensorType([images, tokens, heads * size]), name: "seed")
      let y = try graph.add(Attention(heads: heads, scale: 0.2, layout: .packed), [x])
      graph.outputs = [y] + (try graph.addGradients(of: y, seed: seed, withRespectTo: [x]).compactMap { $0 })
      let plan = try Plan(graph, device: device.make())
      for (id, start) in zip(plan.graph.inputs, [UInt64(3), 4]) {
        var generator = SplitMix(start)
        try plan.write((0..<plan.graph.type(of: id).elementCount).map { _ in generator.float() }, to: id)
      }
      try plan.run()
      return try plan.graph.outputs.map { try plan.read($0).map(\.bitPattern) }
    }
    let whole = try results(9)
    for images in [1, 2] {
      for (part, whole) in zip(try results(images), whole) { #expect(part == Array(whole.prefix(part.count))) }
    }
  }

  @Test func shapesThatDoNotBelongTogetherAreRefused() throws {
    func type(_ attention: Attention, _ shapes: [Int]...) throws { _ = try attention.outputType(shapes.map { TensorType($0) }) }
    #expect(throws: ShapeError.self) { try type(Attention(heads: 3, scale: 1, layout: .packed), [2, 5, 20]) }
    #expect(throws: ShapeError.self) { try type(Attention(heads: 0, scale: 1, layout: .packed), [2, 5, 24]) }
    #expect(throws: ShapeError.self) { try type(Attention(heads: 2, scale: 1, layout: .tokens), [2, 5, 8], [2, 6, 8], [2, 7, 8]) }
    #expect(throws: ShapeError.self) { try type(Attention(heads: 2, scale: 1, layout: .tokens), [2, 5, 8], [3, 6, 8], [3, 6, 8]) }
    #expect(throws: ShapeError.self) { try type(Attention(heads: 2, scale: 1, layout: .heads), [2, 3, 5, 8], [2, 3, 6, 8], [2, 3, 6, 8]) }
    #expect(throws: ShapeError.self) { try type(Attention(heads: 1, scale: 1, layout: .packed), [2, 5, 3 * 257]) }
    #expect(throws: ShapeError.self) { try type(Attention(heads: 1, scale: 1, layout: .packed, hasMask: true), [2, 5, 24], [4, 5]) }
    #expect(throws: ShapeError.self) { try type(Attention(heads: 1, scale: 1, layout: .packed, hasMask: true), [3, 5, 24], [2, 1, 5, 5]) }
    #expect(throws: ShapeError.self) { try type(Attention(heads: 1, scale: 1, layout: .packed, hasMask: true), [2, 5, 24], [0, 1, 5, 5]) }
    #expect(throws: ShapeError.self) { try type(Attention(heads: 1, scale: 1, layout: .tokens), [2, 5, 8], [2, 0, 8], [2, 0, 8]) }
  }
}
