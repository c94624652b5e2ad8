import ArgumentParser
import Foundation
import Graft

struct InspectCommand: ReportingCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect", abstract: "Show a model's layers, its shapes, its size and where it can be cut.",
    discussion: """
      A cut is where the frozen part ends: what is before it is computed once and stored. The default cut is the classifier's input.

      With --predict, the launches on that GPU instead of layers and cuts, with the time a model expects of each: arithmetic, memory \
      traffic, how the work fills the chip, and launches. Nothing is measured and no such GPU has to be there; 'graft bench' measures.
      """)

  @Argument(help: "A model file: .onnx, or the .pth or .safetensors of a known architecture.") var model: String
  @OptionGroup var images: ImageSizeOptions
  @OptionGroup var predicting: PredictionOptions
  @OptionGroup var output: OutputOptions

  private struct Layer: Encodable {
    let name, operation: String
    let shape: [Int]
    let parameters: Int
    let megaflops: Double
  }

  private struct CutRow: Encodable {
    let name: String
    let shape: [Int]
    let bytesPerSample: Int
    let isDefault: Bool
    enum CodingKeys: String, CodingKey {
      case name, shape
      case bytesPerSample = "bytes_per_sample"
      case isDefault = "default"
    }
  }

  private struct Report: Encodable {
    let model, kind, sha256: String
    let inputShape: [Int]
    let parameters: Int
    let gigaflops: Double
    let layers: [Layer]
    let cuts: [CutRow]
    let prediction: PredictionReport?
    enum CodingKeys: String, CodingKey {
      case model, kind, sha256, parameters, gigaflops, layers, cuts, prediction
      case inputShape = "input_shape"
    }
  }

  func execute() throws {
    let console = output.console
    let (backbone, configuration) = try loadBackbone(model, console)
    let shape = try images.shape(of: backbone, configuration, batchSize: 1)
    // As 'graft run' takes it.
    let inputShape = backbone.takesChannelsLast ? [shape[0], shape[2], shape[3], shape[1]] : shape
    let prediction = try predicting.prediction(backbone, shape: shape)
    let predicted = prediction.map { PredictionReport($0, batchSize: predicting.batchSize, precision: predicting.format.precision) }
    let graph = try backbone.graph(imageShape: shape)
    let whole = try backbone.namingFile { try graph.removingDeadNodes().foldingConstants().sinkingTransposes().removingDeadNodes() }
    var layers: [Layer] = []
    for node in whole.nodes where !(node.operation is Transpose || node.operation is Reshape) {
      let inputs = node.inputs.map { whole.type(of: $0) }
      let parameters = node.inputs.reduce(0) { $0 + (whole.constant($1)?.elementCount ?? 0) }
      layers.append(
        Layer(
          name: node.name, operation: words(node.operation), shape: whole.type(of: node.output).shape, parameters: parameters,
          megaflops: node.operation.flops(inputs, whole.type(of: node.output)) / 1e6))
    }
    var counted: Set<ValueID> = []
    let parameters = whole.nodes.flatMap(\.inputs).filter { counted.insert($0).inserted }.reduce(0) { $0 + (whole.constant($1)?.elementCount ?? 0) }
    let chosen = graph.defaultCut().map { graph[$0].name }
    let cuts = graph.cuts().map { CutRow(name: $0.name, shape: $0.shape, bytesPerSample: $0.byteCount, isDefault: $0.name == chosen) }
    let gigaflops = layers.reduce(0) { $0 + $1.megaflops } / 1e3

    console.result("\(model): \(backbone.summary), input \(inputShape)\n")
    if let prediction, let predicted {
      predicted.show(console, on: prediction.chip)
    } else {
      console.result(
        tableText(
          [["layer", "operation", "shape [N, H, W, C]", "parameters", "MFLOP"]]
            + layers.map {
              [$0.name, $0.operation, "\($0.shape)", $0.parameters == 0 ? "" : "\($0.parameters)", String(format: "%.2f", $0.megaflops)]
            },
          rightAligned: [3, 4]))
      console.result(
        String(
          format: "\n%.2f million parameters, %.2f GFLOP an image\n\ncuts (--cut NAME), in the model's own order of dimensions:",
          Double(parameters) / 1e6, gigaflops))
      console.result(
        tableText(
          [["cut", "shape", "a sample"]] + cuts.map { [$0.name, "\($0.shape)", byteText($0.bytesPerSample) + ($0.isDefault ? "  (default)" : "")] }))
    }
    try console.object(
      Report(
        model: model, kind: backbone.summary, sha256: try backbone.hash(), inputShape: inputShape, parameters: parameters, gigaflops: gigaflops,
        layers: layers, cuts: cuts, prediction: predicted))
  }

  /// An operation with what tells it from others of its kind.
  private func words(_ operation: any GraftGraph.Operation) -> String {
    switch operation {
    case let unary as Unary where !unary.hasScale && !unary.hasShift: "\(unary.activation)"
    case let binary as Binary: "\(binary.function)"
    case let pool as Pool2D: "\(pool.function) pool \(pool.size.h)×\(pool.size.w)"
    case let reduce as Reduce: "\(reduce.function) over \(reduce.axes)"
    case let conv as Conv2D where conv.groups > 1: "\(operation.kind), \(conv.groups) groups"
    default: operation.kind
    }
  }
}
