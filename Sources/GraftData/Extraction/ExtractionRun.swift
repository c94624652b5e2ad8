import Foundation
import GraftGraph

/// One extraction under way: fills batches from the decoding threads, runs them, and hands rows and samples to the store.
///
/// Several batches are under way at once, on one device or on several. They end in the order in which they began, and all that
/// was met while a batch was filled is written with it: what comes into the store, and in which order, depends on the data set
/// and the batch's size alone.
final class ExtractionRun {
  private let scan: ScanTable
  private let writer: FeatureStoreWriter
  private let cancellation: CancellationFlag
  private let strict: Bool
  private let start: ContinuousClock.Instant
  private let total: Int
  private var counts = ExtractionSummary()
  private var clock = (decoding: 0.0, device: 0.0, writing: 0.0)
  private var pipelineStart: ContinuousClock.Instant?
  /// Begun and not finished, in order.
  private var underWay: [Batch] = []
  /// Contents whose rows cannot be stored, and why; beyond some number they are computed again.
  private var refusals: [String: String] = [:]
  private static let mostRefusals = 65_536
  private var computingFailed = false
  /// For further batches.
  private var spare: [Batch] = []

  init(scan: ScanTable, writer: FeatureStoreWriter, cancellation: CancellationFlag, strict: Bool, start: ContinuousClock.Instant) {
    (self.scan, self.writer, self.cancellation, self.strict, self.start) = (scan, writer, cancellation, strict, start)
    total = scan.tally.images
    counts.reused = scan.unchanged
    counts.removed = scan.removed
    counts.ignored = scan.tally.ignored
    (counts.emptyClasses, counts.passedOver) = (scan.tally.emptyClasses, scan.tally.passedOver)
    (counts.outside, counts.deadLinks) = (scan.tally.outside, scan.tally.deadLinks)
    (counts.unlabelled, counts.missing) = (scan.tally.unlabelled, scan.tally.missing)
  }

  var summary: ExtractionSummary {
    var summary = counts
    summary.shares = shares
    return summary
  }

  private var shares: TimeShares {
    let elapsed = max(start.secondsSince, .leastNormalMagnitude)
    return TimeShares(decoding: clock.decoding / elapsed, device: clock.device / elapsed, writing: clock.writing / elapsed)
  }

  var progress: ExtractionProgress {
    let done = counts.extracted + counts.reused + counts.skipped
    let elapsed = pipelineStart?.secondsSince ?? 0
    // What was known from the walk took no time; the rest goes on as it went.
    let looked = done - scan.unchanged
    return ExtractionProgress(
      done: done, total: total, extracted: counts.extracted, reused: counts.reused, skipped: counts.skipped,
      imagesPerSecond: elapsed > 0 ? Double(counts.extracted) / elapsed : 0,
      secondsLeft: looked > 0 ? elapsed / Double(looked) * Double(total - done) : done == total ? 0 : nil, shares: shares)
  }

  /// Looks at every image of the scan that is not known to be unchanged, and commits.
  func process(
    _ firstPage: [(position: Int, job: DecodingPool.Job)], _ pool: DecodingPool, _ compute: any FeatureComputing, imageByteCount: Int,
    progress report: (ExtractionProgress) -> Void
  ) throws {
    pipelineStart = .now
    let capacity = max(1, compute.batchSize / writer.key.views), rowCount = writer.key.views * compute.featureShape.reduce(1, *)
    func fresh() -> Batch { spare.popLast() ?? Batch(capacity: capacity, imageByteCount: imageByteCount, rowCount: rowCount) }
    var batch = fresh()
    // Whatever ends the run, nobody may use the batches' memory when they go.
    defer { compute.abandon() }
    do {
      var page = firstPage[...]
      var position = 0
      var isLastPage = false
      var lastReport = ContinuousClock.now
      while true {
        while pool.hasRoom {
          if page.isEmpty, !isLastPage {
            page = try scan.page(after: position)[...]
            isLastPage = page.isEmpty
          }
          guard let next = page.popFirst() else { break }
          position = next.position
          pool.submit(next.job)
        }
        guard pool.outstanding > 0 else { break }
        try checkCancellation()
        let waiting = ContinuousClock.now
        try pool.next { item, pixels in
          clock.decoding += waiting.secondsSince
          try take(item, pixels, into: batch)
        }
        if batch.images.count == capacity || batch.settled.count >= Batch.mostSettled {
          try begin(batch, compute)
          batch = fresh()
        }
        while !underWay.isEmpty, underWay[0].images.isEmpty || compute.isFirstDone { try finishFirst(compute) }
        if lastReport.secondsSince > 0.1 {
          report(progress)
          lastReport = .now
        }
      }
      try begin(batch, compute)
      while !underWay.isEmpty {
        try checkCancellation()
        try finishFirst(compute)
        report(progress)
      }
    } catch {
      // What is complete is kept, whatever ended the run; if the disk did, there is nothing to be done. Who interrupts does not
      // want to wait for what is being computed.
      while !computingFailed, let first = underWay.first, first.images.isEmpty || compute.isFirstDone || !(error is CancelledError) {
        guard (try? finishFirst(compute)) != nil else { break }
      }
      try? writer.commit()
      if error is CancelledError { throw CancelledError(remedy: remedy) }
      throw error
    }
    try timing(\.writing) { try writer.commit() }
  }

