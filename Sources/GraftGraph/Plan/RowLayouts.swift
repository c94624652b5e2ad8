import GraftDevice

extension Graph {
  /// Decides which values share memory: views (reshapes) with what they show, and the inputs of a concatenation along the
  /// last dimension with their place in its result.
  ///
  /// A value can be such a slice if its producer can write rows that lie apart and every user can read them. Concatenations
  /// (at a multiple of the device's alignment) are visited last to first, so that nested ones (DenseNet's) end up in one block.
  package func rowLayouts(alignmentByteCount: Int, elementByteCount: Int) -> [ValueID: RowLayout] {
    var layouts: [ValueID: RowLayout] = [:]
    var users = [[(node: Node, position: Int)]](repeating: [], count: values.count)
    for node in nodes { for (position, input) in node.inputs.enumerated() { users[input.index].append((node, position)) } }
    let results = Set(outputs)

    for node in nodes.reversed() {
      guard let concat = node.operation as? Concat, concat.axis == type(of: node.output).rank - 1 else { continue }
      let base = layouts[node.output] ?? RowLayout(root: node.output, offset: 0, stride: type(of: node.output).shape.last!)
      var position = 0
      var placed: Set<ValueID> = []
      for input in node.inputs {
        let extent = type(of: input).shape.last!
        defer { position += extent }
        guard let producer = producer(of: input), producer.operation.producesRowStride, !results.contains(input), layouts[input] == nil,
          (base.offset + position) * elementByteCount % alignmentByteCount == 0, type(of: input).elementType == .float32,
          placed.insert(input).inserted,
          users[input.index].allSatisfy({ $0.node.operation.acceptsRowStride(input: $0.position) && !$0.node.operation.isView })
        else { continue }
        layouts[input] = RowLayout(root: base.root, offset: base.offset + position, stride: base.stride)
      }
    }
    // What is computed in place.
    for node in nodes {
      guard let place = node.operation.mutatedInputs.first else { continue }
      layouts[node.output] = RowLayout(root: node.inputs[place], offset: 0, stride: type(of: node.output).shape.last ?? 1)
    }
    // Views of dense values; a view of a graph's result, or a result itself, may share memory too.
    for node in nodes where node.operation.isView {
      let source = node.inputs[0]
      let from = layouts[source] ?? RowLayout(root: source, offset: 0, stride: type(of: source).shape.last ?? 1)
      guard from.stride == type(of: source).shape.last ?? 1, layouts[node.output] == nil else { continue }
      layouts[node.output] = RowLayout(root: from.root, offset: from.offset, stride: type(of: node.output).shape.last ?? 1)
    }
    return layouts
  }
}
