/// A picture that was not decoded: which, why, and what to do.
public struct ImageError: Error, Sendable, Equatable, CustomStringConvertible {
  public enum Kind: Sendable, Equatable {
    /// The bytes are of no format that is read.
    case unknownFormat
    /// The file ends before the picture does.
    case truncated
    /// The bytes break their format's rules.
    case damaged
    /// A sound file of a kind that is not read.
    case unsupported
    /// The header claims more pixels than are allowed.
    case tooManyPixels
    /// Decoding ran out of memory.
    case outOfMemory
    /// The file could not be opened or read.
    case unreadable
    /// The file is another one than was asked for.
    case changed
  }

  public let path: String
  public let kind: Kind
  /// What is wrong.
  public let what: String
  /// What to do about it.
  public let remedy: String

  public init(path: String, kind: Kind, what: String, remedy: String) {
    (self.path, self.kind, self.what, self.remedy) = (path, kind, what, remedy)
  }

  /// - Throws: if a file's bytes are not those of the hash.
  static func check(_ bytes: UnsafeRawBufferPointer, contentHash: String?, path: String) throws(ImageError) {
    guard let contentHash, ContentHash.of(bytes) != contentHash else { return }
    throw ImageError(path: path, kind: .changed, what: "it is another picture than it was", remedy: "Restore it.")
  }

  public var description: String { "\(path): \(what). \(remedy)" }
}
