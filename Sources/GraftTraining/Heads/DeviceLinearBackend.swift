import Foundation
import GraftDevice
import GraftGraph

/// Linear heads on a device: the two products of an evaluation, logits X·Wᵀ + b and gradient Rᵀ·X, are launches; the
/// softmax between them is taken in double precision on the host, so that losses agree with the reference to 1e-7.
///
/// All heads asked for are stacked into one product of K = heads·C outputs.
public final class DeviceLinearBackend: LinearBackend {
  fileprivate let device: any Device
  /// Plans by rows, depth and outputs: sweeps come back to the same few.
  private var plans: [[Int]: LinearPlan] = [:]
  /// Rows of one product.
  static let blockRowCount = 1024
  /// What features that stay on the device may take of its memory; `nil`: most of it. What needs more goes there block by block.
  package var featureByteLimit: Int?
  /// Rows of a block of them.
  package var blockRowLimit = 8192

  public init(device: any Device) { self.device = device }

  public var efficientOutputCount: Int { device.traits.isGPU ? 1024 : 64 }

  public func objective(_ data: LabelledFeatures, classCount: Int, targets: SoftmaxTargets) throws -> any LinearObjective {
    guard data.rowCount > 0 else { throw TrainingDataError(message: "there are no samples to train on") }
    _ = try data.classCounts(classCount: classCount)
    return DeviceLinearObjective(data, classCount: classCount, targets: targets, backend: self)
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

  fileprivate func plan(rows: Int, depth: Int, outputs: Int) throws -> LinearPlan {
    let key = [rows, depth, outputs]
    if let known = plans[key] { return known }
    // A sweep's heads finish one by one: each count is its own plan, and old ones would pile up.
    if plans.count >= 8 { plans.removeAll() }
    let plan = try LinearPlan(device: device, rows: rows, depth: depth, outputs: outputs)
    plans[key] = plan
    return plan
  }
}

/// The two products for blocks of a fixed number of rows.
private final class LinearPlan {
  let rows, depth, outputs: Int
  private let forward: Plan
  private let backward: Plan
  private(set) var logits: [Float]
  private var padded: [Float]
  private var gradient: [Float]

  init(device: any Device, rows: Int, depth: Int, outputs: Int) throws {
    (self.rows, self.depth, self.outputs) = (rows, depth, outputs)
    var graph = Graph()
    let x = graph.addInput(TensorType([rows, depth]), name: "features")
    let weight = graph.addInput(TensorType([outputs, depth]), name: "weight"), bias = graph.addInput(TensorType([outputs]), name: "bias")
    graph.outputs = [try graph.add(MatMul(transposeB: true, hasBias: true), [x, weight, bias], name: "logits")]
    forward = try Plan(graph, device: device)
    var other = Graph()
    let residual = other.addInput(TensorType([rows, outputs]), name: "residual"),
      features = other.addInput(TensorType([rows, depth]), name: "features")
    other.outputs = [try other.add(MatMul(transposeA: true), [residual, features], name: "gradient")]
    backward = try Plan(other, device: device)
    logits = [Float](repeating: 0, count: rows * outputs)
    padded = [Float](repeating: 0, count: rows * depth)
    gradient = [Float](repeating: 0, count: outputs * depth)
  }

  func setHeads(weight: [Float], bias: [Float]) throws {
    try forward.write(weight, to: forward.graph.inputs[1])
    try forward.write(bias, to: forward.graph.inputs[2])
  }

  /// Fills `logits` for a block; a short one is followed by rows of zeros.
  func logits(_ block: UnsafeBufferPointer<Float>, rowCount: Int) throws {
    try write(block, to: forward, forward.graph.inputs[0])
    try forward.run()
    try logits.withUnsafeMutableBytes { try forward.read(forward.graph.outputs[0], into: $0) }
  }

