import Foundation

/// The data term of linear heads for labels or numbers: the mean over the samples of the sum over the outputs of a loss. Outputs know
/// nothing of each other.
///
/// Products are float32, those of logits on the backend; losses and sums are double precision.
final class TargetObjective: HostedLinearObjective {
  /// Rows whose gradient is summed in float32 before it joins the double-precision sum.
  private static let blockRowCount = 512
  /// N·D·T of what takes a tenth of a second or so.
  private static let smallWork = 500_000_000

  let classCount: Int
  private let features: any FeatureSource
  /// `[N, T]`
  private let targets: [Float]
  private let loss: Loss
  /// Outputs that stay as they begin: labels that all samples have, or none, whose biases would grow without end.
  private let isFixed: [Bool]
  private let backend: any LinearBackend

  /// Our own invariant: there are rows, and targets for each.
  init(_ features: any FeatureSource, targets: [Float], loss: Loss, isFixed: [Bool], backend: any LinearBackend) {
    precondition(features.rowCount > 0 && targets.count == features.rowCount * isFixed.count)
    (self.features, self.targets, self.loss, self.isFixed, self.backend) = (features, targets, loss, isFixed, backend)
    classCount = isFixed.count
  }

  /// Whether it is evaluated in no time.
  var isSmall: Bool {
    let (cells, overflow) = rowCount.multipliedReportingOverflow(by: dimension)
    return !overflow && cells <= Self.smallWork / max(1, classCount)
  }

  var rowCount: Int { features.rowCount }
  var dimension: Int { features.dimension }

  func evaluate(
    parameters: [Double], heads: [Int], losses: inout [Double], gradients: inout [Double], curvatures: inout [Double]
  ) throws {
    let (width, wanted) = (dimension, classCount), outputs = heads.count * wanted
    let (weight, bias) = floats(parameters, of: heads)
    var sums = [Double](repeating: 0, count: heads.count)
    var residuals = [Double](repeating: 0, count: outputs), bends = residuals
    var weightGradient = [Double](repeating: 0, count: outputs * width)
    var logits: [Float] = []
    try features.forEachChunk { chunk in
      for first in stride(from: 0, to: chunk.rowCount, by: Self.blockRowCount) {
        let count = min(Self.blockRowCount, chunk.rowCount - first)
        let block = FeatureChunk(
          firstRow: chunk.firstRow + first, rowCount: count, dimension: width,
          values: UnsafeBufferPointer(rebasing: chunk.values[first * width..<(first + count) * width]))
        try backend.logits(block, weight: weight, bias: bias, into: &logits)
        for row in 0..<count {
          for index in 0..<outputs {
            let output = index % wanted, target = Double(targets[(block.firstRow + row) * wanted + output])
            let term = loss.term(Double(logits[row * outputs + index]), target)
            sums[index / wanted] += term.value
            let slope = isFixed[output] ? 0 : term.slope
            logits[row * outputs + index] = Float(slope)
            residuals[index] += slope
            bends[index] += term.curvature
          }
        }
        HostGEMM.accumulate(residuals: logits, block, into: &weightGradient)
      }
    }
    let scale = 1 / Double(rowCount), weightCount = wanted * width
    for (slot, head) in heads.enumerated() {
      losses[head] = sums[slot] * scale
      let begin = head * parameterCount
      for index in 0..<weightCount { gradients[begin + index] = weightGradient[slot * weightCount + index] * scale }
      for output in 0..<wanted {
        gradients[begin + weightCount + output] = residuals[slot * wanted + output] * scale
        curvatures[head * wanted + output] = bends[slot * wanted + output] * scale
      }
    }
  }
}

extension Loss {
  /// One output's loss, its slope, and its second derivative. Cross-entropy, whose outputs know of each other, is none of these losses.
  func term(_ output: Double, _ target: Double) -> (value: Double, slope: Double, curvature: Double) {
    switch self {
    case .crossEntropy, .binaryCrossEntropy:
      let probability = Sigmoid.of(output)
      return (max(output, 0) + log1p(exp(-abs(output))) - target * output, probability - target, probability * (1 - probability))
    case .squared:
      let error = output - target
      return (error * error / 2, error, 1)
    case .huber(let delta):
      let error = output - target, bound = Double(delta)
      guard abs(error) > bound else { return (error * error / 2, error, 1) }
      return (bound * (abs(error) - bound / 2), error < 0 ? -bound : bound, 0)
    }
  }
}
