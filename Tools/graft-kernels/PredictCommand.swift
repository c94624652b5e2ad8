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
  @Option(name: .customLong("launches"), help: "Every launch on one chip instead: \(Chip.known.map(\.identifier).joined(separator: ", ")).")
  var launchesOn: String?
  @Flag(help: "Not the networks but the gradients with respect to their layers' weights.") var weightGradients = false

  func run() throws {
    let chips = try launchesOn.map { [try Chip.named($0)] } ?? Chip.known
    if launchesOn != nil { return try printLaunches(on: used(chips[0])) }
    print("| network | GFLOP | MB | launches | " + chips.map { "\($0.name)" }.joined(separator: " | ") + " |")
    print("|" + String(repeating: " --- |", count: 4 + chips.count))
    for network in Network.allCases {
      let predictions = try chips.map { try launches(of: network, on: used($0)) }
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

  private func used(_ chip: Chip) -> Chip { matrixUnit ? chip : chip.withoutMatrixUnit }

  private func launches(of network: Network, on chip: Chip) throws -> [TimePrediction.Launch] {
    var options = PlanOptions.asWritten(computing: precision)
    options.usesWinograd = winograd
    let graph = weightGradients ? try network.weightGradients(batch: batchSize) : try network.graph(batch: batchSize)
    // What brings the gradients' operands is not theirs.
    return try TimePrediction(graph, on: chip, options: options).launches.filter { !weightGradients || !$0.label.hasSuffix(" \(Network.operand)") }
  }

  private func printLaunches(on chip: Chip) throws {
    print("| network | launch | kernel | GFLOP | MB | limit | predicted | set by |\n|" + String(repeating: " --- |", count: 8))
    for network in Network.allCases {
      for launch in try launches(of: network, on: chip) {
        print(
          "| \(network.rawValue) | \(launch.label) | \(launch.kernel) | "
            + String(
              format: "%.3f | %.1f | %.1f µs | %.1f µs | ", launch.flops / 1e9, launch.bytes / 1e6, 1e6 * launch.limitSeconds, 1e6 * launch.seconds)
            + "\(launch.limit.rawValue) |")
      }
    }
  }
}
