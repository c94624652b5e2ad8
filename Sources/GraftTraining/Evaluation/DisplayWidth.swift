/// How many columns of a terminal text takes, and text cut or padded to a number of columns.
package enum DisplayWidth {
  /// Ranges of East Asian wide and full-width characters (Unicode's EastAsianWidth W and F), coarse where every
  /// character between is unassigned.
  private static let wide: [ClosedRange<UInt32>] = [
    0x1100...0x115F, 0x2E80...0x303E, 0x3041...0x33FF, 0x3400...0x4DBF, 0x4E00...0x9FFF, 0xA000...0xA4CF, 0xA960...0xA97F,
    0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE10...0xFE19, 0xFE30...0xFE6F, 0xFF00...0xFF60, 0xFFE0...0xFFE6, 0x16FE0...0x18DFF,
    0x1AFF0...0x1B2FF, 0x20000...0x3FFFD,
  ]

  package static func of(_ text: String) -> Int { text.reduce(0) { $0 + of($1) } }

  package static func of(_ character: Character) -> Int {
    var width = 0
    for scalar in character.unicodeScalars {
      if scalar.properties.isEmojiPresentation || scalar.value == 0xFE0F { return 2 }
      if wide.contains(where: { $0.contains(scalar.value) }) { return 2 }
      switch scalar.properties.generalCategory {
      case .nonspacingMark, .enclosingMark, .format, .control, .surrogate, .lineSeparator, .paragraphSeparator: break
      default: width = 1
      }
    }
    return width
  }

  /// What a name from a file may do to a terminal is undone: control characters become "�", and so do those that turn the direction of
  /// what follows them, also beyond the name.
  package static func printable(_ text: String) -> String {
    let scalars = text.unicodeScalars.map { scalar -> Unicode.Scalar in
      switch (scalar.properties.generalCategory, scalar.value) {
      case (.control, _), (.lineSeparator, _), (.paragraphSeparator, _), (.surrogate, _), (_, 0x202A...0x202E), (_, 0x2066...0x2069): "\u{FFFD}"
      default: scalar
      }
    }
    return String(String.UnicodeScalarView(scalars))
  }

  /// `text` in at most `columns` columns; an ellipsis stands for what was cut.
  package static func truncated(_ text: String, to columns: Int) -> String {
    guard of(text) > columns else { return text }
    var (kept, width) = ("", 0)
    for character in text {
      let next = of(character)
      guard width + next <= columns - 1 else { break }
      kept.append(character)
      width += next
    }
    return columns > 0 ? kept + "…" : ""
  }

  package static func left(_ text: String, columns: Int) -> String { text + String(repeating: " ", count: max(0, columns - of(text))) }
  package static func right(_ text: String, columns: Int) -> String { String(repeating: " ", count: max(0, columns - of(text))) + text }
}
