import ArgumentParser

/// Which classes of a data set count.
struct ClassOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Only these classes, separated by commas; the images of others count as not there.", valueName: "names"))
  var classes: String?

  /// `nil`: all.
  var names: [String]? { classes.map { $0.split(separator: ",", omittingEmptySubsequences: true).map(String.init) } }
}
