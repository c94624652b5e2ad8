import Dispatch
import Foundation

/// Batches of samples, each written by another thread while the one before it is computed.
///
/// Two pieces of memory take turns. What a batch holds depends on its number alone, and an error is thrown when its batch is asked for.
///
/// Used by one thread. `@unchecked Sendable`: the writing thread has one piece and its result until `next` or `stop` has waited for it.
package final class BatchFeed: @unchecked Sendable {
  private let samples: any TrainingSamples
  private let batches: [[Int]]
  private let epoch: Int?
  private let change: @Sendable (_ index: Int, _ filled: UnsafeMutableRawBufferPointer) -> Void
  private let buffers: [UnsafeMutableRawBufferPointer]
  private var results: [Result<Void, any Error>] = [.success(()), .success(())]
  private let queue = DispatchQueue(label: "graft.batches", qos: .userInitiated)
  private var pending: DispatchWorkItem?
  private var index = 0

  /// Begins with the first batch.
  ///
  /// - Parameters:
  ///   - batches: the samples of each, `batchSize` at most.
  ///   - change: may change what a batch's samples have written, by the batch's number.
  package init(
    _ samples: any TrainingSamples, batches: [[Int]], batchSize: Int, epoch: Int?,
    change: @escaping @Sendable (_ index: Int, _ filled: UnsafeMutableRawBufferPointer) -> Void = { _, _ in }
  ) {
    (self.samples, self.batches, self.epoch, self.change) = (samples, batches, epoch, change)
    let byteCount = batchSize * samples.sampleByteCount
    buffers = (0..<min(2, batches.count)).map { _ in
      let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: 64)
      buffer.initializeMemory(as: UInt8.self, repeating: 0)
      return buffer
    }
    begin()
  }

  deinit { for buffer in buffers { buffer.deallocate() } }

  /// Waits for the next batch and begins with the one after it; `nil` after the last.
  ///
  /// - Returns: `batchSize` samples; beyond a batch that is shorter, zeros. They stay until the next call.
  package func next() throws -> UnsafeRawBufferPointer? {
    guard index < batches.count else { return nil }
    pending?.wait()
    pending = nil
    let place = index % 2
    index += 1
    try results[place].get()
    begin()
    return UnsafeRawBufferPointer(buffers[place])
  }

  /// Waits until nobody writes any more: at most for one batch.
  package func stop() {
    pending?.wait()
    (pending, index) = (nil, batches.count)
  }

  private func begin() {
    guard index < batches.count else { return }
    let number = index
    let item = DispatchWorkItem { [self] in results[number % 2] = Result { try write(number) } }
    pending = item
    queue.async(execute: item)
  }

  private func write(_ number: Int) throws {
    let buffer = buffers[number % 2], chosen = batches[number]
    let filled = UnsafeMutableRawBufferPointer(rebasing: buffer[..<(chosen.count * samples.sampleByteCount)])
    try samples.write(chosen, epoch: epoch, into: filled)
    change(number, filled)
    UnsafeMutableRawBufferPointer(rebasing: buffer[filled.count...]).initializeMemory(as: UInt8.self, repeating: 0)
  }
}
