import Foundation
import GraftGraph

/// Writes the rows of one shard as they come, to a temporary file; nothing of it is in memory but a piece of rows.
final class ShardWriter {
  let id: Int
  private(set) var rows = 0
  private let file: AtomicFile
  private let key: FeatureKey
  private let headerByteCount: Int
  private var pending: [UInt8] = []

  private static let pieceByteCount = 1 << 18

  init(store: String, id: Int, key: FeatureKey) throws {
    (self.id, self.key) = (id, key)
    file = try AtomicFile(
      replacing: "\(store)/\(Shard.folderName)/\(Shard.fileName(id: id))", temporaryName: Shard.temporaryName(id: id))
    let header = NpyHeader(elementType: key.featureType, shape: [0] + key.cutShape).encoded()
    headerByteCount = header.count
    try header.withUnsafeBytes { try file.append($0) }
    pending.reserveCapacity(Self.pieceByteCount + key.featureCount * key.featureType.byteCount)
  }

  /// Adds a row; its numbers must be finite in the shard's format.
  func append(_ row: UnsafeBufferPointer<Float>) throws {
    precondition(row.count == key.featureCount, "a row of \(row.count) numbers in a shard of rows of \(key.featureCount)")
    if key.featureType == .float16 {
      for value in row { withUnsafeBytes(of: HalfPrecision.half(fromFloat: value).littleEndian) { pending.append(contentsOf: $0) } }
    } else {
      pending.append(contentsOf: UnsafeRawBufferPointer(row))
    }
    rows += 1
    if pending.count >= Self.pieceByteCount { try flush() }
  }

  private func flush() throws {
    try pending.withUnsafeBytes { try file.append($0) }
    pending.removeAll(keepingCapacity: true)
  }

  /// Puts the shard under its name and on the disk; from then on the index may name it.
  func finish(step: (StoreStep) throws -> Void) throws -> Shard {
    try flush()
    let header = NpyHeader(elementType: key.featureType, shape: [rows] + key.cutShape).encoded()
    precondition(header.count == headerByteCount, "a .npy header that grew with its rows")
    try header.withUnsafeBytes { try file.write($0, at: 0) }
    let sha256 = try ContentHash.of(file)
    try step(.beforeRename)
    try file.commit()
    try step(.afterRename)
    return Shard(id: id, file: "\(Shard.folderName)/\(Shard.fileName(id: id))", rows: rows, sha256: sha256)
  }
}

/// The moments of a commit, for tests that end the process there.
package enum StoreStep: String, Sendable, CaseIterable {
  case rowsWritten, beforeRename, afterRename, insideTransaction, afterCommit
}
