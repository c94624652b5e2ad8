import Foundation
import GraftGraph

/// A file `shards/000000.npy` of `[rows, cut shape]`, as the index knows it.
struct Shard: Equatable {
  static let folderName = "shards"

  var id: Int
  /// Relative to the store's folder.
  var file: String
  var rows: Int
  var sha256: String

  static func fileName(id: Int) -> String {
    let digits = String(id)
    return String(repeating: "0", count: max(0, 6 - digits.count)) + digits + ".npy"
  }

  static func temporaryName(id: Int) -> String { ".\(fileName(id: id)).part" }

  /// Whether a file of this name in `shards/` is one that a writer made: only such are ever removed.
  static func isOurs(_ name: String) -> Bool {
    var name = Substring(name)
    if name.hasPrefix("."), name.hasSuffix(".npy.part") { name = name.dropFirst().dropLast(5) }
    guard name.hasSuffix(".npy") else { return false }
    let digits = name.dropLast(4)
    return digits.utf8.count >= 6 && digits.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
  }

  /// The number in the name of a file that is ours.
  static func id(_ name: String) -> Int { Int(name.filter(\.isNumber)) ?? 0 }

  /// Maps the shard and checks that it is, by its header and size, the one the index names.
  ///
  /// - Returns: the file and where its first row begins.
  /// - Throws: `StoreError` that names the file.
  func map(store: String, key: FeatureKey) throws -> (bytes: HostBytes, dataOffset: Int) {
    let path = store + "/" + file
    let bytes: HostBytes
    do {
      bytes = try HostBytes(mapping: path)
    } catch let error as FileError where error.code == ENOENT {
      throw StoreError.damaged(path, "the shard is missing", source: key.source)
    }
    return try bytes.withUnsafeBytes { content in
      let header: NpyHeader
      do { header = try NpyHeader(parsing: content, path: path) } catch let error as NpyError {
        throw StoreError.damaged(path, "the shard is damaged: \(error.reason)", source: key.source)
      }
      guard header.element == .number(key.featureType), !header.isBigEndian, !header.isFortranOrder, header.shape == [rows] + key.cutShape else {
        throw StoreError.damaged(
          path, "the shard is damaged: its header is not that of \(rows) rows of \(key.cutShape) in \(key.featureType)", source: key.source)
      }
      let needed = try header.dataByteCount(path: path)
      guard content.count - header.dataOffset == needed else {
        throw StoreError.damaged(
          path, "the shard is damaged: it has \(content.count) bytes, and its \(rows) rows take \(needed) after a header of \(header.dataOffset)",
          source: key.source)
      }
      return (bytes, header.dataOffset)
    }
  }
}
