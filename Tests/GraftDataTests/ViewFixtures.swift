import Foundation
import GraftData
import Testing

/// The results that Tools/reference/views.py made with Pillow.
struct ViewFixtures {
  struct Place: Decodable, Sendable {
    let width, height, offset: Int
  }

  struct OperationCase: Decodable, Sendable, CustomTestStringConvertible {
    let operation: String
    let numbers: [Double]
    let picture: Int
    let width, height, offset: Int
    var testDescription: String { "\(operation) \(numbers) of picture \(picture)" }

    var name: Substring { operation.prefix { $0 != "." } }

    /// The operation that the case is about.
    func make() throws -> PixelOperation {
      let number = numbers.first ?? 0
      let resampling: PixelOperation.Resampling = operation.hasSuffix("bicubic") ? .bicubic : .bilinear
      switch name {
      case "autocontrast": return .autoContrast
      case "equalize": return .equalize
      case "invert": return .invert
      case "posterize": return .posterize(bits: Int(number))
      case "solarize": return .solarize(threshold: Int(number))
      case "solarizeAdd": return .solarizeAdd(Int(number))
      case "brightness": return .brightness(Float(number))
      case "contrast": return .contrast(Float(number))
      case "saturation": return .saturation(Float(number))
      case "sharpness": return .sharpness(Float(number))
      case "hue": return .hue(number)
      case "rotate": return .warp(.rotation(degrees: number, width: width, height: height), resampling)
      case "shearX": return .warp(.shearX(number), resampling)
      case "shearY": return .warp(.shearY(number), resampling)
      case "translateX": return .warp(.shift(x: number * Double(width), y: 0), resampling)
      case "translateY": return .warp(.shift(x: 0, y: number * Double(height)), resampling)
      default: throw CocoaError(.featureUnsupported)
      }
    }
  }

  struct CropCase: Decodable, Sendable {
    let picture: Int
    let box: [Int]
    let interpolation: Interpolation
    let width, height, offset: Int
  }

  private struct Manifest: Decodable {
    let pictures: [Place]
    let cases: [OperationCase]
    let crops: [CropCase]
  }

  let pictures: [DecodedImage]
  let cases: [OperationCase]
  let crops: [CropCase]
  private let bytes: [UInt8]

  static let all: ViewFixtures = {
    do { return try ViewFixtures() } catch { fatalError("the fixtures of views are broken: \(error)") }
  }()

  private init() throws {
    let folder = try #require(Bundle.module.url(forResource: "Fixtures/views", withExtension: nil))
    let bytes = [UInt8](try Data(contentsOf: folder.appendingPathComponent("pictures.bin")))
    let manifest = try JSONDecoder().decode(Manifest.self, from: Data(contentsOf: folder.appendingPathComponent("manifest.json")))
    self.bytes = bytes
    pictures = try manifest.pictures.map {
      try #require(DecodedImage(width: $0.width, height: $0.height, pixels: Array(bytes[$0.offset..<$0.offset + $0.width * $0.height * 3])))
    }
    (cases, crops) = (manifest.cases, manifest.crops)
  }

  func expected(width: Int, height: Int, offset: Int) -> ArraySlice<UInt8> { bytes[offset..<offset + width * height * 3] }
}

extension DecodedImage {
  /// A changed copy.
  func changed(_ change: (ViewPixels) -> Void) -> [UInt8] {
    var bytes = pixels
    bytes.withUnsafeMutableBufferPointer { change(ViewPixels(width: width, height: height, bytes: $0)) }
    return bytes
  }
}
