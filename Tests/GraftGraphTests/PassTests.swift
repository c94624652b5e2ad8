import GraftDevice
import GraftGraph
import Testing

/// What the passes must keep (every result) and what they must remove.
@Suite struct PassTests {
  /// Random networks: the passes change no result, by the definitions in double precision.
  @Test(arguments: 0..<120)
  func optimizedGraphsDefineTheSame(_ seed: Int) throws {
    let network = try RandomNetwork(seed: UInt64(seed), layerCount: 2 + seed % 7)
    var generator = Generator(1)
    let x = ReferenceTensor(network.graph.type(of: network.graph.inputs[0]).shape, &generator)
    let expected = network.graph.reference([x])[0]
    let optimized = try network.graph.optimized()
    #expect(!optimized.nodes.contains { $0.operation is BatchNorm })
    let found = optimized.reference([x])[0]
    #expect(found.shape == expected.shape)
    // Folded weights are rounded to float32 once more.
    let size = expected.values.reduce(1) { max($0, abs($1)) }
    #expect(largestError(found.values.map(Float.init), expected.values) < 2e-6 * size)
  }

  /// The same networks on every device, optimised and as they are.
  @Test(arguments: 0..<16, TestDevices.all)
  func devicesComputeWhatIsDefined(_ seed: Int, _ device: TestDevice) throws {
    let graph = try RandomNetwork(seed: 1000 + UInt64(seed), layerCount: 2 + seed % 6, isBatchNormalized: false).graph
    var generator = Generator(2)
    let x = ReferenceTensor(graph.type(of: graph.inputs[0]).shape, &generator)
    let expected = graph.reference([x])[0].values
    let size = expected.reduce(1) { max($0, abs($1)) }
    for optimizes in [true, false] {
      let plan = try Plan(graph, device: device.make(), options: optimizes ? PlanOptions() : .asWritten)
      try plan.write(x.tensor.floats(), to: plan.graph.inputs[0])
      try plan.run()
      let first = try plan.read(plan.graph.outputs[0])
      #expect(largestError(first, expected) < 2e-5 * size, "optimizes: \(optimizes)")
      try plan.run()
      #expect(try plan.read(plan.graph.outputs[0]) == first, "another result the second time, optimizes: \(optimizes)")
    }
  }

  /// Adds an operation on an image that is channels first.
  private func onImage(_ graph: inout Graph, _ operation: some Operation, _ inputs: [ValueID]) throws -> ValueID {
    let last = try graph.add(Transpose([0, 2, 3, 1]), [inputs[0]])
    return try graph.add(Transpose([0, 3, 1, 2]), [try graph.add(operation, [last] + inputs.dropFirst())])
  }

  private func convolution(_ graph: inout Graph, _ x: ValueID, _ outputs: Int, size: Int = 3, seed: UInt64) throws -> ValueID {
    var generator = Generator(seed)
    let w = graph.addConstant(HostTensor([outputs, graph.type(of: x).shape[1], size, size], &generator))
    return try onImage(&graph, Conv2D(padding: Padding2D(size / 2)), [x, w])
  }

  /// A number as a constant.
  private func number(_ graph: inout Graph, _ value: Float) -> ValueID { graph.addConstant(HostTensor([], [value])) }

  /// x / 2 (1 + erf(x/√2)), in the order PyTorch's exporter writes it, with another root where one is given.
  private func gelu(_ graph: inout Graph, _ x: ValueID, root: Float = Float(2).squareRoot()) throws -> ValueID {
    let erf = try graph.add(Unary(.erf), [try graph.add(Binary(.divide), [x, number(&graph, root)])])
    let gate = try graph.add(Binary(.add), [erf, number(&graph, 1)])
    return try graph.add(Binary(.multiply), [try graph.add(Binary(.multiply), [x, gate]), number(&graph, 0.5)])
  }

  /// An activation in single steps becomes the end of the convolution before it.
  @Test func activationsInStepsAreJoined() throws {
    var graph = Graph()
    var x = graph.addInput(TensorType([2, 3, 8, 8]), name: "image")
    x = try convolution(&graph, x, 8, seed: 1)
    x = try graph.add(Binary(.multiply), [x, try graph.add(Unary(.sigmoid), [x])])
    x = try convolution(&graph, x, 8, seed: 2)
    x = try gelu(&graph, x)
    graph.outputs = [try convolution(&graph, x, 4, seed: 3)]
    let activations = try graph.optimized().nodes.compactMap { ($0.operation as? Conv2D)?.activation }
    #expect(activations == [.silu, .gelu, .none])
    #expect(try !graph.optimized().nodes.contains { $0.operation is Unary || $0.operation is Binary })
    #expect(try graph.preparedForTraining().nodes.compactMap { ($0.operation as? Unary)?.activation } == [.silu, .gelu])
  }

