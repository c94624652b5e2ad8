import GraftDevice
import GraftGraph

/// The block-diagonal preconditioner of softmax regression on a device: for each class a sum of s·(A⁻¹ − GᵀG), two products for all
/// classes with the rows of all factors' G (`RegularisedFactor.whitenedRows`), between which a class's scales pick its own.
final class ResidentPreconditioner {
  private let products: FactorProducts
  /// What each class counts of every row of G, `[C, rows]`, and the sums of s·A⁻¹, `[C, D]` and `[C]`.
  private let scales, ofWeights, ofBiases: [Float]

  init(_ preconditioner: SoftmaxPreconditioner, products: FactorProducts) {
    let (classes, width) = (preconditioner.classes.count, preconditioner.dimension), total = products.rowCount
    var (scales, weights, biases) = ([Float](repeating: 0, count: classes * total), [Float](), [Float]())
    weights.reserveCapacity(classes * width)
    for (index, parts) in preconditioner.classes.enumerated() {
      var diagonal = [Double](repeating: 0, count: width + 1)
      for (factor, scale) in parts {
        for row in products.rows(of: factor) { scales[index * total + row] = Float(scale) }
        VectorMath.add(scale, factor.inverseDiagonal, to: &diagonal)
      }
      weights += diagonal[..<width].lazy.map(Float.init)
      biases.append(Float(diagonal[width]))
    }
    (self.products, self.scales, ofWeights, ofBiases) = (products, scales, weights, biases)
  }

  /// Row `target` becomes the inverse times row `row`.
  func solve(_ vectors: DeviceVectors, row: Int, into target: Int) throws {
    if products.owner !== self {
      try products.set(scales: scales, ofWeights: ofWeights, ofBiases: ofBiases)
      products.owner = self
    }
    try products.solve(vectors, row: row, into: target)
  }
}

/// The products of preconditioners with the same factors, whose rows stay on the device.
final class FactorProducts {
  /// Which of a model's factors they are, ascending.
  let buckets: [Int]
  /// Of all factors' G.
  let rowCount: Int
  /// Whose scales there are now.
  weak var owner: ResidentPreconditioner?
  private let plan: Plan
  private let places: [Int: Range<Int>]
  private let classCount, dimension: Int

  /// Rows of G are followed by zeros up to a multiple of this, so that products read whole vectors.
  private static let rowStep = 16

  init(_ preconditioner: SoftmaxPreconditioner, device: any Device) throws {
    (classCount, dimension) = (preconditioner.classes.count, preconditioner.dimension)
    let (classes, width) = (classCount, dimension), factors = preconditioner.factors
    buckets = factors.map(\.bucket)
    var (places, main, ofBias) = ([Int: Range<Int>](), [Float](), [Float]())
    for factor in factors {
      let (rows, rowCount) = factor.whitenedRows, padding = (rowCount + Self.rowStep - 1) / Self.rowStep * Self.rowStep - rowCount
      places[factor.bucket] = ofBias.count..<ofBias.count + rowCount
      for row in 0..<rowCount {
        main += rows[row * (width + 1)..<row * (width + 1) + width]
        ofBias.append(rows[row * (width + 1) + width])
      }
      main += [Float](repeating: 0, count: padding * width)
      ofBias += [Float](repeating: 0, count: padding)
    }
    (self.places, rowCount) = (places, ofBias.count)
    let total = ofBias.count

    var graph = Graph()
    let weight = graph.addInput(TensorType([classes, width]), name: "weight"), bias = graph.addInput(TensorType([classes, 1]), name: "bias")
    let scales = graph.addInput(TensorType([classes, total]), name: "scales")
    let inverses = [
      graph.addInput(TensorType([classes, width]), name: "of weights"), graph.addInput(TensorType([classes, 1]), name: "of biases"),
    ]
    let g = graph.addConstant(HostTensor([total, width], main)), gOfBias = graph.addConstant(HostTensor([1, total], ofBias))
    let fromBias = try graph.add(Binary(.multiply), [bias, gOfBias], name: "inner")
    let inner = try graph.add(MatMul(transposeB: true, hasResidual: true), [weight, g, fromBias], name: "inner")
    let own = try graph.add(Binary(.multiply), [inner, scales], name: "inner")
    let outer = [
      try graph.add(MatMul(), [own, g], name: "outer"),
      try graph.add(
        Reduce(.sum, axes: [1], keepsDimensions: true), [try graph.add(Binary(.multiply), [own, gOfBias], name: "outer")], name: "outer"),
    ]
    graph.outputs = try zip([weight, bias], zip(inverses, outer)).map { value, parts in
      try graph.add(Binary(.subtract), [try graph.add(Binary(.multiply), [value, parts.0], name: "diagonal"), parts.1], name: "solved")
    }
    plan = try Plan(graph, device: device, options: ResidentFeatures.options)
  }

  func rows(of factor: RegularisedFactor) -> Range<Int> { places[factor.bucket] ?? 0..<0 }

  fileprivate func set(scales: [Float], ofWeights: [Float], ofBiases: [Float]) throws {
    let inputs = plan.graph.inputs
    for (values, input) in zip([scales, ofWeights, ofBiases], inputs[2...]) { try plan.write(values, to: input) }
  }

  fileprivate func solve(_ vectors: DeviceVectors, row: Int, into target: Int) throws {
    let weights = 0..<classCount * dimension, biases = classCount * dimension..<vectors.length
    let (inputs, outputs) = (plan.graph.inputs, plan.graph.outputs)
    try vectors.copy([(row, 1)], of: weights, to: .init(try plan.slice(of: inputs[0])))
    try vectors.copy([(row, 1)], of: biases, to: .init(try plan.slice(of: inputs[1])))
    try plan.run()
    try vectors.set(target, weights, to: [], plus: (.init(try plan.slice(of: outputs[0])), 1))
    try vectors.set(target, biases, to: [], plus: (.init(try plan.slice(of: outputs[1])), 1))
  }
}
