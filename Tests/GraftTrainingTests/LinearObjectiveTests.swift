import Foundation
import GraftTraining
import Testing

@Suite struct LinearObjectiveTests {
  /// The reference's gradient is right: central differences in double precision.
  @Test(arguments: [2, 5])
  func naiveGradientAgainstCentralDifferences(classes: Int) {
    let (x, y) = syntheticSamples(rows: 15, dimension: 4, classes: classes, seed: 3)
    let naive = NaiveSoftmax(x: rows(x, 4), y: y, classCount: classes, l2: 0.1)
    var random = Random(4)
    let point = (0..<naive.parameterCount).map { _ in random.normal() }
    for (index, slope) in naive.gradient(point).enumerated() {
      var (above, below) = (point, point)
      above[index] += 1e-5
      below[index] -= 1e-5
      #expect(abs((naive.loss(above) - naive.loss(below)) / 2e-5 - slope) < 1e-9)
    }
  }

  /// Odd numbers of rows, features, classes and heads; chunks and blocks that don't divide them.
  @Test(arguments: [(1, 1, 2, 1), (7, 3, 2, 3), (64, 8, 3, 1), (65, 17, 5, 2), (700, 33, 4, 2), (1030, 5, 7, 1), (130, 517, 3, 2)])
  func hostObjectiveAgainstTheFormula(rowCount: Int, dimension: Int, classes: Int, headCount: Int) throws {
    let (x, y) = syntheticSamples(rows: rowCount, dimension: dimension, classes: classes, seed: UInt64(rowCount))
    let objective = try HostLinearObjective(labelled(x, y, chunkRowCount: 600), classCount: classes)
    let naive = NaiveSoftmax(x: rows(x, dimension), y: y, classCount: classes, l2: 0)
    var random = Random(9)
    // Float32 values, so that the rounding of parameters isn't part of the comparison.
    let parameters = (0..<headCount * naive.parameterCount).map { _ in Double(Float(random.normal() * 0.3)) }
    let untouched = -7.0
    var losses = [Double](repeating: untouched, count: headCount)
    var gradients = [Double](repeating: untouched, count: parameters.count)
    var curvatures = [Double](repeating: untouched, count: headCount * classes)
    let heads = (0..<headCount).filter { $0 != 1 }
    try objective.evaluate(parameters: parameters, heads: heads, losses: &losses, gradients: &gradients, curvatures: &curvatures)

    for head in 0..<headCount {
      let range = head * naive.parameterCount..<(head + 1) * naive.parameterCount
      guard heads.contains(head) else {
        #expect(losses[head] == untouched)
        #expect(gradients[range].allSatisfy { $0 == untouched })
        continue
      }
      let own = Array(parameters[range])
      #expect(abs(losses[head] - naive.loss(own)) < 2e-6 * max(1, naive.loss(own)))
      let expected = naive.gradient(own)
      let largest = expected.map(abs).max()!
      for (found, wanted) in zip(gradients[range], expected) { #expect(abs(found - wanted) < 5e-6 * max(largest, 0.1)) }
      for c in 0..<classes {
        let mean = (0..<rowCount).reduce(0.0) {
          let p = naive.probabilities(own, row: $1)[c]
          return $0 + p * (1 - p) / Double(rowCount)
        }
        #expect(abs(curvatures[head * classes + c] - mean) < 1e-6)
      }
    }
  }

  @Test func enormousLogitsStayFinite() throws {
    let objective = try HostLinearObjective(labelled([1e4, -1e4], [0, 1]), classCount: 2)
    var (losses, gradients, curvatures) = ([0.0], [Double](repeating: 0, count: 4), [0.0, 0.0])
    try objective.evaluate(parameters: [-1e4, 1e4, 0, 0], heads: [0], losses: &losses, gradients: &gradients, curvatures: &curvatures)
    #expect(losses[0] == 2e8)
    #expect(gradients.allSatisfy { $0.isFinite })
  }

  @Test func chunksDoNotMatterToTheAnswerBeyondRounding() throws {
    let (x, y) = syntheticSamples(rows: 300, dimension: 9, classes: 3, seed: 1)
    var found: [[Double]] = []
    for chunk in [1, 7, 300] {
      let objective = try HostLinearObjective(labelled(x, y, chunkRowCount: chunk), classCount: 3)
      var (losses, gradients, curvatures) = ([0.0], [Double](repeating: 0, count: 30), [0.0, 0.0, 0.0])
      try objective.evaluate(
        parameters: (0..<30).map { sin(Double($0)) }, heads: [0], losses: &losses, gradients: &gradients, curvatures: &curvatures)
      found.append(losses + gradients)
    }
    for other in found.dropFirst() { #expect(zip(found[0], other).allSatisfy { abs($0 - $1) < 1e-6 }) }
  }

  private func rows(_ x: [Float], _ dimension: Int) -> [[Double]] {
    stride(from: 0, to: x.count, by: dimension).map { x[$0..<$0 + dimension].map(Double.init) }
  }
}
