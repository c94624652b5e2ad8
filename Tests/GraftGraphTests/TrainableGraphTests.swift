import GraftDevice
import GraftGraph
import OperationSamples
import Testing

/// Cuts between blocks, parameters, variables, and normalisations that can be trained through.
@Suite struct TrainableGraphTests {
  /// A chain of pointwise layers of these widths, then residual blocks, then a classifier.
  private func chain(_ widths: [Int], residualBlocks: Int = 0) throws -> Graph {
    var graph = Graph()
    var x = graph.addInput(TensorType([2, 4, 4, 8]), name: "x"), channels = 8
    func layer(_ x: ValueID, _ from: Int, _ to: Int, _ name: String) throws -> ValueID {
      let w = graph.addConstant(HostTensor([to, from, 1, 1], Array(repeating: 0.1, count: from * to)), name: "\(name).weight")
      let y = try graph.add(Unary(.relu), [try graph.add(Conv2D(), [x, w], name: name)], name: "\(name).relu")
      graph.rename(y, name)
      return y
    }
    for (index, width) in widths.enumerated() {
      x = try layer(x, channels, width, "layer\(index)")
      channels = width
    }
    for index in 0..<residualBlocks {
      let inner = try layer(x, channels, channels, "block\(index).a")
      let sum = try graph.add(Binary(.add), [try layer(inner, channels, channels, "block\(index).b"), x], name: "block\(index)")
      graph.rename(sum, "block\(index)")
      x = sum
    }
    let mean = try graph.add(Reduce(.mean, axes: [1, 2], keepsDimensions: false), [x], name: "mean")
    graph.rename(mean, "features")
    graph.outputs = [mean]
    return graph
  }

  @Test(
    arguments: [
      // An inverted bottleneck is one block; so are layers in a row that are no narrower than their neighbours.
      ([8, 48, 48, 8, 48, 48, 8], 0, ["layer0", "layer3"]), ([16, 16, 16], 0, ["layer0", "layer1"]), ([64, 32, 16], 0, ["layer0", "layer1"]),
      // Where branches meet, whatever the width.
      ([8], 3, ["layer0", "block0", "block1"]),
    ] as [([Int], Int, [String])])
  func blocks(_ widths: [Int], _ residualBlocks: Int, _ expected: [String]) throws {
    let graph = try chain(widths, residualBlocks: residualBlocks)
    #expect(graph.blockCuts(before: graph.outputs[0]).map(\.name) == expected)
  }

  /// Before and after a cut give what the whole does.
  @Test func partsMakeTheWhole() throws {
    let graph = try chain([16, 8], residualBlocks: 2)
    for cut in graph.cuts().dropLast() {
      var generator = Generator(3)
      let x = ReferenceTensor([2, 4, 4, 8], &generator)
      let between = try graph.frozen(at: cut.value).reference([x])[0]
      let rest = try graph.following(cut.value)
      #expect(rest.inputs.count == 1 && rest.reference([between])[0] == graph.reference([x])[0], "\(cut.name)")
    }
    let inside = try #require(graph.value(named: "block0.a"))
    #expect(throws: ShapeError.self) { try graph.following(inside) }
  }

  @Test func parametersHaveNames() throws {
    let graph = try chain([16], residualBlocks: 1)
    #expect(graph.parameters().map(\.name) == ["layer0.weight", "block0.a.weight", "block0.b.weight"])
    #expect(!graph.parameters().contains { !$0.decays })
  }

  /// What has one input, output or channel is trained like any other layer; a factor and a token of one number are constants of the code.
  @Test func aParameterMayBeOneNumber() throws {
    var graph = Graph()
    func one(_ shape: [Int], _ name: String) -> ValueID { graph.addConstant(HostTensor(shape, [0.5]), name: name) }
    let image = graph.addInput(TensorType([2, 4, 4, 1]), name: "image")
    var x = try graph.add(Conv2D(hasBias: true), [image, one([1, 1, 1, 1], "conv.weight"), one([1], "conv.bias")])
    let statistics = ["scale", "shift", "mean", "variance"].map { one([1], "norm.\($0)") }
    x = try graph.add(Unary(.relu), [try graph.add(BatchNorm(epsilon: 1e-5), [x] + statistics)])
    x = try graph.add(Binary(.multiply), [x, one([1], "factor")])
    x = try graph.add(Reduce(.mean, axes: [1, 2], keepsDimensions: false), [x])
    x = try graph.add(MatMul(transposeB: true, hasBias: true), [x, one([1, 1], "head.weight"), one([1], "head.bias")])
    graph.outputs = [x]
    let found = try graph.preparedForTraining().parameters()
    #expect(found.map(\.name) == ["conv.weight", "conv.bias", "norm.scale", "norm.shift", "head.weight", "head.bias"])
    #expect(found.filter(\.decays).map(\.name) == ["conv.weight", "head.weight"])
  }

