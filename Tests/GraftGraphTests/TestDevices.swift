import GraftDevice
import Synchronization

/// A device the tests run on, made once.
struct TestDevice: Sendable, CustomStringConvertible {
  let description: String
  let device: any Device
  func make() -> any Device { device }
}

/// Every device and family of kernels this machine has: each instruction set of the CPU.
enum TestDevices {
  static let all: [TestDevice] = native
  static let native: [TestDevice] = InstructionSet.supported.map {
    TestDevice(description: "cpu \($0.name)", device: try! CPUDevice(threadCount: 3, instructionSet: $0))
  }
}
