import Foundation
import GraftGraph

/// One extraction under way: fills batches from the decoding threads, runs them, and hands rows and samples to the store.
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

  init(scan: ScanTable, writer: FeatureStoreWriter, cancellation: CancellationFlag, strict: Bool, start: ContinuousClock.Instant) {
    (self.scan, self.writer, self.cancellation, self.strict, self.start) = (scan, writer, cancellation, strict, start)
    total = scan.tally.images
    counts.reused = scan.unchanged
    counts.removed = scan.removed
    counts.ignored = scan.tally.ignored
    counts.emptyClasses = scan.tally.emptyClasses
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
    var batch = Batch(compute: compute, imageByteCount: imageByteCount)
    defer { batch.deallocate() }
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
          try take(item, pixels, into: &batch)
        }
        if batch.images.count == compute.batchSize { try flush(&batch, compute) }
        if lastReport.secondsSince > 0.1 {
          report(progress)
          lastReport = .now
        }
      }
      try flush(&batch, compute)
    } catch {
      // What is complete is kept, whatever ended the run; if the disk did, there is nothing to be done.
      try? writer.commit()
      if error is CancelledError { throw CancelledError(remedy: remedy) }
      throw error
    }
    try timing(\.writing) { try writer.commit() }
  }

  private var remedy: String {
    let done = counts.extracted + counts.reused + counts.skipped
    return "\(done) of \(total) images are in \(writer.path). Run the same command again to go on."
  }

  private func checkCancellation() throws {
    if cancellation.isCancelled { throw CancelledError(remedy: "") }
  }

  /// Puts an image into the batch, or settles it at once.
  private func take(_ item: DecodingPool.Item, _ pixels: UnsafeBufferPointer<UInt8>, into batch: inout Batch) throws {
    var sample = SampleRecord(
      path: item.job.path, contentHash: item.contentHash, label: item.job.label, split: item.job.split, stamp: item.stamp)
    switch item.outcome {
    case .failed(let error): throw error
    case .broken(let reason): try skip(sample, reason)
    case .known, .decoded:
      guard let hash = item.contentHash else { return try skip(sample, "its content has no hash") }
      // A copy of an image that is in this batch shares its row; one in the open shard or in the store has its place.
      if batch.join(sample, hash) { return }
      if let place = try writer.place(ofContent: hash) {
        sample.place = place
        counts.reused += 1
        try timing(\.writing) { try writer.record(sample) }
      } else {
        batch.add(sample, hash, pixels)
      }
    }
  }

  private func skip(_ sample: SampleRecord, _ reason: String) throws {
    guard !strict else { throw BrokenImageError(path: sample.path, reason: reason) }
    var sample = sample
    (sample.place, sample.message) = (nil, reason)
    counts.skip(SkippedImage(path: sample.path, reason: reason))
    try timing(\.writing) { try writer.record(sample) }
  }

  private func flush(_ batch: inout Batch, _ compute: any FeatureComputing) throws {
    guard !batch.images.isEmpty else { return }
    try timing(\.device) {
      try compute.features(ofBatch: batch.filledBytes, count: batch.images.count, into: batch.filledRows)
    }
    for (index, image) in batch.images.enumerated() {
      let row = batch.row(index)
      // Only what the store's format can hold is a feature; a number too large for float16 would come back as infinity.
      if let wrong = row.firstIndex(where: { !isStorable($0) }) {
        for sample in image.samples { try skip(sample, "its feature \(wrong) is \(row[wrong]), which \(writer.key.featureType) cannot hold") }
        continue
      }
      try timing(\.writing) {
        let place = try writer.append(row, contentHash: image.contentHash)
        for (copy, sample) in image.samples.enumerated() {
          var sample = sample
          sample.place = place
          if copy == 0 { counts.extracted += 1 } else { counts.reused += 1 }
          try writer.record(sample)
        }
      }
    }
    batch.images.removeAll(keepingCapacity: true)
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

/// Images on their way to the device, and room for their rows.
private struct Batch {
  struct Image {
    var contentHash: String
    /// The sample, and copies of it that came while it was here.
    var samples: [SampleRecord]
  }

  var images: [Image] = []
  private let bytes: UnsafeMutableBufferPointer<UInt8>
  private let rows: UnsafeMutableBufferPointer<Float>
  private let imageByteCount: Int
  private let width: Int

  init(compute: any FeatureComputing, imageByteCount: Int) {
    (self.imageByteCount, width) = (imageByteCount, compute.featureShape.reduce(1, *))
    bytes = .allocate(capacity: compute.batchSize * imageByteCount)
    rows = .allocate(capacity: compute.batchSize * width)
    bytes.initialize(repeating: 0)
    rows.initialize(repeating: 0)
  }

  func deallocate() {
    bytes.deallocate()
    rows.deallocate()
  }

  var filledBytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(bytes)[..<(images.count * imageByteCount)]) }
  var filledRows: UnsafeMutableBufferPointer<Float> { UnsafeMutableBufferPointer(rebasing: rows[..<(images.count * width)]) }

  func row(_ index: Int) -> UnsafeBufferPointer<Float> { UnsafeBufferPointer(rebasing: rows[index * width..<(index + 1) * width]) }

  mutating func join(_ sample: SampleRecord, _ hash: String) -> Bool {
    guard let index = images.firstIndex(where: { $0.contentHash == hash }) else { return false }
    images[index].samples.append(sample)
    return true
  }

  mutating func add(_ sample: SampleRecord, _ hash: String, _ pixels: UnsafeBufferPointer<UInt8>) {
    let target = UnsafeMutableRawPointer(bytes.baseAddress! + images.count * imageByteCount)
    target.copyMemory(from: UnsafeRawPointer(pixels.baseAddress!), byteCount: imageByteCount)
    images.append(Image(contentHash: hash, samples: [sample]))
  }
}
