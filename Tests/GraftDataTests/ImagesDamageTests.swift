import Foundation
import GraftData
import GraftGraph
import Testing

/// Damaged pictures: an error or a picture, never a trap, and little memory.
@Suite(.serialized) struct ImageDamageTests {
  /// One small file of each format and kind of compression, and how many of its last bytes hold nothing of the picture:
  /// without them Pillow, too, may still see all of it.
  static let samples: [(file: String, idleBytes: Int)] = [
    ("420.jpg", 0), ("progressive.jpg", 0), ("cmyk.jpg", 0), ("rgb.png", 20), ("palette-alpha.png", 20), ("rgba-interlaced.png", 20),
    ("lossy.webp", 0),
    ("lossless-alpha.webp", 0), ("animation.webp", 0), ("raw.tif", 0), ("lzw.tif", 0), ("tiled.tif", 0), ("jpeg.tif", 0),
  ]

  @Test("cut off after every byte, a picture is an error", arguments: samples)
  func truncated(file: String, idleBytes: Int) throws {
    let bytes = try ImageFixtures.shared.bytes(file)
    let whole = try ImageDecoder().decode(bytes)
    for count in 0..<bytes.count {
      do {
        let image = try ImageDecoder().decode(Array(bytes[..<count]))
        #expect(count >= bytes.count - idleBytes, "\(count) of \(bytes.count) bytes gave a picture")
        #expect(image == whole)
      } catch let error as ImageError {
        #expect(error.path == "bytes")
      }
    }
  }

  static let mutated = [
    "420.jpg", "progressive.jpg", "cmyk.jpg", "restart.jpg", "orientation-6.jpg", "rgb.png", "rgba-interlaced.png", "palette-alpha.png", "grey16.png",
    "lossy.webp", "lossless-alpha.webp", "lossy-alpha.webp", "animation-offset.webp", "raw.tif", "lzw.tif", "tiled-planar.tif", "jpeg.tif",
    "ycbcr.tif", "ycbcr-raw.tif",
    "palette4.tif", "bigtiff.tif", "fax4.tif", "planar16.tif",
  ]

  private static let variants = 1000

