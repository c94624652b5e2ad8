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
}
