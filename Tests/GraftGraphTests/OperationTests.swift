import Foundation
import GraftDevice
import GraftGraph
import Testing

/// Random values that are the same on every machine.
typealias Generator = SplitMix

extension OperationSample {
  /// Inputs as the device gets them, and as the reference does: numbers that the format holds.
  func draw(seed: UInt64, precision: Precision = .float32) -> [HostTensor] {
    var generator = Generator(seed)
    return inputs.map { type in
      switch type.elementType {
      case .uint8:
        let bytes = (0..<type.elementCount).map { _ in UInt8.random(in: 0...255, using: &generator) }
        return try! HostTensor(shape: type.shape, elementType: .uint8, storage: HostBytes(copying: bytes))
      case .int32:
        let classes = Int32(inputs[0].shape[1])
        let labels = (0..<type.elementCount).map { _ in Int32.random(in: -1..<classes, using: &generator) }
        return labels.withUnsafeBytes { try! HostTensor(shape: type.shape, elementType: .int32, storage: HostBytes(copying: Array($0))) }
      default:
        return HostTensor(type.shape, (0..<type.elementCount).map { _ in precision.rounded(Float(Double.random(in: range, using: &generator))) })
      }
    }
  }

  /// The largest error a correct float32 kernel may show: rounding grows with the root of the terms a sum has, the bound
  /// with the terms themselves for short sums.
  func bound(_ reference: ReferenceTensor) -> Double {
    let scale = max(1, abs(range.upperBound), abs(range.lowerBound))
    let size = max(1, reference.values.reduce(0) { max($0, $1.isFinite ? abs($1) : 0) })
    return 1.2e-7 * (8 + 2 * Double(terms).squareRoot()) * max(scale, size)
  }
}

extension Precision {
  /// The nearest number that the format holds, ties to even.
  func rounded(_ value: Float) -> Float {
    switch self {
    case .float32: return value
    case .float16: return HalfPrecision.float(fromHalf: HalfPrecision.half(fromFloat: value))
    case .bfloat16:
      let bits = value.bitPattern
      return Float(bitPattern: (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
    }
  }

  /// What storing a correct result may change: half the distance to the next number of the format, and its smallest number.
  func storageError(of value: Double) -> Double {
    switch self {
    case .float32: 0
    case .bfloat16: abs(value) * 0x1p-8
    case .float16: abs(value) * 0x1p-11 + 0x1p-25
    }
  }
}

@Suite struct OperationTests {
  @Test(arguments: OperationSamples.all, TestDevices.allFormats)
  func agreesWithTheReference(_ sample: OperationSample, _ device: TestDevice) throws {
    try compare(sample, device, constants: false)
  }

  /// Constants take another way: weights are packed once, when the plan is made.
  @Test(arguments: OperationSamples.all.filter { $0.inputs.count > 1 }, TestDevices.allFormats)
  func agreesWithConstantOperands(_ sample: OperationSample, _ device: TestDevice) throws {
    try compare(sample, device, constants: true)
  }

  private func compare(_ sample: OperationSample, _ device: TestDevice, constants: Bool) throws {
    let tensors = sample.draw(seed: 7, precision: device.precision)
    var graph = Graph()
    let inputs = zip(sample.inputs, tensors).enumerated().map { index, pair in
      constants && index > 0 ? graph.addConstant(pair.1, name: "constant \(index)") : graph.addInput(pair.0, name: "input \(index)")
    }
    let output = try graph.add(any: sample.operation, inputs, name: "node")
    graph.outputs = [output]
    let isNorm = sample.operation is BatchNorm
    // Batch normalisation never runs as such: the folding pass has to turn it into something that does.
    if isNorm, !constants {
      #expect(throws: LoweringError.self) { try Plan(graph, device: device.make(), options: .asWritten(in: device.precision)) }
      return
    }
    let plan = try Plan(graph, device: device.make(), options: isNorm ? PlanOptions(precision: device.precision) : .asWritten(in: device.precision))
    for (id, tensor) in zip(plan.graph.inputs, tensors) { try tensor.withUnsafeBytes { try plan.write($0, to: id) } }
    try plan.run()
    let found = try plan.read(plan.graph.outputs[0])
    let expected = sample.operation.reference(tensors.map(ReferenceTensor.init))
    #expect(plan.graph.type(of: plan.graph.outputs[0]).shape == expected.shape)
    // The arithmetic is that of float32 whatever the format; the result is rounded once, when it is stored.
    let error = zip(found, expected.values).reduce(0.0) {
      max($0, $1.0.isNaN ? .infinity : abs(Double($1.0) - $1.1) - device.precision.storageError(of: $1.1))
    }
    #expect(error <= sample.bound(expected), "largest error \(error), bound \(sample.bound(expected))")
    // The same bits twice.
    try plan.run()
    #expect(try plan.read(plan.graph.outputs[0]) == found)
  }

  @Test func everyOperationHasASample() {
    let tested = Set(OperationSamples.all.map(\.operation.kind))
    #expect(tested == Set(OperationList.all.map { $0.kind }))
  }
}
