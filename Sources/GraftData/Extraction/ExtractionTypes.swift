import Foundation
import GraftDevice

/// What turns batches of images into rows of features: a frozen backbone on a device, or on several.
///
/// A row must depend on its own image alone, bit for bit: not on its neighbours, its place in the batch or the batch's size.
/// Used by one thread.
public protocol FeatureComputing: AnyObject {
  /// The most images of a batch; all views of one image are a batch even where they are more.
  var batchSize: Int { get }
  /// The shape of one row.
  var featureShape: [Int] { get }
  /// Batches that may be begun and not finished, so that whatever computes never waits for this side; at least 1.
  var depth: Int { get }
  /// Computes `rows: [count, featureShape…]` of `bytes: [count, height, width, 3]` in uint8, `count ≥ 1`.
  func features(ofBatch bytes: UnsafeRawBufferPointer, count: Int, into rows: UnsafeMutableBufferPointer<Float>) throws
  /// Begins to compute a batch; both pieces of memory stay as they are until `finishFirst` returns for it, or `abandon`.
  func begin(_ bytes: UnsafeRawBufferPointer, count: Int, into rows: UnsafeMutableBufferPointer<Float>) throws
  /// Whether `finishFirst` would return at once, as far as can be told without waiting.
  var isFirstDone: Bool { get }
  /// Waits until the batch that was begun first, of those not finished, has its rows.
  func finishFirst() throws
  /// Forgets what was begun; nobody touches its memory any more.
  func abandon()
}

/// One batch at a time, computed when it is begun.
extension FeatureComputing {
  public var depth: Int { 1 }
  public func begin(_ bytes: UnsafeRawBufferPointer, count: Int, into rows: UnsafeMutableBufferPointer<Float>) throws {
    try features(ofBatch: bytes, count: count, into: rows)
  }
  public var isFirstDone: Bool { true }
  public func finishFirst() throws {}
  public func abandon() {}
}

/// Decodes and prepares one image; called by several threads at once.
///
/// It gets the file's bytes, a name for messages, and `height * width * 3` bytes to fill, row by row, RGB.
public typealias ImagePreparation = @Sendable (UnsafeRawBufferPointer, String, UnsafeMutableBufferPointer<UInt8>) throws -> Void

/// The same for all views of one image, one after the other: it also gets the hash of the file's content.
typealias ViewPreparation = @Sendable (UnsafeRawBufferPointer, String, _ contentHash: String, UnsafeMutableBufferPointer<UInt8>) throws -> Void

/// How an extraction goes about its work; nothing in it changes a feature's value.
public struct ExtractionOptions: Sendable {
  /// Threads that read and decode.
  public var decodingThreads = ProcessInfo.processInfo.activeProcessorCount
  /// Rows committed at a time; `nil`: 2048. Never more than 64 MiB.
  public var shardRows: Int?
  /// Time after which rows are committed although the shard is not full: the most work that a kill can cost.
  public var longestUncommitted = Duration.seconds(30)
  /// Makes the first image that cannot be read an error, and a table of labels that does not have each image, and a link in a class
  /// folder's place that leads nowhere.
  public var strict = false
  /// How samples are split whose folder does not say; `nil` keeps the store's rule.
  public var split: SplitRule?
  public var opening: StoreOpening = .resuming
  /// Further rows of the table `store`, which features do not depend on: the backbone's path, the program's version.
  public var facts: [String: String] = [:]
  /// How messages call the option that names the store, and what replaces one that holds other features.
  public var advice = (option: "--output", replacing: "give --rebuild")
  /// A file larger than this is skipped, unread.
  public var largestFileByteCount = 1 << 30

  public init() {}

  /// - Parameter backbone: its file, for which heads that are trained on the store look when they see pictures.
  public init(backbone: String) { facts = ["backbone_path": FilePath.absolute(backbone), "backbone_file": FilePath.name(of: backbone)] }
}

/// Where the time of an extraction goes, as shares of 1. The rest is reading the index and passing over known files.
public struct TimeShares: Sendable, Equatable {
  /// Waiting for decoded images: the device had nothing to do.
  public var decoding = 0.0
  public var device = 0.0
  public var writing = 0.0
}

/// How far an extraction is.
public struct ExtractionProgress: Sendable {
  public var done: Int
  public var total: Int
  public var extracted: Int
  public var reused: Int
  public var skipped: Int
  /// Images computed a second.
  public var imagesPerSecond: Double
  /// `nil` until it can be told.
  public var secondsLeft: Double?
  public var shares: TimeShares
}

/// What an extraction did. `extracted + reused + skipped` is the number of images in the data set.
public struct ExtractionSummary: Sendable {
  /// Rows computed.
  public internal(set) var extracted = 0
  /// Images whose row was there already, also under another name.
  public internal(set) var reused = 0
  /// Images that could not be read.
  public internal(set) var skipped = 0
  /// The first of those, in the data set's order; the index has them all.
  public internal(set) var skippedImages: [SkippedImage] = []
  /// The first image whose features the store's format cannot hold, which is no fault of the image, and what to do about it.
  public internal(set) var unstorable: (image: SkippedImage, remedy: String)?
  /// Samples that left the index because their file has gone. Their rows stay and cost nothing if they come back.
  public internal(set) var removed = 0
  /// Files passed over: no image's extension, or outside the class folders.
  public internal(set) var ignored = 0
  /// Class folders without a single image.
  public internal(set) var emptyClasses: [String] = []
  /// Folders beside train, val and test that do not count and hold files.
  public internal(set) var passedOver: [String] = []
  /// Images outside the class folders, which count as ignored.
  public internal(set) var outside = PathTally()
  /// Links that lead nowhere where class folders lie; with `strict` an error.
  public internal(set) var deadLinks: [String] = []
  /// With a table of labels: images it has no row for, which were passed over, and rows whose image is not there.
  public internal(set) var unlabelled = PathTally()
  public internal(set) var missing = PathTally()
  public internal(set) var seconds = 0.0
  public internal(set) var shares = TimeShares()

  static let mostSkippedImagesListed = 100

  mutating func skip(_ image: SkippedImage) {
    skipped += 1
    if skippedImages.count < Self.mostSkippedImagesListed { skippedImages.append(image) }
  }
}

/// An image that cannot be read, where `strict` makes that an error.
public struct BrokenImageError: Error, CustomStringConvertible, Equatable {
  public let path: String
  public let reason: String

  public var description: String {
    "cannot read the image \(path): \(reason). Repair or remove it, or run the same command without --strict to skip such files."
  }
}
