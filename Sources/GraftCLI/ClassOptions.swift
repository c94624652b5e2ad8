import ArgumentParser
import Graft

/// Which classes of a data set count.
struct ClassOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Only these classes, separated by commas; a name with a comma in double quotes. The images of others count as not there.",
      valueName: "names"))
  var classes: String?

  func validate() throws {
    guard let classes, CommaSeparated.fields(of: classes) == nil else { return }
    throw ValidationError(
      "--classes takes names separated by commas, not '\(classes)'. Write a name with commas or quotes in double quotes, and quotes in it twice: "
        + "--classes 'cat,\"dog, small\"'.")
  }

  /// `nil`: all.
  var names: [String]? { classes.map { (CommaSeparated.fields(of: $0) ?? []).filter { !$0.isEmpty } } }
}
