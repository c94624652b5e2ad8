/// The orientation in a picture's EXIF data.
///
/// Source: Exif 2.32 (JEITA CP-3451), tag 0x0112; where JPEG (APP1), PNG (eXIf) and WebP (EXIF) keep the data.
enum EXIF {
  /// 1…8; 1, "as it is", if there is none or it makes no sense.
  static func orientation(of bytes: UnsafeRawBufferPointer, format: ImageFormat) -> UInt32 {
    guard let block = block(in: Reader(bytes), format: format) else { return 1 }
    return orientation(inBlock: block)
  }

  private static func block(in file: Reader, format: ImageFormat) -> Reader? {
    switch format {
    case .jpeg: jpegBlock(file)
    case .png: chunk("eXIf", in: file, from: 8, isRIFF: false)
    case .webp: chunk("EXIF", in: file, from: 12, isRIFF: true)
    case .tiff, .pnm: nil
    }
  }

  /// The first APP1 segment that says Exif, before the picture's data.
  private static func jpegBlock(_ file: Reader) -> Reader? {
    var position = 2
    while let prefix = file.byte(position), let marker = file.byte(position + 1) {
      // bytes between segments, and fill bytes, are skipped
      guard prefix == 0xFF, marker != 0xFF, marker != 0 else {
        position += 1
        continue
      }
      if marker == 0xDA || marker == 0xD9 { return nil }
      position += 2
      // markers without a segment
      if marker == 0x01 || (0xD0...0xD8).contains(marker) { continue }
      guard let length = file.integer(position, byteCount: 2, isLittle: false), length >= 2 else { return nil }
      if marker == 0xE1, let segment = file.part(position + 2, length - 2), segment.begins("Exif\0\0") {
        return segment.part(6, segment.count - 6)
      }
      position += length
    }
    return nil
  }

  /// A chunk of a PNG (length, type, data, checksum) or of a RIFF file (type, length, data, padded to an even count).
  private static func chunk(_ name: String, in file: Reader, from start: Int, isRIFF: Bool) -> Reader? {
    var position = start
    while let length = file.integer(position + (isRIFF ? 4 : 0), byteCount: 4, isLittle: isRIFF) {
      if let header = file.part(position + (isRIFF ? 0 : 4), 4), header.begins(name) {
        guard let data = file.part(position + 8, length) else { return nil }
        // some writers repeat JPEG's prefix
        return data.begins("Exif\0\0") ? data.part(6, data.count - 6) : data
      }
      position += 8 + length + (isRIFF ? length & 1 : 4)
    }
    return nil
  }

  /// A TIFF structure: byte order, 42, where the first directory is, and there entries of 12 bytes.
  private static func orientation(inBlock block: Reader) -> UInt32 {
    let isLittle = block.begins("II")
    guard isLittle || block.begins("MM"), block.integer(2, byteCount: 2, isLittle: isLittle) == 42,
      let directory = block.integer(4, byteCount: 4, isLittle: isLittle),
      let count = block.integer(directory, byteCount: 2, isLittle: isLittle)
    else { return 1 }
    for index in 0..<count {
      let entry = directory + 2 + 12 * index
      guard let tag = block.integer(entry, byteCount: 2, isLittle: isLittle) else { return 1 }
      guard tag == 0x0112 else { continue }
      let type = block.integer(entry + 2, byteCount: 2, isLittle: isLittle)
      // a short by the standard; some writers use a byte or a long
      let byteCount = type == 1 ? 1 : type == 4 ? 4 : 2
      guard let value = block.integer(entry + 8, byteCount: byteCount, isLittle: isLittle), (1...8).contains(value) else { return 1 }
      return UInt32(value)
    }
    return 1
  }
}

/// Bytes read within their bounds: what lies outside is nil. Offsets are sums of a few 32-bit numbers and can't overflow.
private struct Reader {
  let bytes: UnsafeRawBufferPointer

  init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  var count: Int { bytes.count }

  func byte(_ offset: Int) -> UInt8? { bytes.indices.contains(offset) ? bytes[offset] : nil }

  func part(_ offset: Int, _ length: Int) -> Reader? {
    guard offset >= 0, length >= 0, offset <= count, length <= count - offset else { return nil }
    return Reader(UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + length]))
  }

  func begins(_ text: String) -> Bool { bytes.starts(with: text.utf8) }

  func integer(_ offset: Int, byteCount: Int, isLittle: Bool) -> Int? {
    guard let part = part(offset, byteCount) else { return nil }
    return part.bytes.enumerated().reduce(0) { $0 | Int($1.element) << (8 * (isLittle ? $1.offset : byteCount - 1 - $1.offset)) }
  }
}
