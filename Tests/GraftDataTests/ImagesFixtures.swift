import Foundation
import GraftData
import Testing

/// The pictures and results that Tools/reference/images.py made with Pillow.
struct ImageFixtures {
  struct Result: Decodable, Sendable {
    let width: Int
    let height: Int
    let offset: Int
  }

  struct DecodeCase: Decodable, Sendable, CustomTestStringConvertible {
    let file: String
    let exif: Bool
    let background: String?
    let result: Result

    enum CodingKeys: CodingKey { case file, exif, background }

    init(from decoder: any Decoder) throws {
      let container = try decoder.container(keyedBy: CodingKeys.self)
      file = try container.decode(String.self, forKey: .file)
      exif = try container.decode(Bool.self, forKey: .exif)
      background = try container.decodeIfPresent(String.self, forKey: .background)
      result = try Result(from: decoder)
    }

    var testDescription: String { file }
    var decoder: ImageDecoder { ImageDecoder(background: background.flatMap { RGBColor($0) }, appliesEXIFOrientation: exif) }
  }

  struct ResizeCase: Decodable, Sendable, CustomTestStringConvertible {
    let sourceWidth: Int
    let sourceHeight: Int
    let seed: UInt32
    let interpolation: Interpolation
    let result: Result

    enum CodingKeys: String, CodingKey {
      case sourceWidth = "source_width"
      case sourceHeight = "source_height"
      case seed, interpolation
    }

    init(from decoder: any Decoder) throws {
      let container = try decoder.container(keyedBy: CodingKeys.self)
      sourceWidth = try container.decode(Int.self, forKey: .sourceWidth)
      sourceHeight = try container.decode(Int.self, forKey: .sourceHeight)
      seed = try container.decode(UInt32.self, forKey: .seed)
      interpolation = try container.decode(Interpolation.self, forKey: .interpolation)
      result = try Result(from: decoder)
    }

    var testDescription: String { "\(sourceWidth)×\(sourceHeight) to \(result.width)×\(result.height), \(interpolation)" }
  }

  struct PreprocessCase: Decodable, Sendable, CustomTestStringConvertible {
    let source: ResizeCase
    let fields: PreprocessingFields

    init(from decoder: any Decoder) throws {
      source = try ResizeCase(from: decoder)
      fields = try PreprocessingFields(from: decoder)
    }

    var testDescription: String { "\(source.sourceWidth)×\(source.sourceHeight) to \(fields.inputSize ?? []), \(fields.cropPct ?? 0)" }
  }

  private struct Manifest: Decodable {
    let decode: [DecodeCase]
    let resize: [ResizeCase]
    let preprocess: [PreprocessCase]
  }

  let folder: URL
  let decode: [DecodeCase]
  let resize: [ResizeCase]
  let preprocess: [PreprocessCase]
  private let expected: [UInt8]

  static let shared: ImageFixtures = {
    do {
      return try ImageFixtures()
    } catch {
      fatalError("the fixtures can't be read: \(error)")
    }
  }()

  private init() throws {
    folder = try #require(Bundle.module.resourceURL).appending(path: "Fixtures/images")
    let manifest = try JSONDecoder().decode(Manifest.self, from: Data(contentsOf: folder.appending(path: "manifest.json")))
    (decode, resize, preprocess) = (manifest.decode, manifest.resize, manifest.preprocess)
    expected = try Array(Data(contentsOf: folder.appending(path: "expected.bin")))
  }

  func path(_ file: String) -> String { folder.appending(path: file).path }

  func bytes(_ file: String) throws -> [UInt8] { try Array(Data(contentsOf: folder.appending(path: file))) }

  func pixels(_ result: Result) -> [UInt8] { Array(expected[result.offset..<result.offset + result.width * result.height * 3]) }
}

extension ImageDecoder {
  /// The picture in an array of bytes.
  func decode(_ bytes: [UInt8]) throws -> DecodedImage { try bytes.withUnsafeBytes { try decode($0, path: "bytes") } }
}

/// Bytes from the high bits of x ← 1664525 x + 1013904223 mod 2^32, as the reference script makes them.
struct Noise {
  private var state: UInt32

  init(seed: UInt32) { state = seed }

  mutating func next() -> UInt8 {
    state = state &* 1_664_525 &+ 1_013_904_223
    return UInt8(state >> 24)
  }

  static func image(width: Int, height: Int, seed: UInt32) -> DecodedImage {
    var noise = Noise(seed: seed)
    guard let image = DecodedImage(width: width, height: height, pixels: (0..<width * height * 3).map { _ in noise.next() }) else {
      preconditionFailure("a picture of \(width) × \(height)")
    }
    return image
  }
}

/// The largest difference of two lists of bytes, and how many differ.
func difference(_ one: [UInt8], _ other: [UInt8]) -> (largest: Int, count: Int) {
  guard one.count == other.count else { return (256, max(one.count, other.count)) }
  let differences = zip(one, other).map { abs(Int($0) - Int($1)) }
  return (differences.max() ?? 0, differences.count { $0 > 0 })
}
