import Foundation

/// What a device can do at most, as measured on it: the limits that kernels are compared with.
///
/// Arithmetic: float32 multiply-adds on registers alone, by all threads (a multiply-add counts as two operations). Memory: arrays
/// that are read, and the triad a = b + s·c (McCalpin, STREAM; 12 bytes an element are counted, not the line a write may read
/// first). Each figure is the best of many short runs, since whatever disturbs a run makes it slower. Where cores share nothing
/// (arithmetic, their own caches), the native CPU device also counts the processor time that its threads got, divided by their
/// number: a core which another program holds for the moment is not a slow one.
public struct DevicePeak: Sendable, Equatable {
  /// Bytes a second over an array of one size.
  public struct Bandwidth: Sendable, Equatable {
    public let workingSetByteCount: Int
    public let readGigabytesPerSecond: Double
    public let triadGigabytesPerSecond: Double

    public init(workingSetByteCount: Int, readGigabytesPerSecond: Double, triadGigabytesPerSecond: Double) {
      self.workingSetByteCount = workingSetByteCount
      (self.readGigabytesPerSecond, self.triadGigabytesPerSecond) = (readGigabytesPerSecond, triadGigabytesPerSecond)
    }

    /// The faster of the two.
    public var gigabytesPerSecond: Double { max(readGigabytesPerSecond, triadGigabytesPerSecond) }
  }

  public let gigaflopsPerSecond: Double
  /// Smallest array first: within the caches next to the cores, within those they share, and in memory.
  public let bandwidths: [Bandwidth]
  /// How long the measurement took.
  public let seconds: Double

  public init(gigaflopsPerSecond: Double, bandwidths: [Bandwidth], seconds: Double = 0) {
    (self.gigaflopsPerSecond, self.bandwidths, self.seconds) = (gigaflopsPerSecond, bandwidths, seconds)
  }

  /// The fastest that so many bytes can be passed over again and again: the best figure of an array at least as large.
  public func gigabytesPerSecond(workingSetByteCount: Double) -> Double {
    let held = bandwidths.filter { Double($0.workingSetByteCount) >= workingSetByteCount }
    return (held.isEmpty ? bandwidths.suffix(1) : held[...]).reduce(0) { max($0, $1.gigabytesPerSecond) }
  }

  /// What bounds a piece of work from below.
  public enum Limit: String, Sendable, Codable { case arithmetic, memory }

  /// The least time the device allows for so much arithmetic and so many bytes that have to move, and which of the two sets it.
  ///
  /// A method that needs less arithmetic than was counted (Winograd's convolution) can be faster than this.
  public func allowed(flops: Double, bytes: Double) -> (seconds: Double, limit: Limit) {
    let arithmetic = flops / (gigaflopsPerSecond * 1e9)
    let memory = bytes / (gigabytesPerSecond(workingSetByteCount: bytes) * 1e9)
    return arithmetic >= memory ? (arithmetic, .arithmetic) : (memory, .memory)
  }

  /// The allowed time in per cent of the time it took.
  public func percentOfLimit(flops: Double, bytes: Double, seconds: Double) -> Double {
    seconds > 0 ? 100 * allowed(flops: flops, bytes: bytes).seconds / seconds : 0
  }
}

extension DevicePeak {
  /// Measures the device, in a fraction of a second once its programs are compiled.
  ///
  /// - Parameter family: the kernels to measure with; by default those that suit the kind of device, whatever it runs otherwise:
  ///   limits are the device's own.
  /// - Throws: `DeviceError` or `BuildError`.
  public static func measure(on device: any Device, family: KernelFamily? = nil) throws -> DevicePeak {
    let begin = ContinuousClock.now
    let kernels = PeakKernels(device, family: family ?? (device as? OpenCLDevice)?.info.preferredFamily ?? .cpu)
    let areas = workingSetSizes(kernels).enumerated().map { index, byteCount in
      // The smallest: shares that a worker keeps in its own cache while it walks over them, four for each, one after the other,
      // so that nobody waits long for the slowest. The others: all shares in turn.
      index == 0
        ? (area: kernels.area(byteCount: 4 * byteCount, shares: 4 * kernels.workers), workingSetByteCount: byteCount, isPrivate: true)
        : (area: kernels.area(byteCount: byteCount, shares: 16 * kernels.workers), workingSetByteCount: byteCount, isPrivate: false)
    }
    let result = BufferSlice(
      try device.allocate(byteCount: 4 * max(kernels.multiplyAddItems, areas.reduce(0) { max($0, $1.area.items) })))
    // An OpenCL driver may compute elsewhere than in threads of this process.
    let ownThreadCount = device.traits.kind == .cpu ? device.traits.threadCount : nil
    let arithmetic = try bestRate(on: device, threadCount: ownThreadCount) { repeats in
      [kernels.multiplyAdd(repeats: 1024 * repeats, into: result)]
    }

    let memory = BufferSlice(try device.allocate(byteCount: areas.reduce(0) { max($0, $1.area.byteCount) }))
    try device.prepare([kernels.fill(memory, value: 1)]).enqueue()
    let bandwidths = try areas.map { area, workingSetByteCount, isPrivate in
      // In the CPU family a work-item walks over the same share again: where that is not to stay in the core's own cache, the
      // next walk is another launch. In the GPU family shares change places from walk to walk.
      let repeatsInside = isPrivate || kernels.family == .gpu
      func rate(_ launch: (Int) -> Launch) throws -> Double {
        try bestRate(on: device, threadCount: isPrivate ? ownThreadCount : nil) { repeats in
          repeatsInside ? [launch(repeats)] : Array(repeating: launch(1), count: repeats)
        }
      }
      return Bandwidth(
        workingSetByteCount: workingSetByteCount,
        readGigabytesPerSecond: try rate { kernels.read(area, of: memory, repeats: $0, into: result) } / 1e9,
        triadGigabytesPerSecond: try rate { kernels.triad(area, of: memory, repeats: $0) } / 1e9)
    }
    return DevicePeak(gigaflopsPerSecond: arithmetic / 1e9, bandwidths: bandwidths, seconds: seconds(since: begin))
  }

