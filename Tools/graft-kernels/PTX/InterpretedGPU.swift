import Foundation
import GraftDevice
import GraftGraph
import Synchronization

/// An NVIDIA GPU that need not be there: programs are what clang makes of them for the chip, and their instructions are interpreted, so
/// that those of matrix units, which run nowhere else, are carried out as PTX defines them.
///
/// Stricter than a chip: an access outside the buffers that a kernel was given, two warps that use a word of local memory without a
/// barrier between, two groups that write an element, a copy or a product that is not waited for, and a barrier that not all come to
/// are errors, whatever the order in which things happen to run. Warps take turns at random.
final class InterpretedGPU: Device {
  let traits: DeviceTraits
  private let compiler: PTXCompiler
  private let state: Mutex<State>

  private struct State {
    var generator: SplitMix
    var turns: [String: (asked: Int, needed: Int)] = [:]
  }

  private final class Buffer: DeviceBuffer {
    let byteCount: Int
    // Written and read by one thread at a time, as the device's users have it.
    nonisolated(unsafe) let start: UnsafeMutableRawPointer

    init(byteCount: Int) {
      self.byteCount = byteCount
      start = .allocate(byteCount: max(1, byteCount), alignment: 256)
      // Floats of whatever format that are no numbers.
      start.initializeMemory(as: UInt8.self, repeating: 0xFF, count: max(1, byteCount))
    }

    deinit { start.deallocate() }
  }

  init(_ traits: DeviceTraits, compiler: PTXCompiler, seed: UInt64) {
    (self.traits, self.compiler) = (traits, compiler)
    state = Mutex(State(generator: SplitMix(seed)))
  }

  /// By kernel, how often local memory's banks were asked, and how often they had to be.
  var turns: [String: (asked: Int, needed: Int)] { state.withLock { $0.turns } }

  func allocate(byteCount: Int) -> any DeviceBuffer { Buffer(byteCount: byteCount) }

  private func start(_ slice: BufferSlice) throws(DeviceError) -> UnsafeMutableRawPointer {
    guard let buffer = slice.buffer as? Buffer else {
      throw DeviceError(device: traits.identifier, call: "use a buffer", name: "a buffer of another device", remedy: "Allocate it on this device.")
    }
    return buffer.start + slice.byteOffset
  }

  func write(_ source: UnsafeRawBufferPointer, to slice: BufferSlice) throws(DeviceError) {
    if let from = source.baseAddress { try start(slice).copyMemory(from: from, byteCount: source.count) }
  }

  func read(_ slice: BufferSlice, into destination: UnsafeMutableRawBufferPointer) throws(DeviceError) {
    if let to = destination.baseAddress { to.copyMemory(from: try start(slice), byteCount: destination.count) }
  }

  func finish() {}

  func prepare(_ launches: [Launch]) throws -> any PreparedLaunches {
    var kernels: [PTXKernel] = []
    for launch in launches {
      let key = ProgramKey(launch.kernel, vectorWidth: traits.vectorWidth, panelVectors: traits.panelVectors)
      guard let kernel = try compiler.program(key).kernels[launch.kernel.function] else {
        throw PTXError("\(key.path) has no \(launch.kernel.function)")
      }
      kernels.append(kernel)
    }
    return Prepared(self, Array(zip(launches, kernels)))
  }

  private final class Prepared: PreparedLaunches {
    private let device: InterpretedGPU
    private let launches: [(Launch, PTXKernel)]
    init(_ device: InterpretedGPU, _ launches: [(Launch, PTXKernel)]) { (self.device, self.launches) = (device, launches) }

    func enqueue() throws(DeviceError) { for (launch, kernel) in launches { try device.run(launch, kernel) } }
    func profile() throws(DeviceError) -> [Double] {
      try enqueue()
      return launches.map { _ in 0 }
    }
  }

  fileprivate func run(_ launch: Launch, _ kernel: PTXKernel) throws(DeviceError) {
    do {
      try state.withLock { try run(launch, kernel, &$0) }
    } catch {
      throw DeviceError(device: traits.identifier, call: "run \(launch.kernel.function) for \(launch.label)", name: "an error", remedy: "\(error)")
    }
  }

  private func run(_ launch: Launch, _ kernel: PTXKernel, _ state: inout State) throws {
    let (global, local) = (launch.grid.globalSize, launch.grid.workGroupSize)
    guard global.y == 1, global.z == 1, local.x > 0, global.x % local.x == 0 else { throw PTXError("a grid of \(launch.grid)") }
    var parameters = [UInt8](repeating: 0, count: kernel.parameterByteCount)
    guard kernel.parameters.count == launch.buffers.count + (launch.parameters.isEmpty ? 0 : 1) else {
      throw PTXError("\(launch.buffers.count) buffers")
    }
    var slices: [(start: UInt64, end: UInt64)] = []
    for (slice, parameter) in zip(launch.buffers, kernel.parameters) {
      guard let slice else { continue }
      let start = UInt64(UInt(bitPattern: try start(slice)))
      slices.append((start, start + UInt64(slice.byteCount)))
      withUnsafeBytes(of: start) { parameters.replaceSubrange(parameter.offset..<parameter.offset + 8, with: $0) }
    }
    if !launch.parameters.isEmpty, let last = kernel.parameters.last {
      guard last.byteCount == launch.parameters.count else { throw PTXError("\(launch.parameters.count) bytes of parameters, not \(last.byteCount)") }
      parameters.replaceSubrange(last.offset..<last.offset + last.byteCount, with: launch.parameters)
    }
    let memory = PTXGlobalMemory(slices), groupCount = global.x / local.x
    kernel.forgetTurns()
    for index in (0..<groupCount).shuffled(using: &state.generator) {
      let group = PTXWorkGroup(
        kernel, index: index, groupCount: groupCount, itemCount: local.x, parameters: parameters, memory: memory)
      try group.run(&state.generator)
    }
    let sums = kernel.turns.reduce((asked: 0, needed: 0)) { ($0.asked + $1.asked, $0.needed + $1.needed) }
    let known = state.turns[launch.kernel.function] ?? (0, 0)
    state.turns[launch.kernel.function] = (known.asked + sums.asked, known.needed + sums.needed)
  }
}

/// clang, and what it made so far.
final class PTXCompiler: Sendable {
  private let command: [String]
  private let programs = Mutex<[ProgramKey: PTXProgram]>([:])

  /// - Parameter command: clang with all it takes but the program's options, the source and the result.
  init(command: [String]) { self.command = command }

  func program(_ key: ProgramKey) throws -> PTXProgram {
    try programs.withLock { known in
      if let program = known[key] { return program }
      let program = try PTXProgram(try text(key))
      known[key] = program
      return program
    }
  }

  private func text(_ key: ProgramKey) throws -> String {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("graft-kernels-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let (source, result) = (folder.appendingPathComponent("program.cl"), folder.appendingPathComponent("program.ptx"))
    try Data(try KernelSources.embedded.assemble(key.path).utf8).write(to: source)
    let process = Process(), log = Pipe()
    process.executableURL = URL(fileURLWithPath: command[0])
    process.arguments = command.dropFirst() + key.options.split(separator: " ").map(String.init) + ["-S", source.path, "-o", result.path]
    process.standardError = log
    try process.run()
    let text = String(decoding: log.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    guard process.terminationStatus == 0 else { throw PTXError("clang refuses \(key.path) (\(key.options)):\n\(text)") }
    let bytes = Array(try Data(contentsOf: result))
    return String(decoding: key.hidesInstructions ? try PTXText.uncovering(bytes) : bytes, as: UTF8.self)
  }
}
