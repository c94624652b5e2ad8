import GraftDevice
import GraftGraph
import Testing

/// Products of matrices that are both computed, which the CPU family reads where they lie (Kernels/cpu/product.cl).
@Suite struct CPUProductTests {
  struct Sample: Sendable, CustomStringConvertible {
    var m, n, k: Int
    var transposeA = false
    var transposeB = false
    var description: String { "\(m) × \(n) × \(k)\(transposeA ? ", a transposed" : "")\(transposeB ? ", b transposed" : "")" }
  }

  /// Few rows, few columns and both; sums that end within a block and with one; panels and vectors that are whole and not.
  static let samples = [(1, 1, 1), (10, 130, 515), (13, 67, 1024), (5, 10, 2500), (100, 10, 300), (263, 37, 129), (32, 257, 64), (26, 16, 2049)]
    .flatMap { m, n, k in
      [(false, false), (true, false), (false, true), (true, true)].map { Sample(m: m, n: n, k: k, transposeA: $0, transposeB: $1) }
    }

  static let devices = TestDevices.all.filter { $0.device.traits.family == .cpu }

  private struct Operands {
    let a, b, bias, residual: HostTensor

    init(_ s: Sample) {
      var generator = Generator(19)
      a = HostTensor(s.transposeA ? [s.k, s.m] : [s.m, s.k], &generator)
      b = HostTensor(s.transposeB ? [s.n, s.k] : [s.k, s.n], &generator)
      bias = HostTensor([s.n], &generator)
      residual = HostTensor([s.m, s.n], &generator)
    }
  }

  /// The product, with b as an input or as a constant, and the kernels that it ran.
  private func run(
    _ s: Sample, _ operands: Operands, on device: any Device, constantB: Bool, activation: Activation? = nil
  ) throws -> (y: [Float], kernels: [String]) {
    var graph = Graph()
    let a = graph.addInput(TensorType(operands.a.shape), name: "a")
    let b = constantB ? graph.addConstant(operands.b, name: "b") : graph.addInput(TensorType(operands.b.shape), name: "b")
    var (inputs, product) = ([a, b], MatMul(transposeA: s.transposeA, transposeB: s.transposeB))
    if let activation {
      product = MatMul(transposeA: s.transposeA, transposeB: s.transposeB, hasBias: true, hasResidual: true, activation: activation)
      inputs += [graph.addConstant(operands.bias, name: "bias"), graph.addConstant(operands.residual, name: "residual")]
    }
    graph.outputs = [try graph.add(product, inputs, name: "y")]
    let plan = try Plan(graph, device: device, options: .asWritten)
    for (id, values) in zip(plan.graph.inputs, [operands.a, operands.b]) { try plan.write(values.floats(), to: id) }
    try plan.run()
    return (try plan.read(plan.graph.outputs[0]), try plan.profile().map(\.kernel))
  }

  /// The definition in double precision, and how far float32 may be from it: a step rounds the sum so far by half a unit at
  /// most, so the sum of those sums' sizes bounds the error of whatever adds in the order of k.
  private func expected(_ s: Sample, _ operands: Operands) -> [(sum: Double, bound: Double)] {
    let (a, b) = (operands.a.floats(), operands.b.floats())
    let (stepM, stepA) = s.transposeA ? (1, s.m) : (s.k, 1), (stepN, stepB) = s.transposeB ? (s.k, 1) : (1, s.n)
    return (0..<s.m * s.n).map { place in
      let (row, column) = place.quotientAndRemainder(dividingBy: s.n)
      var (sum, sizes) = (0.0, 0.0)
      for k in 0..<s.k {
        sum += Double(a[row * stepM + k * stepA]) * Double(b[column * stepN + k * stepB])
        sizes += abs(sum)
      }
      // What the roundings do to each other's sums is of the second order.
      return (sum, 0x1p-24 * sizes * (1 + 0x1p-22 * Double(s.k)))
    }
  }

  @Test(arguments: samples) func agreesWithTheDefinition(_ sample: Sample) throws {
    let operands = Operands(sample), expected = expected(sample, operands)
    for device in Self.devices {
      let found = try run(sample, operands, on: device.make(), constantB: false)
      #expect(found.kernels == ["product"] && found.y.count == expected.count)
      let wrong = zip(found.y, expected).first { !(abs(Double($0) - $1.sum) <= $1.bound) }
      #expect(wrong == nil, "\(device): \(wrong.map { "\($0.0) for \($0.1)" } ?? "")")
    }
  }

  /// The same bits as from packed weights: sums grow in the same order, and the epilogue is the same.
  @Test(arguments: samples, devices) func packedWeightsGiveTheSameBits(_ sample: Sample, _ device: TestDevice) throws {
    let operands = Operands(sample)
    for activation in [nil, Activation.none, .relu, .gelu] {
      let found = try run(sample, operands, on: device.make(), constantB: false, activation: activation)
      let packed = try run(sample, operands, on: device.make(), constantB: true, activation: activation)
      #expect(packed.kernels.contains("gemm") && found.kernels == ["product"])
      #expect(zip(found.y, packed.y).allSatisfy { $0.bitPattern == $1.bitPattern } && found.y.count == packed.y.count)
    }
  }

  /// A row of the result is a function of a's row and of b, bit for bit, however many rows there are beside it.
  @Test(arguments: [false, true], devices) func rowsDoNotDependOnTheirNumber(_ transposeB: Bool, _ device: TestDevice) throws {
    let all = Sample(m: 26, n: 75, k: 700, transposeB: transposeB)
    let operands = Operands(all)
    let whole = try run(all, operands, on: device.make(), constantB: false).y
    let b = operands.b.floats(), rows = operands.a.floats()
    for m in 1...all.m {
      var graph = Graph()
      let inputs = [graph.addInput(TensorType([m, all.k]), name: "a"), graph.addInput(TensorType(operands.b.shape), name: "b")]
      graph.outputs = [try graph.add(MatMul(transposeB: transposeB), inputs, name: "y")]
      let plan = try Plan(graph, device: device.make(), options: .asWritten)
      try plan.write(Array(rows[..<(m * all.k)]), to: plan.graph.inputs[0])
      try plan.write(b, to: plan.graph.inputs[1])
      try plan.run()
      #expect(try plan.read(plan.graph.outputs[0]) == Array(whole[..<(m * all.n)]), "\(m) rows")
    }
  }
}
