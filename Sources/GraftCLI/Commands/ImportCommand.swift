import ArgumentParser
import Graft

struct ImportCommand: ReportingCommand {
  static let configuration = CommandConfiguration(
    commandName: "import", abstract: "Make a store of features computed elsewhere.",
    discussion: """
      What --labels holds says what heads on the store will tell:

        [N] integers or words        one class a row; integers stay in numeric order
        [N, C] integers or bools     many labels a row: 1 if it has one, 0 if not
        [N] or [N, T] floats         numbers: regression

      Without --split a fifth of the rows become test data, by a hash of their numbers. Labels that have changed are written anew; the \
      features stay.
      """)

  @Option(help: ArgumentHelp("Features [N, D...], a .npy file of float16, float32 or float64.", valueName: "x.npy")) var features: String
  @Option(help: ArgumentHelp("Classes, labels or numbers, a .npy file.", valueName: "y.npy")) var labels: String
  @Option(
    help: ArgumentHelp(
      "What the columns of --labels are called: a text file with one name a line (default: 0, 1, 2, …).", valueName: "names.txt"))
  var labelNames: String?
  @Option(help: ArgumentHelp("The words train, val and test [N].", valueName: "s.npy")) var split: String?
  @Option(name: .customLong("output"), help: ArgumentHelp("The store, a folder.", valueName: "store")) var store: String
  @Flag(help: "Replace a store that is there.") var rebuild = false
  @OptionGroup var output: OutputOptions

  private struct Report: Encodable {
    let store: String
    let task: LabelTask
    let imported, reused, classes: Int
    let seconds: Double
  }

  func execute() throws {
    let console = output.console
    let summary = try Interruption.shared.deferring(console) { flag in
      try FeatureStore.importing(
        features: features, labels: labels, labelNames: labelNames, split: split, output: store, opening: rebuild ? .rebuilding : .resuming,
        cancellation: flag)
    }
    console.result(
      String(
        format: "%d rows imported, %d reused, %d %@ in %.1f s", summary.imported, summary.reused, summary.classes, summary.labelling.task.outputWord,
        summary.seconds))
    if summary.hasWholeTargets {
      console.warn(
        "\(labels) holds floating-point numbers that are all whole: they are numbers to be told. If they are classes, save labels.astype(int)")
    }
    console.note("next: graft train \(store) --output head.safetensors")
    try console.object(
      Report(
        store: store, task: summary.labelling.task, imported: summary.imported, reused: summary.reused, classes: summary.classes,
        seconds: summary.seconds))
  }
}
