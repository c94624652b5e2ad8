import CCodecs
import Foundation
import GraftGraph

/// A file of the MNIST family: bytes of some shape behind a short header, perhaps compressed by gzip.
///
/// Layout: 0, 0, the type (8: unsigned bytes), the number of extents, each extent in 4 bytes, big endian, then the values.
/// Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
struct IDXFile: Sendable {
  let path: String
  let shape: [Int]
  /// The whole file, decompressed.
  private let bytes: [UInt8]
  private let dataOffset: Int

  /// Larger ones are not read: they are kept in memory.
  static let largestByteCount = 8 << 30

  var values: ArraySlice<UInt8> { bytes[dataOffset...] }

  /// - Throws: `FileError` if it cannot be read; `DataSetError` if it is damaged, cut off or of other values than bytes.
  init(path: String, extents: Int) throws {
    self.path = path
    func damaged(_ reason: String) -> DataSetError { DataSetError(path: path, reason: reason, remedy: "Get the file again.") }
    let file: [UInt8]
    do {
      file = try ImageFileReader(largestByteCount: Self.largestByteCount).withFile(path) { bytes, _ in Array(bytes) }
    } catch ImageFileReader.Failure.file(let reason) {
      throw DataSetError(path: path, reason: "it cannot be read: \(reason)", remedy: "Check the file.")
    } catch ImageFileReader.Failure.system(let error) {
      throw error
    }
    let isCompressed = file.starts(with: [0x1F, 0x8B]), headerByteCount = 4 + 4 * extents
    let start = isCompressed ? try Self.decompress(file, capacity: headerByteCount, path: path).bytes : Array(file.prefix(headerByteCount))
    guard start.count == headerByteCount else { throw damaged("the file is cut off: it ends within its header") }
    guard start[0] == 0, start[1] == 0 else { throw damaged("this is no IDX file: it does not begin with two zeros") }
    guard start[2] == 8, Int(start[3]) == extents else {
      throw damaged("its header announces values of type \(start[2]) in \(start[3]) dimensions; unsigned bytes (type 8) in \(extents) are read")
    }
    shape = (0..<extents).map { extent in start[4 + 4 * extent..<8 + 4 * extent].reduce(0) { $0 << 8 | Int($1) } }
    var count = 1
    for extent in shape {
      let (product, overflow) = count.multipliedReportingOverflow(by: extent)
      guard !overflow, product <= Self.largestByteCount else { throw damaged("its header announces \(shape) values, which is more than are read") }
      count = product
    }
    let needed = headerByteCount + count
    dataOffset = headerByteCount
    guard isCompressed else {
      guard file.count == needed else { throw damaged("it has \(file.count) bytes, and its header announces \(needed)") }
      bytes = file
      return
    }
    // A stream shrinks to a 1032nd at best: what is announced beyond that is not there.
    guard needed / 1040 <= file.count else { throw damaged("its header announces \(needed) bytes, which \(file.count) compressed ones cannot hold") }
    let (content, isWhole) = try Self.decompress(file, capacity: needed + 1, path: path)
    guard isWhole, content.count == needed else {
      throw damaged("it holds \(isWhole ? "" : "more than ")\(isWhole ? content.count : needed) bytes, and its header announces \(needed)")
    }
    bytes = content
  }

  /// Up to `capacity` bytes of what is compressed, and whether that is all.
  private static func decompress(_ file: [UInt8], capacity: Int, path: String) throws -> (bytes: [UInt8], isWhole: Bool) {
    var status = GRAFT_GUNZIP_OK
    let bytes = [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
      file.withUnsafeBufferPointer { status = graft_gunzip($0.baseAddress, $0.count, buffer.baseAddress, capacity, &count) }
    }
    func failure(_ reason: String) -> DataSetError { DataSetError(path: path, reason: reason, remedy: "Get the file again.") }
    switch status {
    case GRAFT_GUNZIP_OK: return (bytes, true)
    case GRAFT_GUNZIP_FULL: return (bytes, false)
    case GRAFT_GUNZIP_TRUNCATED: throw failure("the compressed file is cut off")
    case GRAFT_GUNZIP_OUT_OF_MEMORY:
      throw DataSetError(path: path, reason: "there is not enough memory to decompress it", remedy: "Unpack it with gunzip.")
    default: throw failure("the compressed file is damaged")
    }
  }
}
