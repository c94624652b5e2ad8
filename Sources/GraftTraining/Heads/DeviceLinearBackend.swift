import Foundation
import GraftDevice
import GraftGraph

/// Linear heads on a device. They are trained where the features are (`ResidentProblem`): heads that are evaluated together are
/// stacked into one product of K = heads·C outputs.
public final class DeviceLinearBackend: LinearBackend {
  fileprivate let device: any Device
  /// Plans by rows, depth and outputs: sweeps come back to the same few.
  private var plans: [[Int]: LinearPlan] = [:]
  /// Rows of one product.
  static let blockRowCount = 1024
  /// Bytes that features which stay on the device may take; `nil`: most of a GPU's memory, 1 GiB of a processor's. What needs more
  /// goes there block by block.
  package var featureByteLimit: Int?
  /// Rows of a block of them.
  package var blockRowLimit: Int

  public init(device: any Device) {
    self.device = device
    // On a processor a block's rows are read twice while they lie in its cache.
    blockRowLimit = device.traits.isGPU ? 8192 : 2048
  }

  public var efficientOutputCount: Int { device.traits.isGPU ? 1024 : 64 }

  public func objective(_ data: LabelledFeatures, classCount: Int, targets: SoftmaxTargets) throws -> any LinearObjective {
    guard data.rowCount > 0 else { throw TrainingDataError(message: "there are no samples to train on") }
    _ = try data.classCounts(classCount: classCount)
    return DeviceLinearObjective(data.features, outputCount: classCount, targets: .classes(data.labels, targets), backend: self)
  }

  /// The data term of heads for labels or numbers. Our own invariant: there are rows, and a target for each.
  func objective(_ features: any FeatureSource, outputCount: Int, targets: ResidentTargets) -> any ResidentLinearObjective {
    DeviceLinearObjective(features, outputCount: outputCount, targets: targets, backend: self)
  }

  public func logits(_ chunk: FeatureChunk, weight: [Float], bias: [Float], into logits: inout [Float]) throws {
    let count = chunk.rowCount * bias.count
    if logits.count != count { logits = [Float](repeating: 0, count: count) }
    let rows = min(Self.blockRowCount, max(1, chunk.rowCount))
    let plan = try self.plan(rows: rows, depth: chunk.dimension, outputs: bias.count)
    try plan.setHeads(weight: weight, bias: bias)
    for first in stride(from: 0, to: chunk.rowCount, by: rows) {
      let count = min(rows, chunk.rowCount - first)
      try plan.logits(UnsafeBufferPointer(rebasing: chunk.values[first * chunk.dimension..<(first + count) * chunk.dimension]), rowCount: count)
      logits.replaceSubrange(first * bias.count..<(first + count) * bias.count, with: plan.logits[..<(count * bias.count)])
    }
  }

  private func plan(rows: Int, depth: Int, outputs: Int) throws -> LinearPlan {
    let key = [rows, depth, outputs]
    if let known = plans[key] { return known }
    // Those of other numbers of heads would pile up.
    if plans.count >= 8 { plans.removeAll() }
    let plan = try LinearPlan(device: device, rows: rows, depth: depth, outputs: outputs)
    plans[key] = plan
    return plan
  }
}

/// Logits of blocks of a fixed number of rows.
private final class LinearPlan {
  private let rows, depth: Int
  private let plan: Plan
  private(set) var logits: [Float]
  private var padded: [Float]

  init(device: any Device, rows: Int, depth: Int, outputs: Int) throws {
    (self.rows, self.depth) = (rows, depth)
    var graph = Graph()
    let x = graph.addInput(TensorType([rows, depth]), name: "features")
    let weight = graph.addInput(TensorType([outputs, depth]), name: "weight"), bias = graph.addInput(TensorType([outputs]), name: "bias")
    graph.outputs = [try graph.add(MatMul(transposeB: true, hasBias: true), [x, weight, bias], name: "logits")]
    plan = try Plan(graph, device: device)
    logits = [Float](repeating: 0, count: rows * outputs)
    padded = [Float](repeating: 0, count: rows * depth)
  }

  func setHeads(weight: [Float], bias: [Float]) throws {
    try plan.write(weight, to: plan.graph.inputs[1])
    try plan.write(bias, to: plan.graph.inputs[2])
  }

  /// Fills `logits` for a block; a short one is followed by rows of zeros.
  func logits(_ block: UnsafeBufferPointer<Float>, rowCount: Int) throws {
    if rowCount == rows {
      try plan.write(UnsafeRawBufferPointer(block), to: plan.graph.inputs[0])
    } else {
      padded.replaceSubrange(0..<block.count, with: block)
      for index in block.count..<padded.count { padded[index] = 0 }
      try plan.write(padded, to: plan.graph.inputs[0])
    }
    try plan.run()
    try logits.withUnsafeMutableBytes { try plan.read(plan.graph.outputs[0], into: $0) }
  }
}

/// The data term of linear heads on a device.
private final class DeviceLinearObjective: ResidentLinearObjective {
  let classCount: Int
  private let source: any FeatureSource
  private let targets: ResidentTargets
  private let backend: DeviceLinearBackend
  /// For sweeps of up to so many heads.
  private var resident: (features: ResidentFeatures, headCount: Int)?

  init(_ source: any FeatureSource, outputCount: Int, targets: ResidentTargets, backend: DeviceLinearBackend) {
    (self.source, classCount, self.targets, self.backend) = (source, outputCount, targets, backend)
  }

  var rowCount: Int { source.rowCount }
  var dimension: Int { source.dimension }

  func residentProblem(l2: [Double], starts: [[Double]], curvatureModel: CurvatureModel, leastCurvatures: [Double]) throws -> any SolverProblem {
    let features: ResidentFeatures
    if let known = resident, known.headCount >= l2.count {
      features = known.features
    } else {
      features = try ResidentFeatures(
        source, outputCount: classCount, targets: targets, device: backend.device, headCount: l2.count, blockRowLimit: backend.blockRowLimit,
        byteLimit: backend.featureByteLimit)
      resident = (features, l2.count)
    }
    return ResidentProblem(features, l2: l2, starts: starts, curvatureModel: curvatureModel, leastCurvatures: leastCurvatures)
  }
}
