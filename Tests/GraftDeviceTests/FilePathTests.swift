import Foundation
import GraftDevice
import Testing

@Suite struct FilePathTests {
  /// The letters of `dirname` and `basename`, but for "." and "/", which are "" here.
  @Test(arguments: [
    ("a/b/c", "a/b", "c"), ("a/b/c/", "a/b", "c"), ("a//b//", "a", "b"), ("/a", "/", "a"), ("//a", "/", "a"), ("/", "", ""), ("", "", ""),
    ("f", "", "f"), ("ff", "", "ff"), ("f/", "", "f"), ("./f", ".", "f"), ("é", "", "é"), ("a/\u{301}b", "a", "\u{301}b"),
  ])
  func folderAndName(_ path: String, _ folder: String, _ name: String) {
    #expect(FilePath.folder(of: path) == folder)
    #expect(FilePath.name(of: path) == name)
  }

  /// ".." after a link is the folder above the one that the link leads to.
  @Test func absolutePathsGoWhereTheSystemGoes() throws {
    let root = try #require(FilePathTests.resolved(FileManager.default.temporaryDirectory.path)) + "/graft-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: root + "/real/sub", withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: root) }
    try FileManager.default.createSymbolicLink(atPath: root + "/link", withDestinationPath: "real/sub")
    for (path, expected) in [
      ("/link/../m.onnx", "/real/m.onnx"), ("/real/../m.onnx", "/m.onnx"), ("/./link//m.onnx", "/link/m.onnx"), ("/link/..", "/real"),
      ("/none/../m.onnx", "/none/../m.onnx"),
    ] { #expect(FilePath.absolute(root + path) == root + expected) }
    #expect(FilePath.absolute("m.onnx") == FileManager.default.currentDirectoryPath + "/m.onnx")
    #expect(FilePath.absolute("/..") == "/")
  }

  private static func resolved(_ path: String) -> String? {
    guard let found = realpath(path, nil) else { return nil }
    defer { free(found) }
    return String(cString: found)
  }
}
