import GraftDevice
import GraftGraph
import OperationSamples
import Testing

/// The rule of every operation, twice: in double precision against central differences, and on every device against the rule in
/// double precision.
@Suite struct OperationGradientTests {
  /// A sample, its graph and the gradients of Σ y · seed with respect to every float input.
  struct Problem {
    var forward = Graph()
    var backward = Graph()
    /// Inputs that take a gradient, by their number.
    var trained: [Int] = []
    var inputs: [HostTensor]
    let seed: HostTensor

    init(_ sample: OperationSample, precision: Precision = .float32) throws {
      let drawn = sample.draw(seed: 11, precision: precision)
      var ids: [ValueID] = []
      for (index, type) in sample.inputs.enumerated() { ids.append(forward.addInput(type, name: "input \(index)")) }
      let y = try forward.add(any: sample.operation, ids, name: "node")
      forward.outputs = [y]
      backward = forward
      var generator = Generator(12)
      let type = forward.type(of: y)
      seed = HostTensor(type.shape, (0..<type.elementCount).map { _ in precision.rounded(Float.random(in: -1...1, using: &generator)) })
      let seedInput = backward.addInput(type, name: "seed")
      let floats = sample.inputs.indices.filter { sample.inputs[$0].elementType == .float32 }
      let gradients = try backward.addGradients(of: y, seed: seedInput, withRespectTo: floats.map { ids[$0] })
      for (index, gradient) in zip(floats, gradients) where gradient != nil { trained.append(index) }
      backward.outputs = gradients.compactMap { $0 }
      inputs = drawn
    }

    /// Σ y · seed.
    func objective(_ values: [ReferenceTensor]) -> Double {
      zip(forward.reference(values)[0].values, seed.doubles()).reduce(0) { $0 + $1.0 * $1.1 }
    }
  }

  static let samples = OperationSamples.all.filter { !($0.operation is NormalizeImage) }

  /// A random direction in all of an input's elements, and a few elements alone.
  /// Not where equal values change places at any step: a selection has no derivative there.
  @Test(arguments: samples.filter { !($0.operation is TopK && $0.range.upperBound < 1e-6) })
  func agreesWithCentralDifferences(_ sample: OperationSample) throws {
    guard !Self.takesNoGradient(sample.operation) else { return }
    let problem = try Problem(sample)
    let values = problem.inputs.map { ReferenceTensor($0) }
    let gradients = problem.backward.reference(values + [ReferenceTensor(problem.seed)])
    // The statistics of a frozen normalisation take none, nor do targets and masks.
    let expectedCount =
      switch sample.operation {
      case is BatchNorm: 3
      case is SampleLoss: 1
      case let binary as Binary where binary.function == .masked: 1
      default: sample.inputs.count(where: { $0.elementType == .float32 })
      }
    #expect(problem.trained.count == expectedCount)
    var generator = Generator(13)
    for (index, gradient) in zip(problem.trained, gradients) {
      #expect(gradient.shape == values[index].shape)
      let count = gradient.values.count
      var directions = [(0..<count).map { _ in Double.random(in: -1...1, using: &generator) }]
      for _ in 0..<3 {
        var direction = [Double](repeating: 0, count: count)
        direction[Int.random(in: 0..<count, using: &generator)] = 1
        directions.append(direction)
      }
      for direction in directions {
        let step = 1e-6
        func moved(_ sign: Double) -> Double {
          var moved = values
          for i in direction.indices { moved[index].values[i] += sign * step * direction[i] }
          return problem.objective(moved)
        }
        let expected = (moved(1) - moved(-1)) / (2 * step)
        let found = zip(gradient.values, direction).reduce(0) { $0 + $1.0 * $1.1 }
        let size = zip(gradient.values, direction).reduce(0) { $0 + abs($1.0 * $1.1) }
        #expect(abs(found - expected) < 1e-5 * max(1, size), "input \(index): \(found), and \(expected) by differences")
      }
    }
  }

  @Test(arguments: samples, TestDevices.all)
  func agreesWithTheRuleInDoublePrecision(_ sample: OperationSample, _ device: TestDevice) throws {
    guard !Self.takesNoGradient(sample.operation) else { return }
    let problem = try Problem(sample)
    let expected = problem.backward.reference(problem.inputs.map { ReferenceTensor($0) } + [ReferenceTensor(problem.seed)])
    let plan = try Plan(problem.backward, device: device.make())
    for (id, value) in zip(plan.graph.inputs, problem.inputs + [problem.seed]) { try value.withUnsafeBytes { try plan.write($0, to: id) } }
    try plan.run()
    for (output, expected) in zip(plan.graph.outputs, expected) {
      let size = max(1, expected.values.reduce(0) { max($0, abs($1)) })
      #expect(largestError(try plan.read(output), expected.values) < 2e-5 * size)
    }
  }

  /// What only gradients are made of, or has none.
  static func takesNoGradient(_ operation: any Operation) -> Bool {
    switch operation {
    case is ActivationGradient, is AttentionGradient, is Pool2DGradient, is LayerNormGradient, is Conv2DWeightGradient, is ChannelAffine: true
    case is OptimizerStep, is Blend, is TopKGradient: true
    case let operation as CrossEntropy: operation.givesGradient
    case let operation as SampleLoss: operation.givesGradient
    case let operation as Binary: [.equal, .greater].contains(operation.function)
    default: false
    }
  }

  @Test func onlyWhatIsAskedForIsComputed() throws {
    var graph = Graph()
    let x = graph.addInput(TensorType([2, 8, 8, 4]), name: "x"), w = graph.addInput(TensorType([6, 4, 3, 3]), name: "w")
    let y = try graph.add(Conv2D(padding: Padding2D(1)), [x, w])
    let before = graph.nodes.count
    graph.outputs = try graph.addGradients(of: y, withRespectTo: [w]).compactMap { $0 }
    #expect(graph.nodes.count == before + 1)
  }
}
