import Foundation
import GraftGraph
import Testing

@Suite struct AtomicFileTests {
  private let folder: String

  init() throws {
    folder = NSTemporaryDirectory() + "/graft-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  }

  private func names() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: folder).sorted() }
  private func text(_ name: String) throws -> String { try String(contentsOfFile: "\(folder)/\(name)", encoding: .utf8) }

  private func write(_ text: String, to name: String, commits: Bool = true) throws {
    let file = try AtomicFile(replacing: "\(folder)/\(name)")
    try Array(text.utf8).withUnsafeBytes { try file.append($0) }
    if commits { try file.commit() }
  }

  @Test func appearsWholeOrNotAtAll() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try write("one", to: "file")
    try write("two, longer", to: "file")
    #expect(try text("file") == "two, longer")
    try write("never", to: "file", commits: false)
    try write("never", to: "other", commits: false)
    #expect(try text("file") == "two, longer")
    #expect(try names() == ["file"])
  }

  /// What a link leads to is replaced, not the link; what is no regular file is written to.
  @Test func linksAndPipesStayWhatTheyAre() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try write("old", to: "file")
    try FileManager.default.createSymbolicLink(atPath: "\(folder)/link", withDestinationPath: "file")
    try write("new", to: "link")
    #expect(try text("file") == "new")
    #expect(try FileManager.default.destinationOfSymbolicLink(atPath: "\(folder)/link") == "file")

    try #require(mkfifo("\(folder)/pipe", 0o600) == 0)
    let reader = open("\(folder)/pipe", O_RDONLY | O_NONBLOCK)
    defer { close(reader) }
    try write("through", to: "pipe")
    var bytes = [UInt8](repeating: 0, count: 16)
    let count = read(reader, &bytes, bytes.count)
    #expect(String(decoding: bytes.prefix(max(0, count)), as: UTF8.self) == "through")
    #expect(try names() == ["file", "link", "pipe"])
  }

  @Test func errorsNameTheFile() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    #expect(throws: FileError(path: folder, action: "write", code: EISDIR)) { try AtomicFile(replacing: folder) }
    #expect(throws: FileError(path: "\(folder)/none/file", action: "create", code: ENOENT)) { try AtomicFile(replacing: "\(folder)/none/file") }
    let full = try AtomicFile(replacing: "/dev/full")
    #expect(throws: FileError(path: "/dev/full", action: "write", code: ENOSPC)) { try [1, 2, 3].withUnsafeBytes { try full.append($0) } }
  }

  /// What a process leaves that is asked to end while it writes.
  @Test func unfinishedFilesGoWithTheProcess() async throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try write("whole", to: "file")
    await #expect(processExitsWith: .exitCode(7)) { [folder = folder as String] in
      let files = try ["file", "other"].map { try AtomicFile(replacing: "\(folder)/\($0)") }
      for file in files { try [1, 2, 3].withUnsafeBytes { try file.append($0) } }
      try withExtendedLifetime(files) {
        guard try FileManager.default.contentsOfDirectory(atPath: folder).count == 3 else { return }
        UnfinishedFiles.removeAll()
        _exit(7)
      }
    }
    #expect(try names() == ["file"])
    #expect(try text("file") == "whole")
  }
}