  /// Adds Rᵀ·X to `sum`; rows of the residual beyond the block must be zero.
  func addGradient(_ residual: [Float], _ block: UnsafeBufferPointer<Float>, to sum: inout [Double]) throws {
    try backward.write(residual, to: backward.graph.inputs[0])
    try write(block, to: backward, backward.graph.inputs[1])
    try backward.run()
    try gradient.withUnsafeMutableBytes { try backward.read(backward.graph.outputs[0], into: $0) }
    sum.withUnsafeMutableBufferPointer { sum in
      gradient.withUnsafeBufferPointer { gradient in for index in gradient.indices { sum[index] += Double(gradient[index]) } }
    }
  }

  private func write(_ block: UnsafeBufferPointer<Float>, to plan: Plan, _ input: ValueID) throws {
    if block.count == rows * depth { return try plan.write(UnsafeRawBufferPointer(block), to: input) }
    for index in padded.indices { padded[index] = index < block.count ? block[index] : 0 }
    try plan.write(padded, to: input)
  }
}

/// The data term of linear heads on a device.
private final class DeviceLinearObjective: ResidentObjective {
  let classCount: Int
  private let data: LabelledFeatures
  private let targets: SoftmaxTargets
  private let backend: DeviceLinearBackend
  /// For sweeps of up to so many heads.
  private var resident: (features: ResidentFeatures, headCount: Int)?

  init(_ data: LabelledFeatures, classCount: Int, targets: SoftmaxTargets, backend: DeviceLinearBackend) {
    (self.data, self.classCount, self.targets, self.backend) = (data, classCount, targets, backend)
  }

  var rowCount: Int { data.rowCount }
  var dimension: Int { data.features.dimension }

  /// On an OpenCL device, whose memory is another.
  func residentProblem(l2: [Double], starts: [[Double]], curvatureModel: CurvatureModel, leastCurvatures: [Double]) throws -> (any SolverProblem)? {
    guard backend.device.traits.kind == .openCL else { return nil }
    let features: ResidentFeatures
    if let known = resident, known.headCount >= l2.count {
      features = known.features
    } else {
      features = try ResidentFeatures(
        data, classCount: classCount, targets: targets, device: backend.device, headCount: l2.count, blockRowLimit: backend.blockRowLimit,
        byteLimit: backend.featureByteLimit)
      resident = (features, l2.count)
    }
    return ResidentProblem(features, l2: l2, starts: starts, curvatureModel: curvatureModel, leastCurvatures: leastCurvatures)
  }

  func evaluate(
    parameters: [Double], heads: [Int], losses: inout [Double], gradients: inout [Double], curvatures: inout [Double]
  ) throws {
    let (width, outputs) = (dimension, heads.count * classCount)
    let (weight, bias) = floats(parameters, of: heads)
    let rows = min(DeviceLinearBackend.blockRowCount, rowCount)
    let plan = try backend.plan(rows: rows, depth: width, outputs: outputs)
    try plan.setHeads(weight: weight, bias: bias)
    var sums = SoftmaxSums(heads: heads.count, classes: classCount, targets: targets)
    var weightGradient = [Double](repeating: 0, count: outputs * width)
    try data.features.forEachChunk { chunk in
      for first in stride(from: 0, to: chunk.rowCount, by: rows) {
        let count = min(rows, chunk.rowCount - first)
        let block = UnsafeBufferPointer(rebasing: chunk.values[first * width..<(first + count) * width])
        try plan.logits(block, rowCount: count)
        var residual = Array(plan.logits[..<(count * outputs)])
        sums.add(&residual, labels: data.labels[chunk.firstRow + first..<chunk.firstRow + first + count])
        residual += [Float](repeating: 0, count: (rows - count) * outputs)
        try plan.addGradient(residual, block, to: &weightGradient)
      }
    }
    write(sums, weightGradient: weightGradient, of: heads, losses: &losses, gradients: &gradients, curvatures: &curvatures)
  }
}