  private var remedy: String {
    let done = counts.extracted + counts.reused + counts.skipped
    return "\(done) of \(total) images are in \(writer.path). Run the same command again to go on."
      + (writer.isReplacing ? " Until it has come to its end the store is what it was." : "")
  }

  private func checkCancellation() throws {
    if cancellation.isCancelled { throw CancelledError(remedy: "") }
  }

  /// Puts an image into the batch, or on the list of what needs no computing.
  private func take(_ item: DecodingPool.Item, _ pixels: UnsafeBufferPointer<UInt8>, into batch: Batch) throws {
    let sample = SampleRecord(
      path: item.job.path, contentHash: item.contentHash, label: item.job.label, split: item.job.split, stamp: item.stamp)
    switch item.outcome {
    case .failed(let error): throw error
    case .broken(let reason): try skip(sample, reason, in: batch)
    case .known, .decoded:
      guard let hash = item.contentHash else { return try skip(sample, "its content has no hash", in: batch) }
      // A copy of an image shares its row, which is in the store or will be by the time this batch is written.
      let isUnderWay = batch.holds(hash) || underWay.contains { $0.holds(hash) }
      if try isUnderWay || refusals[hash] != nil || writer.place(ofContent: hash) != nil {
        batch.settled.append(.init(sample: sample))
      } else {
        batch.add(sample, hash, pixels)
      }
    }
  }

  private func skip(_ sample: SampleRecord, _ reason: String, in batch: Batch) throws {
    guard !strict else { throw BrokenImageError(path: sample.path, reason: reason) }
    batch.settled.append(.init(sample: sample, obstacle: reason))
  }

  private func skip(_ sample: SampleRecord, _ reason: String) throws {
    guard !strict else { throw BrokenImageError(path: sample.path, reason: reason) }
    var sample = sample
    (sample.place, sample.message) = (nil, reason)
    counts.skip(SkippedImage(path: sample.path, reason: reason))
    try timing(\.writing) { try writer.record(sample) }
  }

  private func begin(_ batch: Batch, _ compute: any FeatureComputing) throws {
    while !underWay.isEmpty, underWay[0].images.isEmpty || underWay.count(where: { !$0.images.isEmpty }) >= compute.depth {
      try finishFirst(compute)
    }
    underWay.append(batch)
    guard !batch.images.isEmpty else { return }
    try timing(\.device) { try noting { try compute.begin(batch.filledBytes, count: batch.images.count * writer.key.views, into: batch.filledRows) } }
  }

  private func noting(_ computing: () throws -> Void) throws {
    do { try computing() } catch {
      computingFailed = true
      throw error
    }
  }

