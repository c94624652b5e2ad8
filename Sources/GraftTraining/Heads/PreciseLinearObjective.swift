/// The data term of linear heads in double precision throughout, for the last steps of small problems whose features are scaled so
/// differently that logits in float32 hide the minimum.
final class PreciseLinearObjective: HostedLinearObjective {
  /// N·D·C of what is small: an evaluation takes some hundredths of a second at most.
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
    // Asked for once: the features may be views of views.
    let (width, classes) = (dimension, classCount), outputs = heads.count * classes, stride = classes * width + classes
    let labels = data.labels
    var sums = SoftmaxSums(heads: heads.count, classes: classes, targets: targets)
    var weightGradient = [Double](repeating: 0, count: outputs * width)
    var x = [Double](repeating: 0, count: width), logits = [Double](repeating: 0, count: outputs)
    try data.features.forEachChunk { chunk in
      for row in 0..<chunk.rowCount {
        x.withUnsafeMutableBufferPointer { x in
          guard let values = x.baseAddress else { return }
          for column in 0..<width { values[column] = Double(chunk.values[row * width + column]) }
          parameters.withUnsafeBufferPointer { parameters in
            guard let first = parameters.baseAddress else { return }
            for (slot, head) in heads.enumerated() {
              for output in 0..<classes {
                logits[slot * classes + output] =
                  parameters[head * stride + classes * width + output]
                  + VectorMath.dot(first + head * stride + output * width, values, count: width)
              }
            }
          }
        }
        let place = chunk.firstRow + row
        sums.add(&logits, labels: labels[place..<place + 1])
        x.withUnsafeBufferPointer { x in
          weightGradient.withUnsafeMutableBufferPointer { gradient in
            guard let values = x.baseAddress, let target = gradient.baseAddress else { return }
            for output in 0..<outputs { VectorMath.add(logits[output], values, to: target + output * width, count: width) }
          }
        }
      }
    }
    write(sums, weightGradient: weightGradient, of: heads, losses: &losses, gradients: &gradients, curvatures: &curvatures)
  }
}
