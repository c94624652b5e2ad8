import Foundation

/// Linear heads in plain Swift: what every device is checked against, and what serves where there is none.
public struct HostLinearBackend: LinearBackend {
  public init() {}

  public func objective(_ data: LabelledFeatures, classCount: Int, targets: SoftmaxTargets) throws -> any LinearObjective {
    try HostLinearObjective(data, classCount: classCount, targets: targets)
  }

  public func logits(_ chunk: FeatureChunk, weight: [Float], bias: [Float], into logits: inout [Float]) throws {
    precondition(weight.count == bias.count * chunk.dimension)
    let count = chunk.rowCount * bias.count
    if logits.count != count { logits = [Float](repeating: 0, count: count) }
    guard let x = chunk.values.baseAddress else { return }
    weight.withUnsafeBufferPointer { weight in
      bias.withUnsafeBufferPointer { bias in
        logits.withUnsafeMutableBufferPointer { logits in
          guard let w = weight.baseAddress, let b = bias.baseAddress, let y = logits.baseAddress else { return }
          HostGEMM.linear(x: x, rows: chunk.rowCount, depth: chunk.dimension, weight: w, bias: b, outputs: bias.count, y: y)
        }
      }
    }
  }
}

/// The data term of linear heads in plain Swift: float32 products, double-precision softmax and sums.
///
/// All heads asked for are stacked into one product of K = heads·C outputs.
package final class HostLinearObjective: HostedLinearObjective {
  /// Rows whose gradient is summed in float32 before it joins the double-precision sum.
  private static let blockRowCount = 512

  package let classCount: Int
  private let data: LabelledFeatures
  private let targets: SoftmaxTargets
  private let backend = HostLinearBackend()

  /// - Throws: `TrainingDataError` without rows or for a label that is no class's.
  package init(_ data: LabelledFeatures, classCount: Int, targets: SoftmaxTargets = .plain) throws(TrainingDataError) {
    guard data.rowCount > 0 else { throw TrainingDataError(message: "there are no samples to train on") }
    _ = try data.classCounts(classCount: classCount)
    (self.data, self.classCount, self.targets) = (data, classCount, targets)
  }

  package var rowCount: Int { data.rowCount }
  package var dimension: Int { data.features.dimension }

  package func evaluate(
    parameters: [Double], heads: [Int], losses: inout [Double], gradients: inout [Double], curvatures: inout [Double]
  ) throws {
    let (width, outputs) = (dimension, heads.count * classCount)
    let (weight, bias) = floats(parameters, of: heads)
    var sums = SoftmaxSums(heads: heads.count, classes: classCount, targets: targets)
    var weightGradient = [Double](repeating: 0, count: outputs * width)
    var logits: [Float] = []
    try data.features.forEachChunk { chunk in
      for first in stride(from: 0, to: chunk.rowCount, by: Self.blockRowCount) {
        let count = min(Self.blockRowCount, chunk.rowCount - first)
        let block = FeatureChunk(
          firstRow: chunk.firstRow + first, rowCount: count, dimension: width,
          values: UnsafeBufferPointer(rebasing: chunk.values[first * width..<(first + count) * width]))
        try backend.logits(block, weight: weight, bias: bias, into: &logits)
        sums.add(&logits, labels: data.labels[block.firstRow..<block.firstRow + count])
        HostGEMM.accumulate(residuals: logits, block, into: &weightGradient)
      }
    }
    write(sums, weightGradient: weightGradient, of: heads, losses: &losses, gradients: &gradients, curvatures: &curvatures)
  }
}

/// What softmax regression is to say about a sample, and how much that counts.
public struct SoftmaxTargets: Sendable {
  /// What a sample of each class counts, `[C]`; `nil`: all alike.
  let classWeights: [Double]?
  /// Share of a target that goes to all classes alike (Szegedy et al., 2016).
  let smoothing: Double

  /// One class a sample, all samples alike.
  public static let plain = SoftmaxTargets()