  /// Borders of zeros, more at one side than at the other as TensorFlow's are, become the padding of what looks at them.
  @Test(arguments: TestDevices.all)
  func bordersBecomePadding(_ device: TestDevice) throws {
    var generator = Generator(8)
    var graph = Graph()
    let input = graph.addInput(TensorType([2, 9, 8, 6]), name: "x")
    func border(_ x: ValueID, _ before: Int, _ after: Int, value: Float = 0) throws -> ValueID {
      try graph.add(Pad(before: [0, before, before, 0], after: [0, after, after, 0], value: value), [x])
    }
    func weights(_ shape: [Int]) -> ValueID { graph.addConstant(HostTensor(shape, &generator)) }
    // Two convolutions of one border, of which one has padding of its own.
    var x = try border(input, 0, 1)
    let wide = try graph.add(Conv2D(stride: Pair(2), padding: Padding2D(1), groups: 6), [x, weights([6, 1, 5, 5])])
    x = try graph.add(Conv2D(stride: Pair(2)), [x, weights([6, 6, 3, 3])])
    x = try graph.add(Binary(.add), [x, try graph.add(Slice(starts: [0, 0, 0, 0], sizes: [2, 4, 4, 6], steps: [1, 1, 1, 1]), [wide])])
    // A maximum of what is not negative does not see zeros; nor does any one see minus infinity.
    x = try graph.add(Unary(.relu), [x])
    x = try graph.add(Pool2D(.maximum, size: Pair(3), stride: Pair(1)), [try border(x, 1, 1)])
    x = try graph.add(Conv2D(), [x, weights([6, 6, 1, 1])])
    x = try graph.add(Pool2D(.maximum, size: Pair(2), stride: Pair(1)), [try border(x, 0, 1, value: -.infinity)])
    x = try graph.add(Pool2D(.average, size: Pair(3), stride: Pair(1)), [try border(x, 1, 1)])
    graph.outputs = [x]
    let optimized = try graph.optimized()
    #expect(!optimized.nodes.contains { $0.operation is Pad })
    #expect(optimized.nodes.compactMap { ($0.operation as? Pool2D)?.countsPadding } == [false, false, true])
    #expect(try !graph.preparedForTraining().nodes.contains { $0.operation is Pad })
    let image = ReferenceTensor([2, 9, 8, 6], &generator)
    let plan = try Plan(graph, device: device.make())
    try plan.write(image.tensor.floats(), to: plan.graph.inputs[0])
    try plan.run()
    let expected = graph.reference([image])[0].values
    #expect(largestError(try plan.read(plan.graph.outputs[0]), expected) < 2e-5 * expected.reduce(1) { max($0, abs($1)) })
  }

  /// What would change a result: other numbers, a maximum of what may be negative, windows that see nothing but the border.
  @Test func otherBordersStay() throws {
    func stays(value: Float = 0, width: Int = 1, channels: Int = 0, _ operation: (inout Graph, ValueID) throws -> ValueID) throws -> Bool {
      var graph = Graph()
      let x = graph.addInput(TensorType([1, 8, 8, 4]), name: "x")
      let border = Pad(before: [0, width, width, channels], after: [0, width, width, channels], value: value)
      graph.outputs = [try operation(&graph, try graph.add(border, [x]))]
      return try graph.joiningPadding().nodes.contains { $0.operation is Pad }
    }
    func convolution(_ graph: inout Graph, _ x: ValueID) throws -> ValueID {
      let channels = graph.type(of: x).shape[3]
      return try graph.add(Conv2D(), [x, graph.addConstant(HostTensor([2, channels, 3, 3], Array(repeating: 1, count: 18 * channels)))])
    }
    func pool(_ function: Pool2D.Function, ceilMode: Bool = false, padding: Int = 0) -> (inout Graph, ValueID) throws -> ValueID {
      { try $0.add(Pool2D(function, size: Pair(3), stride: Pair(2), padding: Padding2D(padding), ceilMode: ceilMode), [$1]) }
    }
    #expect(try !stays(convolution))
    #expect(try stays(value: 1, convolution))
    #expect(try stays(width: 3, convolution))
    #expect(try stays(channels: 1, convolution))
    #expect(try stays(pool(.maximum)))
    #expect(try stays(value: -1000, pool(.maximum)))
    #expect(try !stays(pool(.average)))
    #expect(try stays(pool(.average, padding: 1)))
    #expect(try stays(pool(.average, ceilMode: true)))
  }

