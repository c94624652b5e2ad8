import Foundation
import GraftDevice
import Testing

/// OpenCL devices for tests; a test that needs one is visibly skipped where there is none.
enum OpenCLSupport {
  static let infos: [OpenCLDeviceInfo] = (try? OpenCLPlatform.devices().filter { $0.obstacle == nil }) ?? []
  static var isPresent: Bool { !infos.isEmpty }

  /// The first device, with test kernels beside those of `Kernels/`, and no cache on disk unless one is given.
  static func device(
    _ kernels: [String: String] = [:], family: KernelFamily? = nil, cache: ProgramCache = ProgramCache(directory: nil),
    failures: CallFailures? = nil
  ) throws -> OpenCLDevice {
    let info = try #require(infos.first)
    let sources = kernels.reduce(KernelSources.embedded) { $0.adding($1.key, $1.value) }
    return try OpenCLDevice(info, family: family, sources: sources, cache: cache, failures: failures)
  }

  /// A directory of its own for `body`, removed afterwards.
  static func withTemporaryDirectory<Result>(_ body: (URL) throws -> Result) throws -> Result {
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent("graft-opencl-\(UUID().uuidString)", isDirectory: true)
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer {
      try? FileManager.default.setAttributes([.posixPermissions: 0o700], ofItemAtPath: directory.path)
      try? FileManager.default.removeItem(at: directory)
    }
    return try body(directory)
  }
}

extension Trait where Self == ConditionTrait {
  static var needsOpenCL: Self { .enabled(if: OpenCLSupport.isPresent, "no OpenCL device: install pocl-opencl-icd") }
}

extension Device {
  func upload<Element: BitwiseCopyable>(_ values: [Element]) throws -> any DeviceBuffer {
    let buffer = try allocate(byteCount: values.count * MemoryLayout<Element>.stride)
    try write(values, to: BufferSlice(buffer))
    return buffer
  }

  func write<Element: BitwiseCopyable>(_ values: [Element], to slice: BufferSlice) throws {
    try values.withUnsafeBytes { try write($0, to: slice) }
  }

  func download<Element: BitwiseCopyable>(_ slice: BufferSlice, as filler: Element) throws -> [Element] {
    var values = [Element](repeating: filler, count: slice.byteCount / MemoryLayout<Element>.stride)
    try values.withUnsafeMutableBytes { try read(slice, into: $0) }
    return values
  }

  func run(_ launches: [Launch]) throws { try prepare(launches).enqueue() }
}

/// Parameters of the test kernels; the same fields in the same order as `typedef struct { int count; float factor; } P`.
struct TestParameters: BitwiseCopyable {
  var count: Int32
  var factor: Float
}

/// Kernels of the tests, as files of the CPU family.
enum TestKernel {
  static let header = "typedef struct { int count; float factor; } P;\n"

  /// y[i] = y[i] factor + x[i]
  static let accumulate =
    header + """
      __kernel void accumulate(__global const float *x, __global float *y, const P p) {
        int i = get_global_id(0);
        if (i < p.count) y[i] = fma(y[i], p.factor, x[i]);
      }
      """

  static func accumulate(_ x: BufferSlice?, _ y: BufferSlice?, count: Int, factor: Float, grid: Grid? = nil) -> Launch {
    Launch(
      KernelReference(.cpu, file: "test_accumulate", function: "accumulate"), buffers: [x, y],
      parameters: Launch.bytes(of: TestParameters(count: Int32(count), factor: factor)), grid: grid ?? Grid(count), label: "test accumulate")
  }

  static let sources = ["cpu/test_accumulate.cl": accumulate]
}
