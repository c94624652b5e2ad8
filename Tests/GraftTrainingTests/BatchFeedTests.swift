import Foundation
import GraftData
import GraftDevice
import GraftGraph
import GraftTraining
import Synchronization
import Testing

/// Batches made ready by another thread: the same bytes, errors in their place, and an end that waits for nobody else.
@Suite struct BatchFeedTests {
  /// Samples of four bytes: number, epoch, number, 7; one of them may be broken, and each may take its time.
  private final class Numbers: TrainingSamples {
    let count: Int
    let broken: Int?
    let milliseconds: Int
    let written = Atomic<Int>(0)
    var sampleByteCount: Int { 4 }
    var labels: [Int] { (0..<count).map { $0 % 3 } }

    init(_ count: Int, broken: Int? = nil, milliseconds: Int = 0) { (self.count, self.broken, self.milliseconds) = (count, broken, milliseconds) }

    struct Broken: Error, Equatable { let sample: Int }

    func write(_ samples: [Int], epoch: Int?, into target: UnsafeMutableRawBufferPointer) throws {
      usleep(UInt32(milliseconds * 1000))
      for (place, sample) in samples.enumerated() {
        if sample == broken { throw Broken(sample: sample) }
        for (offset, value) in [sample, epoch ?? 99, sample, 7].enumerated() { target[place * 4 + offset] = UInt8(value) }
      }
      written.add(samples.count, ordering: .relaxed)
    }
  }

  private func feed(_ samples: Numbers, batch: Int = 4) -> (BatchFeed, [[Int]]) {
    let batches = stride(from: 0, to: samples.count, by: batch).map { Array($0..<min($0 + batch, samples.count)) }
    return (BatchFeed(samples, batches: batches, batchSize: batch, epoch: 5), batches)
  }

  @Test(arguments: [0, 3], [1, 4, 5, 17])
  func handsOutEveryBatchInOrder(milliseconds: Int, count: Int) throws {
    let (feed, batches) = feed(Numbers(count, milliseconds: milliseconds))
    for batch in batches {
      let bytes = try #require(try feed.next())
      #expect(bytes.count == 16)
      // Beyond a batch that is shorter there are zeros, whatever was there before.
      #expect(Array(bytes) == batch.flatMap { [UInt8($0), 5, UInt8($0), 7] } + [UInt8](repeating: 0, count: 16 - 4 * batch.count))
    }
    #expect(try feed.next() == nil)
    #expect(try feed.next() == nil)
  }

  @Test func oneBatchIsAheadAndNoMore() throws {
    let samples = Numbers(40), (feed, _) = feed(samples)
    _ = try feed.next()
    let deadline = ContinuousClock.now + .seconds(5)
    while samples.written.load(ordering: .relaxed) < 8, ContinuousClock.now < deadline { usleep(1000) }
    usleep(20_000)
    #expect(samples.written.load(ordering: .relaxed) == 8)
    feed.stop()
    #expect(try feed.next() == nil)
  }

  @Test func anErrorArrivesAtItsBatch() throws {
    let (feed, _) = feed(Numbers(12, broken: 9))
    _ = try feed.next()
    _ = try feed.next()
    #expect(throws: Numbers.Broken(sample: 9)) { try feed.next() }
    feed.stop()
  }

  @Test func stopsInTheMiddle() throws {
    let samples = Numbers(400, milliseconds: 20), (feed, _) = feed(samples)
    _ = try feed.next()
    feed.stop()
    let written = samples.written.load(ordering: .relaxed)
    #expect(written == 8)
    usleep(50_000)
    #expect(samples.written.load(ordering: .relaxed) == written)
  }

  @Test func noBatchesAreNothing() throws {
    let (feed, _) = feed(Numbers(0))
    #expect(try feed.next() == nil)
    feed.stop()
  }

  /// A run that is cancelled ends at once, and one whose samples cannot be read says so.
  @Test func trainingEndsWithCancellationAndWithErrors() throws {
    let network = TrainingProgramTests.byteNetwork()
    func trainer(_ samples: any TrainingSamples) throws -> Trainer {
      let options = TrainingOptions(learningRate: 0.01, epochs: 3, batchSize: 4)
      return try Trainer(TrainingProgram(network, options: options, device: CPUDevice()), training: samples, validation: nil)
    }
    final class Slow: TrainingSamples {
      let breaks: Bool
      init(breaks: Bool) { self.breaks = breaks }
      var count: Int { 40 }
      var sampleByteCount: Int { 108 }
      var labels: [Int] { (0..<40).map { $0 % 3 } }
      func write(_ samples: [Int], epoch: Int?, into target: UnsafeMutableRawBufferPointer) throws {
        usleep(2000)
        if breaks, epoch == 2 { throw CocoaError(.fileReadNoSuchFile) }
        for place in target.indices { target[place] = UInt8(truncatingIfNeeded: place) }
      }
    }
    let flag = CancellationFlag(), slow = try trainer(Slow(breaks: false))
    var steps = 0
    #expect(throws: CancelledError.self) {
      try slow.run(
        cancellation: flag,
        onProgress: { _ in
          steps += 1
          if steps == 3 { flag.cancel() }
        })
    }
    #expect(steps == 3)
    let broken = try trainer(Slow(breaks: true))
    #expect(throws: CocoaError.self) { try broken.run() }
    #expect(broken.history.count == 1)
  }
}

extension TrainingProgramTests {
  /// A linear layer on the mean colour of pictures of 6 × 6 bytes.
  static func byteNetwork() -> TrainableNetwork {
    TrainableNetwork(makeGraph: { batch in
      var graph = Graph()
      let x = graph.addInput(TensorType([batch, 3, 6, 6]), name: "x")
      let mean = try graph.add(Reduce(.mean, axes: [2, 3], keepsDimensions: false), [x], name: "mean")
      let w = graph.addConstant(HostTensor([3, 3], byteWeights), name: "weight")
      let b = graph.addConstant(HostTensor([3], [0, 0, 0]), name: "bias")
      graph.outputs = [try graph.add(MatMul(transposeB: true, hasBias: true), [mean, w, b], name: "layer")]
      return try graph.takingImageBytes(scale: [1 / 255, 1 / 255, 1 / 255], shift: [0, 0, 0])
    })
  }

  static let byteWeights: [Float] = [0.9, -0.4, 0.1, -0.2, 0.7, 0.3, 0.2, -0.6, 0.8]
}
