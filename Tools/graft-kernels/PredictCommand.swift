import ArgumentParser
import Foundation
import GraftDevice
import GraftGraph
import OperationSamples

struct PredictCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "predict", abstract: "What known networks cost, and how long that takes on known chips, as a table in Markdown.")

  @Option(help: "Images a run.") var batchSize = 64
  @Flag(inversion: .prefixedNo, help: "Whether 3x3 convolutions may be transformed (Winograd).") var winograd = true

  func run() throws {
    let chips = Chip.known
    print("| network | GFLOP | MB | launches | " + chips.map { "\($0.name)" }.joined(separator: " | ") + " |")
    print("|" + String(repeating: " --- |", count: 4 + chips.count))
    var options = PlanOptions.asWritten
    options.usesWinograd = winograd
    for network in Network.allCases {
      let graph = try network.graph(batch: batchSize)
      let predictions = try chips.map { try TimePrediction(graph, on: $0, options: options) }
      let images = Double(batchSize)
      let cells = predictions.map { String(format: "%.3f → %.3f ms", 1e3 * $0.limitSeconds / images, 1e3 * $0.seconds / images) }
      let first = predictions[0]
      print(
        "| \(network.rawValue) | " + String(format: "%.2f | %.0f | %d", first.flops / images / 1e9, first.bytes / images / 1e6, first.launches.count)
          + " | " + cells.joined(separator: " | ") + " |")
    }
  }
}
