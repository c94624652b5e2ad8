import Foundation
import GraftDevice
import Testing

@Suite(.needsOpenCL) struct OpenCLConcurrencyTests {
  @Test func threadsMayShareADevice() throws {
    let device = try OpenCLSupport.device(TestKernel.sources)
    let count = 4096
    DispatchQueue.concurrentPerform(iterations: 8) { thread in
      do {
        let y = try device.upload([Float](repeating: 0, count: count))
        for round in 0..<50 {
          let x = try device.upload([Float](repeating: Float(thread + round), count: count))
          let prepared = try device.prepare([TestKernel.accumulate(BufferSlice(x), BufferSlice(y), count: count, factor: 1)])
          if round % 10 == 9 { _ = try prepared.profile() } else { try prepared.enqueue() }
          if round % 7 == 0 { try device.finish() }
        }
        let expected = Float(50 * thread + 49 * 50 / 2)
        #expect(try device.download(BufferSlice(y), as: Float(0)).allSatisfy { $0 == expected }, "thread \(thread)")
      } catch {
        Issue.record(error)
      }
    }
    #expect(device.programStatistics.compiled == 1)
  }

  /// The driver counts the owners of its objects: a kernel, event or sub-buffer left behind in each round would show.
  ///
  /// A driver may still be letting go of the last commands when `clFinish` returns (PoCL tells who waits before it
  /// releases the event), so the counts are given time to come down; what was left behind never does.
  @Test func preparingLeavesNothingBehind() throws {
    let device = try OpenCLSupport.device(TestKernel.sources)
    let arena = try device.upload([Float](repeating: 0, count: 4096))
    let offset = max(1024, device.info.sliceAlignment)
    func cycle() throws {
      let (x, y) = (BufferSlice(arena), BufferSlice(arena, byteOffset: offset))
      let prepared = try device.prepare([
        TestKernel.accumulate(x, y, count: 8, factor: 1), TestKernel.accumulate(y, x, count: 8, factor: 0),
      ])
      try prepared.enqueue()
    }
    try cycle()
    try device.finish()
    let before = try device.referenceCounts()
    for _ in 0..<1000 { try cycle() }
    try device.finish()
    var after = try device.referenceCounts()
    let deadline = ContinuousClock.now.advanced(by: .seconds(30))
    while after.context > before.context || after.programs > before.programs, ContinuousClock.now < deadline {
      Thread.sleep(forTimeInterval: 0.01)
      after = try device.referenceCounts()
    }
    #expect(after.context <= before.context && after.programs <= before.programs, "\(before), then \(after)")
    #expect(before.programs > 0 && before.context > 0)
  }
}
