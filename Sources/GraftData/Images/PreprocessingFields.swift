import Foundation

/// Preprocessing as far as a file or flags tell it: the same values, each of which may be missing.
public struct PreprocessingFields: Codable, Hashable, Sendable {
  public var inputSize: [Int]?
  public var interpolation: Interpolation?
  public var cropPct: Double?
  public var cropMode: Preprocessing.CropMode?
  public var mean: [Double]?
  public var std: [Double]?
  public var background: RGBColor?
  public var exif: Bool?
  public var channelOrder: Preprocessing.ChannelOrder?
  public var cropRounding: Preprocessing.CropRounding?

  public init(
    inputSize: [Int]? = nil, interpolation: Interpolation? = nil, cropPct: Double? = nil, cropMode: Preprocessing.CropMode? = nil,
    mean: [Double]? = nil, std: [Double]? = nil, background: RGBColor? = nil, exif: Bool? = nil,
    channelOrder: Preprocessing.ChannelOrder? = nil, cropRounding: Preprocessing.CropRounding? = nil
  ) {
    self.inputSize = inputSize
    self.interpolation = interpolation
    self.cropPct = cropPct
    self.cropMode = cropMode
    self.mean = mean
    self.std = std
    self.background = background
    self.exif = exif
    self.channelOrder = channelOrder
    self.cropRounding = cropRounding
  }

  enum CodingKeys: String, CodingKey, CaseIterable {
    case inputSize = "input_size"
    case interpolation
    case cropPct = "crop_pct"
    case cropMode = "crop_mode"
    case mean
    case std
    case background
    case exif
    case channelOrder = "channel_order"
    case cropRounding = "crop_rounding"
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    // as any number first: the decoder's words on a fraction would be that the file is no JSON
    inputSize = try container.decodeIfPresent([Double].self, forKey: .inputSize)?.map { side in
      guard let whole = Int(exactly: side) else {
        throw DecodingError.dataCorruptedError(forKey: .inputSize, in: container, debugDescription: "\(side) is not a usable whole number")
      }
      return whole
    }
    interpolation = try container.decodeIfPresent(Interpolation.self, forKey: .interpolation)
    cropPct = try container.decodeIfPresent(Double.self, forKey: .cropPct)
    cropMode = try container.decodeIfPresent(Preprocessing.CropMode.self, forKey: .cropMode)
    mean = try container.decodeIfPresent([Double].self, forKey: .mean)
    std = try container.decodeIfPresent([Double].self, forKey: .std)
    background = try container.decodeIfPresent(RGBColor.self, forKey: .background)
    exif = try container.decodeIfPresent(Bool.self, forKey: .exif)
    channelOrder = try container.decodeIfPresent(Preprocessing.ChannelOrder.self, forKey: .channelOrder)
    cropRounding = try container.decodeIfPresent(Preprocessing.CropRounding.self, forKey: .cropRounding)
  }

  /// Rows of the network's input, where `inputSize` is [3, height, width]; what else it may be, `resolved()` refuses.
  public var inputHeight: Int? { inputSize.flatMap { $0.count == 3 ? $0[1] : nil } }
  /// Columns, likewise.
  public var inputWidth: Int? { inputSize.flatMap { $0.count == 3 ? $0[2] : nil } }

  /// Whether nothing is told.
  public var isEmpty: Bool { self == PreprocessingFields() }

  /// These values, and `fallback`'s where one is missing: flags over a file.
  public func over(_ fallback: PreprocessingFields) -> PreprocessingFields {
    PreprocessingFields(
      inputSize: inputSize ?? fallback.inputSize, interpolation: interpolation ?? fallback.interpolation, cropPct: cropPct ?? fallback.cropPct,
      cropMode: cropMode ?? fallback.cropMode, mean: mean ?? fallback.mean, std: std ?? fallback.std,
      background: background ?? fallback.background, exif: exif ?? fallback.exif, channelOrder: channelOrder ?? fallback.channelOrder,
      cropRounding: cropRounding ?? fallback.cropRounding)
  }

  /// The whole preprocessing. Crop mode, background, EXIF, the order of channels and the rounding of crops have defaults (center, none,
  /// ignored, red first, torchvision's); what changes features otherwise is never guessed.
  ///
  /// - Throws: `PreprocessingError` that names what is missing or makes no sense.
  public func resolved() throws(PreprocessingError) -> Preprocessing {
    let missing: [(CodingKeys, Bool)] = [
      (.inputSize, inputSize == nil), (.interpolation, interpolation == nil), (.cropPct, cropPct == nil), (.mean, mean == nil), (.std, std == nil),
    ]
    guard let inputSize, let interpolation, let cropPct, let mean, let std else {
      let names = missing.filter(\.1).map(\.0.rawValue)
      let flags = names.map { "--" + $0.replacing("_", with: "-") }.joined(separator: ", ")
      throw PreprocessingError(
        field: names.joined(separator: ", "), what: "missing",
        remedy: "Give \(flags), or a JSON file in timm's form beside the weights.")
    }
    return try Preprocessing(
      inputSize: inputSize, interpolation: interpolation, cropPct: cropPct, cropMode: cropMode ?? .center, mean: mean, std: std,
      background: background, exif: exif ?? false, channelOrder: channelOrder ?? .rgb, cropRounding: cropRounding ?? .even)
  }
}

extension Preprocessing: Codable {
  /// All values as fields; the order of channels and the rounding of crops only where they are not the default, so that what was written
  /// before they could be says the same.
  public var fields: PreprocessingFields {
    PreprocessingFields(
      inputSize: inputSize, interpolation: interpolation, cropPct: cropPct, cropMode: cropMode, mean: mean, std: std, background: background,
      exif: exif, channelOrder: channelOrder == .rgb ? nil : channelOrder, cropRounding: cropRounding == .even ? nil : cropRounding)
  }

  public init(from decoder: any Decoder) throws {
    self = try PreprocessingFields(from: decoder).resolved()
  }

  public func encode(to encoder: any Encoder) throws {
    try fields.encode(to: encoder)
  }

  /// One line of JSON, keys sorted, numbers at their shortest: equal exactly if the preprocessing is. What stores hash.
  public var canonicalJSON: String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    // finite numbers, strings and arrays of them: nothing the encoder could refuse
    guard let data = try? encoder.encode(self) else { preconditionFailure("\(self) has no JSON") }
    return String(decoding: data, as: UTF8.self)
  }

  /// The preprocessing in the JSON files beside a model, which `ModelConfiguration.read(beside:)` finds.
  ///
  /// - Throws: `FileError`, `ModelConfigurationError`, `PreprocessingError`.
  public static func read(beside modelPath: String) throws -> Preprocessing {
    let configuration = try ModelConfiguration.read(beside: modelPath)
    do {
      return try configuration.fields.resolved()
    } catch {
      throw PreprocessingError(path: configuration.path ?? modelPath, field: error.field, what: error.what, remedy: error.remedy)
    }
  }
}