  /// A table that was computed, a bias of an attention's scores and a number without dimensions are no parameters; what is only moved,
  /// and the scale of a normalisation in steps, are.
  @Test func whatIsComputedIsNoParameter() throws {
    var graph = Graph()
    func constant(_ shape: [Int], _ name: String, isFixed: Bool = false) -> ValueID {
      graph.addConstant(HostTensor(shape, Array(repeating: 0.5, count: shape.reduce(1, *))), name: name, isFixed: isFixed)
    }
    var x = graph.addInput(TensorType([2, 4, 6]), name: "x")
    for (shape, name, isFixed) in [([1, 4, 6], "positions", false), ([4, 6], "table", true), ([], "epsilon", false), ([6], "shift", false)] {
      x = try graph.add(Binary(.add), [x, constant(shape, name, isFixed: isFixed)])
    }
    x = try graph.add(Binary(.multiply), [x, constant([4, 6], "rotation")])
    let moved = try graph.add(Reshape([1, 6]), [try graph.add(Transpose([1, 0]), [constant([6, 1], "layer scale")])])
    x = try graph.add(Binary(.multiply), [x, moved])
    let root = try graph.add(Unary(.sqrt), [constant([6], "variance")])
    x = try graph.add(Binary(.multiply), [x, try graph.add(Binary(.multiply), [constant([6], "gamma"), root])])
    let squared = try graph.add(Binary(.multiply), [constant([4, 6], "drawn"), constant([4, 6], "drawn too")])
    x = try graph.add(Binary(.add), [x, squared])
    let scores = try graph.add(Binary(.add), [try graph.add(Reshape([4, 2, 6]), [x]), constant([4, 1, 6], "bias of scores")])
    graph.outputs = [try graph.add(Softmax(axis: 2), [try graph.add(Reshape([2, 4, 6]), [scores])])]
    let prepared = try graph.preparedForTraining()
    #expect(prepared.parameters().map { $0.tensor.shape.filter { $0 > 1 } } == [[4, 6], [6], [6], [6]])
    #expect(prepared.parameters().map(\.name).prefix(2) == ["positions", "shift"])
    // A cut and another input change nothing about it.
    let rest = try prepared.following(prepared.nodes[0].output)
    #expect(rest.parameters().map(\.tensor.shape) == prepared.parameters().dropFirst().map(\.tensor.shape))
  }

  /// A convolution, a normalisation and an activation, its parameters and statistics variables.
  private func normalized(bias: Bool) throws -> (graph: Graph, tensors: [HostTensor]) {
    var generator = Generator(4)
    var graph = Graph()
    let x = graph.addInput(TensorType([3, 5, 4, 6]), name: "x")
    let shapes = [[7, 6, 3, 3]] + (bias ? [[7]] : []) + Array(repeating: [7], count: 4)
    let tensors = shapes.map { HostTensor($0, in: 0.5...1.5, &generator) }
    let variables = shapes.enumerated().map { graph.addVariable(TensorType($1), name: "variable \($0)") }
    let y = try graph.add(Conv2D(padding: Padding2D(1), hasBias: bias), [x] + variables.prefix(bias ? 2 : 1), name: "conv")
    let z = try graph.add(BatchNorm(epsilon: 0.01), [y] + variables.suffix(4), name: "norm")
    graph.outputs = [try graph.add(Unary(.relu), [z], name: "relu")]
    return (graph, tensors)
  }

