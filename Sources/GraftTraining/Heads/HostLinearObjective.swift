import Foundation

/// Linear heads in plain Swift: what every device is checked against, and what serves where there is none.
public struct HostLinearBackend: LinearBackend {
  public init() {}

  public func objective(_ data: LabelledFeatures, classCount: Int) throws -> any LinearObjective {
    try HostLinearObjective(data, classCount: classCount)
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
final class HostLinearObjective: LinearObjective {
  /// Rows whose gradient is summed in float32 before it joins the double-precision sum.
  private static let blockRowCount = 512

  let classCount: Int
  private let data: LabelledFeatures
  private let backend = HostLinearBackend()

  /// - Throws: `TrainingDataError` without rows or for a label that is no class's.
  init(_ data: LabelledFeatures, classCount: Int) throws(TrainingDataError) {
    guard data.rowCount > 0 else { throw TrainingDataError(message: "there are no samples to train on") }
    _ = try data.classCounts(classCount: classCount)
    (self.data, self.classCount) = (data, classCount)
  }

  var rowCount: Int { data.rowCount }
  var dimension: Int { data.features.dimension }

  func evaluate(
    parameters: [Double], heads: [Int], losses: inout [Double], gradients: inout [Double], curvatures: inout [Double]
  ) throws {
    let (width, outputs) = (dimension, heads.count * classCount)
    let (weight, bias) = floats(parameters, of: heads)
    var sums = SoftmaxSums(heads: heads.count, classes: classCount)
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
        accumulate(logits, block, into: &weightGradient)
      }
    }
    write(sums, weightGradient: weightGradient, of: heads, losses: &losses, gradients: &gradients, curvatures: &curvatures)
  }

  private func accumulate(_ residuals: [Float], _ block: FeatureChunk, into gradient: inout [Double]) {
    let outputs = gradient.count / block.dimension
    residuals.withUnsafeBufferPointer { residuals in
      gradient.withUnsafeMutableBufferPointer { gradient in
        guard let r = residuals.baseAddress, let x = block.values.baseAddress, let g = gradient.baseAddress else { return }
        HostGEMM.accumulate(residual: r, x: x, rows: block.rowCount, depth: block.dimension, outputs: outputs, gradient: g)
      }
    }
  }
}

/// Sums of softmax cross-entropy over rows.
struct SoftmaxSums {
  let classes: Int
  /// `[H]`
  var losses: [Double]
  /// `[H, C]`, p − 1 for the label, p elsewhere
  var residuals: [Double]
  /// `[H, C]`, p(1 − p)
  var curvatures: [Double]
  private var exponentials: [Double]

  init(heads: Int, classes: Int) {
    self.classes = classes
    losses = [Double](repeating: 0, count: heads)
    residuals = [Double](repeating: 0, count: heads * classes)
    curvatures = residuals
    exponentials = [Double](repeating: 0, count: classes)
  }

  /// Adds rows of logits `[rows, H, C]` and replaces them by p − [class = label].
  mutating func add(_ logits: inout [Float], labels: ArraySlice<Int>) {
    let heads = losses.count
    for (row, label) in labels.enumerated() {
      for head in 0..<heads {
        let begin = (row * heads + head) * classes
        var largest = -Float.infinity
        for index in begin..<begin + classes { largest = max(largest, logits[index]) }
        var total = 0.0
        for index in 0..<classes {
          exponentials[index] = exp(Double(logits[begin + index] - largest))
          total += exponentials[index]
        }
        losses[head] += log(total) - Double(logits[begin + label] - largest)
        for index in 0..<classes {
          let probability = exponentials[index] / total
          let residual = index == label ? probability - 1 : probability
          logits[begin + index] = Float(residual)
          residuals[head * classes + index] += residual
          curvatures[head * classes + index] += probability * (1 - probability)
        }
      }
    }
  }
}
