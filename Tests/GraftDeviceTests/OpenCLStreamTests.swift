import Foundation
import GraftDevice
import Testing

/// Batches that travel while others are computed.
@Suite(.needsOpenCL) struct OpenCLStreamTests {
  /// y[i] = x[i] added up over many rounds: long enough for transfers to overtake it if they could.
  private static let slow = """
    typedef struct { int count; int rounds; } P;
    __kernel void slow(__global const uchar *x, __global float *y, const P p) {
      int i = get_global_id(0);
      if (i >= p.count) return;
      float sum = 0;
      for (int r = 0; r < p.rounds; r++) sum += (float)x[(i + r) % p.count];
      y[i] = sum;
    }
    """
  private struct Parameters: BitwiseCopyable { var count, rounds: Int32 }

  private static func reference(_ x: [UInt8], rounds: Int) -> [Float] {
    x.indices.map { i in (0..<rounds).reduce(Float(0)) { $0 + Float(x[(i + $1) % x.count]) } }
  }

  private struct Network {
    let device: OpenCLDevice
    let stream: any BatchStream
    let count: Int
    let rounds = 200

    init(count: Int, failures: CallFailures? = nil, margin: Int = 0) throws {
      device = try OpenCLSupport.device(["cpu/test_slow.cl": slow], failures: failures)
      self.count = count
      let input = BufferSlice(try device.allocate(byteCount: count + margin), byteOffset: margin),
        output = try device.upload([Float](repeating: -1, count: count))
      let launches = try device.prepare([
        Launch(
          KernelReference(.cpu, file: "test_slow", function: "slow"), buffers: [input, BufferSlice(output)],
          parameters: Launch.bytes(of: Parameters(count: Int32(count), rounds: Int32(rounds))), grid: Grid(count), label: "slow")
      ])
      stream = try device.stream(launches, input: input, output: BufferSlice(output))
    }

    func batch(_ index: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ index &* 31 &+ $0 >> 5) } }
    func submit(_ bytes: [UInt8], results: Int? = nil) throws {
      try bytes.withUnsafeBytes { try stream.submit($0, resultByteCount: 4 * (results ?? count)) }
    }
    func collect(_ results: Int? = nil) throws -> [Float] {
      var result = [Float](repeating: -2, count: results ?? count)
      try result.withUnsafeMutableBytes { try stream.collect(into: $0) }
      return result
    }
  }

  @Test(arguments: [1, 1000, 40_000]) func everyBatchHasItsOwnResult(count: Int) throws {
    let network = try Network(count: count)
    let batches = 12
    #expect(network.stream.depth == 2)
    var results: [[Float]] = []
    for index in 0..<batches {
      if index >= 2 { results.append(try network.collect()) }
      // The source is free at once.
      var bytes = network.batch(index)
      try network.submit(bytes)
      for place in bytes.indices { bytes[place] = 0xFF }
    }
    while results.count < batches { results.append(try network.collect()) }
    for (index, result) in results.enumerated() {
      #expect(result == Self.reference(network.batch(index), rounds: network.rounds), "batch \(index)")
    }
  }

  /// One wait for each batch at the most, and that where a result two batches old is collected.
  @Test func nothingWaitsInsideABatch() throws {
    let network = try Network(count: 200_000)
    let start = network.device.hostWaitCount
    try network.submit(network.batch(0))
    try network.submit(network.batch(1))
    #expect(network.device.hostWaitCount == start, "submitting waits for nothing")
    for index in 2..<8 {
      _ = try network.collect()
      #expect(network.device.hostWaitCount <= start + index - 1)
      let before = network.device.hostWaitCount
      try network.submit(network.batch(index))
      #expect(network.device.hostWaitCount == before)
    }
    _ = try network.collect()
    while !network.stream.isFirstDone() { usleep(100) }
    let before = network.device.hostWaitCount
    _ = try network.collect()
    #expect(network.device.hostWaitCount == before, "what is done is not waited for")
  }

  /// A short batch moves its own bytes and results; what follows them is an earlier batch's, or zeros.
  @Test func aShortBatchIsPartOfAWholeOne() throws {
    let network = try Network(count: 1000)
    let zeros = [UInt8](repeating: 0, count: 1000)
    let short = Array(network.batch(3)[..<10])
    try network.submit(short, results: 20)
    #expect(try network.collect(20) == Array(Self.reference(short + zeros[10...], rounds: network.rounds)[..<20]))
    try network.submit(network.batch(1))
    try network.submit(short, results: 5)
    #expect(try network.collect() == Self.reference(network.batch(1), rounds: network.rounds))
    #expect(try network.collect(5) == Array(Self.reference(short + network.batch(1)[10...], rounds: network.rounds)[..<5]))
  }

  /// Streams, plain writes and reads share a device from several threads, and streams end with batches under way.
  @Test func streamsShareADevice() throws {
    let device = try OpenCLSupport.device(["cpu/test_slow.cl": Self.slow])
    DispatchQueue.concurrentPerform(iterations: 4) { thread in
      do {
        for round in 0..<5 {
          let count = 3000 + 100 * thread
          let input = BufferSlice(try device.allocate(byteCount: count)), output = BufferSlice(try device.allocate(byteCount: 4 * count))
          let launches = try device.prepare([
            Launch(
              KernelReference(.cpu, file: "test_slow", function: "slow"), buffers: [input, output],
              parameters: Launch.bytes(of: Parameters(count: Int32(count), rounds: 50)), grid: Grid(count), label: "slow")
          ])
          let stream = try device.stream(launches, input: input, output: output)
          func bytes(_ index: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* (index + 3) &+ thread &+ round) } }
          func collect() throws -> [Float] {
            var result = [Float](repeating: -2, count: count)
            try result.withUnsafeMutableBytes { try stream.collect(into: $0) }
            return result
          }
          for index in 0..<6 {
            if index >= 2 { #expect(try collect() == Self.reference(bytes(index - 2), rounds: 50), "thread \(thread), batch \(index)") }
            try bytes(index).withUnsafeBytes { try stream.submit($0, resultByteCount: 4 * count) }
            let other = try device.upload([Int32](repeating: Int32(index), count: 2000))
            #expect(try device.download(BufferSlice(other), as: Int32(0)).allSatisfy { $0 == index })
          }
        }
      } catch {
        Issue.record(error)
      }
    }
    try device.finish()
  }

  @Test func launchesOfAnotherDeviceAreRefused() throws {
    let (one, other) = (try OpenCLSupport.device(TestKernel.sources), try OpenCLSupport.device(TestKernel.sources))
    let x = BufferSlice(try one.upload([Float(1)]))
    let launches = try one.prepare([TestKernel.accumulate(x, x, count: 1, factor: 1)])
    let error = #expect(throws: DeviceError.self) { try other.stream(launches, input: x, output: x) }
    #expect(error?.name == "launches of another device")
  }
}
