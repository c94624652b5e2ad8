extension Graph {
  /// With softmax(scale · q kᵀ + mask) v, wherever model files write it in single steps, as `Attention`.
  ///
  /// The scale may stand at the scores, at q or at k, before the mask or without one, and may be another for each head; what the mask
  /// hides may have been set to 0 before. Several masks become one, and one may be added where a batch of windows has two dimensions:
  /// a Swin transformer's biases by position and what keeps apart the parts of shifted windows. Operands are read where a linear
  /// layer put them: the reshapes, slices and transpositions between are followed back to it, and vanish with the scores. Gradients
  /// are to be added after this pass: they use what is between the products.
  ///
  /// - Parameter joinsMasks: whether masks that are learned are joined with others: not where they are to be trained.
  public func fusingAttention(joinsMasks: Bool = true) throws -> Graph {
    let uses = useCounts()
    var rewriter = try Rewriter(self)
    for node in nodes {
      if let match = AttentionMatch(node, in: self, uses: uses), let fused = try match.rewritten(node, in: self, &rewriter, joinsMasks: joinsMasks) {
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
  /// A factor for each head [H, 1, 1], at the scores.
  let headFactor: ValueID?
  /// What is added to the scores, from the softmax back, and the shape that they have there.
  let masks: [(value: ValueID, scores: [Int])]

  /// `nil` unless the node is the product of a softmax of scores that nothing else uses.
  init?(_ node: Graph.Node, in graph: Graph, uses: [Int]) {
    func only(_ id: ValueID) -> Graph.Node? { uses[id.index] == 1 ? graph.producer(of: id) : nil }
    guard let mix = node.operation as? MatMul, mix.isPlain, !mix.transposeA, let softmaxNode = only(node.inputs[0]),
      let softmax = softmaxNode.operation as? Softmax, !softmax.logarithm, softmax.axis == graph.type(of: softmaxNode.output).rank - 1
    else { return nil }
    var (scores, scale, headFactor) = (softmaxNode.inputs[0], 1.0, ValueID?.none)
    var masks: [(value: ValueID, scores: [Int])] = []
    let shape = graph.type(of: scores).shape
    // Whether a value is scores, perhaps with factors and masks: a few steps, of which none branches.
    func isScores(_ id: ValueID) -> Bool {
      var id = id
      for _ in 0..<8 {
        guard let node = only(id) else { return false }
        if node.operation is MatMul || graph.scalarFactor(node) != nil || graph.headFactor(node) != nil { return true }
        let here = graph.type(of: id).shape
        switch node.operation {
        case let binary as Binary where binary.function == .masked: return true
        case let binary as Binary where binary.function == .add:
          guard let next = node.inputs.first(where: { graph.type(of: $0).shape == here && graph.constant($0) == nil }) else { return false }
          id = next
        case is Reshape where graph.regroupsImages(node): id = node.inputs[0]
        default: return false
        }
      }
      return false
    }
    // From the softmax back: masks, then factors.
    while let step = only(scores) {
      if graph.regroupsImages(step) {
        scores = step.inputs[0]
        continue
      }
      guard let sum = step.operation as? Binary, sum.function == .add, sum.activation == .none else { break }
      let here = graph.type(of: scores).shape
      guard let position = step.inputs.firstIndex(where: { graph.type(of: $0).shape == here && isScores($0) }) else { return nil }
      let added = step.inputs[1 - position]
      masks.append((added, here))
      scores = graph.unmasked(step.inputs[position], hiddenBy: added) ?? step.inputs[position]
    }
    while let producer = only(scores) {
      if let (input, factor) = graph.scalarFactor(producer), graph.type(of: input).shape == shape {
        (scores, scale) = (input, scale * factor)
      } else if headFactor == nil, let (input, factor) = graph.headFactor(producer), graph.type(of: input).shape == shape {
        (scores, headFactor) = (input, factor)
      } else {
        break
      }
    }
    guard let productNode = only(scores), let product = productNode.operation as? MatMul, product.isPlain, !product.transposeA,
      shape.count >= 2, graph.type(of: scores).shape == shape
    else { return nil }
    (q, k, v) = (productNode.inputs[0], productNode.inputs[1], node.inputs[1])
    (isKeyTransposed, isValueTransposed) = (!product.transposeB, mix.transposeB)
    (self.scale, self.headFactor, self.masks) = (scale, headFactor, masks)
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
  func rewritten(_ node: Graph.Node, in graph: Graph, _ rewriter: inout Rewriter, joinsMasks: Bool) throws -> ValueID? {
    let shape = graph.type(of: q).shape, rank = shape.count
    var views = [graph.view(of: q, followsScales: true), graph.view(of: k, followsScales: true), graph.view(of: v, followsScales: false)]
    for (index, isTransposed) in [(1, isKeyTransposed), (2, isValueTransposed)] where isTransposed {
      views[index].dimensions.swapAt(rank - 2, rank - 1)
    }
    // What comes before the heads are images: a batch, and its windows.
    for index in views.indices where rank > 4 {
      let dimensions = views[index].dimensions
      views[index].dimensions = [Array(dimensions.dropLast(3).joined())] + dimensions.suffix(3)
    }
    let found = headFactor == nil ? HeadViews(views, in: graph) : nil
    let extents = found?.extents ?? (images: shape.dropLast(rank < 4 ? 2 : 3).reduce(1, *), heads: rank < 4 ? 1 : shape[rank - 3])
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
        if let headFactor, inputs.isEmpty { value = try rewriter.add(Binary(.multiply), [value, rewriter.value(headFactor)], name: node.name) }
        if isTransposed {
          value = try rewriter.add(Transpose(Array(0..<rank - 2) + [rank - 1, rank - 2]), [value], name: node.name)
        }
        inputs.append(try rewriter.reshaped(value, to: [extents.images, extents.heads, count, size], name: node.name))
      }
    }
    guard Float(scale).isFinite else { return nil }
    if !masks.isEmpty {
      guard joinsMasks || masks.count == 1 || masks.allSatisfy({ graph[$0.value].isFixed }),
        let mask = try joinedMask(extents, rank: rank, in: graph, &rewriter)
      else { return nil }
      inputs.append(mask)
    }
    let attention = Attention(heads: extents.heads, scale: Float(scale), layout: layout, hasMask: !masks.isEmpty)
    let joined = try rewriter.add(attention, inputs, name: node.name)
    let split = try rewriter.reshaped(joined, to: [extents.images, shape[rank - 2], extents.heads, size], name: node.name)
    let matrices = try rewriter.add(Transpose([0, 2, 1, 3]), [split], name: node.name)
    return try rewriter.reshaped(matrices, to: graph.type(of: node.output).shape, name: node.name)
  }

  /// All masks as one of the shape that `Attention` takes; `nil` where one does not come again after a number of images, or has other
  /// numbers than another, or would make the scores larger.
  private func joinedMask(_ extents: (images: Int, heads: Int), rank: Int, in graph: Graph, _ rewriter: inout Rewriter) throws -> ValueID? {
    var joined: ValueID?
    for (mask, scores) in masks {
      guard let shape = placedShape(graph.type(of: mask), scores, extents, rank: rank) else { return nil }
      let placed = try rewriter.reshaped(rewriter.value(mask), to: shape, name: graph[mask].name)
      guard let other = joined else {
        joined = placed
        continue
      }
      let types = [other, placed].map { rewriter.new.type(of: $0) }
      guard let sum = try? Binary(.add).outputType(types) else { return nil }
      let constants = [other, placed].compactMap { rewriter.constant($0) }
      // Larger than both, so that folding constants would leave it to every run.
      if constants.count == 2, sum.elementCount <= 1 << 24 {
        joined = rewriter.addConstant(Binary(.add).reference(constants.map(ReferenceTensor.init)).tensor, name: graph[mask].name, isFixed: true)
      } else {
        joined = try rewriter.add(Binary(.add), [other, placed], name: graph[mask].name)
      }
    }
    return joined
  }

  /// A mask's shape as `Attention` takes it, of one that is added to `scores`.
  private func placedShape(_ mask: TensorType, _ scores: [Int], _ extents: (images: Int, heads: Int), rank: Int) -> [Int]? {
    guard mask.rank <= scores.count, mask.elementType.isFloatingPoint else { return nil }
    if rank == 3 {
      // One dimension for images and heads.
      guard mask.rank == 3 else { return mask.shape }
      return (mask.shape[0] == 1 ? [1, 1] : [extents.images, extents.heads]) + mask.shape[1...]
    }
    guard mask.rank > 4 else { return mask.shape }
    // Windows of each image, [images, windows, H, Tq, Tk]: of the outer dimensions the inner ones are the mask's, the others repeat it.
    let repeated = zip(mask.shape, scores.suffix(mask.rank)).dropLast(3).drop { $0.0 == 1 }
    guard repeated.allSatisfy({ $0.0 == $0.1 }) else { return nil }
    return [repeated.reduce(1) { $0 * $1.0 }] + mask.shape.suffix(3)
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

extension Graph {
  /// Whether a node splits or joins the dimensions before those of heads, queries and keys, and does nothing else.
  fileprivate func regroupsImages(_ node: Node) -> Bool {
    guard node.operation is Reshape else { return false }
    let shapes = [node.inputs[0], node.output].map { type(of: $0).shape }
    return shapes.allSatisfy { $0.count >= 4 && !$0.contains(0) } && shapes[0].suffix(3) == shapes[1].suffix(3)
  }

  /// What a node multiplies with a number a head, [H, 1, 1] of scores [..., H, Tq, Tk], and those numbers.
  fileprivate func headFactor(_ node: Node) -> (input: ValueID, factor: ValueID)? {
    let shape = type(of: node.output).shape
    guard let binary = node.operation as? Binary, binary.function == .multiply, binary.activation == .none, shape.count >= 4 else { return nil }
    for (x, factor) in [(node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])] {
      let factors = type(of: factor).shape
      if factors.suffix(3) == [shape[shape.count - 3], 1, 1], factors.dropLast(3).allSatisfy({ $0 == 1 }) { return (x, factor) }
    }
    return nil
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
