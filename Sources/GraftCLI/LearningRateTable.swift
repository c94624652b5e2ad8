import Foundation
import Graft

/// `--find-lr`: looks for a learning rate and says what it found, instead of training.
func findLearningRate(_ trainer: Trainer, plot: String?, started: ContinuousClock.Instant, console: Console) throws {
  struct Report: Encodable {
    let device: String
    let suggestion, lowestLossRate: Double?
    let end: LearningRateFinding.End
    let points: [LearningRateFinding.Point]
    let plot: String?
    let seconds: Double

    enum CodingKeys: String, CodingKey {
      case device, suggestion, end, points, plot, seconds
      case lowestLossRate = "lowest_loss_rate"
    }

    func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(device, forKey: .device)
      // Without a suggestion the field is there and null.
      try container.encode(suggestion, forKey: .suggestion)
      try container.encode(lowestLossRate, forKey: .lowestLossRate)
      try container.encode(end, forKey: .end)
      try container.encode(points, forKey: .points)
      try container.encodeIfPresent(plot, forKey: .plot)
      try container.encode(seconds, forKey: .seconds)
    }
  }

  Interruption.shared.setRemedy("Nothing was kept; run the same command again.")
  let line = ProgressLine(console)
  defer { line.finish() }
  let finding = try Interruption.shared.deferring(console) { flag in
    try trainer.findLearningRate(
      cancellation: flag,
      onStep: { line.show(String(format: "learning rate %.1e: loss %.4f", $0.learningRate, $0.smoothedLoss)) })
  }
  line.finish()
  Interruption.shared.setRemedy(nil)

  // Every fourth step, three a decade, and the last.
  let shown = finding.points.indices.filter { $0 % 4 == 0 || $0 + 1 == finding.points.count }.map { finding.points[$0] }
  let rows = shown.map { [String(format: "%.1e", $0.learningRate), String(format: "%.4g", $0.loss), String(format: "%.4g", $0.smoothedLoss)] }
  console.result(tableText([["learning rate", "loss", "smoothed"]] + rows, rightAligned: [0, 1, 2]))
  switch finding.end {
  case .highestRate: console.note("the loss had not risen when the highest rate was reached")
  case .lossRose: console.note("stopped where the smoothed loss was four times its lowest")
  case .notFinite: console.note("stopped where the loss or its gradient was no longer a number")
  }
  if let rate = finding.suggestion, let lowest = finding.lowestLossRate {
    console.result(String(format: "suggested: --learning-rate %.1e, a tenth of the rate at the lowest smoothed loss (%.1e)", rate, lowest))
  } else {
    console.result("no suggestion: the loss fell at no rate. What is trained may be at its optimum already; try more data or a larger part.")
  }
  try console.object(
    Report(
      device: trainer.program.device.traits.identifier, suggestion: finding.suggestion, lowestLossRate: finding.lowestLossRate, end: finding.end,
      points: finding.points, plot: plot, seconds: (ContinuousClock.now - started) / .seconds(1)))
  // At last: what was found is told also where this fails.
  if let plot { try Plot.learningRate(finding).write(to: plot) }
}
