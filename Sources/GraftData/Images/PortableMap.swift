/// The header of a binary PGM (P5, grey) or PPM (P6, RGB) picture: the format in which nothing is compressed.
///
/// Source: Netpbm's description of both formats. Only 255 as the largest value is read.
struct PortableMap {
  let width: Int
  let height: Int
  /// 1 or 3.
  private let channels: Int
  private let dataOffset: Int

  /// A grey picture as the bytes of a file.
  static func grey(width: Int, height: Int, pixels: some Collection<UInt8>) -> [UInt8] { Array("P5\n\(width) \(height)\n255\n".utf8) + pixels }

  /// - Throws: `ImageError` if the header is none.
  init(_ bytes: UnsafeRawBufferPointer, path: String) throws(ImageError) {
    channels = bytes[1] == UInt8(ascii: "6") ? 3 : 1
    var place = 2
    var numbers: [Int] = []
    while numbers.count < 3 {
      guard let number = Self.number(bytes, &place) else {
        throw ImageError(
          path: path, kind: place < bytes.count ? .damaged : .truncated, what: "the PNM header is damaged: width, height and 255 are not there",
          remedy: "Get it again, or remove it.")
      }
      numbers.append(number)
    }
    (width, height, dataOffset) = (numbers[0], numbers[1], place + 1)
    guard width > 0, height > 0 else {
      throw ImageError(path: path, kind: .damaged, what: "it is \(width) × \(height) pixels", remedy: "Get it again, or remove it.")
    }
    guard numbers[2] == 255 else {
      throw ImageError(
        path: path, kind: .unsupported, what: "this kind of PNM is not read: its largest value is \(numbers[2]), not 255",
        remedy: "Convert it to PNG, or remove it.")
    }
  }

  /// - Throws: `ImageError` if there are too few bytes.
  func checkLength(_ bytes: UnsafeRawBufferPointer, path: String) throws(ImageError) {
    // Both sides have been checked against the longest one: no product overflows.
    guard bytes.count - dataOffset >= width * height * channels else {
      throw ImageError(path: path, kind: .truncated, what: "the PNM file is cut off", remedy: "Get it again, or remove it.")
    }
  }

  /// The picture of bytes that have passed `checkLength`.
  func pixels(_ bytes: UnsafeRawBufferPointer) -> DecodedImage {
    let count = width * height
    let pixels = [UInt8](unsafeUninitializedCapacity: count * 3) { buffer, filled in
      for place in 0..<count * 3 { buffer[place] = bytes[dataOffset + (channels == 3 ? place : place / 3)] }
      filled = count * 3
    }
    return DecodedImage(checkedWidth: width, height: height, pixels: pixels)
  }

  /// The next number of the header, after white space and comments; `place` is then just behind it.
  private static func number(_ bytes: UnsafeRawBufferPointer, _ place: inout Int) -> Int? {
    while place < bytes.count {
      if bytes[place] == UInt8(ascii: "#") {
        while place < bytes.count, bytes[place] != 0x0A { place += 1 }
      } else if [0x20, 0x09, 0x0A, 0x0D].contains(bytes[place]) {
        place += 1
      } else {
        break
      }
    }
    var (value, digits) = (0, 0)
    while place < bytes.count, (0x30...0x39).contains(bytes[place]), digits < 9 {
      value = 10 * value + Int(bytes[place] - 0x30)
      (place, digits) = (place + 1, digits + 1)
    }
    // More digits than a number here may have are no number.
    return digits > 0 && place < bytes.count && !(0x30...0x39).contains(bytes[place]) ? value : nil
  }
}
