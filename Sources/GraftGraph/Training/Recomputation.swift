extension Graph {
  /// The same graph, with less of the forward pass kept for the way back: what lies between the kept values is computed again when
  /// a gradient first needs it.
  ///
  /// Kept are the values named, what is small beside the largest of the forward pass, and whatever the graph gives out. Each other
  /// value is computed at most once more. The copies are the same operations on the same numbers.
  ///
  /// Source: Chen, Xu, Zhang and Guestrin, "Training deep nets with sublinear memory cost", 2016.
  ///
  /// - Parameters:
  ///   - forwardCount: how many of the first nodes are the forward pass.
  ///   - kept: values of the forward pass.
  package func recomputing(forwardCount: Int, keeping kept: Set<ValueID>) throws -> Graph {
    let forward = nodes[..<forwardCount]
    let largest = forward.reduce(0) { max($0, type(of: $1.output).byteCount) }
    let stays = Set(forward.map(\.output).filter { kept.contains($0) || outputs.contains($0) || type(of: $0).byteCount <= largest / 100 })
    var producers: [ValueID: Node] = [:]
    for node in forward where !stays.contains(node.output) && node.operation.mutatedInputs.isEmpty { producers[node.output] = node }

    var rewriter = try Rewriter(self)
    for node in forward { try rewriter.keep(node) }
    // Where a value's copy is, once there is one.
    var copies: [ValueID: ValueID] = [:]
    func copied(_ id: ValueID) throws -> ValueID {
      // Depth first without recursion: a network may have thousands of layers in a row.
      var pending = [id]
      while let next = pending.last {
        guard copies[next] == nil, let node = producers[next] else {
          pending.removeLast()
          continue
        }
        let missing = node.inputs.filter { producers[$0] != nil && copies[$0] == nil }
        guard missing.isEmpty else {
          pending += missing
          continue
        }
        pending.removeLast()
        var inputs: [ValueID] = []
        for input in node.inputs { inputs.append(copies[input] ?? rewriter.value(input)) }
        copies[next] = try rewriter.add(node.operation, inputs, name: node.name.isEmpty ? "" : "\(node.name) again")
      }
      return copies[id] ?? rewriter.value(id)
    }
    for node in nodes[forwardCount...] {
      var inputs: [ValueID] = []
      for input in node.inputs { inputs.append(try copied(input)) }
      rewriter.define(node.output, as: try rewriter.add(node.operation, inputs, name: node.name))
    }
    return rewriter.finished()
  }
}