  /// A layer's branches, as RepVGG's and MobileOne's are: windows of several sizes, a normalisation and the value itself.
  @Test(arguments: TestDevices.all, [1, 2, 8])
  func branchesOfALayerAreOneConvolution(_ device: TestDevice, _ groups: Int) throws {
    var generator = Generator(6)
    var graph = Graph()
    let x = graph.addInput(TensorType([2, 7, 6, 8]), name: "x")
    func branch(_ rows: Int, _ columns: Int, top: Int, left: Int) throws -> ValueID {
      let w = graph.addConstant(HostTensor([8, 8 / groups, rows, columns], &generator))
      let padding = Padding2D(top: top, left: left, bottom: rows - 1 - top, right: columns - 1 - left)
      return try graph.add(Conv2D(padding: padding, groups: groups), [x, w])
    }
    let vectors = (0..<2).map { _ in graph.addConstant(HostTensor([8], &generator)) }
    var sum = try branch(1, 1, top: 0, left: 0)
    for other in [
      try branch(3, 5, top: 1, left: 2), try graph.add(Unary(.none, hasScale: true, hasShift: true), [x] + vectors),
      try branch(3, 3, top: 1, left: 1), try branch(2, 1, top: 1, left: 0), x,
    ] { sum = try graph.add(Binary(.add), [sum, other]) }
    graph.outputs = [try graph.add(Unary(.relu), [sum])]
    let convolutions = try graph.optimized().nodes.compactMap { $0.operation as? Conv2D }
    // In groups of several channels the value itself is added to the sums.
    #expect(convolutions.map(\.hasResidual) == [groups != 8])
    #expect(try graph.optimized().nodes.count == 1)
    let input = ReferenceTensor([2, 7, 6, 8], &generator)
    let plan = try Plan(graph, device: device.make())
    try plan.write(input.tensor.floats(), to: plan.graph.inputs[0])
    try plan.run()
    let expected = graph.reference([input])[0].values
    #expect(largestError(try plan.read(plan.graph.outputs[0]), expected) < 2e-5 * expected.reduce(1) { max($0, abs($1)) })
  }

