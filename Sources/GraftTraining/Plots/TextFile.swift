import GraftGraph

/// Text files, whole or not at all.
public enum TextFile {
  /// - Throws: `FileError`.
  public static func write(_ text: String, to path: String) throws {
    let file = try AtomicFile(replacing: path)
    try [UInt8](text.utf8).withUnsafeBytes { try file.append($0) }
    try file.commit()
  }
}
