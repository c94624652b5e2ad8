/// A picture in memory: 8 bits of red, green and blue a pixel.
public struct DecodedImage: Sendable, Equatable {
  /// Columns.
  public let width: Int
  /// Rows.
  public let height: Int
  /// [height, width, 3], row-major.
  public let pixels: [UInt8]

  /// The longest side of a picture, in pixels. Nothing photographed comes near it, and what a small file could claim of
  /// one axis alone stays small.
  public static let longestSide = 1 << 20

  /// A picture of pixels that exist already; nil unless both sides are in 1…`longestSide` and there are
  /// `width * height * 3` bytes.
  public init?(width: Int, height: Int, pixels: [UInt8]) {
    guard (1...Self.longestSide).contains(width), (1...Self.longestSide).contains(height), pixels.count == width * height * 3 else {
      return nil
    }
    self.init(checkedWidth: width, height: height, pixels: pixels)
  }

  init(checkedWidth width: Int, height: Int, pixels: [UInt8]) {
    (self.width, self.height, self.pixels) = (width, height, pixels)
  }
}

/// A colour of 8 bits a channel, written `#rrggbb`.
public struct RGBColor: Hashable, Sendable, Codable, CustomStringConvertible {
  public var red: UInt8
  public var green: UInt8
  public var blue: UInt8

  public init(red: UInt8, green: UInt8, blue: UInt8) {
    (self.red, self.green, self.blue) = (red, green, blue)
  }

  /// Reads `#rrggbb` (the sign may be missing), `white` or `black`; nil for anything else.
  public init?(_ text: String) {
    switch text.lowercased() {
    case "white": self.init(red: 255, green: 255, blue: 255)
    case "black": self.init(red: 0, green: 0, blue: 0)
    case let lowercase:
      let digits = lowercase.hasPrefix("#") ? lowercase.dropFirst() : lowercase[...]
      guard digits.utf8.count == 6, digits.allSatisfy(\.isHexDigit), let value = UInt32(digits, radix: 16) else { return nil }
      self.init(red: UInt8(value >> 16), green: UInt8(value >> 8 & 255), blue: UInt8(value & 255))
    }
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    let text = try container.decode(String.self)
    guard let color = RGBColor(text) else {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "'\(text)' is no colour: write #rrggbb")
    }
    self = color
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }

  public var description: String {
    "#" + [red, green, blue].map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }
}
