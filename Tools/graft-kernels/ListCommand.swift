import ArgumentParser
import Foundation
import GraftDevice
import GraftGraph
import OperationSamples

struct ListCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "Every program that the GPU family makes, as JSON.",
    discussion: """
      Lowers the samples of all operations, every tile of products and convolutions, and four networks, for GPUs of each vendor \
      that need not be there and in every format; what is compiled then is what is listed.
      """)

  private struct Kernel: Encodable {
    let function: String
    var workGroup: Int
    /// A network's layer or a sample that launches it.
    let example: String
    enum CodingKeys: String, CodingKey { case function, workGroup = "work_group", example }
  }

  private struct Program: Encodable {
    let path, options, precision: String
    let hidesInstructions: Bool
    var kernels: [String: Kernel] = [:]
    var targets: Set<String> = []
    /// Whether a network uses it, or only a sample.
    var networks: Set<String> = []

    enum CodingKeys: String, CodingKey {
      case path, options, precision, kernels, targets, networks
      case hidesInstructions = "hides_instructions"
    }
    func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(path, forKey: .path)
      try container.encode(options, forKey: .options)
      try container.encode(precision, forKey: .precision)
      try container.encode(hidesInstructions, forKey: .hidesInstructions)
      try container.encode(kernels.values.sorted { $0.function < $1.function }, forKey: .kernels)
      try container.encode(targets.sorted(), forKey: .targets)
      try container.encode(networks.sorted(), forKey: .networks)
    }
  }

  private struct Listing: Encodable {
    let programs: [Program]
    /// The text of each file, with what it includes.
    let sources: [String: String]
    /// What is not listed, and why.
    let notes: [String]
  }

  func run() throws {
    var programs: [ProgramKey: Program] = [:]
    var notes: [String] = []
    for format in ComputeFormat.allCases {
      for device in CheckedDevice.all {
        // Elsewhere tf32 is float32.
        if format == .tf32, device.traits.matrixUnit?.formats.contains(format) != true { continue }
        if let refusal = refusal(of: format, by: device.traits) {
          notes.append("\(format.rawValue) on \(device.traits.name): \(refusal)")
          continue
        }
        for item in try Self.graphs(format) {
          // On a matrix unit, its own tiles for the same operands.
          let unit = device.traits.matrixUnit.flatMap { $0.formats.contains(format) ? $0 : nil }
          let tiles = item.kernels == [nil] ? [] : unit.map { MatrixTile.candidates($0.kind, format) } ?? []
          for kernel in item.kernels + tiles.flatMap({ [.matrix($0, splits: 1), .matrix($0, splits: 3)] }) {
            let outline = try ProductKernel.$forced.withValue(kernel) { try PlanOutline(item.graph, traits: device.traits, options: item.options) }
            for launch in outline.preparation + outline.launches {
              // A tile that is never chosen for convolutions and their gradients there.
              let gathers = ["matrix_conv", "matrix_weights"].contains(launch.kernel.function)
              if case .matrix(let tile, _)? = kernel, gathers, let unit, !tile.hasRoomForWindows(on: unit.kind) {
                continue
              }
              Self.add(launch.kernel, workGroup: launch.grid.workGroupSize.x, device, launch.label, item.network, &programs)
            }
          }
        }
        Self.addPeak(device, &programs)
        Self.addVectors(device, &programs)
      }
    }
    var sources: [String: String] = [:]
    for path in Set(programs.keys.map(\.path)) { sources[path] = try KernelSources.embedded.assemble(path) }
    let sorted = programs.values.sorted { ($0.path, $0.precision, $0.options) < ($1.path, $1.precision, $1.options) }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    print(String(decoding: try encoder.encode(Listing(programs: sorted, sources: sources, notes: notes)), as: UTF8.self))
  }

  /// A graph to lower, with each of the kernels forced (`nil`: what Graft chooses).
  private struct Item {
    let graph: Graph
    let options: PlanOptions
    var kernels: [ProductKernel?] = [nil]
    var network: Network?
  }

  private static func graphs(_ format: ComputeFormat) throws -> [Item] {
    var items: [Item] = []
    for sample in OperationSamples.all {
      let isNorm = sample.operation is BatchNorm, tensors = sample.draw(seed: 7)
      for constants in isNorm ? [true] : sample.inputs.count > 1 ? [false, true] : [false] {
        items.append(
          Item(
            graph: try sample.graph(tensors, constants: constants),
            options: isNorm ? PlanOptions(format: format) : .asWritten(computing: format)))
      }
    }
    for (sample, kernels) in ProductSamples.all {
      items.append(Item(graph: try sample.graph(sample.draw(seed: 7), constants: true), options: .asWritten(computing: format), kernels: kernels))
    }
    // Whole chunks, and what a first layer copies: every tile of the matrix units, no other kernel.
    for sample in [ProductSamples.weightGradients[0], ProductSamples.weightGradients[3]] {
      items.append(Item(graph: try sample.graph(sample.draw(seed: 7), constants: false), options: .asWritten(computing: format), kernels: []))
    }
    if format.storage.byteCount == 2 {
      for sample in OperationSamples.attentionsOnMatrixUnit + OperationSamples.attentionGradientsOnMatrixUnit {
        items.append(Item(graph: try sample.graph(sample.draw(seed: 7), constants: false), options: .asWritten(computing: format)))
      }
    }
    for network in Network.allCases {
      for batch in [1, 32] { items.append(Item(graph: try network.graph(batch: batch), options: .asWritten(computing: format), network: network)) }
    }
    return items
  }

  private static func add(
    _ kernel: KernelReference, workGroup: Int, _ device: CheckedDevice, _ example: String, _ network: Network?,
    _ programs: inout [ProgramKey: Program]
  ) {
    let key = ProgramKey(kernel, vectorWidth: device.traits.vectorWidth, panelVectors: device.traits.panelVectors)
    var program =
      programs[key]
      ?? Program(path: key.path, options: key.options, precision: kernel.precision.rawValue, hidesInstructions: key.hidesInstructions)
    let known = program.kernels[kernel.function]
    program.kernels[kernel.function] = Kernel(
      function: kernel.function, workGroup: max(workGroup, known?.workGroup ?? 0),
      example: known?.example ?? network.map { "\($0.rawValue), \(example)" } ?? example)
    program.targets.formUnion(kernel.options.contains { $0.name == "MATRIX_UNIT" } ? device.matrixTargets : device.targets)
    if let network { program.networks.insert(network.rawValue) }
    programs[key] = program
  }

  /// What a solver does with its vectors.
  private static func addVectors(_ device: CheckedDevice, _ programs: inout [ProgramKey: Program]) {
    let groupSize = DeviceVectors.groupSize(device.traits)
    for kernel in DeviceVectors.gpuReferences(groupSize: groupSize) { add(kernel, workGroup: groupSize, device, "linear heads", nil, &programs) }
  }

  /// What the limits of a device are measured with is no operation's.
  private static func addPeak(_ device: CheckedDevice, _ programs: inout [ProgramKey: Program]) {
    for kernel in PeakKernels.gpuReferences(groupSize: min(256, device.traits.maximumWorkGroupSize)) {
      add(kernel, workGroup: min(256, device.traits.maximumWorkGroupSize), device, "bench peak", nil, &programs)
    }
  }
}
