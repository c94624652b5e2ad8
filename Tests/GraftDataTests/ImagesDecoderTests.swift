import Foundation
import GraftData
import Testing

@Suite struct ImageDecoderTests {
  @Test("pixels are Pillow's", arguments: ImageFixtures.shared.decode)
  func pixels(of picture: ImageFixtures.DecodeCase) throws {
    let image = try picture.decoder.decode(path: ImageFixtures.shared.path(picture.file))
    #expect(image.width == picture.result.width)
    #expect(image.height == picture.result.height)
    let (largest, count) = difference(image.pixels, ImageFixtures.shared.pixels(picture.result))
    #expect(largest == 0, "\(count) bytes differ, by up to \(largest)")
  }

  @Test("the name does not matter, the first bytes do")
  func formatFromBytes() throws {
    let fixtures = ImageFixtures.shared
    let folder = FileManager.default.temporaryDirectory.appending(path: "graft-images-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let misnamed = folder.appending(path: "photo.png")
    try Data(fixtures.bytes("444.jpg")).write(to: misnamed)
    #expect(try ImageDecoder().decode(path: misnamed.path) == ImageDecoder().decode(path: fixtures.path("444.jpg")))
  }

  @Test(
    "other formats are named",
    arguments: [
      ("GIF89a and more", "a GIF"), ("BM and a bitmap", "a BMP"), ("P3\n1 1\n255\n1 2 3\n", "written as text, and of PNM only binary PGM and PPM"),
      ("\0\0\0\u{18}ftypheic\0\0\0\0", "a HEIC"),
      ("\0\0\0\u{18}ftypavif\0\0\0\0", "an AVIF"),
      ("<!DOCTYPE html><html>", "a web page"), ("version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"), ("hello", "none of these"),
      ("P3 1 1 255", "a PNM"), ("%PDF-1.7", "a PDF"),
    ])
  func otherFormats(text: String, name: String) {
    let error = #expect(throws: ImageError.self) { try ImageDecoder().decode(Array(text.utf8)) }
    #expect(error?.kind == .unknownFormat)
    #expect(error?.description.contains(name) == true)
    #expect(error?.description.contains("JPEG, PNG, WebP, TIFF") == true)
  }

  @Test("an empty file, a folder and a missing file are errors that name the file")
  func unreadable() throws {
    #expect(throws: ImageError.self) { try ImageDecoder().decode([]) }
    let folder = #expect(throws: ImageError.self) { try ImageDecoder().decode(path: "/tmp") }
    #expect(folder?.kind == .unreadable)
    let missing = #expect(throws: ImageError.self) { try ImageDecoder().decode(path: "/nowhere/photo.jpg") }
    #expect(missing?.kind == .unreadable)
    #expect(missing?.description.hasPrefix("/nowhere/photo.jpg: ") == true)
  }

  @Test("a pipe nobody writes to does not block")
  func pipe() throws {
    let path = FileManager.default.temporaryDirectory.appending(path: "graft-pipe-\(UUID().uuidString)").path
    #expect(mkfifo(path, 0o600) == 0)
    defer { unlink(path) }
    let error = #expect(throws: ImageError.self) { try ImageDecoder().decode(path: path) }
    #expect(error?.kind == .unreadable && error?.description.contains("it is no regular file. Save what it holds") == true)
  }

  @Test("the limit on pixels holds before decoding and can be raised", arguments: ["rgb.png", "420.jpg", "lossy.webp", "lzw.tif"])
  func pixelLimit(file: String) throws {
    let path = ImageFixtures.shared.path(file)
    let pixels = 23 * 17
    let error = #expect(throws: ImageError.self) { try ImageDecoder(pixelLimit: pixels - 1).decode(path: path) }
    #expect(error?.kind == .tooManyPixels)
    #expect(error?.description.contains("--max-pixels \(pixels)") == true)
    #expect(try ImageDecoder(pixelLimit: pixels).decode(path: path).width == 23)
  }

  @Test("headers that claim more than the file can hold are refused", arguments: ["rgb.png", "grey.png", "420.jpg", "progressive.jpg"])
  func hugeClaims(file: String) throws {
    var bytes = try ImageFixtures.shared.bytes(file)
    if file.hasSuffix("png") {
      // 13,000 × 13,000, below the limit on pixels, with the right checksum
      bytes.replaceSubrange(16..<24, with: [0, 0, 0x32, 0xC8, 0, 0, 0x32, 0xC8])
      bytes.replaceSubrange(29..<33, with: crc32(bytes[12..<29]))
    } else {
      let frame = try #require((0..<bytes.count - 1).first { bytes[$0] == 0xFF && (bytes[$0 + 1] == 0xC0 || bytes[$0 + 1] == 0xC2) })
      bytes.replaceSubrange(frame + 5..<frame + 9, with: [0x32, 0xC8, 0x32, 0xC8])
    }
    let error = #expect(throws: ImageError.self) { try ImageDecoder().decode(bytes) }
    #expect(error?.kind == .truncated)
    let forbidden = #expect(throws: ImageError.self) { try ImageDecoder(pixelLimit: 1_000_000).decode(bytes) }
    #expect(forbidden?.kind == .tooManyPixels)
  }

  private func crc32(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
    var crc: UInt32 = 0xFFFF_FFFF
    for byte in bytes {
      crc ^= UInt32(byte)
      for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0xEDB8_8320 : crc >> 1 }
    }
    return withUnsafeBytes(of: (~crc).bigEndian, Array.init)
  }

  @Test("alpha over a background, and orientation, at once")
  func compositeAndTurn() throws {
    let bytes = try ImageFixtures.shared.bytes("exif.webp")
    let upright = try ImageDecoder().decode(bytes)
    let turned = try ImageDecoder(background: RGBColor("white"), appliesEXIFOrientation: true).decode(bytes)
    #expect((turned.width, turned.height) == (upright.height, upright.width))
    // turned by 90° clockwise: the first row is the first column, read upwards
    for x in 0..<turned.width {
      let source = (upright.height - 1 - x) * upright.width * 3
      #expect(Array(turned.pixels[3 * x..<3 * x + 3]) == Array(upright.pixels[source..<source + 3]))
    }
  }

  @Test("colours are read and written")
  func colors() throws {
    #expect(RGBColor("#0a10ff")?.description == "#0a10ff")
    #expect(RGBColor("WHITE") == RGBColor(red: 255, green: 255, blue: 255))
    for text in ["", "#fff", "#gggggg", "+1234f", "red"] { #expect(RGBColor(text) == nil) }
    #expect(throws: DecodingError.self) { try JSONDecoder().decode([RGBColor].self, from: Data(#"["puce"]"#.utf8)) }
  }

  @Test("a picture needs sides and as many bytes as they say")
  func decodedImage() {
    #expect(DecodedImage(width: 2, height: 1, pixels: [0, 1, 2, 3, 4, 5]) != nil)
    #expect(DecodedImage(width: 2, height: 1, pixels: [0, 1, 2]) == nil)
    #expect(DecodedImage(width: 0, height: 1, pixels: []) == nil)
    #expect(DecodedImage(width: Int.max, height: Int.max, pixels: []) == nil)
  }
}
