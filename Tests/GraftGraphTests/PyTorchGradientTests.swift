import Foundation
import GraftDevice
import GraftGraph
import Testing

/// Gradients and steps of optimisers against PyTorch's in double precision, which Tools/reference/gradients.py stored.
@Suite struct PyTorchGradientTests {
  private struct Fixture: Decodable {
    let cases: [Case]
    let optimisers: [Optimiser]
  }

  struct Tensor: Decodable, Sendable {
    let shape: [Int]
    let values: [Double]
    var host: HostTensor { HostTensor(shape, values.map { Float($0) }) }
  }

  struct Case: Decodable, Sendable, CustomStringConvertible {
    let name: String
    let inputs: [Tensor]
    let upstream, result: Tensor
    /// `nil` where an input takes none.
    let gradients: [Tensor?]
    var description: String { name }
  }

  struct Optimiser: Decodable, Sendable, CustomStringConvertible {
    let name: String
    let start: [Double]
    let gradients, steps: [[Double]]
    var description: String { name }
  }

  private static let fixture = Result {
    let url = Bundle.module.bundleURL.appendingPathComponent("Fixtures/gradients.json")
    return try JSONDecoder().decode(Fixture.self, from: Data(contentsOf: url))
  }
  static let cases = (try? fixture.get())?.cases ?? []
  static let optimisers = (try? fixture.get())?.optimisers ?? []

