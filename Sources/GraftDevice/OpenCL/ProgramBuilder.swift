import COpenCL
import Foundation
import Synchronization

/// What makes two launches share a program: the file and the compiler's options.
package struct ProgramKey: Hashable, Sendable {
  package let path: String
  package let options: String
  /// Whether the compiler is shown some instructions as comments (`PTXText`).
  package let hidesInstructions: Bool

  package init(_ kernel: KernelReference, vectorWidth: Int, panelVectors: Int) {
    path = "\(kernel.family.rawValue)/\(kernel.file).cl"
    var defines = ["GRAFT_FAMILY_\(kernel.family.rawValue.uppercased())=1"]
    for (name, value) in [("VW", vectorWidth), ("PANEL_VECTORS", panelVectors)] where !kernel.options.contains(where: { $0.name == name }) {
      defines.append("\(name)=\(value)")
    }
    hidesInstructions = kernel.options.contains(MatrixUnit.Kind.hopper.option(byGroups: true)) && !kernel.options.contains(.init("EMULATED", 1))
    if kernel.precision != .float32 { defines.append("GRAFT_STORAGE=\(kernel.precision.storage)") }
    defines += kernel.options.map { "\($0.name)=\($0.value)" }
    // No relaxed mathematics: results have to agree with the reference. Where a fused multiply-add is wanted, kernels say fma.
    options = "-cl-std=CL1.2 " + defines.map { "-D\($0)" }.joined(separator: " ")
  }
}

/// How programs came to be: what tests and `--profile` look at.
package struct ProgramStatistics: Sendable, Equatable {
  /// Compiled from source.
  package var compiled = 0
  /// Taken from the cache on disk.
  package var loaded = 0
  /// In the cache, but the driver would not have them.
  package var refused = 0
  /// Time in the driver, summed over programs that may be built side by side.
  package var seconds = 0.0

  package init(compiled: Int = 0, loaded: Int = 0, refused: Int = 0) {
    (self.compiled, self.loaded, self.refused) = (compiled, loaded, refused)
  }
}

/// Builds the programs of a device, each once.
final class ProgramBuilder: Sendable {
  private let info: OpenCLDeviceInfo
  private let context: ContextHandle
  private let sources: KernelSources
  private let cache: ProgramCache
  private let failures: CallFailures?
  private let programs = Mutex<[ProgramKey: ProgramHandle]>([:])
  private let counts = Mutex(ProgramStatistics())

  init(_ info: OpenCLDeviceInfo, context: ContextHandle, sources: KernelSources, cache: ProgramCache, failures: CallFailures? = nil) {
    (self.info, self.context, self.sources, self.cache, self.failures) = (info, context, sources, cache, failures)
  }

  var statistics: ProgramStatistics { counts.withLock { $0 } }

  /// The driver's reference counts of all programs, summed.
  func programReferenceCount() throws(DeviceError) -> Int {
    let known = programs.withLock { Array($0.values) }
    var sum = 0
    for program in known { sum += Int(try InfoQuery.program(program, on: info.identifier).value(CL_PROGRAM_REFERENCE_COUNT, cl_uint(0))) }
    return sum
  }

  func key(_ kernel: KernelReference) -> ProgramKey { ProgramKey(kernel, vectorWidth: info.vectorWidth, panelVectors: info.panelVectors) }

  /// The program of every kernel, those not yet there built side by side.
  ///
  /// The lock is held throughout, so that two plans prepared at once do not build the same program twice.
  ///
  /// - Throws: `BuildError`, `KernelSourceError` or `DeviceError`, of the first program that fails in the kernels' order.
  func programs(for kernels: [KernelReference]) throws -> [ProgramKey: ProgramHandle] {
    let keys = kernels.map { key($0) }
    return try programs.withLock { known in
      var missing: [ProgramKey] = []
      var seen: Set<ProgramKey> = []
      for key in keys where known[key] == nil && seen.insert(key).inserted { missing.append(key) }
      let wanted = missing
      let results = Mutex([Result<ProgramHandle, any Error>?](repeating: nil, count: wanted.count))
      DispatchQueue.concurrentPerform(iterations: wanted.count) { index in
        let result = Result { try self.build(wanted[index]) }
        results.withLock { $0[index] = result }
      }
      // Those that could be built are there for the next time, also where one could not.
      let built = results.withLock { $0 }
      for (key, result) in zip(wanted, built) { if case .success(let program)? = result { known[key] = program } }
      for case .failure(let error)? in built { throw error }
      return known
    }
  }

