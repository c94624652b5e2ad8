extension Graph {
  /// With softmax(scale · q kᵀ + mask) v, wherever model files write it in single steps, as `Attention`.
  ///
  /// The scale may stand at the scores, at q or at k, before the mask or without one; what the mask hides may have been set to 0 before.
  /// Operands are read where a linear layer put them: the reshapes, slices and transpositions between are followed back to it, and
  /// vanish with the scores. Gradients are to be added after this pass: they use what is between the products.
  public func fusingAttention() throws -> Graph {
    let uses = useCounts()
    var rewriter = try Rewriter(self)
    for node in nodes {
      if let match = AttentionMatch(node, in: self, uses: uses), let fused = try match.rewritten(node, in: self, &rewriter) {
        rewriter.define(node.output, as: fused)
      } else {
        try rewriter.keep(node)
      }
    }
    return try rewriter.finished().removingDeadNodes()
  }
}

/// The parts of an attention that is written in single steps.
private struct AttentionMatch {
  /// Matrices of q, k and v as the products see them, and whether k and v are transposed: [..., D, T].
  let q, k, v: ValueID
  let isKeyTransposed, isValueTransposed: Bool
  /// At the scores.
  let scale: Double
  let mask: ValueID?

  /// `nil` unless the node is the product of a softmax of scores that nothing else uses.
  init?(_ node: Graph.Node, in graph: Graph, uses: [Int]) {
    func only(_ id: ValueID) -> Graph.Node? { uses[id.index] == 1 ? graph.producer(of: id) : nil }
    guard let mix = node.operation as? MatMul, mix.isPlain, !mix.transposeA, let softmaxNode = only(node.inputs[0]),
      let softmax = softmaxNode.operation as? Softmax, !softmax.logarithm, softmax.axis == graph.type(of: softmaxNode.output).rank - 1
    else { return nil }
    var (scores, scale, mask) = (softmaxNode.inputs[0], 1.0, ValueID?.none)
    let shape = graph.type(of: scores).shape
    // From the softmax back: the mask, then scales.
    if let sum = only(scores), let binary = sum.operation as? Binary, binary.function == .add, binary.activation == .none {
      func isScores(_ id: ValueID) -> Bool {
        guard let node = only(id) else { return false }
        return node.operation is MatMul || graph.scalarFactor(node) != nil || (node.operation as? Binary)?.function == .masked
      }
      guard let position = sum.inputs.firstIndex(where: { graph.type(of: $0).shape == shape && isScores($0) }) else { return nil }
      let added = sum.inputs[1 - position]
      (scores, mask) = (graph.unmasked(sum.inputs[position], hiddenBy: added) ?? sum.inputs[position], added)
    }
    while let producer = only(scores), let (input, factor) = graph.scalarFactor(producer), graph.type(of: input).shape == shape {
      (scores, scale) = (input, scale * factor)
    }
    guard let productNode = only(scores), let product = productNode.operation as? MatMul, product.isPlain, !product.transposeA,
      (2...4).contains(shape.count)
    else { return nil }
    (q, k, v) = (productNode.inputs[0], productNode.inputs[1], node.inputs[1])
    (isKeyTransposed, isValueTransposed) = (!product.transposeB, mix.transposeB)
    (self.scale, self.mask) = (scale, mask)
    // Broadcast batches, and heads of values that have another size than those of keys, stay as they are.
    func matrix(_ id: ValueID, _ isTransposed: Bool) -> [Int] {
      let shape = graph.type(of: id).shape
      return isTransposed && shape.count >= 2 ? shape.dropLast(2) + [shape[shape.count - 1], shape[shape.count - 2]] : shape
    }
    let keys = matrix(k, isKeyTransposed), queries = graph.type(of: q).shape
    guard keys == matrix(v, isValueTransposed), queries.count == keys.count, queries.dropLast(2) == keys.dropLast(2), !keys.contains(0),
      !queries.contains(0), keys.last.map({ $0 <= Attention.largestHeadSize }) == true
    else { return nil }
  }

  /// The node as `Attention` and what gives its result the shape it had; `nil` where it can't be one.
  func rewritten(_ node: Graph.Node, in graph: Graph, _ rewriter: inout Rewriter) throws -> ValueID? {
    let shape = graph.type(of: q).shape, rank = shape.count
    var views = [graph.view(of: q, followsScales: true), graph.view(of: k, followsScales: true), graph.view(of: v, followsScales: false)]
    for (index, isTransposed) in [(1, isKeyTransposed), (2, isValueTransposed)] where isTransposed {
      views[index].dimensions.swapAt(rank - 2, rank - 1)
    }
    let found = HeadViews(views, in: graph)
    let extents = found?.extents ?? (images: rank == 2 ? 1 : shape[0], heads: rank == 4 ? shape[1] : 1)
    var inputs: [ValueID] = []
    let (layout, scale): (Attention.Layout, Double)
    let (size, keyCount) = (shape[rank - 1], graph.type(of: k).shape[isKeyTransposed ? rank - 1 : rank - 2])
    if let found {
      (layout, scale) = (found.layout, self.scale * views[0].scale * views[1].scale)
      let counts = found.layout == .packed ? [shape[rank - 2]] : [shape[rank - 2], keyCount, keyCount]
      let width = extents.heads * size * (found.layout == .packed ? 3 : 1)
      for (view, count) in zip(views, counts) {
        inputs.append(try rewriter.reshaped(rewriter.value(view.root), to: [extents.images, count, width], name: node.name))
      }
    } else {
      (layout, scale) = (.heads, self.scale)
      for (id, isTransposed, count) in [(q, false, shape[rank - 2]), (k, isKeyTransposed, keyCount), (v, isValueTransposed, keyCount)] {
        var value = rewriter.value(id)
        if isTransposed {
          value = try rewriter.add(Transpose(Array(0..<rank - 2) + [rank - 1, rank - 2]), [value], name: node.name)
        }
        inputs.append(try rewriter.reshaped(value, to: [extents.images, extents.heads, count, size], name: node.name))
      }
    }
    guard Float(scale).isFinite else { return nil }
    if let mask {
      guard let placed = try placedMask(mask, extents, rank: rank, in: graph, &rewriter) else { return nil }
      inputs.append(placed)
    }
    let attention = Attention(heads: extents.heads, scale: Float(scale), layout: layout, hasMask: mask != nil)
    let joined = try rewriter.add(attention, inputs, name: node.name)
    let split = try rewriter.reshaped(joined, to: [extents.images, shape[rank - 2], extents.heads, size], name: node.name)
    let matrices = try rewriter.add(Transpose([0, 2, 1, 3]), [split], name: node.name)
    return try rewriter.reshaped(matrices, to: graph.type(of: node.output).shape, name: node.name)
  }