  /// With stored statistics: the definition's result, from one convolution.
  @Test(arguments: [false, true], TestDevices.all)
  func frozenNormalization(_ bias: Bool, _ device: TestDevice) throws {
    let (graph, tensors) = try normalized(bias: bias)
    var generator = Generator(5)
    let x = ReferenceTensor([3, 5, 4, 6], &generator)
    let expected = graph.reference([x] + tensors.map { ReferenceTensor($0) })[0]
    let (expanded, statistics) = try graph.expandingNormalization(.frozen)
    #expect(statistics.isEmpty && !expanded.nodes.contains { $0.operation is BatchNorm || $0.operation is ChannelMoments })
    let plan = try Plan(expanded, device: device.make())
    #expect(plan.graph.nodes.last?.operation is Conv2D)
    for (id, tensor) in zip(plan.graph.inputs, [x.tensor] + tensors) { try plan.write(tensor.floats(), to: id) }
    try plan.run()
    #expect(largestError(try plan.read(plan.graph.outputs[0]), expected.values) < 2e-4)
  }

  /// With the batch's: mean and variance over images and pixels.
  @Test(arguments: TestDevices.all)
  func batchNormalization(_ device: TestDevice) throws {
    let (graph, tensors) = try normalized(bias: false)
    var generator = Generator(6)
    let x = ReferenceTensor([3, 5, 4, 6], &generator)
    var unnormalized = graph
    unnormalized.outputs = [try #require(graph.value(named: "conv") ?? graph.nodes.first?.output)]
    let y = unnormalized.reference([x] + tensors.map { ReferenceTensor($0) })[0]
    var expected = y
    for c in 0..<7 {
      let places = stride(from: c, to: y.values.count, by: 7), count = Double(y.values.count / 7)
      let mean = places.reduce(0) { $0 + y.values[$1] } / count
      let variance = places.reduce(0) { $0 + (y.values[$1] - mean) * (y.values[$1] - mean) } / count
      let (scale, shift) = (tensors[1].doubles()[c], tensors[2].doubles()[c])
      for i in places { expected.values[i] = max(0, (y.values[i] - mean) / (variance + 0.01).squareRoot() * scale + shift) }
    }
    let (expanded, statistics) = try graph.expandingNormalization(.batch(momentum: 0.1))
    #expect(statistics.count == 2 && statistics.map(\.factor) == [1, 60.0 / 59])
    let plan = try Plan(expanded, device: device.make())
    for (id, tensor) in zip(plan.graph.inputs, [x.tensor] + tensors) { try plan.write(tensor.floats(), to: id) }
    try plan.run()
    #expect(largestError(try plan.read(plan.graph.outputs[0]), expected.values) < 1e-4)
  }

  /// The way back through a batch normalisation is one pass over both tensors, and what it was before.
  @Test func affineSumsAreJoined() throws {
    let (graph, tensors) = try normalized(bias: false)
    var (expanded, _) = try graph.expandingNormalization(.batch(momentum: 0.1))
    let variables = expanded.inputs.filter(expanded.variables.contains)
    expanded.outputs = try expanded.addGradients(of: expanded.outputs[0], withRespectTo: Array(variables.prefix(3))).compactMap { $0 }
    let joined = try expanded.joiningAffineSums().removingDeadNodes()
    #expect(joined.nodes.count { $0.operation is ChannelAffine } == 1 && !expanded.nodes.contains { $0.operation is ChannelAffine })
    var generator = Generator(7)
    let inputs = [ReferenceTensor([3, 5, 4, 6], &generator)] + tensors.map { ReferenceTensor($0) }
    for (a, b) in zip(expanded.reference(inputs), joined.reference(inputs)) { #expect(largestError(a.tensor.floats(), b.values) < 1e-4) }
  }

  /// What is overwritten must be a variable, and nothing later may read what it was.
  @Test func overwritingHasRules() throws {
    var graph = Graph()
    let type = TensorType([4]), x = graph.addInput(type, name: "x"), v = graph.addVariable(type, name: "v")
    let factors = graph.addConstant(HostTensor([2], [0.5, 0.25]))
    #expect(throws: ShapeError.self) { try graph.add(Blend(), [x, x, factors]) }
    let blended = try graph.add(Blend(), [v, x, factors])
    #expect(throws: ShapeError.self) { try graph.add(Unary(.negate), [v]) }
    graph.outputs = [try graph.add(Unary(.negate), [blended])]
    let plan = try Plan(graph, device: CPUDevice())
    try plan.write([4, 8, 12, 16], to: plan.graph.inputs[1])
    try plan.write([4, 0, 4, 0], to: plan.graph.inputs[0])
    try plan.run()
    try plan.run()
    #expect(try plan.read(plan.graph.inputs[1]) == [2.5, 2, 4.5, 4])
    #expect(try plan.read(plan.graph.outputs[0]) == [-2.5, -2, -4.5, -4])
  }
}
