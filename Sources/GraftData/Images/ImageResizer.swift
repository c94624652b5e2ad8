import CCodecs

/// Resizes pictures to the bit as Pillow's `Image.resize` does: antialiased, along x, rounded to bytes, then along y.
///
/// That order is Pillow's up to version 12, and in every version where the ratio of the sides is kept. Version 13 begins
/// with y where the height shrinks much more than the width, which moved bytes of noise by up to 24.
public struct ImageResizer: Sendable, Hashable {
  public var interpolation: Interpolation

  public init(_ interpolation: Interpolation) {
    self.interpolation = interpolation
  }

  /// The whole picture at another size. Both sides must be in 1…`DecodedImage.longestSide`.
  public func resize(_ image: DecodedImage, width: Int, height: Int) -> DecodedImage {
    let sides = 1...DecodedImage.longestSide
    precondition(sides.contains(width) && sides.contains(height), "a picture of \(width) × \(height)")
    let pixels = [UInt8](unsafeUninitializedCapacity: width * height * 3) { buffer, count in
      resize(image, to: (width, height), columns: 0..<width, rows: 0..<height, into: buffer, rowBytes: 3 * width)
      count = width * height * 3
    }
    return DecodedImage(checkedWidth: width, height: height, pixels: pixels)
  }

  /// A part of the resized picture, of which nothing else is computed.
  ///
  /// - Parameters:
  ///   - size: of the whole resized picture.
  ///   - columns: of the part, within `size`.
  ///   - rows: of the part, within `size`.
  ///   - target: [rows.count, columns.count, 3], in rows of `rowBytes`.
  package func resize(
    _ image: DecodedImage, to size: (width: Int, height: Int), columns: Range<Int>, rows: Range<Int>,
    into target: UnsafeMutableBufferPointer<UInt8>, rowBytes: Int
  ) {
    guard !columns.isEmpty, !rows.isEmpty else { return }
    precondition(columns.count * 3 <= rowBytes && target.count >= (rows.count - 1) * rowBytes + columns.count * 3, "a target too small")
    let columnTaps = ResampleTaps(from: image.width, to: size.width, range: columns, interpolation: interpolation)
    image.pixels.withUnsafeBufferPointer { source in
      columnTaps.withTaps { columnTaps in
        // Sums are kept for every row of a band: big outputs are made band by band.
        let bandRows = max(1, Self.bandByteCount / (columns.count * 3 * MemoryLayout<Int32>.size))
        for first in stride(from: rows.lowerBound, to: rows.upperBound, by: bandRows) {
          let band = first..<min(first + bandRows, rows.upperBound)
          let start = target.baseAddress.map { $0 + (first - rows.lowerBound) * rowBytes }
          ResampleTaps(from: image.height, to: size.height, range: band, interpolation: interpolation).withTaps { rowTaps in
            withUnsafeTemporaryAllocation(byteCount: graft_resample_scratch_bytes(columnTaps, rowTaps), alignment: 64) { scratch in
              graft_resample(source.baseAddress, image.width * 3, columnTaps, rowTaps, start, rowBytes, scratch.baseAddress)
            }
          }
        }
      }
    }
  }

  private static let bandByteCount = 16 << 20
}
