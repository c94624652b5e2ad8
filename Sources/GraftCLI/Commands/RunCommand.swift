import ArgumentParser
import Foundation
import Graft

struct RunCommand: ReportingCommand {
  static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Run a model on a tensor.",
    discussion: """
      The tensor is a NumPy file in the model's own order of dimensions, as [N, C, H, W]; so is the result. With --compare, \
      what the number format costs: the largest difference relative to the largest value, ‖difference‖ / ‖reference‖, and \
      the least cosine between two rows.
      """)

  @Argument(help: "A model file: .onnx, or the .pth or .safetensors of a known architecture.") var model: String
  @Option(help: ArgumentHelp("The input, a .npy file.", valueName: "x.npy")) var input: String
  @Option(name: .customLong("output"), help: ArgumentHelp("Where the result goes.", valueName: "y.npy")) var outputPath: String
  @Option(help: ArgumentHelp("Which value to write (default: the model's first output).", valueName: "name")) var outputName: String?
  @Option(help: ArgumentHelp("Run in this format too, and say how far the result lies from that one.", valueName: "format")) var compare:
    ComputeFormat?
  @OptionGroup var format: PrecisionOptions
  @OptionGroup var computing: DeviceOptions
  @OptionGroup var planning: PlanFlags
  @OptionGroup var output: OutputOptions

  private struct Report: Encodable {
    let output: String
    let shape: [Int]
    let device, precision: String
    let agreement: Agreement?
  }

  func execute() throws {
    let console = output.console
    Interruption.shared.setRemedy("No \(outputPath) was written; run the same command again.")
    try checkOutputs([outputPath])
    let (backbone, _) = try loadBackbone(model, console)
    let x = try Npy.tensor(of: input)
    var graph = try backbone.graph(inputShape: x.shape, with: outputName)
    if let outputName {
      guard let value = graph.outputs.first(where: { graph[$0].name == outputName }) ?? graph.value(named: outputName) else {
        throw ImportError(file: model, what: "it has no value '\(outputName)'", remedy: "'graft inspect \(model)' lists its layers.")
      }
      graph.outputs = [value]
    } else {
      graph.outputs = Array(graph.outputs.prefix(1))
    }
    let device = try computing.make(console)
    func result(_ precision: ComputeFormat) throws -> HostTensor {
      let plan = try backbone.namingFile { try Plan(graph, device: device, options: planning.planOptions(precision)) }
      try plan.write(x.floats(), to: plan.graph.inputs[0])
      try plan.run()
      let y = plan.graph.outputs[0]
      return HostTensor(plan.graph.type(of: y).shape, try plan.read(y))
    }
    let y = try result(format.precision)
    try Npy.write(y, to: outputPath)
    Interruption.shared.setRemedy(nil)
    console.result("\(outputPath): \(y.shape)")
    var agreement: Agreement?
    if let compare {
      let rowLength = max(1, y.elementCount / max(1, y.shape.first ?? 1))
      let found = Agreement(y.floats(), reference: try result(compare).floats(), rowLength: rowLength)
      agreement = found
      console.result(
        String(
          format: "%@ beside %@: largest relative error %.2e, of the norm %.2e, cosine %@", format.precision.rawValue, compare.rawValue,
          found.relativeError, found.normError, found.cosine.map { String(format: "%.6f", $0) } ?? "undefined"))
    }
    try console.object(
      Report(
        output: outputPath, shape: y.shape, device: device.traits.identifier, precision: format.precision.rawValue, agreement: agreement))
  }
}