  private func build(_ key: ProgramKey) throws -> ProgramHandle {
    let source = try sources.assemble(key.path)
    let entry = ProgramCache.key([
      source, key.options, info.name, info.vendor, info.driver, info.version, info.platformName, info.platformVersion,
      key.hidesInstructions ? PTXText.revision : "",
    ])
    let start = ContinuousClock.now
    defer {
      let duration = (ContinuousClock.now - start).components
      counts.withLock { $0.seconds += Double(duration.seconds) + Double(duration.attoseconds) * 1e-18 }
    }
    if let binary = cache.load(entry) {
      if let program = try? load(binary, options: key.options) {
        counts.withLock { $0.loaded += 1 }
        return program
      }
      // A driver may refuse what an equal-looking driver wrote; the source is the truth.
      cache.remove(entry)
      counts.withLock { $0.refused += 1 }
    }
    var program = try compile(source, key)
    if key.hidesInstructions { program = try uncovered(program, key) }
    counts.withLock { $0.compiled += 1 }
    // A driver may do much work for a binary, and one that gives none costs the cache only.
    if cache.isOn, let binary = try? binary(of: program), !binary.isEmpty { cache.store(binary, under: entry) }
    return program
  }

  private func compile(_ source: String, _ key: ProgramKey) throws -> ProgramHandle {
    var status: cl_int = 0
    let raw = source.withCString { text in
      var text: UnsafePointer<CChar>? = text
      return clCreateProgramWithSource(context.raw, 1, &text, nil, &status)
    }
    let program = ProgramHandle(adopting: try adopt(raw, status, "clCreateProgramWithSource(\(key.path))", on: info.identifier))
    let built = buildStatus(program, options: key.options)
    guard built == CL_SUCCESS else {
      let log = buildLog(program)
      // Out of memory, or a lost device, is not the compiler's refusal.
      guard built == CL_BUILD_PROGRAM_FAILURE || built == CL_INVALID_BUILD_OPTIONS || !log.isEmpty else {
        throw DeviceError(status: built, call: "clBuildProgram(\(key.path))", on: info.identifier)
      }
      throw BuildError(device: "\(info.identifier) (\(info.name))", kernel: key.path, options: key.options, log: log)
    }
    return program
  }

  /// The same program with the instructions that its compiler took for comments.
  private func uncovered(_ program: ProgramHandle, _ key: ProgramKey) throws -> ProgramHandle {
    do {
      return try load(PTXText.uncovering(binary(of: program)), options: key.options)
    } catch {
      throw BuildError(device: "\(info.identifier) (\(info.name))", kernel: key.path, options: key.options, log: "\(error)")
    }
  }

  private func load(_ binary: [UInt8], options: String) throws(DeviceError) -> ProgramHandle {
    var status: cl_int = 0
    var binaryStatus: cl_int = 0
    var device: cl_device_id? = info.id.raw
    let raw = binary.withUnsafeBufferPointer { bytes in
      var count = bytes.count
      var start = bytes.baseAddress
      return clCreateProgramWithBinary(context.raw, 1, &device, &count, &start, &binaryStatus, &status)
    }
    let program = ProgramHandle(adopting: try adopt(raw, status, "clCreateProgramWithBinary", on: info.identifier))
    try check(binaryStatus, "clCreateProgramWithBinary", on: info.identifier)
    let built = buildStatus(program, options: options)
    guard built == CL_SUCCESS else {
      let log = buildLog(program)
      throw DeviceError(
        device: info.identifier, call: "clBuildProgram(binary)", name: OpenCLStatus.name(built), remedy: log.isEmpty ? "It says no more." : log)
    }
    return program
  }

  private func buildStatus(_ program: ProgramHandle, options: String) -> cl_int {
    if let status = failures?.status(of: "clBuildProgram") { return status }
    var device: cl_device_id? = info.id.raw
    return clBuildProgram(program.raw, 1, &device, options, nil, nil)
  }

  private func buildLog(_ program: ProgramHandle) -> String {
    let device = info.id.raw
    let query = InfoQuery(call: "clGetProgramBuildInfo", device: info.identifier) {
      clGetProgramBuildInfo(program.raw, device, $0, $1, $2, $3)
    }
    return (try? query.text(CL_PROGRAM_BUILD_LOG)) ?? ""
  }

  /// The context has one device, so the program has one binary.
  private func binary(of program: ProgramHandle) throws(DeviceError) -> [UInt8] {
    let byteCount = try InfoQuery.program(program, on: info.identifier).value(CL_PROGRAM_BINARY_SIZES, 0)
    guard byteCount > 0 else { return [] }
    var bytes = [UInt8](repeating: 0, count: byteCount)
    let status = bytes.withUnsafeMutableBufferPointer { buffer in
      var start = buffer.baseAddress
      return clGetProgramInfo(program.raw, cl_program_info(CL_PROGRAM_BINARIES), MemoryLayout<UnsafeMutablePointer<UInt8>?>.size, &start, nil)
    }
    try check(status, "clGetProgramInfo(CL_PROGRAM_BINARIES)", on: info.identifier)
    return bytes
  }
}
