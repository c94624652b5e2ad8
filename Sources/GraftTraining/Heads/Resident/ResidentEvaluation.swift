import GraftDevice
import GraftGraph

/// Losses and gradients of H stacked heads in one plan: outputs X·Wᵀ + b, their loss, and its gradients by W and b.
///
/// The plan's inputs: the features' blocks, W `[H·C, D]`, b `[H·C]`, and for each block what its rows show and count.
final class ResidentEvaluation {
  let headCount: Int
  private let features: ResidentFeatures
  private let plan: Plan
  /// Labels and sample weights are written once where they stay.
  private var areTargetsWritten = false

  init(_ features: ResidentFeatures, headCount: Int) throws {
    (self.features, self.headCount) = (features, headCount)
    let (classes, width, rowCounts) = (features.outputCount, features.dimension, features.blockRowCounts)
    var graph = Graph()
    let blocks = ResidentFeatures.addBlocks(rowCounts, dimension: width, to: &graph)
    let weight = graph.addInput(TensorType([headCount * classes, width]), name: "weight")
    let bias = graph.addInput(TensorType([headCount * classes]), name: "bias")
    var losses: [ValueID] = [], gradients: [ValueID] = []
    for (block, rows) in zip(blocks, rowCounts) {
      let stacked = try graph.add(MatMul(transposeB: true, hasBias: true), [block, weight, bias], name: "logits")
      let logits = try graph.add(Reshape([rows * headCount, classes]), [stacked], name: "logits")
      var targets: ValueID
      if features.targets.areLabels {
        targets = graph.addInput(TensorType([rows * headCount], .int32), name: "labels")
      } else {
        targets = graph.addInput(TensorType([rows, 1, classes]), name: "targets")
        if headCount > 1 { targets = try graph.add(Expand([rows, headCount, classes]), [targets], name: "targets") }
        targets = try graph.add(Reshape([rows * headCount, classes]), [targets], name: "targets")
      }
      let loss = try features.targets.addLoss(to: &graph, outputs: logits, targets: targets)
      let counts = graph.addInput(TensorType([rows * headCount]), name: "sample weights")
      let found = try graph.addGradients(of: loss, seed: counts, withRespectTo: [weight, bias]).compactMap { $0 }
      guard found.count == 2 else { throw ShapeError("head", "the loss does not depend on its weights") }
      losses.append(loss)
      gradients = gradients.isEmpty ? found : try zip(gradients, found).map { try graph.add(Binary(.add), [$0, $1], name: "gradient") }
    }
    graph.outputs = gradients + losses
    plan = try Plan(graph, device: features.device, options: ResidentFeatures.options, variablesOf: features.curvature)
  }

  private var inputs: ArraySlice<ValueID> { plan.graph.inputs[features.blockRowCounts.count...] }
  /// Where W and b are to be written.
  func parameters() throws -> (weight: BufferSlice, bias: BufferSlice) {
    (try plan.slice(of: inputs[inputs.startIndex]), try plan.slice(of: inputs[inputs.startIndex + 1]))
  }

  /// Evaluates the heads whose parameters have been written.
  ///
  /// - Parameter gather: takes the gradients by W and b of the rows so far; with features that do not stay, of one block after the
  ///   other, the first of which is `true`.
  /// - Returns: each head's mean loss.
  func run(gather: (_ weight: BufferSlice, _ bias: BufferSlice, _ isFirst: Bool) throws -> Void) throws -> [Double] {
    let outputs = plan.graph.outputs
    let (weight, bias) = (try plan.slice(of: outputs[0]), try plan.slice(of: outputs[1]))
    var sums = [Double](repeating: 0, count: headCount)
    var isFirst = true
    try features.run(plan) { rows, block in
      if !areTargetsWritten { try writeTargets(rows, block) }
    } collect: { blocks in
      try gather(weight, bias, isFirst)
      isFirst = false
      for (block, rows) in blocks {
        let losses = try plan.read(outputs[2 + block])
        for (place, row) in rows.enumerated() {
          for head in sums.indices { sums[head] += features.weights[row] * Double(losses[place * headCount + head]) }
        }
      }
    }
    areTargetsWritten = features.isResident
    return sums
  }

  private func writeTargets(_ rows: Range<Int>, _ block: Int) throws {
    let count = features.blockRowCounts[block], place = inputs.startIndex + 2 + 2 * block
    if case .classes(let labels, _) = features.targets, features.targets.areLabels {
      var repeated = [Int32](repeating: -1, count: count * headCount)
      for (index, row) in rows.enumerated() { for head in 0..<headCount { repeated[index * headCount + head] = Int32(labels[row]) } }
      try repeated.withUnsafeBytes { try plan.write($0, to: inputs[place]) }
    } else {
      try plan.write(features.targets.values(rows, to: count, outputs: features.outputCount), to: inputs[place])
    }
    let counts = features.padded(rows, to: count) { Float(features.weights[$0]) }
    try plan.write(counts.flatMap { [Float](repeating: $0, count: headCount) }, to: inputs[place + 1])
  }
}
