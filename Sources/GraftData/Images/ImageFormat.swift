import CCodecs

/// The formats that are read, known by their first bytes and never by the file's name.
public enum ImageFormat: String, Sendable, CaseIterable {
  case jpeg = "JPEG"
  case png = "PNG"
  case webp = "WebP"
  case tiff = "TIFF"
  /// Binary PGM and PPM.
  case pnm = "PNM"

  /// How many leading bytes settle the format.
  static let signatureLength = 32

  /// The C decoder's name for it; `nil`: `PortableMap` reads it.
  var codec: graft_image_format? {
    switch self {
    case .jpeg: GRAFT_IMAGE_JPEG
    case .png: GRAFT_IMAGE_PNG
    case .webp: GRAFT_IMAGE_WEBP
    case .tiff: GRAFT_IMAGE_TIFF
    case .pnm: nil
    }
  }

  /// The format of a file that begins with `bytes`; nil if it is none of these.
  public init?(_ bytes: UnsafeRawBufferPointer) {
    let start = Signature(bytes)
    if start.begins([0xFF, 0xD8, 0xFF]) {
      self = .jpeg
    } else if start.begins([0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]) {
      self = .png
    } else if start.begins("RIFF"), start.begins("WEBP", at: 8) {
      self = .webp
    } else if [[0x49, 0x49, 42, 0], [0x4D, 0x4D, 0, 42], [0x49, 0x49, 43, 0], [0x4D, 0x4D, 0, 43]].contains(where: { start.begins($0) }) {
      self = .tiff
    } else if start.begins("P5") || start.begins("P6"), bytes.count > 2, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[2]) {
      self = .pnm
    } else {
      return nil
    }
  }

  /// What bytes that are none of these formats seem to be, as the end of "it is …".
  static func guess(_ bytes: UnsafeRawBufferPointer) -> String {
    let start = Signature(bytes)
    if bytes.isEmpty { return "empty" }
    if start.begins("GIF8") { return "a GIF" }
    if start.begins("BM") { return "a BMP" }
    if start.begins("ftyp", at: 4) {
      if start.begins("avif", at: 8) || start.begins("avis", at: 8) { return "an AVIF picture" }
      if ["heic", "heix", "heim", "heis", "hevc", "mif1", "msf1"].contains(where: { start.begins($0, at: 8) }) { return "a HEIC picture" }
      return "a film (MP4 or alike)"
    }
    if start.begins([0xFF, 0x0A]) || start.begins("JXL ", at: 4) { return "a JPEG XL picture" }
    if start.begins("jP  ", at: 4) || start.begins([0xFF, 0x4F, 0xFF, 0x51]) { return "a JPEG 2000 picture" }
    if start.begins("8BPS") { return "a Photoshop file" }
    if start.begins("%PDF") { return "a PDF" }
    if start.begins([0, 0, 1, 0]) { return "an icon" }
    if start.begins("P"), bytes.count > 2, (0x31...0x37).contains(bytes[1]), [0x20, 0x0A, 0x0D].contains(bytes[2]) {
      let kind = bytes[1] < 0x34 ? "written as text" : bytes[1] == 0x34 ? "of bits" : "of the kind PAM"
      return "a PNM picture \(kind), and of PNM only binary PGM and PPM are read"
    }
    if start.begins("<svg") || start.begins("<?xml") { return "an XML or SVG text" }
    if start.begins("<!DOCTYPE") || start.begins("<!doctype") || start.begins("<html") { return "a web page, perhaps a failed download" }
    if start.begins("version https://git-lfs") { return "a Git LFS pointer: run `git lfs pull`" }
    return "none of these"
  }
}

/// The first bytes of a file, compared within their bounds.
private struct Signature {
  let bytes: UnsafeRawBufferPointer

  init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  func begins(_ pattern: [UInt8], at offset: Int = 0) -> Bool {
    bytes.count >= offset + pattern.count && bytes[offset..<offset + pattern.count].elementsEqual(pattern)
  }

  func begins(_ text: String, at offset: Int = 0) -> Bool { begins(Array(text.utf8), at: offset) }
}
