import Foundation

/// A drawing as SVG, written from the back to the front.
struct SVGDocument {
  enum Anchor: String {
    case start, middle, end
  }

  let width, height: Double
  /// What is read to those who don't see it.
  private let title, description: String
  private var elements: [String] = []

  init(width: Double, height: Double, title: String, description: String) {
    (self.width, self.height, self.title, self.description) = (width, height, title, description)
    rectangle(0, 0, width, height, fill: "#ffffff")
  }

  mutating func rectangle(_ x: Double, _ y: Double, _ width: Double, _ height: Double, fill: String, stroke: String? = nil, opacity: Double = 1) {
    let edge = stroke.map { " stroke=\"\($0)\"" } ?? "", clear = opacity < 1 ? " fill-opacity=\"\(Self.number(opacity))\"" : ""
    elements.append(
      "<rect x=\"\(Self.number(x))\" y=\"\(Self.number(y))\" width=\"\(Self.number(width))\" height=\"\(Self.number(height))\" fill=\"\(fill)\"\(edge)\(clear)/>"
    )
  }

  mutating func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, stroke: String, width: Double = 1, dashed: Bool = false) {
    let dashes = dashed ? " stroke-dasharray=\"5 4\"" : ""
    elements.append(
      "<line x1=\"\(Self.number(x1))\" y1=\"\(Self.number(y1))\" x2=\"\(Self.number(x2))\" y2=\"\(Self.number(y2))\" stroke=\"\(stroke)\" stroke-width=\"\(Self.number(width))\"\(dashes)/>"
    )
  }

  mutating func polyline(_ points: [(x: Double, y: Double)], stroke: String, width: Double = 2, dashed: Bool = false) {
    let dashes = dashed ? " stroke-dasharray=\"5 4\"" : ""
    elements.append(
      "<polyline points=\"\(Self.list(points))\" fill=\"none\" stroke=\"\(stroke)\" stroke-width=\"\(Self.number(width))\" stroke-linejoin=\"round\"\(dashes)/>"
    )
  }

  mutating func polygon(_ points: [(x: Double, y: Double)], fill: String, opacity: Double) {
    elements.append("<polygon points=\"\(Self.list(points))\" fill=\"\(fill)\" fill-opacity=\"\(Self.number(opacity))\"/>")
  }

  mutating func circle(_ x: Double, _ y: Double, radius: Double, fill: String) {
    elements.append("<circle cx=\"\(Self.number(x))\" cy=\"\(Self.number(y))\" r=\"\(Self.number(radius))\" fill=\"\(fill)\"/>")
  }

  /// - Parameters:
  ///   - y: the baseline.
  ///   - turned: degrees, clockwise, about the point.
  mutating func text(
    _ text: String, _ x: Double, _ y: Double, size: Double = 12, anchor: Anchor = .start, fill: String = "#333333", bold: Bool = false,
    turned: Double = 0
  ) {
    let turn = turned == 0 ? "" : " transform=\"rotate(\(Self.number(turned)) \(Self.number(x)) \(Self.number(y)))\""
    elements.append(
      "<text x=\"\(Self.number(x))\" y=\"\(Self.number(y))\" font-size=\"\(Self.number(size))\" text-anchor=\"\(anchor.rawValue)\" fill=\"\(fill)\"\(bold ? " font-weight=\"bold\"" : "")\(turn)>\(Self.escaped(text))</text>"
    )
  }

  /// About how wide text is, in a sans serif: what layouts reckon with.
  static func width(of text: String, size: Double = 12) -> Double { Double(DisplayWidth.of(text)) * size * 0.64 }

  /// Text for humans from a file's or a folder's name, which may hold anything.
  ///
  /// By scalars, as XML's parsers read: a "<" is one also with a combining mark after it, which makes another character of it.
  static func escaped(_ text: String) -> String {
    var result = String.UnicodeScalarView()
    for scalar in DisplayWidth.printable(text).unicodeScalars {
      switch scalar {
      case "&": result += "&amp;".unicodeScalars
      case "<": result += "&lt;".unicodeScalars
      case ">": result += "&gt;".unicodeScalars
      case "\"": result += "&quot;".unicodeScalars
      case "'": result += "&apos;".unicodeScalars
      // Beside control characters these alone are no characters to XML 1.0.
      case "\u{FFFE}", "\u{FFFF}": result.append("\u{FFFD}")
      default: result.append(scalar)
      }
    }
    return String(result)
  }

  /// Two decimals at most, without a locale.
  static func number(_ value: Double) -> String {
    guard value.isFinite, abs(value) < 1e9 else { return "0" }
    let scaled = Int((value * 100).rounded())
    let (whole, part) = (abs(scaled) / 100, abs(scaled) % 100)
    let sign = scaled < 0 ? "-" : ""
    if part == 0 { return "\(sign)\(whole)" }
    return part % 10 == 0 ? "\(sign)\(whole).\(part / 10)" : "\(sign)\(whole).\(part < 10 ? "0" : "")\(part)"
  }

  private static func list(_ points: [(x: Double, y: Double)]) -> String {
    points.map { "\(number($0.x)),\(number($0.y))" }.joined(separator: " ")
  }

  var source: String {
    let size = "width=\"\(Self.number(width))\" height=\"\(Self.number(height))\" viewBox=\"0 0 \(Self.number(width)) \(Self.number(height))\""
    let head = [
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>", "<svg xmlns=\"http://www.w3.org/2000/svg\" \(size) role=\"img\" font-family=\"sans-serif\">",
      "<title>\(Self.escaped(title))</title>", "<desc>\(Self.escaped(description))</desc>",
    ]
    return (head + elements + ["</svg>", ""]).joined(separator: "\n")
  }
}

/// A finished plot.
public struct Plot: Sendable, Equatable {
  /// SVG 1.1.
  public let source: String

  init(_ document: SVGDocument) { source = document.source }

  /// Writes the file; it appears whole or not at all.
  ///
  /// - Throws: `FileError`.
  public func write(to path: String) throws { try TextFile.write(source, to: path) }
}
