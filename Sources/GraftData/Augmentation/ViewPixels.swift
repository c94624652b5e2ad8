/// A picture that is changed where it lies: [height, width, 3] bytes of red, green and blue.
package struct ViewPixels {
  package let width: Int
  package let height: Int
  package let bytes: UnsafeMutableBufferPointer<UInt8>

  /// Our own invariant: `bytes` are `width * height * 3`, and neither side is 0.
  package init(width: Int, height: Int, bytes: UnsafeMutableBufferPointer<UInt8>) {
    precondition(width > 0 && height > 0 && bytes.count == width * height * 3, "\(bytes.count) bytes for \(width) × \(height) pixels")
    (self.width, self.height, self.bytes) = (width, height, bytes)
  }

  /// Puts each byte through the table of its channel.
  func map(_ tables: [[UInt8]]) {
    tables[0].withUnsafeBufferPointer { red in
      tables[1].withUnsafeBufferPointer { green in
        tables[2].withUnsafeBufferPointer { blue in
          for start in stride(from: 0, to: bytes.count, by: 3) {
            bytes[start] = red[Int(bytes[start])]
            bytes[start + 1] = green[Int(bytes[start + 1])]
            bytes[start + 2] = blue[Int(bytes[start + 2])]
          }
        }
      }
    }
  }

  /// Puts each byte through one table.
  func map(_ value: (Int) -> Int) {
    let table = (0..<256).map { UInt8(clamping: value($0)) }
    map([table, table, table])
  }

  /// How often each value occurs in a channel.
  func histogram(ofChannel channel: Int) -> [Int] {
    var counts = [Int](repeating: 0, count: 256)
    for place in stride(from: channel, to: bytes.count, by: 3) { counts[Int(bytes[place])] += 1 }
    return counts
  }

  /// Luminance of the pixel that begins there: ITU-R 601 in 16 fractional bits, rounded, as Pillow's mode L.
  func luminance(at start: Int) -> Int {
    (Int(bytes[start]) * 19595 + Int(bytes[start + 1]) * 38470 + Int(bytes[start + 2]) * 7471 + 0x8000) >> 16
  }

  /// Mirrors left and right.
  package func flip() {
    for row in 0..<height {
      var (left, right) = (row * width * 3, (row * width + width - 1) * 3)
      while left < right {
        for channel in 0..<3 { bytes.swapAt(left + channel, right + channel) }
        left += 3
        right -= 3
      }
    }
  }

  /// Moves the picture; what comes in from outside is black: a crop at (`x`, `y`) of the picture with a border around it.
  package func shift(x: Int, y: Int) {
    let source = Array(bytes), x = min(max(x, -width), width), y = min(max(y, -height), height)
    bytes.update(repeating: 0)
    let columns = max(0, -x)..<min(width, width - x), rows = max(0, -y)..<min(height, height - y)
    for row in rows {
      let from = ((row + y) * width + columns.lowerBound + x) * 3, to = (row * width + columns.lowerBound) * 3
      for place in 0..<columns.count * 3 { bytes[to + place] = source[from + place] }
    }
  }

  /// Fills a rectangle that lies within the picture.
  package func fill(x: Int, y: Int, width boxWidth: Int, height boxHeight: Int, _ color: RGBColor) {
    for row in y..<y + boxHeight {
      for column in x..<x + boxWidth {
        let start = (row * width + column) * 3
        (bytes[start], bytes[start + 1], bytes[start + 2]) = (color.red, color.green, color.blue)
      }
    }
  }
}
