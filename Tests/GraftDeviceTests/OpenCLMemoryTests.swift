import Foundation
import GraftDevice
import Testing

@Suite(.needsOpenCL) struct OpenCLMemoryTests {
  @Test func bytesComeBackAsWritten() throws {
    let device = try OpenCLSupport.device()
    for count in [0, 1, 3, 4095, 4096, 4097, 1_000_003] {
      let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
      let buffer = try device.upload(bytes)
      #expect(buffer.byteCount == count)
      #expect(try device.download(BufferSlice(buffer), as: UInt8(0)) == bytes)
    }
  }

  @Test func aSliceIsWrittenAndReadAtItsOffset() throws {
    let device = try OpenCLSupport.device()
    let buffer = try device.upload([UInt8](repeating: 9, count: 20))
    try device.write([1, 2, 3] as [UInt8], to: BufferSlice(buffer, byteOffset: 7, byteCount: 5))
    #expect(try device.download(BufferSlice(buffer, byteOffset: 5, byteCount: 8), as: UInt8(0)) == [9, 9, 1, 2, 3, 9, 9, 9])
  }

  @Test func transfersBeyondASliceAreRefused() throws {
    let device = try OpenCLSupport.device()
    let slice = BufferSlice(try device.allocate(byteCount: 100), byteOffset: 10, byteCount: 4)
    #expect(throws: DeviceError.self) { try device.write([UInt8](repeating: 0, count: 5), to: slice) }
    var five = [UInt8](repeating: 0, count: 5)
    #expect(throws: DeviceError.self) { try five.withUnsafeMutableBytes { try device.read(slice, into: $0) } }
  }

  @Test func aBufferBeyondTheLimitSaysHowLargeOneMayBe() throws {
    let device = try OpenCLSupport.device()
    for count in [device.traits.maximumBufferByteCount + 1, Int.max, -1] {
      #expect { try device.allocate(byteCount: count) } throws: {
        guard let error = $0 as? DeviceError else { return false }
        return error.isOutOfMemory && error.description.contains("largest single buffer") && error.description.contains("--batch-size")
      }
    }
  }

  @Test func freedBuffersAreUsedAgainUpToALimit() throws {
    let device = try OpenCLSupport.device()
    #expect(device.pooledByteCount == 0)
    var buffer: (any DeviceBuffer)? = try device.allocate(byteCount: 1_000_000)
    #expect(device.pooledByteCount == 0)
    buffer = nil
    let kept = device.pooledByteCount
    #expect(kept >= 1_000_000 && kept <= 1_125_000)
    buffer = try device.allocate(byteCount: 990_000)
    #expect(device.pooledByteCount == 0, "a buffer of about that size was there")
    withExtendedLifetime(buffer) {}
    buffer = nil
    #expect(device.pooledByteCount == kept)

    // More than 2 GiB pass through, and at most 512 MiB stay.
    for step in 0..<24 { _ = try device.allocate(byteCount: (96 + step) << 20) }
    #expect(device.pooledByteCount <= 512 << 20)
  }

  /// A reused buffer's new contents must not reach launches queued for its old owner.
  @Test func reuseWaitsItsTurn() throws {
    let device = try OpenCLSupport.device(TestKernel.sources)
    let count = 1 << 18
    let sum = try device.upload([Float](repeating: 0, count: count))
    for round in 0..<20 {
      let values = try device.upload([Float](repeating: Float(round), count: count))
      try device.run([TestKernel.accumulate(BufferSlice(values), BufferSlice(sum), count: count, factor: 1)])
    }
    #expect(try device.download(BufferSlice(sum), as: Float(0)).allSatisfy { $0 == 190 })
  }

  /// Writes while the device is busy go through staging blocks: their source may change at once, and order holds.
  @Test func aWriteLetsItsSourceGo() throws {
    let device = try OpenCLSupport.device(TestKernel.sources)
    let count = 1 << 16
    let (x, y) = (try device.allocate(byteCount: 4 * count), try device.upload([Float](repeating: 0, count: count)))
    let prepared = try device.prepare([TestKernel.accumulate(BufferSlice(x), BufferSlice(y), count: count, factor: 1)])
    var source = [Float](repeating: 0, count: count)
    for round in 1...30 {
      for index in source.indices { source[index] = Float(round + index % 7) }
      // Sizes differ, so that blocks have to grow.
      let part = count / (31 - round)
      try source[..<part].withUnsafeBytes { try device.write($0, to: BufferSlice(x)) }
      try source[part...].withUnsafeBytes { try device.write($0, to: BufferSlice(x, byteOffset: 4 * part)) }
      for index in source.indices { source[index] = -1000 }
      try prepared.enqueue()
    }
    let expected = (0..<count).map { Float(465 + 30 * ($0 % 7)) }
    #expect(try device.download(BufferSlice(y), as: Float(0)) == expected)
  }

  @Test func writesLargerThanAStagingBlockKeepTheirOrder() throws {
    let device = try OpenCLSupport.device(TestKernel.sources)
    let count = 9 << 20
    let x = try device.upload([Float](repeating: 1, count: count))
    try device.run([TestKernel.accumulate(BufferSlice(x), BufferSlice(x), count: count, factor: 1)])
    try device.write([Float](repeating: 8, count: count), to: BufferSlice(x))
    try device.run([TestKernel.accumulate(BufferSlice(x), BufferSlice(x), count: count, factor: 2)])
    #expect(try device.download(BufferSlice(x), as: Float(0)).allSatisfy { $0 == 24 })
  }
}
