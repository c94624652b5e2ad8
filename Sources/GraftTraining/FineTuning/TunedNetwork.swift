import GraftBackbones
import GraftData
import GraftDevice
import GraftGraph

/// A fine-tuned model's trained part and head on a device: rows at the cut, or prepared images, in; logits out.
public final class TunedNetwork {
  public let batchSize: Int
  public let classCount: Int
  private let plan: Plan

  /// - Throws: `HeadError` if the backbone is another; `PlanMemoryError`, `DeviceError`, `BuildError`.
  public init(
    _ model: FineTunedModel, backbone: Backbone, preprocessing: Preprocessing, batchSize: Int, device: any Device,
    options: PlanOptions = PlanOptions()
  ) throws {
    let network = model.network(backbone, preprocessing: preprocessing)
    (self.batchSize, classCount) = (batchSize, model.head.classCount)
    plan = try backbone.namingFile { try Plan(network.makeGraph(batchSize), device: device, options: options) }
  }

  /// The logits [batch, C] of one batch as the network takes it; a short batch's other rows are whatever follows.
  public func logits(_ samples: UnsafeRawBufferPointer) throws -> [Float] {
    try plan.write(samples, to: plan.graph.inputs[0])
    try plan.run()
    return try plan.read(plan.graph.outputs[0])
  }

  /// The logits of all samples, a batch at a time and in order.
  public func forEachLogits(of samples: any TrainingSamples, _ body: (_ first: Int, _ logits: [Float]) throws -> Void) throws {
    let width = samples.sampleByteCount
    guard plan.graph.type(of: plan.graph.inputs[0]).byteCount == batchSize * width else {
      throw ShapeError("input", "a sample has \(width) bytes, and the network takes \(plan.graph.type(of: plan.graph.inputs[0]))")
    }
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: batchSize * width, alignment: 64)
    defer { bytes.deallocate() }
    bytes.initializeMemory(as: UInt8.self, repeating: 0)
    for first in stride(from: 0, to: samples.count, by: batchSize) {
      let chosen = Array(first..<min(first + batchSize, samples.count))
      try samples.write(chosen, epoch: nil, into: UnsafeMutableRawBufferPointer(rebasing: bytes[..<(chosen.count * width)]))
      try body(first, Array(try logits(UnsafeRawBufferPointer(bytes))[..<(chosen.count * classCount)]))
    }
  }
}
