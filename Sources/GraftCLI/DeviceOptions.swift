import ArgumentParser
import Graft

/// What to compute on: the same for every command that computes.
struct DeviceOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "What to compute on: auto, cpu, opencl or opencl:INDEX (see 'graft devices'); 'graft extract' takes several, as opencl:0,opencl:1, or all-gpus.",
      valueName: "device"))
  var device = "auto"

  @Option(help: ArgumentHelp("Which kernels an OpenCL device runs: auto, cpu or gpu.", valueName: "family"))
  var kernels = KernelChoice.auto

  @Option(help: ArgumentHelp("Threads of the cpu device (default: every core).", valueName: "count"))
  var threads: Int?

  func validate() throws {
    if let threads, !(1...4096).contains(threads) { throw ValidationError("--threads takes a number from 1 to 4096, not \(threads).") }
  }

  /// The device, and a line that says which one was taken.
  func make(_ console: Console) throws -> any Device {
    DeviceNotes.setHandler { console.note($0) }
    let chosen = try Devices.choose(device, kernels: kernels, threadCount: threads)
    announce(chosen.traits, console)
    return chosen
  }

  /// The devices, for a command that may use several, and a line for each.
  func makeSeveral(_ console: Console) throws -> [any Device] {
    DeviceNotes.setHandler { console.note($0) }
    let chosen = try Devices.chooseSeveral(device, kernels: kernels, threadCount: threads)
    for device in chosen { announce(device.traits, console) }
    let kinds = Set(chosen.map { "\($0.traits.name), \($0.traits.driver), \($0.traits.family.rawValue)" })
    if kinds.count > 1 {
      console.warn(
        "these devices are of \(kinds.count) kinds, which round differently: the last bits of a feature will depend on which of them was free")
    }
    return chosen
  }

  private func announce(_ traits: DeviceTraits, _ console: Console) {
    let what =
      traits.kind == .cpu
      ? "\(traits.instructionSet), \(traits.threadCount) thread\(traits.threadCount == 1 ? "" : "s")" : "\(traits.family.rawValue) kernels"
    let why = device == "auto" && traits.kind == .cpu ? "; no GPU with an OpenCL driver was found" : ""
    console.note("device: \(traits.identifier): \(traits.name) (\(what)\(why))")
  }
}

/// How a network is planned on a device: for commands that run one.
struct PlanFlags: ParsableArguments {
  @Flag(
    inversion: .prefixedNo,
    help:
      "Compute 3x3 convolutions in float32 (on CPUs, in every format) by Winograd's transforms where that is faster; without, errors are some 1e-7 instead of 1e-6."
  )
  var winograd = true

  @Option(
    help: ArgumentHelp("Memory of the device that a network may take, as 512M or 4G (default: all it has).", valueName: "bytes"),
    transform: byteCount(of:))
  var memoryLimit: Int?

  func planOptions(_ format: ComputeFormat) -> PlanOptions {
    var options = PlanOptions(format: format, memoryLimit: memoryLimit)
    options.usesWinograd = winograd
    return options
  }

  /// The options that were given, of a command that may have no use for them.
  var given: [String] { (memoryLimit == nil ? [] : ["--memory-limit"]) + (winograd ? [] : ["--no-winograd"]) }
}

/// A number of bytes: digits, and K, M or G for powers of 1024.
private func byteCount(of text: String) throws -> Int {
  let shifts: [Character: Int] = ["K": 10, "M": 20, "G": 30]
  let shift = text.last.flatMap { shifts[Character($0.uppercased())] }
  guard let number = Int(shift == nil ? Substring(text) : text.dropLast()), number > 0, number <= Int.max >> (shift ?? 0) else {
    throw ValidationError("--memory-limit takes a number of bytes, as 512M or 4G, not '\(text)'.")
  }
  return number << (shift ?? 0)
}

extension KernelChoice: ExpressibleByArgument {}
extension ComputeFormat: ExpressibleByArgument {}

/// In which numbers a backbone is computed. Heads are trained and applied in float32.
struct PrecisionOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Number format of the backbone's weights and activations; sums are float32. tf32 is float32 whose products are rounded to 11 bits by NVIDIA's matrix units from sm_80 on; other devices compute it in float32.",
      valueName: "format"))
  var precision = ComputeFormat.float32
}

/// How results are shown.
struct OutputOptions: ParsableArguments {
  @Flag(help: "Print one JSON value on standard output, an object or a list of them; messages go to standard error.")
  var json = false

  @Flag(help: "Print results and errors only.")
  var quiet = false

  var console: Console { Console(json: json, quiet: quiet) }
}
