import GraftGraph

/// What rows of features show, and the loss by which outputs are held to it.
enum ResidentTargets {
  /// One class a row, `[N]`.
  case classes([Int], SoftmaxTargets)
  /// Labels or numbers, `[N, T]`; an output of which `fixed` has a value keeps it as its bias: labels that all rows have, or none.
  case values([Float], Loss, fixed: [Double?])

  /// What a row's loss counts in the mean, of so many rows.
  func weight(ofRow row: Int, of rowCount: Int) -> Double {
    switch self {
    case .classes(let labels, let targets): targets.weight(of: labels[row]) / Double(rowCount)
    case .values: 1 / Double(rowCount)
    }
  }

  /// Whether a row's target is the number of a class, and not a number for each output.
  var areLabels: Bool {
    if case .classes(_, let targets) = self { targets.smoothing == 0 } else { false }
  }

  /// Adds the loss of each row: outputs `[rows, T]`, targets `[rows]` or `[rows, T]`.
  func addLoss(to graph: inout Graph, outputs: ValueID, targets: ValueID) throws -> ValueID {
    switch self {
    case .classes where areLabels: try graph.add(CrossEntropy(), [outputs, targets], name: "loss")
    case .classes: try Loss.crossEntropy.add(to: &graph, outputs: outputs, targets: targets)
    case .values(_, let loss, let fixed):
      try loss.add(to: &graph, outputs: try Self.fixing(fixed, outputs, in: &graph), targets: targets)
    }
  }

  /// Outputs through which no gradient reaches the weights of those that are fixed.
  private static func fixing(_ fixed: [Double?], _ outputs: ValueID, in graph: inout Graph) throws -> ValueID {
    guard fixed.contains(where: { $0 != nil }) else { return outputs }
    let mask = graph.addConstant(HostTensor([fixed.count], fixed.map { $0 == nil ? 1 : 0 }))
    let levels = graph.addConstant(HostTensor([fixed.count], fixed.map { Float($0 ?? 0) }))
    return try graph.add(Unary(.none, hasScale: true, hasShift: true), [outputs, mask, levels], name: "fixed")
  }

  /// Adds what outputs turn into in a curvature of p·(1 − p); squares and Huber's loss are not asked for theirs.
  func addShares(to graph: inout Graph, outputs: ValueID) throws -> ValueID {
    switch self {
    case .classes: try graph.add(Softmax(axis: 1), [outputs], name: "shares")
    case .values: try graph.add(Unary(.sigmoid), [outputs], name: "shares")
    }
  }

  /// The second derivative where it is known without looking; of Huber's loss, which has none far out, the largest that there is.
  var knownCurvature: Double? {
    switch self {
    case .values(_, .squared, _), .values(_, .huber, _): 1
    default: nil
    }
  }

  /// The numbers of some rows for a block of `count` rows, `[count, T]`; rows of zeros fill it. Our own invariant: they aren't labels.
  func values(_ rows: Range<Int>, to count: Int, outputs: Int) -> [Float] {
    var block = [Float](repeating: 0, count: count * outputs)
    switch self {
    case .classes(let labels, let targets):
      let shared = Float(targets.smoothing / Double(outputs))
      for (index, row) in rows.enumerated() {
        for output in 0..<outputs { block[index * outputs + output] = shared }
        block[index * outputs + labels[row]] += Float(1 - targets.smoothing)
      }
    case .values(let values, _, _):
      block.replaceSubrange(0..<rows.count * outputs, with: values[rows.lowerBound * outputs..<rows.upperBound * outputs])
    }
    return block
  }
}
