import Foundation
import GraftGraph

/// What the JSON file beside a model says about it, in timm's form (`architecture`, `pretrained_cfg`).
public struct ModelConfiguration: Sendable, Hashable {
  /// The file it was read from.
  public let file: String
  /// timm's name of the architecture: "tf_efficientnet_lite0".
  public let architecture: String?
  /// Settings by timm's names; nil where the file is silent.
  public let inputSize: [Int]?
  public let interpolation: Preprocessing.Interpolation?
  public let cropFraction: Double?
  public let mean: [Double]?
  public let standardDeviation: [Double]?

  /// The configuration of the model at `path`: `NAME.json` beside `NAME.onnx`, else `config.json` in its folder; nil if
  /// neither is there.
  ///
  /// - Throws: `ImportError` naming the field that makes no sense; `FileError` if the file cannot be read.
  public static func beside(model path: String) throws -> ModelConfiguration? {
    let folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? ""
    let name = path.dropFirst(folder.count)
    let stem = name.lastIndex(of: ".").map { name[..<$0] } ?? name
    for candidate in ["\(folder)\(stem).json", "\(folder)config.json"] where candidate != path {
      do { return try ModelConfiguration(path: candidate) } catch let error as FileError where error.code == ENOENT { continue }
    }
    return nil
  }

  static let byteLimit = 1 << 20

  public init(path: String) throws {
    let bytes = try HostBytes(mapping: path)
    func error(_ what: String) -> ImportError {
      ImportError(file: path, what: what, remedy: "Correct it, or give the preprocessing with flags of the same names.")
    }
    guard bytes.count <= Self.byteLimit else { throw error("it is too long for a model's configuration") }
    guard let top = JSONValue(bytes.withUnsafeBytes { Data($0) })?.object else {
      throw ImportError(file: path, what: "this is no JSON object", remedy: "Correct it, or remove it and give the preprocessing with flags.")
    }
    // Older files have the fields at the top.
    let fields = top["pretrained_cfg"]?.object ?? top

    func numbers(_ key: String, count: Int, _ range: ClosedRange<Double>) throws -> [Double]? {
      guard let value = fields[key] else { return nil }
      let numbers = value.array?.compactMap(\.number) ?? []
      guard value.array?.count == count, numbers.count == count, numbers.allSatisfy(range.contains) else {
        throw error("\(key) should be \(count) numbers in \(range.lowerBound)...\(range.upperBound)")
      }
      return numbers
    }
    let inputSize = try numbers("input_size", count: 3, 1...65536)
    guard inputSize?.allSatisfy({ $0 == $0.rounded() }) != false else { throw error("input_size should be three whole numbers") }
    guard inputSize.map({ $0[0] == 3 }) != false else { throw error("input_size has \(Int(inputSize?[0] ?? 0)) channels, and images have 3") }
    if let mode = fields["crop_mode"]?.string, mode != "center" { throw error("crop_mode \(quoted(mode)) is not known; it should be 'center'") }

    file = path
    architecture = top["architecture"]?.string ?? fields["architecture"]?.string
    self.inputSize = inputSize?.map { Int($0) }
    mean = try numbers("mean", count: 3, -1000...1000)
    standardDeviation = try numbers("std", count: 3, 1e-6...1000)
    if let value = fields["crop_pct"] {
      guard let fraction = value.number, fraction > 0, fraction <= 1 else { throw error("crop_pct should be in 0...1") }
      cropFraction = fraction
    } else {
      cropFraction = nil
    }
    if let value = fields["interpolation"] {
      guard let filter = value.string.flatMap(Preprocessing.Interpolation.init) else {
        throw error("interpolation should be one of \(Preprocessing.Interpolation.allCases.map(\.rawValue).joined(separator: ", "))")
      }
      interpolation = filter
    } else {
      interpolation = nil
    }
  }

  /// `defaults` with what the file says in their place.
  public func applied(to defaults: Preprocessing) -> Preprocessing {
    Preprocessing(
      channels: inputSize?[0] ?? defaults.channels, height: inputSize?[1] ?? defaults.height, width: inputSize?[2] ?? defaults.width,
      interpolation: interpolation ?? defaults.interpolation, cropFraction: cropFraction ?? defaults.cropFraction, mean: mean ?? defaults.mean,
      standardDeviation: standardDeviation ?? defaults.standardDeviation)
  }
}
