import GraftDevice
import GraftGraph

/// The block-diagonal preconditioner of softmax regression on a device: for each class a sum of s·(A⁻¹ − GᵀG), two products for all
/// classes with the rows of all factors' G (`RegularisedFactor.whitenedRows`), between which a class's scales pick its own.
final class ResidentPreconditioner {
  private let plan: Plan
  private let classCount, dimension: Int

  /// Rows of G are followed by zeros up to a multiple of this, so that products read whole vectors.
  private static let rowStep = 16

  init(_ preconditioner: SoftmaxPreconditioner, device: any Device) throws {
    (classCount, dimension) = (preconditioner.classes.count, preconditioner.dimension)
    let (classes, width) = (classCount, dimension), factors = preconditioner.factors
    let rowCounts = factors.map { ($0.whitenedRows.rowCount + Self.rowStep - 1) / Self.rowStep * Self.rowStep }, total = rowCounts.reduce(0, +)
    var (main, ofBias) = ([Float](), [Float]())
    main.reserveCapacity(total * width)
    // A class's scale of each row, and its A⁻¹ with all scales.
    var (scales, diagonals) = ([Float](repeating: 0, count: classes * total), [Double](repeating: 0, count: classes * (width + 1)))
    for (factor, count) in zip(factors, rowCounts) {
      let (rows, rowCount) = factor.whitenedRows, first = ofBias.count
      for row in 0..<rowCount {
        main += rows[row * (width + 1)..<row * (width + 1) + width]
        ofBias.append(rows[row * (width + 1) + width])
      }
      main += [Float](repeating: 0, count: (count - rowCount) * width)
      ofBias += [Float](repeating: 0, count: count - rowCount)
      for (index, parts) in preconditioner.classes.enumerated() {
        guard let scale = parts.first(where: { $0.factor.bucket == factor.bucket })?.scale else { continue }
        for row in first..<first + rowCount { scales[index * total + row] = Float(scale) }
        for column in 0...width { diagonals[index * (width + 1) + column] += scale * factor.inverseDiagonal[column] }
      }
    }
    var diagonal: [Float] = []
    diagonal.reserveCapacity(classes * width)
    for index in 0..<classes { diagonal += diagonals[index * (width + 1)..<index * (width + 1) + width].lazy.map(Float.init) }
    let ofBiases = (0..<classes).map { Float(diagonals[$0 * (width + 1) + width]) }

    var graph = Graph()
    let weight = graph.addInput(TensorType([classes, width]), name: "weight"), bias = graph.addInput(TensorType([classes, 1]), name: "bias")
    let g = graph.addConstant(HostTensor([total, width], main)), gOfBias = graph.addConstant(HostTensor([1, total], ofBias))
    let fromBias = try graph.add(Binary(.multiply), [bias, gOfBias], name: "inner")
    let inner = try graph.add(MatMul(transposeB: true, hasResidual: true), [weight, g, fromBias], name: "inner")
    let own = try graph.add(Binary(.multiply), [inner, graph.addConstant(HostTensor([classes, total], scales))], name: "inner")
    let outer = [
      try graph.add(MatMul(), [own, g], name: "outer"),
      try graph.add(
        Reduce(.sum, axes: [1], keepsDimensions: true), [try graph.add(Binary(.multiply), [own, gOfBias], name: "outer")], name: "outer"),
    ]
    let inverses = [graph.addConstant(HostTensor([classes, width], diagonal)), graph.addConstant(HostTensor([classes, 1], ofBiases))]
    graph.outputs = try zip([weight, bias], zip(inverses, outer)).map { value, parts in
      try graph.add(Binary(.subtract), [try graph.add(Binary(.multiply), [value, parts.0], name: "diagonal"), parts.1], name: "solved")
    }
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
