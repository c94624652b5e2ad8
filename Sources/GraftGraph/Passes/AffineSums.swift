extension Graph {
  /// With a sum of two tensors that are each scaled (and shifted) a channel at a time as one operation: what the gradient of a batch
  /// normalisation comes to, in one pass over memory instead of three.
  public func joiningAffineSums() throws -> Graph {
    let uses = useCounts()
    var rewriter = try Rewriter(self)
    for node in nodes {
      guard let binary = node.operation as? Binary, binary.function == .add, binary.activation == .none, node.inputs[0] != node.inputs[1],
        type(of: node.inputs[0]).shape == type(of: node.inputs[1]).shape, node.inputs.allSatisfy({ uses[$0.index] == 1 })
      else {
        try rewriter.keep(node)
        continue
      }
      let producers = node.inputs.compactMap { producer(of: $0) }
      let maps = producers.compactMap { $0.operation as? Unary }
      // Constant factors are folded into what comes before instead.
      guard maps.count == 2, maps.allSatisfy({ $0.activation == .none && $0.hasScale }),
        producers.allSatisfy({ $0.inputs.dropFirst().allSatisfy { constant($0) == nil } })
      else {
        try rewriter.keep(node)
        continue
      }
      let channels = type(of: node.output).shape.last ?? 1
      let scales = producers.map { rewriter.value($0.inputs[1]) }
      let shifts = zip(producers, maps).filter { $0.1.hasShift }.map { rewriter.value($0.0.inputs[2]) }
      let shift: ValueID
      switch shifts.count {
      case 0: shift = rewriter.addConstant(HostTensor([channels], Array(repeating: 0, count: channels)))
      case 1: shift = shifts[0]
      default: shift = try rewriter.add(Binary(.add), shifts, name: node.name)
      }
      var rows: [ValueID] = []
      for vector in scales + [shift] { rows.append(try rewriter.add(Reshape([1, channels]), [vector], name: node.name)) }
      let factors = try rewriter.add(Concat(axis: 0), rows, name: node.name)
      let inputs = producers.map { rewriter.value($0.inputs[0]) } + [factors]
      rewriter.define(node.output, as: try rewriter.add(ChannelAffine(), inputs, name: node.name))
    }
    return rewriter.finished()
  }
}
