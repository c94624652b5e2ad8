import GraftDevice
import GraftGraph

/// The block-diagonal preconditioner of softmax regression on a device: for each class A⁻¹ − GᵀG, two products for all classes
/// that share a factor (`RegularisedFactor.whitenedRows`).
final class ResidentPreconditioner {
  private let plan: Plan
  private let classCount, dimension: Int

  /// Rows of G are followed by zeros up to a multiple of this, so that products read whole vectors.
  private static let rowStep = 16

  init(_ preconditioner: SoftmaxPreconditioner, device: any Device) throws {
    (classCount, dimension) = (preconditioner.classes.count, preconditioner.dimension)
    let (classes, width) = (classCount, dimension)
    var graph = Graph()
    let weight = graph.addInput(TensorType([classes, width]), name: "weight"), bias = graph.addInput(TensorType([classes, 1]), name: "bias")
    var results: [ValueID] = []
    for factor in preconditioner.factors {
      let scales = preconditioner.classes.map { parts in Float(parts.first { $0.factor.bucket == factor.bucket }?.scale ?? 0) }
      let (rows, rowCount) = factor.whitenedRows, padded = (rowCount + Self.rowStep - 1) / Self.rowStep * Self.rowStep
      var (main, last) = ([Float](repeating: 0, count: padded * width), [Float](repeating: 0, count: padded))
      for row in 0..<rowCount {
        for column in 0..<width { main[row * width + column] = rows[row * (width + 1) + column] }
        last[row] = rows[row * (width + 1) + width]
      }
      let diagonal = factor.inverseDiagonal.map(Float.init)
      let g = graph.addConstant(HostTensor([padded, width], main)), ofBias = graph.addConstant(HostTensor([1, padded], last))
      let a = graph.addConstant(HostTensor([1, width], Array(diagonal[..<width])))
      let aOfBias = graph.addConstant(HostTensor([1, 1], [diagonal[width]])), scale = graph.addConstant(HostTensor([classes, 1], scales))
      let fromBias = try graph.add(Binary(.multiply), [bias, ofBias], name: "inner")
      let inner = try graph.add(MatMul(transposeB: true, hasResidual: true), [weight, g, fromBias], name: "inner")
      let outer = [
        try graph.add(MatMul(), [inner, g], name: "outer"),
        try graph.add(
          Reduce(.sum, axes: [1], keepsDimensions: true), [try graph.add(Binary(.multiply), [inner, ofBias], name: "outer")], name: "outer"),
      ]
      var solved: [ValueID] = []
      for (place, (value, inverse)) in [(weight, a), (bias, aOfBias)].enumerated() {
        let first = try graph.add(Binary(.multiply), [value, inverse], name: "diagonal")
        let whole = try graph.add(Binary(.subtract), [first, outer[place]], name: "solved")
        solved.append(try graph.add(Binary(.multiply), [whole, scale], name: "solved"))
      }
      results = results.isEmpty ? solved : try zip(results, solved).map { try graph.add(Binary(.add), [$0, $1], name: "solved") }
    }
    graph.outputs = results
    plan = try Plan(graph, device: device, options: ResidentFeatures.options)
  }

  /// Row `target` becomes the inverse times row `row`.
  func solve(_ vectors: DeviceVectors, row: Int, into target: Int) throws {
    let weights = 0..<classCount * dimension, biases = classCount * dimension..<vectors.length
    let (inputs, outputs) = (plan.graph.inputs, plan.graph.outputs)
    try vectors.copy([(row, 1)], of: weights, to: .init(try plan.slice(of: inputs[0])))
    try vectors.copy([(row, 1)], of: biases, to: .init(try plan.slice(of: inputs[1])))
    try plan.run()
    try vectors.set(target, weights, to: [], plus: (.init(try plan.slice(of: outputs[0])), 1))
    try vectors.set(target, biases, to: [], plus: (.init(try plan.slice(of: outputs[1])), 1))
  }
}