  /// The mask as it broadcasts to [B, H, Tq, Tk]; `nil` where it does not, or would make the scores larger.
  private func placedMask(
    _ mask: ValueID, _ extents: (images: Int, heads: Int), rank: Int, in graph: Graph, _ rewriter: inout Rewriter
  ) throws -> ValueID? {
    let type = graph.type(of: mask), value = rewriter.value(mask)
    guard type.rank <= rank, type.elementType.isFloatingPoint else { return nil }
    guard rank == 3, type.rank == 3 else { return value }
    // One dimension for images and heads.
    return try rewriter.reshaped(
      value, to: (type.shape[0] == 1 ? [1, 1] : [extents.images, extents.heads]) + type.shape[1...], name: graph[mask].name)
  }
}

/// Views of q, k and v [images, heads, T, D] that are all of one packed tensor, or each all of a tensor of its own.
private struct HeadViews {
  let layout: Attention.Layout
  let extents: (images: Int, heads: Int)

  init?(_ views: [StridedView], in graph: Graph) {
    let rank = views[0].dimensions.count
    func extent(_ view: StridedView, _ dimension: Int) -> Int { view.dimensions[dimension].reduce(1) { $0 * $1.extent } }
    let size = extent(views[0], rank - 1)
    let (images, heads): (Int, Int)
    switch (rank, StridedView.merged(views[0].dimensions[0])) {
    case (2, _): (images, heads) = (1, 1)
    case (4, _): (images, heads) = (extent(views[0], 0), extent(views[0], 1))
    // One dimension for images and heads.
    case (_, let factors) where factors.count == 2: (images, heads) = (factors[0].extent, factors[1].extent)
    case (_, let factors) where factors.count == 1: (images, heads) = factors[0].stride == size ? (1, factors[0].extent) : (factors[0].extent, 1)
    default: return nil
    }
    func lies(_ view: StridedView, offset: Int, width: Int) -> Bool {
      let tokens = extent(view, rank - 2)
      guard view.offset == offset, graph.type(of: view.root).elementCount == images * tokens * width else { return false }
      let outer = view.dimensions.dropLast(2).flatMap { $0 }.filter { $0.extent != 1 }
      let expected = [StridedView.Factor(extent: images, stride: tokens * width), .init(extent: heads, stride: size)].filter { $0.extent != 1 }
      return StridedView.merged(outer) == StridedView.merged(expected) && (tokens == 1 || view.stride(rank - 2) == width)
        && (size == 1 || view.stride(rank - 1) == 1)
    }
    guard views.allSatisfy({ graph.type(of: $0.root).elementType == .float32 }) else { return nil }
    extents = (images, heads)
    let width = heads * size
    if Set(views.map(\.root)).count == 1, views.enumerated().allSatisfy({ lies($1, offset: $0 * width, width: 3 * width) }) {
      layout = .packed
    } else if views.allSatisfy({ lies($0, offset: 0, width: width) }) {
      layout = .tokens
    } else {
      return nil
    }
  }
}

extension Graph {
  /// The scores behind `masked` ones, if minus infinity is added wherever those are hidden: the sum alone hides them then.
  fileprivate func unmasked(_ id: ValueID, hiddenBy added: ValueID) -> ValueID? {
    guard let node = producer(of: id), let binary = node.operation as? Binary, binary.function == .masked, binary.activation == .none,
      type(of: node.inputs[0]).shape == type(of: id).shape, let kept = constant(node.inputs[1]), let added = constant(added),
      broadcastShape(kept.shape, added.shape) == added.shape
    else { return nil }
    let isHidden = zip(kept.expanded(to: added.shape).doubles(), added.doubles()).allSatisfy { $0 != 0 || $1 == -.infinity }
    return isHidden ? node.inputs[0] : nil
  }
}

extension MatMul {
  /// Whether it is a product and nothing else.
  fileprivate var isPlain: Bool { !hasBias && !hasResidual && activation == .none }
}

extension Rewriter {
  fileprivate mutating func reshaped(_ value: ValueID, to shape: [Int], name: String) throws -> ValueID {
    new.type(of: value).shape == shape ? value : try add(Reshape(shape), [value], name: name)
  }
}
