import ArgumentParser
import Foundation
import GraftDevice
import GraftGraph
import OperationSamples

struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Run samples with the GPU family and compare them with double precision.",
    discussion: """
      Takes an OpenCL device, whatever it is: PoCL, or oclgrind around this command. Says which case runs before it runs, so \
      that a simulator's report stands below it. Every tile is forced for the products.

      With --interpret it takes no device: the programs for NVIDIA's matrix units, as clang compiles them, are interpreted.
      """)

  @Flag(help: "Only what a simulator can do in a minute or two: small samples, and products of one block or a few.") var light = false
  @Option(help: "Which device: opencl:INDEX, as 'graft devices' lists them.") var device = "opencl:0"
  @OptionGroup var interpreting: InterpretingOptions
  @Option(help: "Only these formats of values, separated by commas.") var precision: String?
  @Option(help: "Only cases whose description holds this text.") var only: String?

  func run() throws {
    if interpreting.interpret != nil { return try runInterpreted() }
    let devices = try OpenCLPlatform.devices()
    guard !devices.isEmpty else { throw ValidationError("There is no OpenCL device: install pocl-opencl-icd.") }
    guard device.hasPrefix("opencl:"), let index = Int(device.dropFirst(7)), devices.indices.contains(index) else {
      throw ValidationError("There is no \(device): there are opencl:0 to opencl:\(devices.count - 1).")
    }
    let info = devices[index]
    if let obstacle = info.obstacle { throw ValidationError("\(device) cannot be used: \(obstacle)") }
    // oclgrind takes what the host wrote last to a buffer for all of it, also after it was freed and its number given to another:
    // memory that is used again and is then larger would look as if it had never been written.
    let device = try OpenCLDevice(
      info, family: .gpu, sources: .embedded, cache: ProgramCache(environment: ProcessInfo.processInfo.environment), reusesBuffers: !light)
    say("device: \(info.name)")
    try run(on: device) { format in cases(format) + (light ? [] : casesOnUnit(try device.matrixUnit(), format)) }
  }

  private func runInterpreted() throws {
    let device = try interpreting.device()
    say("device: \(device.traits.name)'s PTX")
    try run(on: device) { format in interpreted(device.traits.matrixUnit, format) }
    interpreting.printTurns(of: device)
  }

  /// What is only there for a unit; of its tiles, and of the cases, all or some of each kind.
  private func interpreted(_ unit: MatrixUnit?, _ format: ComputeFormat) -> [Case] {
    guard let unit, unit.formats.contains(format) else { return [] }
    var cases = casesOnUnit(unit, format)
    let tiles = MatrixTile.candidates(unit.kind, format)
    cases += tiles.flatMap { tile in
      ProductSamples.deepOnMatrixUnit.map { Case(sample: $0, kernel: .matrix(tile, splits: 1), constants: true) }
    }
    if light {
      let single = tiles.filter { !$0.isByGroups }, chosen = [single.first, single.last, tiles.last(where: \.isByGroups)].compactMap { $0 }
      // Of three sizes the one with tails everywhere, in parts; of convolutions a deep one and one with groups.
      let samples =
        [1, 4, 7, 10].map { ProductSamples.productsOnMatrixUnit[$0] } + [1, 2].map { ProductSamples.convolutions[$0] }
        + [0, 2].map { ProductSamples.weightGradients[$0] }
      cases = cases.filter { item in
        guard case .matrix(let tile, let splits)? = item.kernel, chosen.contains(tile) else { return false }
        return splits == 3 && samples.contains { $0.description == item.sample.description }
          || ProductSamples.deepOnMatrixUnit.contains { $0.description == item.sample.description }
      }
    }
    guard unit.attentionFormats.contains(format) else { return cases }
    let attention = OperationSamples.attentionsOnMatrixUnit + OperationSamples.attentionGradientsOnMatrixUnit
    // Heads of 96 and masked ones of 124, and the gradients of the first.
    return cases + (light ? [1, 3, 6].map { attention[$0] } : attention).map { Case(sample: $0) }
  }

  private func run(on device: any Device, _ cases: (ComputeFormat) throws -> [Case]) throws {
    let formats = precision.map { Set($0.split(separator: ",").map(String.init)) }
    var (count, failures, otherwise) = (0, 0, 0)
    // Tiles of the matrix unit that cases are forced to.
    var (asked, used): (Set<MatrixTile>, Set<MatrixTile>) = ([], [])
    for format in ComputeFormat.allCases where formats?.contains(format.rawValue) ?? true {
      if let refusal = refusal(of: format, by: device.traits) {
        say("refused: \(format.rawValue): \(refusal)")
        continue
      }
      for item in try cases(format) {
        let prefix = format == .float32 ? "" : "\(format) "
        let name = "\(item.kernel.map { "\($0) " } ?? "")\(prefix)\(item.constants ? "constant " : "")\(item.sample)"
        if let only, !name.contains(only) { continue }
        say("case: \(name)")
        count += 1
        do {
          let (problem, isOnUnit) = try check(item, format, on: device)
          if case .matrix(let tile, _)? = item.kernel {
            asked.insert(tile)
            if isOnUnit { used.insert(tile) } else { otherwise += 1 }
          }
          if let problem {
            failures += 1
            say("wrong: \(problem)")
          }
        } catch {
          failures += 1
          say("failed: \(error)")
        }
      }
    }
    if interpreting.interpret == nil, formats?.contains(Precision.float32.rawValue) ?? true, only.map({ "vectors".contains($0) }) ?? true {
      for (length, rows) in light ? [(300, 3)] : [(1, 1), (300, 3), (50_000, 40)] {
        say("case: vectors \(rows) × \(length)")
        count += 1
        if let problem = try VectorCheck.problem(on: device, length: length, rows: rows) {
          failures += 1
          say("wrong: \(problem)")
        }
      }
    }
    // A tile that nothing is computed with would not be checked at all.
    for tile in asked.subtracting(used) where only == nil {
      failures += 1
      say("wrong: no case is computed with \(tile)")
    }
    if otherwise > 0 { say("computed by other kernels, for want of room: \(otherwise)") }
    say("\(count) cases, \(failures) failed")
    if failures > 0 { throw ExitCode(1) }
  }

  /// At once, though standard output may be a pipe.
  private func say(_ text: String) {
    print(text)
    fflush(nil)
  }

  private struct Case {
    let sample: OperationSample
    var kernel: ProductKernel?
    var constants = false
    var unit = MatrixUnitChoice.auto
  }

  private func cases(_ format: ComputeFormat) -> [Case] {
    var cases: [Case] = []
    // Emulated: the units' own instructions run nowhere here. The other tiles are the tests'.
    if light {
      for kind in MatrixUnit.Kind.allCases where kind.formats.contains(format) {
        if format.storage.byteCount == 2, kind != .hopper {
          let sample = OperationSamples.attentionOnMatrixUnit
          cases.append(Case(sample: sample, unit: .emulated(kind)))
          // Formats differ in what they round with alone, and three kernels take a simulator a while.
          if format == .float16 { cases.append(Case(sample: OperationSamples.gradient(of: sample), unit: .emulated(kind))) }
        }
        // Groups of warps multiply products alone; the rest of that unit is another's.
        let tiles = MatrixTile.candidates(kind, format)
        guard let tile = kind == .hopper ? tiles.last(where: \.isByGroups) : tiles.last else { continue }
        cases += [ProductSamples.onMatrixUnit, ProductSamples.convolvedOnMatrixUnit, ProductSamples.weightsOnMatrixUnit].map {
          Case(sample: $0, kernel: .matrix(tile, splits: 3), constants: true, unit: .emulated(kind))
        }
      }
    }
    if !light, format.storage.byteCount == 2 {
      for kind in MatrixUnit.Kind.allCases where kind.formats.contains(format) && kind != .hopper {
        let forward = OperationSamples.attentionsOnMatrixUnit + OperationSamples.attentions.filter { $0.operation is Attention }
        cases += (forward + OperationSamples.attentionGradientsOnMatrixUnit).map { Case(sample: $0, unit: .emulated(kind)) }
      }
    }
    // Everything else is float32's.
    if format == .tf32 { return cases }
    for sample in OperationSamples.all where !light || sample.flops <= 30_000 {
      if !(sample.operation is BatchNorm) { cases.append(Case(sample: sample)) }
      // A constant's way through packing; in a simulator only where there is one. What an operation changes can't be a constant.
      let takesConstants = sample.inputs.count > 1 && sample.operation.mutatedInputs.isEmpty
      if takesConstants, !light || sample.operation is Conv2D { cases.append(Case(sample: sample, constants: true)) }
    }
    for (sample, kernels) in light ? ProductSamples.small : ProductSamples.all {
      cases += kernels.map { Case(sample: sample, kernel: $0, constants: true) }
    }
    return cases
  }

  /// Every tile of the matrix unit that is there, on what takes it.
  private func casesOnUnit(_ unit: MatrixUnit?, _ format: ComputeFormat) -> [Case] {
    guard let unit, unit.formats.contains(format) else { return [] }
    let samples = ProductSamples.productsOnMatrixUnit + ProductSamples.convolutions + ProductSamples.weightGradients
    return MatrixTile.candidates(unit.kind, format).flatMap { tile in
      samples.flatMap { sample in [1, 3].map { Case(sample: sample, kernel: .matrix(tile, splits: $0), constants: true) } }
    }
  }

  /// What is wrong, or `nil`; and whether a kernel for the matrix unit was among those that ran.
  private func check(_ item: Case, _ format: ComputeFormat, on device: any Device) throws -> (problem: String?, isOnUnit: Bool) {
    let sample = item.sample, precision = format.storage, tensors = sample.draw(seed: 7, precision: precision)
    let options = sample.operation is BatchNorm ? PlanOptions(format: format) : .asWritten(computing: format)
    let (found, kernels) = try MatrixUnitChoice.$forced.withValue(item.unit) {
      try ProductKernel.$forced.withValue(item.kernel) {
        let plan = try Plan(try sample.graph(tensors, constants: item.constants), device: device, options: options)
        for (input, tensor) in zip(plan.graph.inputs, tensors) { try tensor.withUnsafeBytes { try plan.write($0, to: input) } }
        try plan.run()
        return (try plan.read(plan.graph.outputs[0]), plan.kernels)
      }
    }
    let isOnUnit = kernels.contains { $0.hasPrefix("matrix_") }
    // Other kernels compute in float32 what has no room for the unit.
    let factors = format == .tf32 && isOnUnit ? OperationSample.factorsInTF32(tensors) : tensors
    let expected = sample.operation.reference(factors.map(ReferenceTensor.init))
    let allowed = kernels.contains { $0.hasPrefix("matrix_attention") } ? sample.weightErrors(tensors, precision: precision) : []
    let (error, bound) = (sample.largestError(found, expected, precision: precision, allowed: allowed), sample.bound(expected))
    return (error <= bound ? nil : "largest error \(error), bound \(bound)", isOnUnit)
  }
}