  /// Other strides, other values, windows that lie apart, or a branch that something else reads.
  @Test func otherSumsOfConvolutionsStay() throws {
    func count(_ build: (inout Graph, ValueID, ValueID) throws -> [ValueID]) throws -> Int {
      var graph = Graph()
      let x = graph.addInput(TensorType([1, 8, 8, 4]), name: "x"), other = graph.addInput(TensorType([1, 8, 8, 4]), name: "other")
      graph.outputs = try build(&graph, x, other)
      return try graph.joiningParallelConvolutions().nodes.count(where: { $0.operation is Conv2D })
    }
    func convolution(_ graph: inout Graph, _ x: ValueID, size: Int, padding: Padding2D, dilation: Int = 1) throws -> ValueID {
      let w = graph.addConstant(HostTensor([4, 4, size, size], Array(repeating: 0.5, count: 16 * size * size)))
      return try graph.add(Conv2D(padding: padding, dilation: Pair(dilation)), [x, w])
    }
    func sum(_ graph: inout Graph, _ a: ValueID, _ b: ValueID) throws -> ValueID { try graph.add(Binary(.add), [a, b]) }
    func pair(_ graph: inout Graph, _ a: ValueID, _ b: ValueID) throws -> [ValueID] {
      [try convolution(&graph, a, size: 3, padding: Padding2D(1)), try convolution(&graph, b, size: 1, padding: Padding2D())]
    }
    #expect(
      try count { graph, x, _ in
        let parts = try pair(&graph, x, x)
        return [try sum(&graph, parts[0], parts[1])]
      } == 1)
    #expect(
      try count { graph, x, other in
        let parts = try pair(&graph, x, other)
        return [try sum(&graph, parts[0], parts[1])]
      } == 2)
    #expect(
      try count { graph, x, _ in
        let parts = try pair(&graph, x, x)
        return [try sum(&graph, parts[0], parts[1]), parts[1]]
      } == 2)
    #expect(
      try count { graph, x, _ in
        let wide = try convolution(&graph, x, size: 3, padding: Padding2D(2), dilation: 2)
        return [try sum(&graph, wide, try convolution(&graph, x, size: 3, padding: Padding2D(1)))]
      } == 2)
    #expect(
      try count { graph, x, _ in
        let corner = try convolution(&graph, x, size: 2, padding: Padding2D(top: 1, left: 1))
        return [try sum(&graph, corner, try convolution(&graph, x, size: 2, padding: Padding2D(bottom: 1, right: 1)))]
      } == 2)
  }

  /// What only looks like one, or has a step that something else reads, stays.
  @Test func otherProductsAreNotJoined() throws {
    func activations(_ build: (inout Graph, ValueID) throws -> [ValueID]) throws -> [Activation] {
      var graph = Graph()
      let x = graph.addInput(TensorType([2, 6]), name: "x")
      graph.outputs = try build(&graph, x)
      return try graph.joiningActivations().nodes.compactMap { ($0.operation as? Unary)?.activation }
    }
    #expect(try activations { graph, x in [try gelu(&graph, x)] } == [.gelu])
    #expect(try activations { graph, x in [try gelu(&graph, x, root: 1.5)] } == [.erf])
    #expect(
      try activations { graph, x in
        let gate = try graph.add(Unary(.sigmoid), [x])
        return [try graph.add(Binary(.multiply), [x, gate]), gate]
      } == [.sigmoid])
    #expect(
      try activations { graph, x in
        let other = try graph.add(Unary(.tanh), [x])
        return [try graph.add(Binary(.multiply), [other, try graph.add(Unary(.sigmoid), [x])])]
      } == [.tanh, .sigmoid])
    // [1, 6] by [2, 6]: the product is no function of one of them.
    #expect(
      try activations { graph, x in
        let row = try graph.add(Slice(starts: [0, 0], sizes: [1, 6], steps: [1, 1]), [x])
        return [try graph.add(Binary(.multiply), [row, try graph.add(Unary(.sigmoid), [x])])]
      } == [.sigmoid])
  }

  /// Of two transpositions an operation, one is left: the image's own.
  @Test func transpositionsVanish() throws {
    var graph = Graph()
    var x = graph.addInput(TensorType([2, 3, 16, 16]), name: "image")
    x = try convolution(&graph, x, 8, seed: 1)
    let vectors = (0..<4).map { _ in graph.addConstant(HostTensor([8], Array(repeating: 1, count: 8))) }
    x = try graph.add(Unary(.relu), [try onImage(&graph, BatchNorm(epsilon: 1e-3), [x] + vectors)])
    x = try graph.add(Binary(.add), [try convolution(&graph, x, 8, seed: 2), x])
    x = try onImage(&graph, Pool2D(.maximum, size: Pair(2)), [x])
    x = try graph.add(Concat(axis: 1), [x, try convolution(&graph, x, 4, seed: 3)])
    let gate = try convolution(&graph, try graph.add(Reduce(.mean, axes: [2, 3], keepsDimensions: true), [x]), 12, size: 1, seed: 4)
    x = try graph.add(Binary(.multiply), [x, try graph.add(Unary(.sigmoid), [gate])])
    x = try graph.add(Reduce(.mean, axes: [2, 3], keepsDimensions: true), [x])
    x = try graph.add(Reshape([2, 12]), [x])
    var generator = Generator(5)
    graph.outputs = [try graph.add(MatMul(transposeB: true), [x, graph.addConstant(HostTensor([5, 12], &generator))])]
    #expect(graph.nodes.count(where: { $0.operation is Transpose }) == 12)
    let optimized = try graph.optimized()
    let left = optimized.nodes.filter { $0.operation is Transpose }
    #expect(left.count == 1 && left.first.map { $0.inputs == optimized.inputs } == true)
    // Normalisation, activation and the residual sum went into the convolutions.
    #expect(!optimized.nodes.contains { $0.operation is BatchNorm })
    #expect(optimized.nodes.count(where: { ($0.operation as? Conv2D)?.hasResidual == true }) == 1)
    #expect(optimized.nodes.count(where: { ($0.operation as? Conv2D)?.activation == .sigmoid }) == 1)
  }

  /// A channel shuffle is one transposition, not three.
  @Test func aShuffleIsOneTransposition() throws {
    var graph = Graph()
    var x = graph.addInput(TensorType([2, 3, 5, 5]), name: "image")
    x = try convolution(&graph, x, 8, seed: 1)
    x = try graph.add(Transpose([0, 2, 1, 3, 4]), [try graph.add(Reshape([2, 2, 4, 5, 5]), [x])])
    x = try convolution(&graph, try graph.add(Reshape([2, 8, 5, 5]), [x]), 4, seed: 2)
    graph.outputs = [try graph.add(Reduce(.mean, axes: [2, 3], keepsDimensions: false), [x])]
    #expect(try graph.optimized().nodes.count(where: { $0.operation is Transpose }) == 2)
  }

  /// DenseNet's concatenations: each layer writes its channels into the place where the next one reads them.
  @Test(arguments: TestDevices.all)
  func nestedConcatenationsCopyNothing(_ device: TestDevice) throws {
    var graph = Graph()
    let image = graph.addInput(TensorType([1, 3, 8, 8]), name: "image")
    // Slices of 64 floats are aligned on every device.
    var x = try convolution(&graph, image, 64, seed: 1)
    for layer in 0..<3 {
      let grown = try convolution(&graph, try graph.add(Unary(.relu), [x]), 64, seed: UInt64(2 + layer))
      x = try graph.add(Concat(axis: 1), [x, grown])
    }
    graph.outputs = [try graph.add(Reduce(.mean, axes: [2, 3], keepsDimensions: false), [x])]
    var generator = Generator(9)
    let input = ReferenceTensor([1, 3, 8, 8], &generator)
    let plan = try Plan(graph, device: device.make())
    #expect(plan.graph.nodes.count(where: { $0.operation is Concat }) == 3)
    try plan.write(input.tensor.floats(), to: plan.graph.inputs[0])
    let copies = try plan.profile().filter { $0.label.hasPrefix("concat") }
    #expect(copies.isEmpty, "\(copies.map(\.label))")
    let expected = graph.reference([input])[0].values
    #expect(largestError(try plan.read(plan.graph.outputs[0]), expected) < 1e-5 * expected.reduce(1) { max($0, abs($1)) })
  }

  /// A value that is joined to itself is computed in place once, and copied.
  @Test(arguments: TestDevices.all)
  func repeatedPartsAreCopied(_ device: TestDevice) throws {
    var graph = Graph()
    let x = graph.addInput(TensorType([3, 64]), name: "x")
    let part = try graph.add(Unary(.tanh), [x])
    graph.outputs = [try graph.add(Unary(.negate), [try graph.add(Concat(axis: 1), [part, part, x, part])])]
    var generator = Generator(11)
    let input = ReferenceTensor([3, 64], &generator)
    let plan = try Plan(graph, device: device.make())
    try plan.write(input.tensor.floats(), to: plan.graph.inputs[0])
    try plan.run()
    #expect(largestError(try plan.read(plan.graph.outputs[0]), graph.reference([input])[0].values) < 1e-5)
  }

  /// Axes that lie apart, in every combination: what channels last makes of batch and channels, for one.
  @Test(arguments: TestDevices.all)
  func reductionsOverAnyAxes(_ device: TestDevice) throws {
    var generator = Generator(4)
    let x = ReferenceTensor([2, 5, 3, 7], &generator)
    for axes in [[0, 2], [1, 3], [0, 3], [0, 1, 3], [0, 2, 3]] {
      for function in [Reduce.Function.mean, .sum, .maximum] {
        var graph = Graph()
        let input = graph.addInput(TensorType(x.shape), name: "x")
        graph.outputs = [try graph.add(Reduce(function, axes: axes, keepsDimensions: function == .sum), [input])]
        let plan = try Plan(graph, device: device.make())
        try plan.write(x.tensor.floats(), to: plan.graph.inputs[0])
        try plan.run()
        let expected = graph.reference([x])[0]
        #expect(plan.graph.type(of: plan.graph.outputs[0]).shape == expected.shape)
        #expect(largestError(try plan.read(plan.graph.outputs[0]), expected.values) < 1e-5, "\(function) over \(axes)")
      }
    }
  }
}
