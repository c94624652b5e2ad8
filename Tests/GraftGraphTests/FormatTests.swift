import Foundation
import GraftDevice
import GraftGraph
import OperationSamples
import Testing

/// Plans in bfloat16 and float16 beside those in float32.
@Suite struct FormatTests {
  /// A residual network of four stages, its weights drawn so that values keep their size (He et al. 2015).
  static func residualNetwork() throws -> (graph: Graph, image: HostTensor) {
    var generator = Generator(21)
    var graph = Graph()
    func convolution(_ x: ValueID, _ outputs: Int, size: Int, stride: Int = 1, gain: Double = 1) throws -> ValueID {
      let inputs = graph.type(of: x).shape[3]
      // Uniform on ±√(6/n) has variance 2/n.
      let reach = gain * (6 / Double(inputs * size * size)).squareRoot()
      let w = graph.addConstant(HostTensor([outputs, inputs, size, size], in: -reach...reach, &generator))
      let b = graph.addConstant(HostTensor([outputs], in: -0.1...0.1, &generator))
      return try graph.add(Conv2D(stride: Pair(stride), padding: Padding2D(size / 2), hasBias: true), [x, w, b])
    }
    var x = try graph.add(Transpose([0, 2, 3, 1]), [graph.addInput(TensorType([2, 3, 64, 64]), name: "image")])
    x = try graph.add(Unary(.relu), [try convolution(x, 32, size: 7, stride: 2)])
    x = try graph.add(Pool2D(.maximum, size: Pair(3), stride: Pair(2), padding: Padding2D(1)), [x])
    for (stage, channels) in [32, 48, 64, 112].enumerated() {
      for block in 0..<2 {
        let stride = stage > 0 && block == 0 ? 2 : 1
        var y = try graph.add(Unary(.relu), [try convolution(x, channels, size: 3, stride: stride)])
        y = try convolution(y, channels, size: 3, gain: 0.5)
        if stride == 2 { x = try convolution(x, channels, size: 1, stride: 2) }
        x = try graph.add(Unary(.relu), [try graph.add(Binary(.add), [x, y])])
      }
    }
    graph.outputs = [try graph.add(Reduce(.mean, axes: [1, 2], keepsDimensions: false), [x])]
    return (graph, HostTensor([2, 3, 64, 64], in: -2...2, &generator))
  }

  private func features(_ graph: Graph, _ image: HostTensor, _ device: any Device, _ precision: Precision) throws -> [Float] {
    let plan = try Plan(graph, device: device, options: PlanOptions(precision: precision))
    try plan.write(image.floats(), to: plan.graph.inputs[0])
    try plan.run()
    return try plan.read(plan.graph.outputs[0])
  }

  /// Seventeen convolutions deep, errors add up as those of independent roundings do: by the root of their number.
  @Test(arguments: TestDevices.inShortFormats)
  func aResidualNetworkKeepsItsFeatures(_ device: TestDevice) throws {
    let (graph, image) = try Self.residualNetwork()
    let reference = try features(graph, image, TestDevices.native[0].device, .float32)
    let found = try features(graph, image, device.device, device.precision)
    let agreement = Agreement(found, reference: reference, rowLength: reference.count / 2)
    let unit = device.precision == .bfloat16 ? 0x1p-8 : 0x1p-11
    #expect(agreement.relativeError < 2 * unit && agreement.normError < 1.5 * unit, "\(agreement)")
    #expect(try #require(agreement.cosine) > 1 - unit * unit, "\(agreement)")
  }

  /// Beside infinities there is no angle.
  @Test func agreementWithInfinitiesHasNoCosine() {
    let found = Agreement([1, .infinity, 3, 4], reference: [1, .infinity, 3, 4], rowLength: 2)
    #expect(found.cosine == nil && found.normError == .infinity && found.relativeError == .infinity)
    #expect(Agreement([1, 2], reference: [2, 4], rowLength: 2).cosine == 1)
  }

  /// Whatever networks a reader may build: bounds for a few layers of which none makes values much larger.
  @Test(arguments: 0..<40, TestDevices.inShortFormats)
  func randomNetworksAgree(_ seed: Int, _ device: TestDevice) throws {
    let network = try RandomNetwork(seed: UInt64(seed), layerCount: 4)
    let shape = network.graph.type(of: network.graph.inputs[0]).shape
    var generator = Generator(UInt64(seed) + 77)
    let image = HostTensor(shape, &generator)
    let reference = try features(network.graph, image, TestDevices.native[0].device, .float32)
    let found = try features(network.graph, image, device.device, device.precision)
    let agreement = Agreement(found, reference: reference, rowLength: reference.count)
    let unit = device.precision == .bfloat16 ? 0x1p-8 : 0x1p-11
    #expect(agreement.normError < 8 * unit, "\(agreement)")
  }

