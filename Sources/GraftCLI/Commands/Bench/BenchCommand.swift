import ArgumentParser

struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench", abstract: "Measure how fast a model runs or trains, a product, a convolution, and what the device can do.",
    discussion: """
      graft bench MODEL measures a model; 'graft help bench model' lists its options. A model file that is called train, gemm, conv or \
      peak is given as ./train and so on.

      A limit is the least time that the measured peak allows: for the arithmetic at the rate of multiply-adds on registers, or for \
      the bytes that have to move (each input read once, the result written once) at the best measured bandwidth over as many bytes.
      """,
    subcommands: [BenchModelCommand.self, BenchTrainCommand.self, BenchGEMMCommand.self, BenchConvCommand.self, BenchPeakCommand.self],
    defaultSubcommand: BenchModelCommand.self)
}
