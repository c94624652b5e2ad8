import Foundation
import GraftDevice
import GraftGraph
import OperationSamples
import Testing

/// Random values that are the same on every machine.
typealias Generator = SplitMix

@Suite struct OperationTests {
  @Test(arguments: OperationSamples.all, TestDevices.allFormats)
  func agreesWithTheReference(_ sample: OperationSample, _ device: TestDevice) throws {
    try compare(sample, device, constants: false)
  }

  /// Constants take another way: weights are packed once, when the plan is made.
  @Test(arguments: OperationSamples.all.filter { $0.inputs.count > 1 && $0.operation.mutatedInputs.isEmpty }, TestDevices.allFormats)
  func agreesWithConstantOperands(_ sample: OperationSample, _ device: TestDevice) throws {
    try compare(sample, device, constants: true)
  }

  private func compare(_ sample: OperationSample, _ device: TestDevice, constants: Bool) throws {
    let tensors = sample.draw(seed: 7, precision: device.precision)
    let graph = try sample.graph(tensors, constants: constants)
    let isNorm = sample.operation is BatchNorm
    // Batch normalisation never runs as such: the folding pass has to turn it into something that does.
    if isNorm, !constants {
      #expect(throws: LoweringError.self) { try Plan(graph, device: device.make(), options: .asWritten(in: device.precision)) }
      return
    }
    let plan = try Plan(graph, device: device.make(), options: isNorm ? PlanOptions(precision: device.precision) : .asWritten(in: device.precision))
    func writeInputs() throws {
      for (id, tensor) in zip(plan.graph.inputs, tensors) { try tensor.withUnsafeBytes { try plan.write($0, to: id) } }
    }
    try writeInputs()
    try plan.run()
    let found = try plan.read(plan.graph.outputs[0])
    let expected = sample.operation.reference(tensors.map(ReferenceTensor.init))
    #expect(plan.graph.type(of: plan.graph.outputs[0]).shape == expected.shape)
    // The arithmetic is that of float32 whatever the format; the result is rounded once, when it is stored.
    let usesUnit = plan.kernels.contains { $0.hasPrefix("matrix_attention") }
    let error = sample.largestError(
      found, expected, precision: device.precision, allowed: usesUnit ? sample.weightErrors(tensors, precision: device.precision) : [])
    #expect(error <= sample.bound(expected), "largest error \(error), bound \(sample.bound(expected))")
    // The same bits twice, from what variables were before.
    if !sample.operation.mutatedInputs.isEmpty { try writeInputs() }
    try plan.run()
    #expect(try plan.read(plan.graph.outputs[0]) == found)
  }

  /// Logits far from 0, along rows and across them: their logarithms are small differences.
  @Test(arguments: [[3, 1000], [4, 7], [2, 5, 37]], TestDevices.all)
  func logarithmsOfLargeLogitsKeepTheirDigits(_ shape: [Int], _ device: TestDevice) throws {
    var generator = Generator(4), graph = Graph()
    let logits = HostTensor(shape, in: 9998...10002, &generator), softmax = Softmax(axis: 1, logarithm: true)
    graph.outputs = [try graph.add(softmax, [graph.addInput(TensorType(shape), name: "logits")])]
    let plan = try Plan(graph, device: device.make())
    try plan.write(logits.floats(), to: plan.graph.inputs[0])
    try plan.run()
    let expected = softmax.reference([ReferenceTensor(logits)])
    #expect(largestError(try plan.read(plan.graph.outputs[0]), expected.values) < 4e-6)
  }

  @Test func everyOperationHasASample() {
    let tested = Set(OperationSamples.all.map(\.operation.kind))
    #expect(tested == Set(OperationList.all.map { $0.kind }))
  }
}
