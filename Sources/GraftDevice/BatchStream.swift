/// A list of launches that batch after batch goes through: bytes come in, the launches run, a result goes out.
///
/// Where the device can, one batch is on its way in and another on its way out while a third is computed, and nobody waits but
/// `collect`. Used by one thread at a time. After an error the stream is of no more use.
public protocol BatchStream: AnyObject {
  /// Batches that may be submitted and not yet collected.
  var depth: Int { get }
  /// Begins a batch; fewer than `depth` must be under way, and there must be a byte each way.
  ///
  /// - Parameters:
  ///   - bytes: the first bytes of the launches' input; the caller may change them afterwards. What follows keeps what it had.
  ///   - resultByteCount: how many of the result's first bytes are wanted.
  func submit(_ bytes: UnsafeRawBufferPointer, resultByteCount: Int) throws(DeviceError)
  /// Whether `collect` would return at once, as far as can be told without waiting.
  func isFirstDone() -> Bool
  /// Waits for the batch that was submitted first of those not collected, and copies its result.
  func collect(into result: UnsafeMutableRawBufferPointer) throws(DeviceError)
}

extension Device {
  /// A stream of batches through prepared launches, which read `input` and write `output`.
  ///
  /// By default each batch is done when it is collected, one at a time.
  public func stream(_ launches: any PreparedLaunches, input: BufferSlice, output: BufferSlice) throws(DeviceError) -> any BatchStream {
    DirectStream(self, launches, input: input, output: output)
  }

  /// How many times this side has waited for the device so far; 0 where a device computes in the caller's time.
  public var hostWaitCount: Int { 0 }
}

/// A stream for devices that do one thing after the other.
final class DirectStream: BatchStream {
  let depth = 1
  private let device: any Device
  private let launches: any PreparedLaunches
  private let input, output: BufferSlice
  /// Bytes at the input's beginning that something was written to.
  private var writtenByteCount = 0

  init(_ device: any Device, _ launches: any PreparedLaunches, input: BufferSlice, output: BufferSlice) {
    (self.device, self.launches, self.input, self.output) = (device, launches, input, output)
  }

  func submit(_ bytes: UnsafeRawBufferPointer, resultByteCount: Int) throws(DeviceError) {
    try device.write(bytes, to: input)
    writtenByteCount = max(writtenByteCount, bytes.count)
    if writtenByteCount < input.byteCount {
      // Never computed with what memory happens to hold.
      let rest = BufferSlice(input.buffer, byteOffset: input.byteOffset + writtenByteCount, byteCount: input.byteCount - writtenByteCount)
      let zeros = [UInt8](repeating: 0, count: rest.byteCount)
      try withBytes(of: zeros) { zeros throws(DeviceError) in try device.write(zeros, to: rest) }
      writtenByteCount = input.byteCount
    }
    try launches.enqueue()
  }

  func isFirstDone() -> Bool { true }

  func collect(into result: UnsafeMutableRawBufferPointer) throws(DeviceError) { try device.read(output, into: result) }

  /// `withUnsafeBytes` with the error's type.
  private func withBytes(
    of bytes: [UInt8], _ body: (UnsafeRawBufferPointer) throws(DeviceError) -> Void
  ) throws(DeviceError) {
    let result = bytes.withUnsafeBytes { raw in
      Result { () throws(DeviceError) in try body(raw) }
    }
    try result.get()
  }
}
