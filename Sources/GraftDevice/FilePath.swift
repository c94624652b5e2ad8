import Foundation

/// Parts of paths. Those of `NSString` trap on a name of one letter (Foundation of Swift 6.3 on Linux).
package enum FilePath {
  /// The folder that a path lies in: "a/b" of "a/b/c" and "a/b/c/", "/" of "/a", and "" of a name alone and of "/".
  package static func folder(of path: String) -> String {
    let path = trimmed(path)
    guard let slash = path.lastIndex(of: UInt8(ascii: "/")) else { return "" }
    let folder = trimmed(path[..<slash])
    return folder.isEmpty ? "/" : String(folder) ?? ""
  }

  /// The last part: "c" of "a/b/c" and "a/b/c/", and "" of "/".
  package static func name(of path: String) -> String {
    let path = trimmed(path)
    return String(path.lastIndex(of: UInt8(ascii: "/")).map { path[path.index(after: $0)...] } ?? path) ?? ""
  }

  /// The path from the root to what the system finds under a path: where a link comes before "..", that leads elsewhere than the text says.
  /// Links after the last ".." keep their names, since what lies beside a link is not what lies beside the file it leads to.
  package static func absolute(_ path: String) -> String {
    let whole = path.utf8.first == UInt8(ascii: "/") ? path : FileManager.default.currentDirectoryPath + "/" + path
    let parts = whole.utf8.split(separator: UInt8(ascii: "/")).map { String(decoding: $0, as: UTF8.self) }.filter { $0 != "." }
    let text = "/" + parts.joined(separator: "/")
    guard let last = parts.lastIndex(of: ".."), let found = realpath("/" + parts[...last].joined(separator: "/"), nil) else { return text }
    defer { free(found) }
    return parts[(last + 1)...].reduce(String(cString: found), joined)
  }

  /// A name in a folder; "" is the working directory.
  package static func joined(_ folder: String, _ name: String) -> String {
    folder.isEmpty ? name : folder.utf8.last == UInt8(ascii: "/") ? folder + name : folder + "/" + name
  }

  /// Without slashes at the end. In bytes: a slash and an accent after it are one character, and still a slash.
  private static func trimmed(_ path: String) -> Substring.UTF8View { trimmed(path.utf8[...]) }
  private static func trimmed(_ path: Substring.UTF8View) -> Substring.UTF8View {
    var path = path
    while path.last == UInt8(ascii: "/") { path.removeLast() }
    return path
  }
}
