import GraftDevice

extension Plan {
  /// Runs again and again, waiting for each: seconds a run.
  ///
  /// - Parameters:
  ///   - seconds: how long to measure; at least three runs are made.
  ///   - warmUp: how long to run before, for the clock of a processor that was idle takes a moment to rise.
  public func runTimes(seconds: Double, warmUp: Double) throws -> [Double] {
    let clock = ContinuousClock()
    func once() throws -> Double {
      let begin = clock.now
      try run()
      try device.finish()
      return (clock.now - begin).inSeconds
    }
    let warm = clock.now
    repeat { _ = try once() } while (clock.now - warm).inSeconds < warmUp
    var times: [Double] = []
    let start = clock.now
    while (clock.now - start).inSeconds < seconds || times.count < 3 { times.append(try once()) }
    return times
  }

  /// Profiles again and again: the median time of each launch.
  ///
  /// - Parameter seconds: how long to measure; at least three runs are made.
  public func medianProfile(seconds: Double) throws -> [Timing] {
    let start = ContinuousClock.now
    var runs: [[Timing]] = []
    while (ContinuousClock.now - start).inSeconds < seconds || runs.count < 3 { runs.append(try profile()) }
    return runs[0].enumerated().map { index, timing in
      let sorted = runs.map { $0[index].seconds }.sorted()
      return Timing(
        label: timing.label, kernel: timing.kernel, seconds: sorted[sorted.count / 2], flops: timing.flops, bytes: timing.bytes)
    }
  }
}

extension Duration {
  package var inSeconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