  /// 23 files, 1,000 variants each: thousands a format.
  @Test("mutated, a picture is an error or a picture", arguments: mutated)
  func mutations(file: String) async {
    // A process of its own: what other tests need is not this file's.
    await #expect(processExitsWith: .success) { [file = file as String] in
      try ImageDamageTests().mutate(file)
      let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
      let peak = try #require(status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }.flatMap { Int($0.filter(\.isNumber)) })
      #expect(peak < 1 << 20, "\(peak) KiB of memory at the most")
    }
  }

  private func mutate(_ file: String) throws {
    let original = try ImageFixtures.shared.bytes(file)
    var noise = Noise(seed: original.reduce(7) { $0 &* 31 &+ UInt32($1) })
    func number(below limit: Int) -> Int { (0..<3).reduce(0) { sum, _ in sum << 8 | Int(noise.next()) } % max(limit, 1) }
    var (decoded, refused) = (0, 0)
    for _ in 0..<Self.variants {
      var bytes = original
      for _ in 0...number(below: 8) where !bytes.isEmpty {
        // headers and directories are at the ends: half of the damage goes there
        let end = min(64, bytes.count)
        let position = [number(below: end), bytes.count - 1 - number(below: end), number(below: bytes.count), number(below: bytes.count)][
          number(below: 4)]
        switch number(below: 6) {
        case 0: bytes[position] ^= 1 << UInt8(number(below: 8))
        case 1: bytes[position] = noise.next()
        case 2: bytes[position] = [0, 1, 0x7F, 0x80, 0xFF][number(below: 5)]
        case 3: bytes.removeSubrange(position..<min(bytes.count, position + 1 + number(below: 8)))
        case 4: bytes.insert(contentsOf: (0...number(below: 8)).map { _ in noise.next() }, at: position)
        default: bytes.replaceSubrange(position..<min(bytes.count, position + 4), with: [0xFF, 0xFF, 0xFF, noise.next()])
        }
      }
      if bytes.starts(with: [0x89, 0x50]) { repairChecksums(&bytes) }
      do {
        let options = ImageDecoder(background: number(below: 2) == 0 ? RGBColor("white") : nil, appliesEXIFOrientation: number(below: 2) == 0)
        let image = try options.decode(bytes)
        #expect(image.pixels.count == image.width * image.height * 3)
        decoded += 1
      } catch let error as ImageError {
        #expect(!error.what.isEmpty && !error.remedy.isEmpty)
        refused += 1
      }
    }
    #expect(decoded + refused == Self.variants)
    #expect(refused > 0)
  }

  /// Makes every chunk's checksum right, so that damage gets past it.
  private func repairChecksums(_ bytes: inout [UInt8]) {
    var position = 8
    while position + 12 <= bytes.count {
      let length = bytes[position..<position + 4].reduce(0) { $0 << 8 | Int($1) }
      guard position + 12 + length <= bytes.count else { return }
      var crc: UInt32 = 0xFFFF_FFFF
      for byte in bytes[position + 4..<position + 8 + length] {
        crc ^= UInt32(byte)
        for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0xEDB8_8320 : crc >> 1 }
      }
      bytes.replaceSubrange(position + 8 + length..<position + 12 + length, with: withUnsafeBytes(of: (~crc).bigEndian, Array.init))
      position += 12 + length
    }
  }

  /// With the limit of pixels raised, a header is held against its file and the machine before memory is taken: an array that cannot be
  /// made would end the process.
  @Test("a header that claims gigabytes is an error", arguments: [(100_000, 2000), (100_000, 40 << 20), (700_000, 1500 << 20)])
  func claims(side: Int, length: Int) throws {
    func big(_ value: Int) -> [UInt8] { (0..<4).map { UInt8(value >> (24 - 8 * $0) & 255) } }
    var file = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A] + big(13) + Array("IHDR".utf8) + big(side) + big(side) + [1, 0, 0, 0, 0] + big(0)
    repairChecksums(&file)
    file += big(length - 57) + Array("IDAT".utf8)
    let folder = try TemporaryFolder()
    let path = try folder.write("big.png", file)
    // The rest takes no place on the disk.
    try #require(truncate(path, length) == 0)
    let whole = try HostBytes(mapping: path)
    let decoder = ImageDecoder(pixelLimit: .max)
    let error = #expect(throws: ImageError.self) { try whole.withUnsafeBytes { try decoder.decode($0, path: "bytes") } }
    #expect([.truncated, .damaged, .outOfMemory].contains(error?.kind), "\(String(describing: error))")
  }

  @Test("a tiny lossless WebP of one colour can't ask for gigabytes")
  func implausible() throws {
    // VP8L, 16383 × 10900 pixels (below the limit), five prefix codes of one symbol each: no bits a pixel
    let (width, height) = (16_383, 10_900)
    var bits: [UInt8] = []
    func put(_ value: Int, _ count: Int) { for i in 0..<count { bits.append(UInt8(value >> i & 1)) } }
    put(0x2F, 8)
    put(width - 1, 14)
    put(height - 1, 14)
    put(0, 1 + 3)  // no alpha, version 0
    put(0, 3)  // no transform, no colour cache, one group of codes
    for _ in 0..<5 { put(0b0001, 4) }  // simple code, one symbol, of one bit: 0
    while bits.count % 16 != 0 { bits.append(0) }
    let payload = stride(from: 0, to: bits.count, by: 8).map { start in (0..<8).reduce(UInt8(0)) { $0 | bits[start + $1] << UInt8($1) } }
    func little(_ value: Int) -> [UInt8] { (0..<4).map { UInt8(value >> (8 * $0) & 255) } }
    let file = Array("RIFF".utf8) + little(12 + payload.count) + Array("WEBPVP8L".utf8) + little(payload.count) + payload
    let error = #expect(throws: ImageError.self) { try ImageDecoder().decode(file) }
    #expect(error?.kind == .damaged)
    #expect(error?.description.contains("too much to grant") == true)
  }
}
