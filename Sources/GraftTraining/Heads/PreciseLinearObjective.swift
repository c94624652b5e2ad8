import Foundation

/// The data term of linear heads in double precision throughout, for the last steps of small problems whose features are scaled so
/// differently that logits in float32 hide the minimum.
final class PreciseLinearObjective: LinearObjective {
  /// N·D·C of what is small: an evaluation takes some hundredths of a second.
  private static let workLimit = 50_000_000

  let classCount: Int
  private let data: LabelledFeatures
  private let targets: SoftmaxTargets

  /// `nil` if that would take long.
  init?(_ data: LabelledFeatures, classCount: Int, targets: SoftmaxTargets) {
    let (cells, overflow) = data.rowCount.multipliedReportingOverflow(by: data.features.dimension)
    guard !overflow, cells <= Self.workLimit / max(1, classCount) else { return nil }
    (self.data, self.classCount, self.targets) = (data, classCount, targets)
  }

  var rowCount: Int { data.rowCount }
  var dimension: Int { data.features.dimension }

  func evaluate(
    parameters: [Double], heads: [Int], losses: inout [Double], gradients: inout [Double], curvatures: inout [Double]
  ) throws {
    for head in heads {
      losses[head] = 0
      for index in head * parameterCount..<(head + 1) * parameterCount { gradients[index] = 0 }
      for index in head * classCount..<(head + 1) * classCount { curvatures[index] = 0 }
    }
    var x = [Double](repeating: 0, count: dimension), logits = [Double](repeating: 0, count: classCount)
    try data.features.forEachChunk { chunk in
      for row in 0..<chunk.rowCount {
        for column in x.indices { x[column] = Double(chunk.values[row * dimension + column]) }
        for head in heads {
          add(x, label: data.labels[chunk.firstRow + row], parameters, head, &logits, &losses, &gradients, &curvatures)
        }
      }
    }
  }

  /// One sample's part of the means.
  private func add(
    _ x: [Double], label: Int, _ parameters: [Double], _ head: Int, _ logits: inout [Double], _ losses: inout [Double],
    _ gradients: inout [Double], _ curvatures: inout [Double]
  ) {
    let (begin, width, shared) = (head * parameterCount, dimension, targets.smoothing / Double(classCount))
    let weight = targets.weight(of: label) / Double(rowCount)
    for output in 0..<classCount {
      var sum = parameters[begin + classCount * width + output]
      for column in 0..<width { sum += parameters[begin + output * width + column] * x[column] }
      logits[output] = sum
    }
    let largest = logits.reduce(-.infinity, max), total = logits.reduce(0) { $0 + exp($1 - largest) }
    for output in 0..<classCount {
      let share = exp(logits[output] - largest) / total, target = shared + (output == label ? 1 - targets.smoothing : 0)
      losses[head] += weight * target * (log(total) + (largest - logits[output]))
      let residual = weight * (share - target)
      for column in 0..<width { gradients[begin + output * width + column] += residual * x[column] }
      gradients[begin + classCount * width + output] += residual
      curvatures[head * classCount + output] += weight * share * (1 - share)
    }
  }
}