  /// Nothing is stored that is not compared, and nothing is compared with nothing.
  @Test func everyCaseIsThere() throws {
    let fixture = try Self.fixture.get()
    #expect(Set(fixture.cases.map(\.name)) == Set(PyTorchCases.all.keys) && fixture.cases.count == PyTorchCases.all.count)
    #expect(Set(fixture.optimisers.map(\.name)) == Set(Self.methods.keys))
    for problem in fixture.cases { #expect(problem.gradients.contains { $0 != nil }, "\(problem)") }
  }

  /// A case's result and gradients, and which inputs the gradients belong to.
  private func graph(_ problem: Case) throws -> (graph: Graph, trained: [Int]) {
    var graph = Graph()
    let inputs = problem.inputs.enumerated().map { graph.addInput(TensorType($1.shape), name: "input \($0)") }
    let build = try #require(PyTorchCases.all[problem.name])
    graph.outputs = [try build(&graph, inputs)]
    // The way that training takes: normalisations as products and sums.
    (graph, _) = try graph.expandingNormalization(PyTorchCases.mode(problem.name))
    let trained = problem.gradients.indices.filter { problem.gradients[$0] != nil }
    let seed = graph.addInput(graph.type(of: graph.outputs[0]), name: "upstream")
    let found = try graph.addGradients(of: graph.outputs[0], seed: seed, withRespectTo: trained.map { graph.inputs[$0] })
    graph.outputs += try found.map { try #require($0) }
    return (graph, trained)
  }

  private func expectEqual(_ found: [Double], _ expected: Tensor, _ tolerance: Double, _ what: String) {
    let largest = expected.values.reduce(0) { max($0, abs($1)) }
    #expect(largest > 0 && found.count == expected.values.count, "\(what)")
    // A gradient that is no number is an error too.
    let error = zip(found, expected.values).reduce(0) { $1.0.isFinite ? max($0, abs($1.0 - $1.1)) : .infinity }
    #expect(error <= tolerance * largest, "\(what): \(error) of \(largest)")
  }

  /// The rules themselves, in double precision.
  @Test(arguments: cases)
  func theRulesAreRight(_ problem: Case) throws {
    let (graph, trained) = try graph(problem)
    let found = graph.reference((problem.inputs + [problem.upstream]).map { ReferenceTensor($0.host) })
    expectEqual(found[0].values, problem.result, 1e-6, "result")
    for (index, gradient) in zip(trained, found.dropFirst()) {
      let expected = try #require(problem.gradients[index])
      #expect(gradient.shape == expected.shape)
      expectEqual(gradient.values, expected, 1e-6, "input \(index)")
    }
  }

  @Test(arguments: cases, TestDevices.all)
  func everyDeviceAgrees(_ problem: Case, _ device: TestDevice) throws {
    let (graph, trained) = try graph(problem)
    let plan = try Plan(graph, device: device.make())
    for (id, value) in zip(plan.graph.inputs, problem.inputs + [problem.upstream]) { try plan.write(value.host.floats(), to: id) }
    try plan.run()
    expectEqual(try plan.read(plan.graph.outputs[0]).map(Double.init), problem.result, 1e-4, "result")
    for (index, output) in zip(trained, plan.graph.outputs.dropFirst()) {
      expectEqual(try plan.read(output).map(Double.init), try #require(problem.gradients[index]), 1e-4, "input \(index)")
    }
  }

  // MARK: Optimisers

  private static let methods: [String: (operation: OptimizerStep, rates: OptimizerRates)] = [
    "sgd": (OptimizerStep(.sgd), OptimizerRates(learningRate: 0.1, beta1: 0)),
    "sgd momentum": (OptimizerStep(.sgd), OptimizerRates(learningRate: 0.1)),
    "sgd nesterov": (OptimizerStep(.sgd, isNesterov: true), OptimizerRates(learningRate: 0.1)),
    "sgd weight decay": (OptimizerStep(.sgd), OptimizerRates(learningRate: 0.1, weightDecay: 0.3)),
    "sgd nesterov weight decay": (OptimizerStep(.sgd, isNesterov: true), OptimizerRates(learningRate: 0.1, weightDecay: 0.3, beta1: 0.8)),
    "sgd clipped": (OptimizerStep(.sgd), OptimizerRates(learningRate: 0.1, normLimit: 0.5)),
    "adamw": (OptimizerStep(.adamW), OptimizerRates(learningRate: 0.05)),
    "adamw weight decay": (OptimizerStep(.adamW), OptimizerRates(learningRate: 0.05, weightDecay: 0.3)),
    "adamw betas": (OptimizerStep(.adamW), OptimizerRates(learningRate: 0.05, weightDecay: 0.1, beta1: 0.7, beta2: 0.95, epsilon: 1e-4)),
  ]

  @Test(arguments: optimisers, TestDevices.all)
  func everyStepIsPyTorchs(_ run: Optimiser, _ device: TestDevice) throws {
    let (operation, rates) = try #require(Self.methods[run.name])
    var graph = Graph()
    let type = TensorType([run.start.count])
    let parameter = graph.addVariable(type, name: "parameter"), gradient = graph.addInput(type, name: "gradient")
    let state = (0..<operation.method.stateCount).map { graph.addVariable(type, name: "state \($0)") }
    let rateInput = graph.addInput(OptimizerRates.type, name: "rates")
    let squares = try graph.add(SquareSum(), [gradient])
    graph.outputs = [try graph.add(operation, [parameter, gradient] + state + [rateInput, squares])]
    let plan = try Plan(graph, device: device.make())
    let inputs = Dictionary(uniqueKeysWithValues: zip(graph.inputs, plan.graph.inputs))
    func write(_ values: [Float], _ id: ValueID) throws { try plan.write(values, to: #require(inputs[id])) }
    try write(run.start.map { Float($0) }, parameter)
    for value in state { try write(Array(repeating: 0, count: run.start.count), value) }
    for (index, expected) in run.steps.enumerated() {
      var rates = rates
      rates.step = index + 1
      try write(run.gradients[index].map { Float($0) }, gradient)
      try write(rates.values, rateInput)
      try plan.run()
      let found = try plan.read(plan.graph.outputs[0]).map(Double.init)
      expectEqual(found, Tensor(shape: [expected.count], values: expected), 1e-5, "step \(index + 1)")
    }
  }
}
