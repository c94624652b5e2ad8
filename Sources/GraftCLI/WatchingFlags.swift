import ArgumentParser
import Graft

/// Where a training run's epochs are written, for a person to look at.
struct WatchingFlags: ParsableArguments {
  @Option(help: ArgumentHelp("Write what happened in each epoch to this file.", valueName: "log.csv")) var csv: String?

  var isAsked: Bool { csv != nil }

  func write(_ history: [EpochRecord]) throws {
    guard !history.isEmpty else { return }
    if let csv { try history.writeCSV(to: csv) }
  }
}
