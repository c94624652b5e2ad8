import Foundation
import GraftDevice
import GraftGraph
import Testing

/// Rows that are nearly right: their loss and gradient are small numbers, not differences of numbers close to 1.
@Suite struct CrossEntropyTests {
  @Test(arguments: TestDevices.all, [2, 5, 17, 1000])
  func smallLossesKeepTheirDigits(_ device: TestDevice, _ classes: Int) throws {
    let margins: [Float] = [0, 1, 5, 12, 20, 40], rows = margins.count
    var (logits, labels): ([Float], [Int32]) = ([], [])
    for (row, margin) in margins.enumerated() {
      let label = row * 7 % classes
      logits += (0..<classes).map { $0 == label ? margin + 3 : 3 - Float($0 % 3) * 0.25 }
      labels.append(Int32(label))
    }
    for givesGradient in [false, true] {
      var graph = Graph()
      let x = graph.addInput(TensorType([rows, classes]), name: "logits"), y = graph.addInput(TensorType([rows], .int32), name: "labels")
      graph.outputs = [try graph.add(CrossEntropy(givesGradient: givesGradient), [x, y], name: "loss")]
      let plan = try Plan(graph, device: device.device)
      try plan.write(logits, to: plan.graph.inputs[0])
      try labels.withUnsafeBytes { try plan.write($0, to: plan.graph.inputs[1]) }
      try plan.run()
      let found = try plan.read(plan.graph.outputs[0])
      for row in 0..<rows {
        let own = logits[row * classes..<(row + 1) * classes].map(Double.init), label = Int(labels[row])
        let others = own.indices.reduce(0) { $1 == label ? $0 : $0 + exp(own[$1] - own[label]) }
        if givesGradient {
          let expected = -others / (1 + others)
          #expect(abs(Double(found[row * classes + label]) - expected) <= 2e-6 * abs(expected), "margin \(margins[row])")
        } else {
          #expect(abs(Double(found[row]) - log1p(others)) <= 2e-6 * log1p(others), "margin \(margins[row])")
        }
      }
    }
  }
}
