import Foundation
import GraftGraph

/// NumPy's `.npy` files: versions 1 to 3, either byte order, either element order, numbers and text.
///
/// Source: NumPy enhancement proposal 1 (`numpy.lib.format`). Python objects are refused, never unpickled.
public enum Npy {
  /// What a file holds.
  public enum Contents: Sendable {
    case numbers(HostTensor)
    /// `values` is row-major.
    case strings(shape: [Int], values: [String])
  }

  /// Reads an array of numbers or of text.
  ///
  /// Little-endian, row-major numbers stay in the mapped file; anything else is converted into memory.
  ///
  /// - Throws: `FileError` or `NpyError`.
  public static func contents(of path: String) throws -> Contents {
    let file = try HostBytes(mapping: path)
    return try file.withUnsafeBytes { bytes in
      let header = try NpyHeader(parsing: bytes, path: path)
      let byteCount = try header.dataByteCount(path: path)
      guard byteCount <= bytes.count - header.dataOffset else {
        throw NpyError(
          path: path,
          reason:
            "an array of shape \(header.shape) needs \(byteCount) bytes, and \(bytes.count - header.dataOffset) are there: the file is cut short")
      }
      let data = UnsafeRawBufferPointer(rebasing: bytes[header.dataOffset..<header.dataOffset + byteCount])
      switch header.element {
      case .number(let type):
        let isInPlace = (!header.isBigEndian || type.byteCount == 1) && (!header.isFortranOrder || header.shape.count < 2)
        guard !isInPlace else {
          return .numbers(try HostTensor(shape: header.shape, elementType: type, storage: file, byteOffset: header.dataOffset))
        }
        let converted = HostBytes(count: byteCount) { target in
          forEachElement(of: header) { from, to in
            for byte in 0..<type.byteCount {
              target[to * type.byteCount + byte] = data[from * type.byteCount + (header.isBigEndian ? type.byteCount - 1 - byte : byte)]
            }
          }
        }
        return .numbers(try HostTensor(shape: header.shape, elementType: type, storage: converted))
      case .unicode, .bytes:
        return .strings(shape: header.shape, values: try strings(data, header, path: path))
      }
    }
  }

  /// Reads an array of numbers.
  ///
  /// - Throws: `FileError` or `NpyError`, also when the file holds text.
  public static func tensor(of path: String) throws -> HostTensor {
    guard case .numbers(let tensor) = try contents(of: path) else {
      throw NpyError(path: path, reason: "it holds text, and numbers are needed")
    }
    return tensor
  }

  /// Visits every element's place in the file and its row-major place.
  private static func forEachElement(of header: NpyHeader, _ body: (_ from: Int, _ to: Int) throws -> Void) rethrows {
    let count = header.elementCount
    guard header.isFortranOrder, count > 0 else {
      for index in 0..<count { try body(index, index) }
      return
    }
    // The file counts the first index fastest; this walks row-major places and keeps the file's place alongside.
    let shape = header.shape
    var strides: [Int] = []
    var stride = 1
    for extent in shape {
      strides.append(stride)
      stride *= extent
    }
    var index = [Int](repeating: 0, count: shape.count)
    var from = 0
    for to in 0..<count {
      try body(from, to)
      for axis in shape.indices.reversed() {
        index[axis] += 1
        from += strides[axis]
        if index[axis] < shape[axis] { break }
        from -= strides[axis] * shape[axis]
        index[axis] = 0
      }
    }
  }

  private static func strings(_ data: UnsafeRawBufferPointer, _ header: NpyHeader, path: String) throws -> [String] {
    let byteCount = header.element.byteCount
    // A string takes 16 bytes at least: four times what the smallest element takes in the file.
    var values = [String](repeating: "", count: header.elementCount)
    try forEachElement(of: header) { from, to in
      let bytes = UnsafeRawBufferPointer(rebasing: data[from * byteCount..<(from + 1) * byteCount])
      let value: String? =
        if case .unicode(let characters) = header.element {
          unicode(bytes, characters: characters, isBigEndian: header.isBigEndian)
        } else {
          String(validating: bytes[..<(bytes.lastIndex { $0 != 0 }.map { $0 + 1 } ?? 0)], as: UTF8.self)
        }
      guard let value else { throw NpyError(path: path, reason: "element \(to) is not valid text") }
      values[to] = value
    }
    return values
  }

  /// UTF-32 text up to its zero padding; `nil` if a code unit is no character.
  private static func unicode(_ bytes: UnsafeRawBufferPointer, characters: Int, isBigEndian: Bool) -> String? {
    var text = String.UnicodeScalarView()
    var zeros = 0
    for index in 0..<characters {
      let raw = bytes.loadUnaligned(fromByteOffset: index * 4, as: UInt32.self)
      guard let scalar = Unicode.Scalar(isBigEndian ? UInt32(bigEndian: raw) : UInt32(littleEndian: raw)) else { return nil }
      if scalar.value == 0 {
        zeros += 1
      } else {
        for _ in 0..<zeros { text.append("\0") }
        zeros = 0
        text.append(scalar)
      }
    }
    return String(text)
  }
}
