/// A model file that cannot be used: which file, where in it, what is wrong and what to do.
public struct ImportError: Error, CustomStringConvertible, Equatable, Sendable {
  /// The path as the user gave it.
  public let file: String
  /// The place inside the file: "node 'conv1' (Conv)", "tensor 'fc.weight'"; nil when it is the file as a whole.
  public let node: String?
  /// What is wrong, as a clause without a full stop.
  public let what: String
  /// What to do about it, as a sentence; empty when there is nothing to advise.
  public let remedy: String

  public init(file: String, node: String? = nil, what: String, remedy: String) {
    (self.file, self.node, self.what, self.remedy) = (file, node, what, remedy)
  }

  public var description: String {
    let place = node.map { ": \($0)" } ?? ""
    return "\(file)\(place): \(what).\(remedy.isEmpty ? "" : " \(remedy)")"
  }

  /// The remedy for bytes that contradict their own format.
  static let fetchAgain = "The file is damaged or was not fetched completely; fetch it again."
}

/// A name out of a file, fit for a message: quoted, without control characters, and not longer than a line.
func quoted(_ name: String) -> String {
  let limit = 120
  var text = ""
  for scalar in name.unicodeScalars.prefix(limit) {
    text += scalar.value < 0x20 || (0x7F..<0xA0).contains(scalar.value) ? "\u{FFFD}" : String(scalar)
  }
  return "'\(text)\(name.unicodeScalars.dropFirst(limit).isEmpty ? "" : "…")'"
}

/// A few names for a message, the rest counted.
func listed(_ names: some Collection<String>, limit: Int = 4) -> String {
  let shown = names.prefix(limit).map(quoted).joined(separator: ", ")
  return names.count > limit ? "\(shown) and \(names.count - limit) more" : shown
}
