import GraftDevice
import Testing

/// What becomes of calls that fail: which call, which status, what to do; and nothing hangs or leaks.
@Suite(.needsOpenCL) struct OpenCLFailureTests {
  private let failures = CallFailures()

  private func network() throws -> (device: OpenCLDevice, launches: any PreparedLaunches, x: BufferSlice, y: BufferSlice) {
    let device = try OpenCLSupport.device(TestKernel.sources, failures: failures)
    let x = BufferSlice(try device.upload([Float](repeating: 1, count: 64))), y = BufferSlice(try device.upload([Float](repeating: 0, count: 64)))
    return (device, try device.prepare([TestKernel.accumulate(x, y, count: 64, factor: 0)]), x, y)
  }

  private func submit(_ stream: any BatchStream) throws {
    try [Float](repeating: 2, count: 64).withUnsafeBytes { try stream.submit($0, resultByteCount: 256) }
  }

  private func collect(_ stream: any BatchStream) throws -> [Float] {
    var result = [Float](repeating: 0, count: 64)
    try result.withUnsafeMutableBytes { try stream.collect(into: $0) }
    return result
  }

  /// Every call of a batch, failing in the second one.
  @Test(
    arguments: [
      "clEnqueueWriteBuffer", "clEnqueueCopyBuffer", "clEnqueueNDRangeKernel", "clEnqueueReadBuffer", "clWaitForEvents",
    ], [(-36 as Int32, "CL_INVALID_COMMAND_QUEUE", "The device stopped"), (-4, "CL_MEM_OBJECT_ALLOCATION_FAILURE", "--batch-size")])
  func aStreamsErrorNamesTheCall(_ call: String, _ status: (code: Int32, name: String, remedy: String)) throws {
    let (device, launches, x, y) = try network()
    do {
      let stream = try device.stream(launches, input: x, output: y)
      try submit(stream)
      #expect(try collect(stream).allSatisfy { $0 == 2 })
      failures.fail(call, status: status.code)
      let error = #expect(throws: DeviceError.self) {
        try submit(stream)
        _ = try collect(stream)
      }
      // The end of a wait is told as the command waited for.
      #expect(error?.call.hasPrefix(call == "clWaitForEvents" ? "clEnqueueReadBuffer" : call) == true, "\(String(describing: error))")
      #expect(error?.name == status.name && error?.code == Int(status.code) && error?.description.contains(status.remedy) == true)
      #expect(error?.isLost == (status.code == -36) && error?.isOutOfMemory == (status.code == -4))
      #expect(error?.device == device.traits.identifier)
    }
    // The device goes on where the failure was a passing one.
    failures.fail(call, status: 0, times: 0)
    let stream = try device.stream(launches, input: x, output: y)
    try submit(stream)
    try submit(stream)
    for _ in 0..<2 { #expect(try collect(stream).allSatisfy { $0 == 2 }) }
  }

  /// Work that was queued and did not end says nothing of memory, though the status is that of short memory.
  @Test func resourcesThatAreShortWhileOneWaitsAreALostDevice() throws {
    for (call, isLost) in [("clWaitForEvents", true), ("clEnqueueReadBuffer", false)] {
      let (device, launches, x, y) = try network()
      let stream = try device.stream(launches, input: x, output: y)
      failures.fail(call, status: -5)
      let error = #expect(throws: DeviceError.self) {
        try submit(stream)
        _ = try collect(stream)
      }
      #expect(error?.name == "CL_OUT_OF_RESOURCES" && error?.isLost == isLost && error?.isOutOfMemory == !isLost)
      #expect(error?.remedy.contains("The device stopped") == isLost)
      failures.fail(call, status: 0, times: 0)
    }
  }

  /// Memory that the pool keeps is freed before a call counts as failed.
  @Test func shortMemoryIsTriedAgainWithoutThePool() throws {
    let (device, launches, _, y) = try network()
    _ = try device.allocate(byteCount: 1 << 20)
    #expect(device.pooledByteCount > 0)
    failures.fail("clEnqueueNDRangeKernel", status: -4, times: 1)
    try launches.enqueue()
    #expect(device.pooledByteCount == 0)
    #expect(try device.download(y, as: Float(0)).allSatisfy { $0 == 1 })
    _ = try device.allocate(byteCount: 1 << 20)
    failures.fail("clCreateBuffer", status: -4, times: 1)
    #expect(try device.allocate(byteCount: 3 << 20).byteCount == 3 << 20)
    failures.fail("clCreateBuffer", status: -4)
    let error = #expect(throws: DeviceError.self) { try device.allocate(byteCount: 5 << 20) }
    #expect(error?.call.hasPrefix("clCreateBuffer(") == true)
    #expect(error?.isOutOfMemory == true)
  }

  /// A lost device is no compiler's refusal, and the other way round.
  @Test func aBuildThatFailsSaysWhy() throws {
    let device = try OpenCLSupport.device(TestKernel.sources, failures: failures)
    let x = BufferSlice(try device.upload([Float(1)]))
    let launch = TestKernel.accumulate(x, x, count: 1, factor: 1)
    failures.fail("clBuildProgram", status: -36, times: 1)
    let lost = #expect(throws: DeviceError.self) { try device.prepare([launch]) }
    #expect(lost?.call == "clBuildProgram(cpu/test_accumulate.cl)" && lost?.isLost == true)
    failures.fail("clBuildProgram", status: -11, times: 1)
    let refused = #expect(throws: BuildError.self) { try device.prepare([launch]) }
    #expect(refused?.kernel == "cpu/test_accumulate.cl" && refused?.description.contains("clBuildProgram") == true)
    // Neither is remembered.
    try device.prepare([launch]).enqueue()
    try device.finish()
  }
}
