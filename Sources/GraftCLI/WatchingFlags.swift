import ArgumentParser
import Graft

/// Where a training run's epochs are written, for a person to look at while it runs.
struct WatchingFlags: ParsableArguments {
  @Option(help: ArgumentHelp("Write what happened in each epoch to this file.", valueName: "log.csv")) var csv: String?
  @Option(help: ArgumentHelp("Draw loss and accuracy by epoch.", valueName: "plot.svg")) var plot: String?
  @Option(help: ArgumentHelp("Write event files for TensorBoard to this folder.", valueName: "folder")) var tensorboard: String?

  var isAsked: Bool { csv != nil || plot != nil || tensorboard != nil }

  /// Makes sure, before anything is computed, that all can be written, beside the command's other results.
  ///
  /// - Throws: what `checkOutputs` throws; `FileError` if the folder for event files can't be made.
  func check(beside output: String?, _ others: String?...) throws {
    try checkOutputs([output] + others + [csv, plot])
    if let tensorboard { try FolderListing.make(tensorboard) }
  }

  /// What takes all epochs so far, after each.
  ///
  /// - Throws: `FileError` if the folder for event files can't be made.
  func recorder() throws -> ([EpochRecord]) throws -> Void {
    let log = try tensorboard.map { try TensorBoardLog(folder: $0) }
    return { history in
      guard let last = history.last else { return }
      try log?.add(last)
      if let csv { try history.writeCSV(to: csv) }
      if let plot { try Plot.training(history).write(to: plot) }
    }
  }
}
