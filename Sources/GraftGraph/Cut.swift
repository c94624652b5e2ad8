/// A place where a graph can be divided: everything before it frozen and computed once, everything after it trained.
public struct Cut: Sendable {
  public let value: ValueID
  public let name: String
  /// Without the batch.
  public let shape: [Int]
  /// Bytes a sample takes in float32.
  public let byteCount: Int
}

extension Graph {
  /// Every value that alone carries the input's information to the first output: the places a cut can be.
  public func cuts() -> [Cut] {
    guard let target = outputs.first else { return [] }
    // What depends on the input, and what the target needs.
    var dependent = Set(inputs)
    for node in nodes where node.inputs.contains(where: dependent.contains) { dependent.insert(node.output) }
    var needed: Set<ValueID> = [target]
    for node in nodes.reversed() where needed.contains(node.output) { needed.formUnion(node.inputs) }
    var lastUse: [ValueID: Int] = [target: nodes.count]
    for (time, node) in nodes.enumerated() where needed.contains(node.output) {
      for input in node.inputs where lastUse[input].map({ $0 < time }) ?? true { lastUse[input] = time }
    }
    var live = Set(inputs.filter(needed.contains))
    var cuts: [Cut] = []
    for (time, node) in nodes.enumerated() where needed.contains(node.output) && dependent.contains(node.output) {
      live.insert(node.output)
      live = live.filter { (lastUse[$0] ?? -1) > time }
      let value = values[node.output.index]
      if live.count <= 1, !value.name.isEmpty, let batch = value.type.shape.first, batch > 0, value.type.elementCount % batch == 0 {
        cuts.append(
          Cut(value: node.output, name: value.name, shape: Array(value.type.shape.dropFirst()), byteCount: value.type.elementCount / batch * 4))
      }
    }
    return cuts
  }

  /// The input of the classifier: of the last product or convolution with weights before the first output, if it works on
  /// one vector a sample, or of several whose results are averaged; the output itself if the network ends without one.
  ///
  /// An output that is called "features" is taken at its word.
  public func defaultCut() -> ValueID? {
    if let named = outputs.first(where: { self[$0].name == "features" }) { return named }
    guard let end = outputs.first else { return nil }
    let input = classifierInput(before: end)
    return input == end ? sharedClassifierInput(before: end) ?? end : input
  }

  private func classifierInput(before end: ValueID) -> ValueID {
    var value = end
    while let node = producer(of: value) {
      switch node.operation {
      case is MatMul where node.inputs.count > 1 && constant(node.inputs[1]) != nil: return flattened(node.inputs[0])
      case is Conv2D:
        // A classifier written as a convolution sees one pixel a sample.
        let shape = type(of: node.inputs[0]).shape
        return shape[1] == 1 && shape[2] == 1 ? flattened(node.inputs[0]) : end
      case is Softmax, is Reshape, is Transpose, is Unary, is BatchNorm: value = node.inputs[0]
      case let binary as Binary where binary.function == .add || binary.function == .multiply:
        guard let data = node.inputs.first(where: { constant($0) == nil }), node.inputs.contains(where: { constant($0) != nil }) else { return end }
        value = data
      default: return end
      }
    }
    return end
  }

  /// The last vector a sample from which several classifiers, and nothing that is not linear, lead to the output.
  private func sharedClassifierInput(before end: ValueID) -> ValueID? {
    var (hasWeights, place) = (false, nodes.count)
    for cut in cuts().reversed() {
      while place > 0, nodes[place - 1].output.index > cut.value.index {
        place -= 1
        switch nodes[place].operation {
        case is MatMul: hasWeights = hasWeights || nodes[place].inputs.contains { constant($0) != nil }
        case is BatchNorm, is Reshape, is Transpose, is Concat: break
        case let reduce as Reduce where reduce.function != .maximum: break
        case let unary as Unary where unary.activation == .none: break
        case let binary as Binary where [.add, .subtract, .multiply, .divide].contains(binary.function): break
        default: return nil
        }
      }
      if hasWeights, cut.value != end, cut.shape.count == 1 { return flattened(cut.value) }
    }
    return nil
  }

  /// The cuts between the blocks of a network, up to a value: where branches have met again, and between layers in a row where the
  /// network is no wider than on one of both sides.
  ///
  /// A residual block is one block, and so is an inverted bottleneck (expansion, depthwise convolution, projection). Of several cuts
  /// without weights between them it is the smallest, and of equal ones the last.
  public func blockCuts(before end: ValueID) -> [Cut] {
    let cuts = cuts()
    guard let last = cuts.firstIndex(where: { $0.value == end }) else { return [] }
    struct Group {
      var cut: Cut
      var joinsBranches: Bool
    }
    var groups: [Group] = []
    var place = 0
    for (index, cut) in cuts[...last].enumerated() {
      var (hasWeights, joins) = (index == 0, false)
      while place < nodes.count, nodes[place].output.index <= cut.value.index {
        let node = nodes[place]
        place += 1
        switch node.operation {
        case is Conv2D: hasWeights = true
        case is MatMul: hasWeights = hasWeights || node.inputs.contains { constant($0) != nil }
        default: break
        }
        joins = joins || node.inputs.count(where: { constant($0) == nil }) > 1
      }
      if hasWeights || groups.isEmpty {
        groups.append(Group(cut: cut, joinsBranches: joins))
      } else {
        let count = groups.count - 1
        groups[count].joinsBranches = groups[count].joinsBranches || joins
        if cut.byteCount <= groups[count].cut.byteCount { groups[count].cut = cut }
      }
    }
    // The last group ends at the value itself. Where a run of equal cuts is wider than what is before and after, the block goes on,
    // until nothing changes.
    var isKept = false
    while !isKept {
      isKept = true
      for index in groups.indices.dropLast().reversed() where !groups[index].joinsBranches {
        let size = groups[index].cut.byteCount
        let before = groups[..<index].last { $0.cut.byteCount != size || $0.joinsBranches }
        let after = groups[(index + 1)...].first { $0.cut.byteCount != size || $0.joinsBranches }
        guard let before, let after, before.cut.byteCount < size, after.cut.byteCount < size else { continue }
        groups.remove(at: index)
        isKept = false
      }
    }
    return groups.dropLast().map(\.cut)
  }

  /// The value itself, or the named one it is a mere view of.
  private func flattened(_ value: ValueID) -> ValueID {
    var value = value
    while self[value].name.isEmpty, let node = producer(of: value), node.operation is Reshape || node.operation is Transpose {
      value = node.inputs[0]
    }
    return value
  }

  /// The part of the graph before a cut: its only output is the cut's value.
  public func frozen(at cut: ValueID) throws -> Graph {
    var part = self
    part.outputs = [cut]
    return try part.removingDeadNodes()
  }
}