  /// Waits for the batch that was begun first, and writes all that came with it.
  private func finishFirst(_ compute: any FeatureComputing) throws {
    let batch = underWay[0]
    if !batch.images.isEmpty { try timing(\.device) { try noting { try compute.finishFirst() } } }
    underWay.removeFirst()
    for (index, sample) in batch.images.enumerated() {
      guard let hash = sample.contentHash else { continue }
      let row = batch.row(index)
      // Only what the store's format can hold is a feature; a number too large for float16 would come back as infinity.
      if let wrong = row.firstIndex(where: { !isStorable($0) }) {
        let reason = "its feature \(wrong % writer.key.featureCount) is \(row[wrong]), which \(writer.key.featureType) cannot hold"
        if refusals.count < Self.mostRefusals { refusals[hash] = reason }
        counts.unstorable = counts.unstorable ?? (SkippedImage(path: sample.path, reason: reason), remedy(for: row[wrong]))
        try skip(sample, reason)
        continue
      }
      try timing(\.writing) {
        var sample = sample
        sample.place = try writer.append(row, contentHash: hash)
        counts.extracted += 1
        try writer.record(sample)
      }
    }
    for settled in batch.settled {
      var sample = settled.sample
      if let obstacle = settled.obstacle {
        try skip(sample, obstacle)
      } else if let hash = sample.contentHash, let place = try writer.place(ofContent: hash) {
        sample.place = place
        counts.reused += 1
        try timing(\.writing) { try writer.record(sample) }
      } else {
        // Only a row that was refused is not there.
        try skip(sample, sample.contentHash.flatMap { refusals[$0] } ?? "its features cannot be stored")
      }
    }
    batch.empty()
    spare.append(batch)
  }

  private func remedy(for value: Float) -> String {
    if value.isFinite { return "Store features as float32 (--feature-type float32)." }
    let precision = writer.key.precision == "float32" ? "" : ", or compute in float32 (--precision float32)"
    return "The numbers are the network's: check its weights and the preprocessing\(precision)."
  }

  private func isStorable(_ value: Float) -> Bool {
    // 65,520 is the least that rounds to infinity in float16.
    writer.key.featureType == .float16 ? value.magnitude < 65_520 : value.isFinite
  }

  private func timing<Result>(_ part: WritableKeyPath<(decoding: Double, device: Double, writing: Double), Double>, _ body: () throws -> Result)
    rethrows -> Result
  {
    let start = ContinuousClock.now
    defer { clock[keyPath: part] += start.secondsSince }
    return try body()
  }
}

/// Images on their way to the device, room for their rows, and the samples met meanwhile that need no computing.
private final class Batch {
  struct Settled {
    var sample: SampleRecord
    /// Why it is skipped; `nil` for a copy of a content that has a row, or will have.
    var obstacle: String?
  }

  /// In the order of rows; each with its content's hash.
  private(set) var images: [SampleRecord] = []
  var settled: [Settled] = []
  private var hashes: Set<String> = []
  private let bytes: UnsafeMutableBufferPointer<UInt8>
  private let rows: UnsafeMutableBufferPointer<Float>
  private let imageByteCount: Int
  private let width: Int

  /// So many samples that need no computing are written although the batch is not full.
  static let mostSettled = 4096

  /// - Parameters: images at most, and what each has of bytes and of features; all its views together.
  init(capacity: Int, imageByteCount: Int, rowCount: Int) {
    (self.imageByteCount, width) = (imageByteCount, rowCount)
    bytes = .allocate(capacity: capacity * imageByteCount)
    rows = .allocate(capacity: capacity * rowCount)
    bytes.initialize(repeating: 0)
    rows.initialize(repeating: 0)
  }

  deinit {
    bytes.deallocate()
    rows.deallocate()
  }

  var filledBytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(bytes)[..<(images.count * imageByteCount)]) }
  var filledRows: UnsafeMutableBufferPointer<Float> { UnsafeMutableBufferPointer(rebasing: rows[..<(images.count * width)]) }

  func row(_ index: Int) -> UnsafeBufferPointer<Float> { UnsafeBufferPointer(rebasing: rows[index * width..<(index + 1) * width]) }

  func holds(_ hash: String) -> Bool { hashes.contains(hash) }

  func add(_ sample: SampleRecord, _ hash: String, _ pixels: UnsafeBufferPointer<UInt8>) {
    let target = UnsafeMutableRawPointer(bytes.baseAddress! + images.count * imageByteCount)
    target.copyMemory(from: UnsafeRawPointer(pixels.baseAddress!), byteCount: imageByteCount)
    images.append(sample)
    hashes.insert(hash)
  }

  func empty() {
    images.removeAll(keepingCapacity: true)
    settled.removeAll(keepingCapacity: true)
    hashes.removeAll(keepingCapacity: true)
  }
}
