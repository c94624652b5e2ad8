import Foundation
import GraftGraph

/// Threads that read, hash and decode images ahead of the device.
///
/// Images go in and come out in the same order, through a ring of `window` places with a buffer each: however many images
/// there are, no more than `window` are in memory, and how the threads take turns shows in nothing but the time.
///
/// `@unchecked Sendable`: every stored property that changes is touched under `condition` only. A place's buffer belongs to
/// the thread that took its job until the place is `done`, then to the consumer until it takes the next one.
final class DecodingPool: @unchecked Sendable {
  struct Job: Sendable {
    /// Relative to the data set; the name in the index.
    var path: String
    var label: String?
    var split: String?
    /// Known not to be readable.
    var problem: String?
  }

  enum Outcome: Sendable {
    /// The image lies in the place's buffer.
    case decoded
    /// The store has the features of this content.
    case known
    case broken(String)
    case failed(any Error)
  }

  struct Item: Sendable {
    var job: Job
    var contentHash: String?
    var stamp: SampleRecord.Stamp?
    var outcome: Outcome
  }

  private enum Place {
    case free, waiting(Job), running, done(Item)
  }

  private let condition = NSCondition()
  private var places: [Place]
  private let buffers: UnsafeMutableBufferPointer<UInt8>
  private let imageByteCount: Int
  private var submitted = 0
  private var taken = 0
  private var consumed = 0
  private var running: Int
  private var isStopping = false

  private let root: String
  private let packed: IDXDataSet?
  private let largestFileByteCount: Int
  private let isKnown: @Sendable (String) throws -> Bool
  private let prepare: ViewPreparation

  /// Starts the threads.
  ///
  /// - Parameters:
  ///   - root: the data set's folder.
  ///   - packed: the data set's pictures, where they are no files.
  ///   - isKnown: whether the store has the features of a content; such an image is not decoded.
  init(
    threads: Int, window: Int, imageByteCount: Int, root: String, packed: IDXDataSet? = nil, largestFileByteCount: Int,
    isKnown: @escaping @Sendable (String) throws -> Bool, prepare: @escaping ViewPreparation
  ) {
    places = Array(repeating: .free, count: window)
    buffers = .allocate(capacity: window * imageByteCount)
    buffers.initialize(repeating: 0)
    self.packed = packed
    (self.imageByteCount, self.root, self.largestFileByteCount) = (imageByteCount, root, largestFileByteCount)
    (self.isKnown, self.prepare, running) = (isKnown, prepare, threads)
    for _ in 0..<threads {
      let thread = Thread { [self] in work() }
      thread.name = "graft decode"
      thread.stackSize = 4 << 20
      thread.start()
    }
  }

  deinit { buffers.deallocate() }

  /// Images that were submitted and not taken back.
  var outstanding: Int { condition.withLock { submitted - consumed } }

  var hasRoom: Bool { outstanding < places.count }

  /// Queues an image; there must be room.
  func submit(_ job: Job) {
    condition.withLock {
      precondition(submitted - consumed < places.count, "no place is free")
      places[submitted % places.count] = .waiting(job)
      submitted += 1
      condition.broadcast()
    }
  }

  /// Waits for the oldest image and hands it, with its pixels, to `body`; its place is free afterwards.
  func next<Result>(_ body: (Item, UnsafeBufferPointer<UInt8>) throws -> Result) rethrows -> Result {
    let place = consumed % places.count
    let item: Item = condition.withLock {
      precondition(consumed < submitted, "nothing was submitted")
      while true {
        if case .done(let item) = places[place] { return item }
        condition.wait()
      }
    }
    defer {
      condition.withLock {
        places[place] = .free
        consumed += 1
      }
    }
    return try body(item, UnsafeBufferPointer(buffer(place)))
  }

  /// Ends the threads and waits for them: they use what the caller owns.
  func stop() {
    condition.withLock {
      isStopping = true
      condition.broadcast()
      while running > 0 { condition.wait() }
    }
  }

  // MARK: The threads

  private func work() {
    let reader = ImageFileReader(largestByteCount: largestFileByteCount)
    while let (place, job) = take() {
      let item = process(job, reader, buffer(place))
      condition.withLock {
        places[place] = .done(item)
        condition.broadcast()
      }
    }
    condition.withLock {
      running -= 1
      condition.broadcast()
    }
  }

  private func take() -> (Int, Job)? {
    condition.withLock {
      while !isStopping {
        let place = taken % places.count
        if taken < submitted, case .waiting(let job) = places[place] {
          places[place] = .running
          taken += 1
          return (place, job)
        }
        condition.wait()
      }
      return nil
    }
  }

  private func process(_ job: Job, _ reader: ImageFileReader, _ pixels: UnsafeMutableBufferPointer<UInt8>) -> Item {
    var item = Item(job: job, outcome: .decoded)
    if let problem = job.problem {
      item.outcome = .broken(problem)
      return item
    }
    do {
      try withBytes(job.path, reader) { bytes, stamp in
        item.stamp = stamp
        let hash = ContentHash.of(bytes)
        item.contentHash = hash
        if try isKnown(hash) {
          item.outcome = .known
          return
        }
        do { try prepare(bytes, job.path, hash, pixels) } catch {
          // Whoever shows the reason names the image before it, as the error does.
          let reason = "\(error)", name = job.path + ": "
          item.outcome = .broken(reason.hasPrefix(name) ? String(reason.dropFirst(name.count)) : reason)
        }
      }
    } catch ImageFileReader.Failure.file(let reason) {
      item.outcome = .broken(reason)
    } catch ImageFileReader.Failure.system(let error) {
      item.outcome = .failed(error)
    } catch {
      item.outcome = .failed(error)
    }
    return item
  }

  private func withBytes(_ path: String, _ reader: ImageFileReader, _ body: (UnsafeRawBufferPointer, SampleRecord.Stamp?) throws -> Void) throws {
    guard let packed else { return try reader.withFile(root + "/" + path, body) }
    guard let file = packed.file(path) else { throw ImageFileReader.Failure.file("the data set has no such picture") }
    try file.bytes.withUnsafeBytes { try body($0, file.stamp) }
  }

  private func buffer(_ place: Int) -> UnsafeMutableBufferPointer<UInt8> {
    UnsafeMutableBufferPointer(rebasing: buffers[place * imageByteCount..<(place + 1) * imageByteCount])
  }
}