  private init() { (classWeights, smoothing) = (nil, 0) }

  /// Logits `[C]` of the classes' shares among all targets: what is best to say without looking at the samples.
  func levels(_ classCounts: [Int]) -> [Double] {
    let total = classCounts.indices.reduce(0) { $0 + weight(of: $1) * Double(classCounts[$1]) }, classes = Double(classCounts.count)
    let levels = classCounts.indices.map { label in
      log(max((1 - smoothing) * weight(of: label) * Double(classCounts[label]) / total + smoothing / classes, 1e-12))
    }
    let mean = levels.reduce(0, +) / classes
    return levels.map { $0 - mean }
  }

  /// What a sample counts; 1 on average.
  func weight(of label: Int) -> Double { classWeights?[label] ?? 1 }

  /// - Parameter classWeights: `[C]`, brought to a mean of 1 over the samples: the loss is a weighted mean.
  /// - Throws: `TrainingOptionError` if they leave no sample, or the smoothing is none.
  init(classWeights: [Double]?, smoothing: Double, classCounts: [Int]) throws(TrainingOptionError) {
    guard (0..<1).contains(smoothing) else {
      throw TrainingOptionError(message: "the label smoothing is \(smoothing); it must be at least 0 and below 1")
    }
    self.smoothing = smoothing
    guard let classWeights else {
      self.classWeights = nil
      return
    }
    let total = zip(classWeights, classCounts).reduce(0) { $0 + $1.0 * Double($1.1) }
    guard classWeights.count == classCounts.count, classWeights.allSatisfy({ $0 >= 0 }), total > 0, total.isFinite else {
      throw TrainingOptionError(message: "class weights must be \(classCounts.count) numbers that are not negative, and not all of them 0")
    }
    self.classWeights = classWeights.map { $0 * Double(classCounts.reduce(0, +)) / total }
  }
}

/// Sums of softmax cross-entropy over rows.
struct SoftmaxSums {
  let classes: Int
  private let targets: SoftmaxTargets
  /// `[H]`
  var losses: [Double]
  /// `[H, C]`, p − t: with one class a sample, p − 1 for the label and p elsewhere
  var residuals: [Double]
  /// `[H, C]`, p(1 − p)
  var curvatures: [Double]
  private var exponentials: [Double]

  init(heads: Int, classes: Int, targets: SoftmaxTargets) {
    (self.classes, self.targets) = (classes, targets)
    losses = [Double](repeating: 0, count: heads)
    residuals = [Double](repeating: 0, count: heads * classes)
    curvatures = residuals
    exponentials = [Double](repeating: 0, count: classes)
  }

  /// Adds rows of logits `[rows, H, C]` and replaces them by the residuals p − t times what the sample counts.
  mutating func add<Number: BinaryFloatingPoint>(_ logits: inout [Number], labels: ArraySlice<Int>) {
    let heads = losses.count, shared = targets.smoothing / Double(classes)
    for (row, label) in labels.enumerated() {
      let weight = targets.weight(of: label)
      for head in 0..<heads {
        let begin = (row * heads + head) * classes
        var largest = -Number.infinity
        for index in begin..<begin + classes { largest = max(largest, logits[index]) }
        var total = 0.0
        for index in 0..<classes {
          exponentials[index] = exp(Double(logits[begin + index] - largest))
          total += exponentials[index]
        }
        var aim = (1 - targets.smoothing) * Double(logits[begin + label] - largest)
        if shared > 0 { for index in 0..<classes { aim += shared * Double(logits[begin + index] - largest) } }
        losses[head] += weight * (log(total) - aim)
        for index in 0..<classes {
          let probability = exponentials[index] / total
          let residual = weight * (probability - shared - (index == label ? 1 - targets.smoothing : 0))
          logits[begin + index] = Number(residual)
          residuals[head * classes + index] += residual
          curvatures[head * classes + index] += weight * probability * (1 - probability)
        }
      }
    }
  }
}
