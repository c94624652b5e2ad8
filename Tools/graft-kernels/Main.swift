import ArgumentParser

/// The part of Tools/kernels that knows Graft: which programs it makes, and whether they compute what they should.
@main
struct KernelsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "graft-kernels", abstract: "What Tools/kernels asks of Graft.",
    subcommands: [ListCommand.self, RunCommand.self, PredictCommand.self, UncoverCommand.self, NetworkCommand.self])
}
