import Foundation
import GraftDevice
import GraftGraph

/// Turns a folder of images into a store of features, and brings a store up to date with its folder.
///
/// Files go through these steps, each in the data set's order:
///
///     walk → compare with the index by size and times → read and hash → known content? → decode → device → shard → commit
///
/// - A file whose size and times are those in the index is not opened; one whose content is known, under any name, is not
///   decoded. Only contents the store has never seen reach the device.
/// - A label or split that changed with the folders is written anew and costs nothing. A sample whose file has gone leaves
///   the index; its row stays in the store, for when it comes back.
/// - A file that cannot be read is recorded as skipped, with the reason, and tried again by the next run.
/// - Of each image K views are drawn, computed and stored together, view 0 being the image as it is.
/// - Decoding runs ahead of the device by two batches. Memory does not depend on the number of images.
public struct FeatureExtraction {
  private let data: ImageFolder
  private let storePath: String
  private let key: FeatureKey
  private let imageByteCount: Int
  private let options: ExtractionOptions
  private let prepare: ViewPreparation

  /// Extraction of images as a backbone takes them, of each as many views as the key says.
  ///
  /// - Parameters:
  ///   - key: what the features are a function of.
  ///   - pixelLimit: the most pixels a picture may have.
  /// - Throws: `StoreError` if the key asks for views and does not say how they are drawn.
  public init(
    data: ImageFolder, store: String, key: FeatureKey, preprocessing: Preprocessing, pixelLimit: Int = ImageDecoder.defaultPixelLimit,
    options: ExtractionOptions = ExtractionOptions()
  ) throws {
    let decoder = preprocessing.decoder(pixelLimit: pixelLimit), views = key.views
    let drawing = StoredViews(json: key.viewDrawing)
    guard key.views == 1 || drawing != nil else {
      throw StoreError(
        .values, path: store, reason: "\(key.views) views a sample are asked for, and nothing says how they are drawn",
        remedy: "Make the store again, with 'graft extract --views'.")
    }
    (self.data, storePath, self.key, imageByteCount, self.options) = (data, store, key, preprocessing.byteCount, options)
    prepare = { bytes, path, hash, target in
      let image = try decoder.decode(bytes, path: path)
      if let drawing, views > 1 {
        drawing.draw(image, count: views, contentHash: hash, preprocessing: preprocessing, into: target)
      } else {
        preprocessing.apply(to: image, into: target)
      }
    }
  }

  /// Extraction of images that are prepared in a way of one's own; of each there is one view.
  ///
  /// - Parameters:
  ///   - key: what the features are a function of.
  ///   - imageByteCount: bytes of one prepared image: height · width · 3.
  ///   - prepare: decodes a file's bytes and prepares them for the backbone.
  public init(
    data: ImageFolder, store: String, key: FeatureKey, imageByteCount: Int, options: ExtractionOptions = ExtractionOptions(),
    prepare: @escaping ImagePreparation
  ) {
    (self.data, storePath, self.key, self.imageByteCount) = (data, store, key, imageByteCount)
    self.options = options
    self.prepare = { bytes, path, _, target in try prepare(bytes, path, target) }
  }

  /// Extracts what is missing.
  ///
  /// - Parameters:
  ///   - computing: makes the backbone ready; called only if there is an image to look at.
  ///   - progress: called by this thread, at most ten times a second, and at the end.
  /// - Throws: `CancelledError` after `cancellation`, `BrokenImageError` if `strict`; `StoreError`, `FileError`,
  ///   `DataSetError`; what `computing` throws. Rows that were complete by then are committed, unless the disk fails.
  public func run(
    computing: () throws -> any FeatureComputing, cancellation: CancellationFlag = CancellationFlag(),
    progress: (ExtractionProgress) -> Void = { _ in }
  ) throws -> ExtractionSummary {
    try run(computing: computing, cancellation: cancellation, progress: progress, onStep: nil)
  }

  package func run(
    computing: () throws -> any FeatureComputing, cancellation: CancellationFlag, progress: (ExtractionProgress) -> Void,
    onStep: ((StoreStep) throws -> Void)?
  ) throws -> ExtractionSummary {
    let start = ContinuousClock.now
    var facts = options.facts
    facts["data_root"] = FilePath.absolute(data.path)
    let writer = try FeatureStoreWriter(
      path: storePath, key: key, opening: options.opening, split: options.split, shardRows: options.shardRows, facts: facts,
      advice: options.advice)
    writer.onStep = onStep
    writer.longestWait = options.longestUncommitted
    let scan: ScanTable
    do { scan = try ScanTable(data, writer: writer, strict: options.strict, cancellation: cancellation) } catch {
      writer.removeIfNew()
      throw error
    }
    let run = ExtractionRun(scan: scan, writer: writer, cancellation: cancellation, strict: options.strict, start: start)
    let firstPage = try scan.page(after: 0)
    if !firstPage.isEmpty {
      let compute = try computing()
      guard compute.batchSize > 0, compute.featureShape == key.cutShape else {
        throw StoreError(
          .values, path: storePath, reason: "the backbone gives rows of \(compute.featureShape), and rows of \(key.cutShape) were announced",
          remedy: "This is a mistake in the program; please report it.")
      }
      let threads = max(1, options.decodingThreads)
      let index = writer.index
      let pool = DecodingPool(
        threads: threads, window: 2 * max(1, compute.batchSize / key.views) + threads, imageByteCount: imageByteCount * key.views, root: data.path,
        packed: data.packed,
        largestFileByteCount: options.largestFileByteCount, isKnown: { try index.hasFeatures(ofContent: $0) }, prepare: prepare)
      defer { pool.stop() }
      try run.process(firstPage, pool, compute, imageByteCount: imageByteCount * key.views, progress: progress)
    }
    progress(run.progress)
    var summary = run.summary
    try writer.close(isUsable: summary.extracted + summary.reused > 0)
    guard summary.extracted + summary.reused > 0 else {
      if let (image, remedy) = summary.unstorable {
        throw StoreError(
          .values, path: storePath, reason: "no image has features that can be stored; the first, \(image.path): \(image.reason)", remedy: remedy)
      }
      throw DataSetError(
        path: data.path,
        reason: "none of its \(summary.skipped) images can be read; the first, \(summary.skippedImages[0].path): \(summary.skippedImages[0].reason)",
        remedy: "Check that the files are JPEG, PNG, WebP or TIFF images.")
    }
    summary.seconds = start.secondsSince
    return summary
  }
}

extension StoreIndex {
  /// Whether a committed row holds the features of a content.
  func hasFeatures(ofContent hash: String) throws -> Bool {
    try read { db in
      try Int.fetchOne(db.cachedStatement(sql: "SELECT 1 FROM feature WHERE content_sha256 = ?"), arguments: [hash]) != nil
    }
  }
}