  /// Bytes of the arrays: what stays next to each core (256 KiB: a part of a second-level cache), what
  /// stays in the cache they share, and much more than that.
  private static func workingSetSizes(_ kernels: PeakKernels) -> [Int] {
    let mebibyte = 1 << 20
    let traits = kernels.device.traits
    let most = min(traits.memoryByteCount / 8, traits.maximumBufferByteCount) / 2
    let wanted =
      switch kernels.family {
      case .cpu:
        [
          kernels.workers * mebibyte / 4, traits.lastCacheByteCount > 0 ? traits.lastCacheByteCount / 4 : kernels.workers * 4 * mebibyte,
          min(max(256 * mebibyte, 8 * traits.lastCacheByteCount), 1024 * mebibyte),
        ]
      case .gpu: [4 * mebibyte, 32 * mebibyte, min(max(128, 2 * kernels.workers), 1024) * mebibyte]
      }
    return wanted.map { max(min($0, most), mebibyte / 4) }.sorted()
  }

  /// Operations or bytes a second of the fastest of many runs of about a millisecond.
  ///
  /// - Parameters:
  ///   - threadCount: threads of this process that compute, where their processor time is to be counted.
  ///   - launches: makes a list that does a piece of work so many times.
  private static func bestRate(on device: any Device, threadCount: Int?, _ launches: (Int) -> [Launch]) throws -> Double {
    let shortest = 0.001, budget = threadCount == nil ? 0.07 : 0.03
    func run(_ prepared: any PreparedLaunches) throws -> Double {
      let begin = ContinuousClock.now
      try prepared.enqueue()
      try device.finish()
      return max(seconds(since: begin), 1e-9)
    }
    var repeats = 1
    while true {
      let list = launches(repeats)
      let prepared = try device.prepare(list)
      // Of three, since one that was disturbed would look long enough.
      var best = min(try run(prepared), try run(prepared), try run(prepared))
      guard best >= shortest || repeats >= 1 << 16 else {
        repeats = min(1 << 16, repeats * Int(max(2, min(64, 1.25 * shortest / best))))
        continue
      }
      // Short and many: on a busy machine, few moments have every core to themselves.
      var total = 3 * best
      while total < budget {
        let time = try run(prepared)
        (best, total) = (min(best, time), total + time)
      }
      if let threadCount, let time = try processorSecondsPerRun(of: list, on: device) { best = min(best, time / Double(threadCount)) }
      return list.reduce(0) { $0 + max($1.flops, $1.bytes) } / best
    }
  }

  /// The processor time of all threads that a list of launches takes: the median of several runs, so that one which the system
  /// accounted for too early or too late does not count. `nil` where the system has no such clock.
  private static func processorSecondsPerRun(of list: [Launch], on device: any Device) throws -> Double? {
    // Long enough for the moment at the end in which threads wait for one another to weigh little.
    let copies = 4
    let prepared = try device.prepare((0..<copies).flatMap { _ in list })
    var times: [Double] = []
    for _ in 0..<9 {
      guard let before = processorSeconds() else { return nil }
      try prepared.enqueue()
      try device.finish()
      guard let after = processorSeconds() else { return nil }
      times.append(max(after - before, 1e-9) / Double(copies))
    }
    return times.sorted()[times.count / 2]
  }

  /// What all threads of this process have computed for until now.
  ///
  /// The system adds a thread's time up when the thread stops; those of a pool stop soon after their work.
  private static func processorSeconds() -> Double? {
    usleep(1000)
    var time = timespec()
    return clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0 ? Double(time.tv_sec) + 1e-9 * Double(time.tv_nsec) : nil
  }

  private static func seconds(since begin: ContinuousClock.Instant) -> Double {
    let duration = (ContinuousClock.now - begin).components
    return Double(duration.seconds) + Double(duration.attoseconds) * 1e-18
  }
}
