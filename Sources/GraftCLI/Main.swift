import ArgumentParser
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
}
