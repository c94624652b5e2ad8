extension Graph {
  /// The graph with its input `[N, C, H, W]` replaced by bytes `[N, H, W, C]`, normalised as y = x scale[c] + shift[c].
  ///
  /// - Parameter reversesChannels: whether the network takes the last channel first.
  public func takingImageBytes(scale: [Float], shift: [Float], reversesChannels: Bool = false) throws -> Graph {
    guard let input = inputs.first, inputs.count == 1, type(of: input).rank == 4, type(of: input).shape[1] == scale.count else {
      throw ShapeError("input", "one image [N, \(scale.count), H, W] is expected, the graph takes \(inputs.map { type(of: $0).shape })")
    }
    let shape = type(of: input).shape
    var graph = Graph()
    var map: [ValueID: ValueID] = [:]
    let bytes = graph.addInput(TensorType([shape[0], shape[2], shape[3], shape[1]], .uint8), name: "image bytes")
    let factors = graph.addConstant(HostTensor([scale.count], scale)), offsets = graph.addConstant(HostTensor([shift.count], shift))
    var image = try graph.add(NormalizeImage(), [bytes, factors, offsets], name: "normalise")
    if reversesChannels {
      let size = Array(graph.type(of: image).shape.dropLast()), normalised = image
      let channels = try scale.indices.reversed().map { channel in
        try graph.add(Slice(starts: [0, 0, 0, channel], sizes: size + [1], steps: [1, 1, 1, 1]), [normalised])
      }
      image = try graph.add(Concat(axis: 3), channels, name: "blue first")
    }
    map[input] = try graph.add(Transpose([0, 3, 1, 2]), [image])
    graph.rename(map[input]!, self[input].name)
    func moved(_ id: ValueID) -> ValueID {
      if let known = map[id] { return known }
      guard let tensor = constant(id) else { preconditionFailure("a value was used before it was defined") }
      let new = graph.addConstant(tensor, name: self[id].name, isFixed: self[id].isFixed)
      map[id] = new
      return new
    }
    for node in nodes {
      let inputs = node.inputs.map(moved)
      let output = try graph.add(any: node.operation, inputs, name: node.name)
      graph.rename(output, self[node.output].name)
      map[node.output] = output
    }
    graph.outputs = outputs.map(moved)
    return graph
  }
}
