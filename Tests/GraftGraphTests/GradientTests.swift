import GraftDevice
import GraftGraph
import Testing

/// Gradients against central differences of the definitions in double precision, with random upstream gradients.
@Suite struct GradientTests {
  /// A loss a sample, its inputs, and which of them are trained.
  struct Problem: Sendable, CustomStringConvertible {
    let description: String
    let parameters: [[Int]]
    let sampleCount: Int
    let classCount: Int
    /// Adds the network: parameters in, logits out.
    let logits: @Sendable (inout Graph, [ValueID]) throws -> ValueID
  }

  static let problems: [Problem] = [
    Problem(description: "linear layer", parameters: [[5, 7], [3, 7], [3]], sampleCount: 5, classCount: 3) { graph, p in
      try graph.add(MatMul(transposeB: true, hasBias: true), p)
    },
    Problem(description: "weights [D, C]", parameters: [[9, 17], [17, 33]], sampleCount: 9, classCount: 33) { graph, p in
      try graph.add(MatMul(), p)
    },
    Problem(description: "both transposed", parameters: [[6, 4], [5, 6]], sampleCount: 4, classCount: 5) { graph, p in
      try graph.add(MatMul(transposeA: true, transposeB: true), p)
    },
    Problem(description: "two layers and a residual", parameters: [[4, 6], [6, 6], [6], [2, 6]], sampleCount: 4, classCount: 2) { graph, p in
      // x is used twice: its gradient is a sum.
      let hidden = try graph.add(MatMul(transposeB: true, hasBias: true, hasResidual: true), [p[0], p[1], p[2], p[0]])
      return try graph.add(MatMul(transposeB: true), [hidden, p[3]])
    },
    Problem(description: "a sum of two heads", parameters: [[3, 5], [4, 5], [4, 5]], sampleCount: 3, classCount: 4) { graph, p in
      let (a, b) = (try graph.add(MatMul(transposeB: true), [p[0], p[1]]), try graph.add(MatMul(transposeB: true), [p[0], p[2]]))
      return try graph.add(Binary(.add), [a, b])
    },
    Problem(description: "an image, transposed and flattened", parameters: [[2, 3, 2, 2], [5, 12]], sampleCount: 2, classCount: 5) { graph, p in
      let flat = try graph.add(Reshape([2, 12]), [try graph.add(Transpose([0, 2, 3, 1]), [p[0]])])
      return try graph.add(MatMul(transposeB: true), [flat, p[1]])
    },
  ]

  @Test(arguments: problems, TestDevices.all)
  func agreesWithCentralDifferences(_ problem: Problem, _ device: TestDevice) throws {
    var generator = Generator(3)
    var graph = Graph()
    let parameters = problem.parameters.enumerated().map { graph.addInput(TensorType($1), name: "parameter \($0)") }
    let labels = graph.addInput(TensorType([problem.sampleCount], .int32), name: "labels")
    let seed = graph.addInput(TensorType([problem.sampleCount]), name: "seed")
    let loss = try graph.add(CrossEntropy(), [try problem.logits(&graph, parameters), labels])
    graph.outputs = [loss]
    let forward = graph

    let values = problem.parameters.map { ReferenceTensor($0, &generator) }
    // A row that does not count among those that do.
    let classes = (0..<problem.sampleCount).map { $0 == 1 ? -1 : Int32.random(in: 0..<Int32(problem.classCount), using: &generator) }
    let upstream = ReferenceTensor([problem.sampleCount], in: -2...2, &generator)

    let gradients = try graph.addGradients(of: loss, seed: seed, withRespectTo: parameters)
    graph.outputs += try gradients.map { try #require($0) }
    let plan = try Plan(graph, device: device.make())
    for (id, value) in zip(plan.graph.inputs, values) { try plan.write(value.tensor.floats(), to: id) }
    try classes.withUnsafeBytes { try plan.write($0, to: plan.graph.inputs[values.count]) }
    try plan.write(upstream.tensor.floats(), to: plan.graph.inputs[values.count + 1])
    try plan.run()

    /// Σ loss · upstream.
    func objective(_ values: [ReferenceTensor]) -> Double {
      let labels = ReferenceTensor([classes.count], classes.map(Double.init))
      return zip(forward.reference(values + [labels, upstream])[0].values, upstream.values).reduce(0) { $0 + $1.0 * $1.1 }
    }
    for (index, value) in values.enumerated() {
      let expected = value.values.indices.map { at in
        var (low, high) = (values, values)
        low[index].values[at] -= 1e-5
        high[index].values[at] += 1e-5
        return (objective(high) - objective(low)) / 2e-5
      }
      #expect(expected.contains { abs($0) > 1e-3 }, "a gradient of zeros tests nothing")
      let found = try plan.read(plan.graph.outputs[1 + index])
      #expect(largestError(found, expected) < 1e-5, "parameter \(index)")
    }
  }

  @Test func withoutASeedEveryLossCountsOnce() throws {
    var graph = Graph()
    let x = graph.addInput(TensorType([2, 3]), name: "x"), w = graph.addInput(TensorType([4, 3]), name: "w")
    let labels = graph.addInput(TensorType([2], .int32), name: "labels")
    let loss = try graph.add(CrossEntropy(), [try graph.add(MatMul(transposeB: true), [x, w]), labels])
    let gradient = try #require(try graph.addGradients(of: loss, withRespectTo: [w])[0])
    graph.outputs = [gradient]
    // Only w was asked for: the gradient of x costs nothing.
    #expect(graph.nodes.count(where: { $0.operation is MatMul }) == 2)
    let inputs = [ReferenceTensor([2, 3], [1, 0, 0, 0, 1, 0]), ReferenceTensor(zeros: [4, 3]), ReferenceTensor([2], [0, 3])]
    #expect(graph.reference(inputs)[0].values == [-0.75, 0.25, 0, 0.25, 0.25, 0, 0.25, 0.25, 0, 0.25, -0.75, 0])
  }

  @Test func whatDoesNotLeadToTheLossHasNoGradient() throws {
    var graph = Graph()
    let x = graph.addInput(TensorType([2, 3]), name: "x"), other = graph.addInput(TensorType([2, 3]), name: "other")
    let labels = graph.addInput(TensorType([2], .int32), name: "labels")
    let loss = try graph.add(CrossEntropy(), [x, labels])
    _ = try graph.add(Unary(.relu), [other])
    let gradients = try graph.addGradients(of: loss, withRespectTo: [x, other])
    #expect(gradients[0] != nil && gradients[1] == nil)
  }

  @Test func anOperationWithoutARuleIsNamed() throws {
    var graph = Graph()
    let x = graph.addInput(TensorType([2, 3]), name: "x"), labels = graph.addInput(TensorType([2], .int32), name: "labels")
    let loss = try graph.add(CrossEntropy(), [try graph.add(ActivationGradient(.tanh), [x, x], name: "the bend"), labels])
    let error = #expect(throws: GradientError.self) { try graph.addGradients(of: loss, withRespectTo: [x]) }
    #expect(error?.node == "the bend" && error?.description.contains("activationGradient") == true)
  }
}
