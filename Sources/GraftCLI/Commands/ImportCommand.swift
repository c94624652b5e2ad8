import ArgumentParser
import Graft

struct ImportCommand: ReportingCommand {
  static let configuration = CommandConfiguration(
    commandName: "import", abstract: "Make a store of features computed elsewhere.",
    discussion: "Integer labels stay in numeric order. Without --split a fifth of the rows become test data, by a hash of their numbers.")

  @Option(help: ArgumentHelp("Features [N, D...], a .npy file of float16, float32 or float64.", valueName: "x.npy")) var features: String
  @Option(help: ArgumentHelp("Labels [N], integers or words.", valueName: "y.npy")) var labels: String
  @Option(help: ArgumentHelp("The words train, val and test [N].", valueName: "s.npy")) var split: String?
  @Option(name: .customLong("output"), help: ArgumentHelp("The store, a folder.", valueName: "store")) var store: String
  @Flag(help: "Replace a store that is there.") var rebuild = false
  @OptionGroup var output: OutputOptions

  private struct Report: Encodable {
    let store: String
    let imported, reused, classes: Int
    let seconds: Double
  }

  func execute() throws {
    let summary = try Interruption.shared.deferring { flag in
      try FeatureStore.importing(
        features: features, labels: labels, split: split, output: store, opening: rebuild ? .rebuilding : .resuming, cancellation: flag)
    }
    let console = output.console
    console.result(
      String(format: "%d rows imported, %d reused, %d classes in %.1f s", summary.imported, summary.reused, summary.classes, summary.seconds))
    console.note("next: graft train \(store) --output head.safetensors")
    try console.object(
      Report(store: store, imported: summary.imported, reused: summary.reused, classes: summary.classes, seconds: summary.seconds))
  }
}
