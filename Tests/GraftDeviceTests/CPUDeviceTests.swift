import GraftDevice
import Testing

/// What a caller can get wrong is an error, not the end of the process.
@Suite struct CPUDeviceTests {
  private final class StrangeBuffer: DeviceBuffer {
    let byteCount = 64
  }

  private func message(_ body: () throws -> Void) -> String {
    do {
      try body()
      return "no error"
    } catch { return error is DeviceError ? "\(error)" : "of another type: \(error)" }
  }

  private func launch(_ slice: BufferSlice, _ family: KernelFamily = .cpu, _ function: String = "fill_value", items: Int = 1) -> Launch {
    Launch(
      KernelReference(family, file: "copy", function: function), buffers: [slice], parameters: [UInt8](repeating: 0, count: 16), grid: Grid(items),
      label: "test")
  }

  @Test func foreignBuffersAreRefused() throws {
    let device = try CPUDevice(threadCount: 1), other = try CPUDevice(threadCount: 1)
    for buffer in [StrangeBuffer(), try other.allocate(byteCount: 64)] as [any DeviceBuffer] {
      let slice = BufferSlice(buffer)
      var bytes = [UInt8](repeating: 1, count: 64)
      #expect(message { try bytes.withUnsafeBytes { try device.write($0, to: slice) } }.contains("a buffer of another device"))
      #expect(message { try bytes.withUnsafeMutableBytes { try device.read(slice, into: $0) } }.contains("a buffer of another device"))
      #expect(message { _ = try device.prepare([launch(slice)]) }.contains("a buffer of another device"))
    }
  }

  @Test func transfersBeyondASliceAreRefused() throws {
    let device = try CPUDevice(threadCount: 1)
    let slice = BufferSlice(try device.allocate(byteCount: 64), byteOffset: 16, byteCount: 8)
    var bytes = [UInt8](repeating: 7, count: 9)
    #expect(message { try bytes.withUnsafeBytes { try device.write($0, to: slice) } }.contains("write 9 bytes failed with beyond the slice"))
    #expect(message { try bytes.withUnsafeMutableBytes { try device.read(slice, into: $0) } }.contains("read 9 bytes"))
    try bytes[..<8].withUnsafeBytes { try device.write($0, to: slice) }
    var back = [UInt8](repeating: 0, count: 8)
    try back.withUnsafeMutableBytes { try device.read(slice, into: $0) }
    #expect(back == Array(repeating: 7, count: 8))
  }

  @Test func launchesItCannotRunAreRefused() throws {
    let device = try CPUDevice(threadCount: 1)
    let slice = BufferSlice(try device.allocate(byteCount: 64))
    #expect(message { _ = try device.prepare([launch(slice, .gpu)]) }.contains("fill_value of the gpu family, for test failed with no such kernel"))
    #expect(message { _ = try device.prepare([launch(slice, .cpu, "nothing")]) }.contains("no such kernel"))
    #expect(message { _ = try device.prepare([launch(slice, items: 1 << 31)]) }.contains("--batch-size"))
    #expect(message { _ = try device.prepare([launch(slice, items: -1)]) }.contains("a grid of"))
    #expect(message { _ = try device.prepare([launch(slice)]) } == "no error")
  }

  @Test func whatNoMemoryHoldsIsRefused() throws {
    let device = try CPUDevice(threadCount: 1)
    let error = #expect(throws: DeviceError.self) { _ = try device.allocate(byteCount: 1 << 60) }
    #expect(error?.isOutOfMemory == true)
    #expect(throws: DeviceError.self) { _ = try device.allocate(byteCount: .max) }
  }
}
