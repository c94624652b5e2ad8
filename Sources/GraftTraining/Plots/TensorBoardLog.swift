import Foundation
import GraftData
import GraftGraph

/// Appends scalars to an event file that TensorBoard reads while training runs.
///
/// Records are framed as TFRecord has it: length, its checksum, data, its checksum; the data is an `Event` of TensorFlow's event.proto.
public final class TensorBoardLog {
  public let path: String
  private let descriptor: Int32

  /// Begins a new file in a folder, which is made if it isn't there: runs in one folder, and a run that goes on, share a curve.
  ///
  /// - Throws: `FileError`.
  public init(folder: String) throws {
    try FolderListing.make(folder)
    let time = Date().timeIntervalSince1970
    path = folder + "/events.out.tfevents.\(Int(time)).graft.\(getpid())"
    descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw FileError(path: path, action: "create", code: errno) }
    try append(TensorBoardRecord.fileVersion(wallTime: time))
  }

  deinit { close(descriptor) }

  /// - Throws: `FileError`.
  public func add(_ scalars: [(tag: String, value: Double)], step: Int, wallTime: Double = Date().timeIntervalSince1970) throws {
    try append(TensorBoardRecord.scalars(scalars, step: step, wallTime: wallTime))
  }

  /// What an epoch gave, by its number.
  public func add(_ record: EpochRecord) throws {
    var scalars = [("loss/train", record.trainLoss)]
    if let top1 = record.trainTop1 { scalars.append(("top1/train", top1)) }
    if let loss = record.validationLoss { scalars.append(("loss/validation", loss)) }
    if let top1 = record.validationTop1 { scalars.append(("top1/validation", top1)) }
    scalars += [("learning_rate", record.learningRate), ("gradient_norm", record.gradientNorm)]
    try add(scalars.map { (tag: $0.0, value: $0.1) }, step: record.epoch)
  }

  private func append(_ event: [UInt8]) throws {
    var rest = TensorBoardRecord.framed(event)[...]
    while !rest.isEmpty {
      let written = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
      if written < 0 {
        if errno == EINTR { continue }
        throw FileError(path: path, action: "write to", code: errno)
      }
      rest = rest.dropFirst(written)
    }
  }
}

/// The bytes of records.
package enum TensorBoardRecord {
  package static func fileVersion(wallTime: Double) -> [UInt8] { double(1, wallTime) + bytes(3, Array("brain.Event:2".utf8)) }

  package static func scalars(_ scalars: [(tag: String, value: Double)], step: Int, wallTime: Double) -> [UInt8] {
    let summary = scalars.flatMap { bytes(1, bytes(1, Array($0.tag.utf8)) + float(2, Float($0.value))) }
    return double(1, wallTime) + key(2, 0) + varint(UInt64(bitPattern: Int64(step))) + bytes(5, summary)
  }

  package static func framed(_ data: [UInt8]) -> [UInt8] {
    let length = little(UInt64(data.count))
    return length + little(masked(length)) + data + little(masked(data))
  }

  /// Rotated and shifted, since checksums of data that hold checksums are weak.
  private static func masked(_ data: [UInt8]) -> UInt32 {
    let crc = CRC32C.checksum(data)
    return ((crc >> 15) | (crc << 17)) &+ 0xa282_ead8
  }

  // Protocol Buffers: a key is the field's number and the kind of what follows.
  private static func key(_ field: UInt64, _ kind: UInt64) -> [UInt8] { varint(field << 3 | kind) }
  private static func double(_ field: UInt64, _ value: Double) -> [UInt8] { key(field, 1) + little(value.bitPattern) }
  private static func float(_ field: UInt64, _ value: Float) -> [UInt8] { key(field, 5) + little(value.bitPattern) }
  private static func bytes(_ field: UInt64, _ data: [UInt8]) -> [UInt8] { key(field, 2) + varint(UInt64(data.count)) + data }

  private static func varint(_ value: UInt64) -> [UInt8] {
    var (rest, result): (UInt64, [UInt8]) = (value, [])
    while rest >= 0x80 {
      result.append(UInt8(rest & 0x7f) | 0x80)
      rest >>= 7
    }
    return result + [UInt8(rest)]
  }

  private static func little(_ value: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { Array($0) } }
}

/// Castagnoli's checksum (RFC 3720), as the framing wants it.
package enum CRC32C {
  private static let table: [UInt32] = (0..<256).map { index in
    (0..<8).reduce(UInt32(index)) { crc, _ in crc & 1 == 1 ? crc >> 1 ^ 0x82f6_3b78 : crc >> 1 }
  }

  package static func checksum(_ data: [UInt8]) -> UInt32 {
    ~data.reduce(0xffff_ffff) { $0 >> 8 ^ table[Int(UInt8(truncatingIfNeeded: $0) ^ $1)] }
  }
}