  /// Scores of classes, and what comes of them, are float32's: those of some 20 in 8 bits would be off by up to 0.06, and their
  /// probabilities by 6 %. Pooled features are sums that no later step shortens. Everything here is exact in every format until then.
  @Test(arguments: TestDevices.inShortFormats, [true, false])
  func whatANetworkEndsWithIsFloat32(_ device: TestDevice, isPooled: Bool) throws {
    var generator = Generator(31)
    func quarters(_ shape: [Int], _ reach: Int) -> HostTensor {
      HostTensor(shape, (0..<shape.reduce(1, *)).map { _ in Float(Int.random(in: -reach...reach, using: &generator)) / 4 })
    }
    var graph = Graph()
    let image = graph.addInput(TensorType([2, 8, 5, 5]), name: "image")
    var x = try graph.add(Unary(.relu), [try graph.add(Transpose([0, 2, 3, 1]), [image])])
    x = try graph.add(Reduce(.mean, axes: [1, 2], keepsDimensions: false), [x])
    if !isPooled {
      x = try graph.add(
        MatMul(transposeB: true, hasBias: true), [x, graph.addConstant(quarters([20, 8], 30)), graph.addConstant(quarters([20], 9))])
      x = try graph.add(Softmax(axis: 1), [x])
    }
    graph.outputs = [x]
    let input = quarters([2, 8, 5, 5], 20)
    let reference = try features(graph, input, TestDevices.native[0].device, .float32)
    let found = try features(graph, input, device.device, device.precision)
    for (mine, exact) in zip(found, reference) { #expect(abs(mine - exact) <= 1e-5 * max(abs(exact), 1e-3), "\(mine), \(exact) expected") }
    // Node by node they are rounded.
    let plan = try Plan(graph, device: device.device, options: .asWritten(in: device.precision))
    try plan.write(input.floats(), to: plan.graph.inputs[0])
    try plan.run()
    #expect(zip(try plan.read(plan.graph.outputs[0]), reference).contains { abs($0 - $1) > 1e-5 * abs($1) })
  }

  /// Pooling by attention: a product of two activations, in the plan's format, whose result is among the last and float32.
  @Test(arguments: TestDevices.inShortFormats)
  func aNetworkMayEndWithProductsOfActivations(_ device: TestDevice) throws {
    var (graph, generator) = (Graph(), Generator(32))
    func weights(_ shape: [Int]) -> ValueID { graph.addConstant(HostTensor(shape, in: -0.3...0.3, &generator)) }
    let image = graph.addInput(TensorType([3, 8, 6, 5]), name: "image")
    let pixels = try graph.add(Transpose([0, 2, 3, 1]), [image])
    let tokens = try graph.add(Reshape([3, 30, 12]), [try graph.add(Conv2D(padding: Padding2D(1)), [pixels, weights([12, 8, 3, 3])])])
    let scores = try graph.add(MatMul(transposeB: true), [weights([3, 1, 12]), tokens])
    let pooled = try graph.add(MatMul(), [try graph.add(Softmax(axis: 2), [scores]), tokens])
    graph.outputs = [try graph.add(Reshape([3, 12]), [pooled])]
    let input = HostTensor([3, 8, 6, 5], in: -2...2, &generator)
    let reference = try features(graph, input, TestDevices.native[0].device, .float32)
    let found = try features(graph, input, device.device, device.precision)
    let agreement = Agreement(found, reference: reference, rowLength: 12), unit = device.precision == .bfloat16 ? 0x1p-8 : 0x1p-11
    #expect(agreement.normError < 2 * unit, "\(agreement)")
  }

  /// Numbers that need care: ties, the largest, subnormal ones, infinities; and a NaN stays one.
  @Test(arguments: TestDevices.inShortFormats)
  func conversionsRoundToNearestEven(_ device: TestDevice) throws {
    var values: [Float] = [
      0, -0, 1, 1 + 0x1p-8, 1 + 0x1p-7 + 0x1p-8, 1 + 0x1p-11, 1 + 0x1p-10 + 0x1p-11, -3.14159265, 65504, 65519, .infinity, -.infinity,
    ]
    if device.precision == .float16 { values += [65520, 1e30, 0x1p-14, 0x1p-15 + 0x1p-25, 0x1p-24, 0x1p-25, 0x1.8p-25, -0x1.cp-20] }
    var generator = Generator(6)
    values += (0..<1500).map { _ in Float(Double.random(in: -1...1, using: &generator) * pow(2, Double.random(in: -12...14, using: &generator))) }
    values.append(.nan)
    var graph = Graph()
    // A copy of an input is stored in the plan's format.
    graph.outputs = [try graph.add(Concat(axis: 0), [graph.addInput(TensorType([values.count]), name: "x")])]
    let plan = try Plan(graph, device: device.make(), options: .asWritten(in: device.precision))
    try plan.write(values, to: plan.graph.inputs[0])
    try plan.run()
    let found = try plan.read(plan.graph.outputs[0])
    #expect(found.last?.isNaN == true)
    for (value, stored) in zip(values, found).dropLast() {
      #expect(stored.bitPattern == device.precision.rounded(value).bitPattern, "\(value) became \(stored)")
    }
  }
}
