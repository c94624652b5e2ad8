import ArgumentParser
import Graft

/// Where a training run's epochs are written, for a person to look at while it runs.
struct WatchingFlags: ParsableArguments {
  @Option(help: ArgumentHelp("Write what happened in each epoch to this file.", valueName: "log.csv")) var csv: String?
  @Option(help: ArgumentHelp("Draw loss and accuracy by epoch.", valueName: "plot.svg")) var plot: String?
  @Option(help: ArgumentHelp("Write event files for TensorBoard to this folder.", valueName: "folder")) var tensorboard: String?

  var isAsked: Bool { csv != nil || plot != nil || tensorboard != nil }

  /// What takes all epochs so far, after each.
  ///
  /// - Throws: `FileError` if the folder for event files can't be made, or one of the files.
  func recorder() throws -> ([EpochRecord]) throws -> Void {
    for path in [csv, plot].compactMap(\.self) { try AtomicFile.check(creating: path) }
    let log = try tensorboard.map { try TensorBoardLog(folder: $0) }
    return { history in
      guard let last = history.last else { return }
      try log?.add(last)
      if let csv { try history.writeCSV(to: csv) }
      if let plot { try Plot.training(history).write(to: plot) }
    }
  }
}
