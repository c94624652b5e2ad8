import Foundation

/// As JSON: what a store keeps of how its views were drawn.
extension Augmentation: Codable {
  enum CodingKeys: String, CodingKey {
    case cropScale = "crop_scale"
    case padding = "pad"
    case flip, jitter, erase
    case randAugment = "randaugment"
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    func numbers(_ key: CodingKeys, count: Int) throws -> [Double]? {
      guard let values = try container.decodeIfPresent([Double].self, forKey: key) else { return nil }
      guard values.count == count, values.allSatisfy({ (0...100).contains($0) }) else {
        throw DecodingError.dataCorruptedError(forKey: key, in: container, debugDescription: "\(values) are not \(count) usable numbers")
      }
      return values
    }
    self.init()
    if let area = try numbers(.cropScale, count: 2) {
      guard area[0] > 0, area[0] <= area[1], area[1] <= 1 else {
        throw DecodingError.dataCorruptedError(forKey: .cropScale, in: container, debugDescription: "\(area) are no shares of an area")
      }
      cropScale = area[0]...area[1]
    }
    padding = min(4096, max(0, try container.decodeIfPresent(Int.self, forKey: .padding) ?? 0))
    flip = try container.decodeIfPresent(Bool.self, forKey: .flip) ?? false
    erasing = min(1, max(0, try container.decodeIfPresent(Double.self, forKey: .erase) ?? 0))
    if let values = try numbers(.jitter, count: 4) {
      jitter = ColorJitter(brightness: values[0], contrast: values[1], saturation: values[2], hue: min(0.5, values[3]))
    }
    if let values = try numbers(.randAugment, count: 2) { randAugment = RandAugment(count: Int(values[0]), magnitude: min(10, values[1])) }
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encodeIfPresent(cropScale.map { [$0.lowerBound, $0.upperBound] }, forKey: .cropScale)
    try container.encode(padding, forKey: .padding)
    try container.encode(flip, forKey: .flip)
    try container.encode(erasing, forKey: .erase)
    try container.encodeIfPresent(jitter.map { [$0.brightness, $0.contrast, $0.saturation, $0.hue] }, forKey: .jitter)
    try container.encodeIfPresent(randAugment.map { [Double($0.count), $0.magnitude] }, forKey: .randAugment)
  }

  /// Equal texts draw equal views.
  public var canonicalJSON: String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    // Numbers, truth values and lists of numbers: nothing that could not be written.
    return (try? encoder.encode(self)).map { String(decoding: $0, as: UTF8.self) } ?? ""
  }
}
