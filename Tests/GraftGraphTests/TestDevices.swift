import GraftDevice
import GraftGraph
import Synchronization
import Testing

/// A device the tests run on, made once, and the format of the values there.
struct TestDevice: Sendable, CustomStringConvertible {
  let name: String
  let device: any Device
  var precision = Precision.float32
  func make() -> any Device { device }
  var description: String { precision == .float32 ? name : "\(name), \(precision)" }
}

/// Every device and family of kernels this machine has: each instruction set of the CPU, and an OpenCL device with each family.
enum TestDevices {
  static let all: [TestDevice] = native + openCL
  static let native: [TestDevice] = InstructionSet.supported.map {
    TestDevice(name: "cpu \($0.name)", device: try! CPUDevice(threadCount: 3, instructionSet: $0))
  }
  /// Both families on the OpenCL device that `--device opencl` takes: PoCL where there is no GPU.
  static let openCL: [TestDevice] = [KernelChoice.cpu, .gpu].compactMap { kernels in
    (try? Devices.choose("opencl", kernels: kernels)).map { TestDevice(name: "opencl, \(kernels) kernels", device: $0) }
  }
  /// Every device in every format.
  static let allFormats: [TestDevice] = all + inShortFormats
  static let inShortFormats: [TestDevice] = [Precision.bfloat16, .float16].flatMap { precision in
    all.map { TestDevice(name: $0.name, device: $0.device, precision: precision) }
  }
  static let hasOpenCL = ((try? OpenCLPlatform.devices()) ?? []).contains { $0.obstacle == nil }
}

@Suite struct TestDevicesTests {
  /// Skipped where there is no OpenCL device; a device that is there and cannot be opened is a failure, not a silent gap.
  @Test(.enabled(if: TestDevices.hasOpenCL, "no OpenCL device, so its kernels are not tested here: install pocl-opencl-icd"))
  func bothFamiliesAreTested() { #expect(TestDevices.openCL.count == 2) }
}
