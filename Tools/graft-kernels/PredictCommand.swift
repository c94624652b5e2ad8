import ArgumentParser
import Foundation
import GraftDevice
import GraftGraph
import OperationSamples

extension ComputeFormat: ExpressibleByArgument {}

struct PredictCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "predict", abstract: "What known networks cost, and how long that takes on known chips, as a table in Markdown.")

  @Option(help: "Images a run.") var batchSize = 64
  @Option(help: "The format of values, and how exactly they are multiplied.") var precision = ComputeFormat.float32
  @Flag(inversion: .prefixedNo, help: "Whether 3x3 convolutions may be transformed (Winograd).") var winograd = true
  @Flag(inversion: .prefixedNo, help: "Whether matrix units may be used.") var matrixUnit = true
  @Flag(help: "Not the networks but the gradients with respect to their layers' weights.") var weightGradients = false

  func run() throws {
    let chips = Chip.known.map { matrixUnit ? $0 : $0.withoutMatrixUnit }
    print("| network | GFLOP | MB | launches | " + chips.map { "\($0.name)" }.joined(separator: " | ") + " |")
    print("|" + String(repeating: " --- |", count: 4 + chips.count))
    var options = PlanOptions.asWritten(computing: precision)
    options.usesWinograd = winograd
    for network in Network.allCases {
      let graph = weightGradients ? try network.weightGradients(batch: batchSize) : try network.graph(batch: batchSize)
      // What brings the gradients' operands is not theirs.
      let predictions = try chips.map { chip in
        try TimePrediction(graph, on: chip, options: options).launches.filter { !weightGradients || !$0.label.hasSuffix(" \(Network.operand)") }
      }
      let images = Double(batchSize)
      func total(_ launches: [TimePrediction.Launch], _ part: (TimePrediction.Launch) -> Double) -> Double {
        launches.reduce(0) { $0 + part($1) } / images
      }
      let cells = predictions.map { String(format: "%.3f → %.3f ms", 1e3 * total($0, \.limitSeconds), 1e3 * total($0, \.seconds)) }
      let first = predictions[0]
      print(
        "| \(network.rawValue) | " + String(format: "%.2f | %.0f | %d", total(first, \.flops) / 1e9, total(first, \.bytes) / 1e6, first.count)
          + " | " + cells.joined(separator: " | ") + " |")
    }
  }
}
