import ArgumentParser
import Foundation
import Graft

@main
struct GraftCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "graft",
    abstract: "Transfer learning on the GPU you have: photos in, trained head out.",
    discussion: """
      A pretrained backbone is frozen, the features it computes for your photos are kept on disk, and heads are trained on \
      them in seconds:

        graft extract  --backbone model.onnx --data photos --output features
        graft train    features --output head.safetensors
        graft evaluate head.safetensors features
        graft predict  head.safetensors picture.jpg

      An interrupted extraction goes on where it stopped; new photos cost only themselves.

      Completions for a shell: graft --generate-completion-script bash|zsh|fish.

      Exit status: 0 done, 64 usage, 65 bad data, 70 our fault, 74 input or output, 130 or 143 stopped.
      """,
    version: GraftVersion.text,
    subcommands: [
      ExtractCommand.self, TrainCommand.self, FinetuneCommand.self, PretrainCommand.self, EvaluateCommand.self, CurveCommand.self,
      PredictCommand.self, ImportCommand.self, InspectCommand.self, RunCommand.self, BenchCommand.self, TuneCommand.self, DevicesCommand.self,
    ])

  /// Swift's arguments are text: bytes that are not UTF-8 would be changed, and a file of another name be read or written.
  static func main() {
    for index in 1..<max(1, Int(CommandLine.argc)) {
      guard let argument = CommandLine.unsafeArgv[index], String(validatingCString: argument) == nil else { continue }
      let bytes = UnsafeRawBufferPointer(start: argument, count: strlen(argument))
      exit(
        withError: ValidationError(
          "The argument '\(ImageFolder.escaped(bytes))' is not UTF-8. Use names that are; a file of another name can be renamed or linked to."))
    }
    main(nil)
  }
}
