/// Which kernels a device runs.
///
/// The CPU family has no barriers and no local memory and works on vectors; the GPU family has work-groups and local
/// memory. An OpenCL device can run either; the native CPU device runs the CPU family only.
public enum KernelFamily: String, Sendable, Hashable, CaseIterable, Codable {
  case cpu, gpu
}

/// A kernel: a function in a file of a family, compiled with the given options.
public struct KernelReference: Sendable, Hashable {
  public let family: KernelFamily
  /// The file under `Kernels/<family>`, without `.cl`.
  public let file: String
  public let function: String
  /// Tunables as `-D NAME=value`, sorted by name: part of the program cache's key. Empty for the native CPU family, whose
  /// variants are compiled ahead.
  public let options: [Option]
  /// The format of the values it reads and writes.
  public let precision: Precision

  public struct Option: Sendable, Hashable {
    public let name: String
    public let value: Int
    public init(_ name: String, _ value: Int) { (self.name, self.value) = (name, value) }
  }

  public init(_ family: KernelFamily, file: String, function: String, options: [Option] = [], precision: Precision = .float32) {
    (self.family, self.file, self.function, self.precision) = (family, file, function, precision)
    self.options = options.sorted { $0.name < $1.name }
  }
}

/// How many work-items run, and, for the GPU family, in which groups.
public struct Grid: Sendable, Hashable {
  /// Work-items; for the GPU family a multiple of `workGroupSize` in every dimension.
  public var globalSize: (x: Int, y: Int, z: Int)
  public var workGroupSize: (x: Int, y: Int, z: Int)

  public init(_ x: Int, _ y: Int = 1, _ z: Int = 1, workGroup: (x: Int, y: Int, z: Int) = (1, 1, 1)) {
    globalSize = (x, y, z)
    workGroupSize = workGroup
  }

  /// A grid of whole work-groups that covers `(x, y, z)` work-items.
  public static func covering(_ x: Int, _ y: Int = 1, _ z: Int = 1, workGroup: (x: Int, y: Int, z: Int)) -> Grid {
    func up(_ count: Int, _ step: Int) -> Int { (count + step - 1) / step * step }
    return Grid(up(x, workGroup.x), up(y, workGroup.y), up(z, workGroup.z), workGroup: workGroup)
  }

  public static func == (a: Grid, b: Grid) -> Bool { a.globalSize == b.globalSize && a.workGroupSize == b.workGroupSize }
  public func hash(into hasher: inout Hasher) {
    for value in [globalSize.x, globalSize.y, globalSize.z, workGroupSize.x, workGroupSize.y, workGroupSize.z] { hasher.combine(value) }
  }
}

/// Part of a buffer on a device.
public struct BufferSlice: Sendable {
  public let buffer: any DeviceBuffer
  public let byteOffset: Int
  public let byteCount: Int

  /// Our own invariant: the slice lies inside the buffer.
  public init(_ buffer: any DeviceBuffer, byteOffset: Int = 0, byteCount: Int? = nil) {
    let count = byteCount ?? buffer.byteCount - byteOffset
    precondition(byteOffset >= 0 && count >= 0 && byteOffset + count <= buffer.byteCount, "a slice outside its buffer")
    (self.buffer, self.byteOffset, self.byteCount) = (buffer, byteOffset, count)
  }
}

/// One kernel, its arguments and its grid.
///
/// The kernel's arguments are the buffers in order, then the parameter structure by value (see `Kernels/common/params.h`).
public struct Launch: Sendable {
  public let kernel: KernelReference
  /// `nil` for an optional buffer that is absent; the kernel's parameters say so too.
  public let buffers: [BufferSlice?]
  /// The bytes of the parameter structure.
  public let parameters: [UInt8]
  public let grid: Grid
  /// What a profile shows: the operation and the node.
  public let label: String
  /// Floating-point operations, and bytes that have to move: what a profile's GFLOP/s and GB/s are computed from.
  public let flops: Double
  public let bytes: Double

  public init(
    _ kernel: KernelReference, buffers: [BufferSlice?], parameters: [UInt8], grid: Grid, label: String, flops: Double = 0, bytes: Double = 0
  ) {
    (self.kernel, self.buffers, self.parameters, self.grid) = (kernel, buffers, parameters, grid)
    (self.label, self.flops, self.bytes) = (label, flops, bytes)
  }

  /// The bytes of a parameter structure.
  public static func bytes<Parameters: BitwiseCopyable>(of parameters: Parameters) -> [UInt8] {
    withUnsafeBytes(of: parameters) { Array($0) }
  }
}
