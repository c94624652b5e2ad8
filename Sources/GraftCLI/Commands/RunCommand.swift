import ArgumentParser
import Graft

struct RunCommand: ReportingCommand {
  static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Run a model on a tensor.",
    discussion: "The tensor is a NumPy file in the model's own order of dimensions, as [N, C, H, W]; so is the result.")

  @Argument(help: "A model file: .onnx, or the .pth or .safetensors of a known architecture.") var model: String
  @Option(help: ArgumentHelp("The input, a .npy file.", valueName: "x.npy")) var input: String
  @Option(name: .customLong("output"), help: ArgumentHelp("Where the result goes.", valueName: "y.npy")) var outputPath: String
  @Option(help: ArgumentHelp("Which value to write (default: the model's first output).", valueName: "name")) var outputName: String?
  @OptionGroup var computing: DeviceOptions
  @OptionGroup var output: OutputOptions

  private struct Report: Encodable {
    let output: String
    let shape: [Int]
    let device: String
  }

  func execute() throws {
    let console = output.console
    Interruption.shared.setRemedy("No \(outputPath) was written; run the same command again.")
    let (backbone, _) = try loadBackbone(model, console)
    let x = try Npy.tensor(of: input)
    var graph = try backbone.graph(inputShape: x.shape)
    if let outputName {
      guard let value = graph.outputs.first(where: { graph[$0].name == outputName }) ?? graph.value(named: outputName) else {
        throw ImportError(file: model, what: "it has no value '\(outputName)'", remedy: "'graft inspect \(model)' lists its layers.")
      }
      graph.outputs = [value]
    } else {
      graph.outputs = Array(graph.outputs.prefix(1))
    }
    let device = try computing.make(console)
    let plan = try backbone.namingFile { try Plan(graph, device: device, options: computing.planOptions) }
    try plan.write(x.floats(), to: plan.graph.inputs[0])
    try plan.run()
    let y = plan.graph.outputs[0], shape = plan.graph.type(of: y).shape
    try Npy.write(HostTensor(shape, try plan.read(y)), to: outputPath)
    Interruption.shared.setRemedy(nil)
    console.result("\(outputPath): \(shape)")
    try console.object(Report(output: outputPath, shape: shape, device: device.traits.identifier))
  }
}
