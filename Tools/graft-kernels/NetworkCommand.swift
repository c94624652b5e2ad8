import ArgumentParser
import Foundation
import GraftBackbones
import GraftDevice
import GraftGraph

struct NetworkCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "network", abstract: "Interpret a whole network's programs for an NVIDIA GPU, and compare with float32 on the processor.",
    discussion: """
      Every launch that Graft makes for the chip, with the tiles and cuts it chooses itself. An image of 224 × 224 of a ResNet-50 takes \
      minutes; a smaller --input-size goes through the same kernels.
      """)

  @Argument(help: "A model file, as 'graft inspect' takes it.") var model: String
  @OptionGroup var interpreting: InterpretingOptions
  @Option(help: "Images.") var batchSize = 2
  @Option(help: "Height and width of the images (default: the model's).") var inputSize: Int?
  @Option(help: "Only these formats of values, separated by commas.") var precision: String?
  @Option(help: "The largest error of features, as a share of their length, in float16, and eight times as much in bfloat16.") var bound = 5e-3

  func run() throws {
    let backbone = try Backbone(path: model), shape = try backbone.imageShape(batchSize: batchSize, height: inputSize, width: inputSize)
    let whole = try backbone.graph(imageShape: shape)
    guard let cut = whole.defaultCut() else { throw ValidationError("\(model) has no output.") }
    let graph = try whole.frozen(at: cut)
    var generator = SplitMix(interpreting.seed)
    let images = (0..<shape.reduce(1, *)).map { _ in 2 * generator.float() }
    let reference = try features(graph, images, on: CPUDevice(), .float32).values
    let device = try interpreting.device()
    print("device: \(device.traits.name)'s PTX")
    let formats = precision.map { Set($0.split(separator: ",").map(String.init)) }
    var failures = 0
    for format in ComputeFormat.allCases where formats?.contains(format.rawValue) ?? (format != .float32) {
      guard format == .float32 || device.traits.matrixUnit?.formats.contains(format) == true else { continue }
      print("case: \(FilePath.name(of: model)) in \(format.rawValue)")
      let (values, kernels) = try features(graph, images, on: device, format)
      let agreement = Agreement(values, reference: reference, rowLength: reference.count / batchSize)
      let allowed = format == .bfloat16 ? 8 * bound : bound, agrees = agreement.normError <= allowed
      failures += agrees ? 0 : 1
      let onUnit = kernels.count { $0.hasPrefix("matrix_") }, error = String(format: "%.1e", agreement.normError)
      print("\(agrees ? "agrees" : "wrong"): \(kernels.count) kernels, \(onUnit) for the matrix unit, error \(error), bound \(allowed)")
      fflush(nil)
    }
    interpreting.printTurns(of: device)
    if failures > 0 { throw ExitCode(1) }
  }

  private func features(
    _ graph: Graph, _ images: [Float], on device: any Device, _ format: ComputeFormat
  ) throws -> (values: [Float], kernels: Set<String>) {
    let plan = try Plan(graph, device: device, options: PlanOptions(format: format))
    try plan.write(images, to: plan.graph.inputs[0])
    try plan.run()
    return (try plan.read(plan.graph.outputs[0]), plan.kernels)
  }
}

/// The chip whose programs are interpreted, and who compiles them.
struct InterpretingOptions: ParsableArguments {
  @Option(help: "Interpret PTX, for the matrix unit of this kind: turing, nvidia or hopper.") var interpret: String?
  @Option(help: "With --interpret: clang's command, its words separated by spaces, without options, source and result.") var compiler = ""
  @Option(help: "With --interpret: another order of the warps.") var seed: UInt64 = 1

  func device() throws -> InterpretedGPU {
    let names = ["turing", "nvidia", "hopper"]
    let chip = CheckedDevice.all.first { $0.traits.matrixUnit.map { "\($0.kind)" == interpret } ?? false }
    guard let chip, let interpret, names.contains(interpret) else {
      throw ValidationError("There is no --interpret \(interpret ?? ""): there are turing, nvidia and hopper.")
    }
    let command = compiler.split(separator: " ").map(String.init)
    guard !command.isEmpty else { throw ValidationError("--interpret needs --compiler: Tools/kernels check knows it.") }
    return InterpretedGPU(chip.traits, compiler: PTXCompiler(command: command), seed: seed)
  }

  func printTurns(of device: InterpretedGPU) {
    for (kernel, turns) in device.turns.sorted(by: { $0.key < $1.key }) where turns.needed > 0 {
      print("local memory of \(kernel): \(turns.asked) turns, \(turns.needed) if no two rows met in a bank")
    }
  }
}
