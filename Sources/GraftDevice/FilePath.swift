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

  /// Without slashes at the end. In bytes: a slash and an accent after it are one character, and still a slash.
  private static func trimmed(_ path: String) -> Substring.UTF8View { trimmed(path.utf8[...]) }
  private static func trimmed(_ path: Substring.UTF8View) -> Substring.UTF8View {
    var path = path
    while path.last == UInt8(ascii: "/") { path.removeLast() }
    return path
  }
}
