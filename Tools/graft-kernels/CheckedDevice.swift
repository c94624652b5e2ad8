import GraftDevice
import GraftGraph

/// A GPU that need not be there, and the processors whose compilers are to accept what Graft would run on it.
struct CheckedDevice {
  let traits: DeviceTraits
  /// As the compilers call them: "sm_80", "gfx90a". A variant that only exists for one vendor is compiled for its chips alone.
  let targets: [String]
  /// Those of programs for its matrix unit.
  let matrixTargets: [String]

  /// Each vendor's, each generation of instructions. clang has no back end for Intel's GPUs: PoCL and oclgrind run what they run, and
  /// of programs for their matrix units it looks at the types alone.
  static let all = [
    CheckedDevice("Tesla V100", vendor: "NVIDIA Corporation", units: 80, localKibibytes: 47, workGroup: 1024, targets: ["sm_70"]),
    CheckedDevice(
      "GeForce RTX 2080", vendor: "NVIDIA Corporation", units: 46, localKibibytes: 47, workGroup: 1024, matrix: .turing, targets: ["sm_75"]),
    CheckedDevice(
      "NVIDIA A100", vendor: "NVIDIA Corporation", units: 108, localKibibytes: 47, workGroup: 1024, matrix: .nvidia,
      targets: ["sm_80", "sm_90", "sm_120"]),
    CheckedDevice(
      "NVIDIA H200", vendor: "NVIDIA Corporation", units: 132, localKibibytes: 47, workGroup: 1024, matrix: .hopper, targets: ["sm_90"]),
    CheckedDevice(
      "gfx90a", vendor: "Advanced Micro Devices, Inc.", units: 104, localKibibytes: 64, workGroup: 256, matrix: .mfma, targets: ["gfx90a", "gfx942"]),
    CheckedDevice(
      "gfx1100", vendor: "Advanced Micro Devices, Inc.", units: 48, localKibibytes: 64, workGroup: 256, matrix: .wmma, targets: ["gfx1100"]),
    CheckedDevice(
      "Intel(R) Arc(TM) A770 Graphics", vendor: "Intel(R) Corporation", units: 512, localKibibytes: 64, workGroup: 1024, matrix: .xmx8, targets: [],
      matrixTargets: ["xe-hpg"]),
    CheckedDevice(
      "Intel(R) Data Center GPU Max 1550", vendor: "Intel(R) Corporation", units: 1024, localKibibytes: 128, workGroup: 1024, matrix: .xmx16,
      targets: [], matrixTargets: ["xe-hpc"]),
  ]

  private init(
    _ name: String, vendor: String, units: Int, localKibibytes: Int, workGroup: Int, matrix: MatrixUnit.Kind? = nil, targets: [String],
    matrixTargets: [String]? = nil
  ) {
    var traits = DeviceTraits(
      kind: .openCL, identifier: "opencl:0", name: name, vendor: vendor, driver: "", family: .gpu, computeUnits: units,
      memoryByteCount: 16 << 30, maximumBufferByteCount: 8 << 30, localMemoryByteCount: localKibibytes << 10, maximumWorkGroupSize: workGroup,
      vectorWidth: 4, panelVectors: 2, instructionSet: "OpenCL 3.0", numericFormats: ["float32"], isGPU: true, threadCount: 0)
    traits.matrixUnit = matrix.map { MatrixUnit($0, formats: $0.formats) }
    self.traits = traits
    self.targets = targets
    self.matrixTargets = matrixTargets ?? targets
  }
}

/// Why a device's kernels cannot compute in a format, or `nil`.
func refusal(of format: ComputeFormat, by traits: DeviceTraits) -> String? {
  do {
    var graph = Graph()
    graph.outputs = [try graph.add(Unary(.relu), [graph.addInput(TensorType([8]), name: "x")])]
    _ = try PlanOutline(graph, traits: traits, options: .asWritten(computing: format))
    return nil
  } catch {
    return (error as? DeviceError)?.remedy ?? "\(error)"
  }
}
