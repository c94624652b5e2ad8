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

  /// A link to a file that is not there yet leads to the new one, wherever that lies.
  @Test func linksLeadToNewFiles() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try FileManager.default.createDirectory(atPath: "\(folder)/below", withIntermediateDirectories: true)
    try FileManager.default.createSymbolicLink(atPath: "\(folder)/link", withDestinationPath: "below/next")
    try FileManager.default.createSymbolicLink(atPath: "\(folder)/below/next", withDestinationPath: "file")
    try write("new", to: "link")
    #expect(try text("below/file") == "new")
    #expect(try names() == ["below", "link"])
    #expect(try FileManager.default.destinationOfSymbolicLink(atPath: "\(folder)/below/next") == "file")
  }

  @Test func permissionsStay() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    for mode in [0o600, 0o664, 0o640] as [mode_t] {
      try write("old", to: "file")
      try #require(chmod("\(folder)/file", mode) == 0)
      try write("new", to: "file")
      var status = stat()
      #expect(stat("\(folder)/file", &status) == 0 && status.st_mode & 0o777 == mode)
    }
  }

  /// Names that a file could not have are refused when they are looked at, not when there is something to write.
  @Test func refusesNamesOfNoFile() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let long = "\(folder)/" + String(repeating: "a", count: 256)
    try FileManager.default.createSymbolicLink(atPath: "\(folder)/circle", withDestinationPath: "circle")
    #expect(throws: FileError(path: long, action: "create", code: ENAMETOOLONG)) { try AtomicFile.check(creating: long) }
    #expect(throws: FileError(path: "\(folder)/circle", action: "create", code: ELOOP)) { try AtomicFile.check(creating: "\(folder)/circle") }
    #expect(throws: FileError(path: "\(folder)/none/", action: "create", code: EISDIR)) { try AtomicFile.check(creating: "\(folder)/none/") }
    #expect(throws: FileError.self) { try AtomicFile.check(creating: "") }
    try AtomicFile.check(creating: String(long.dropLast()))
    #expect(try names() == ["circle"])
  }

  /// In a folder as /tmp, where only who owns a file, or the folder, may take its name away.
  @Test(.enabled(if: getuid() == 0, "only root makes files of several users")) func refusesOthersFilesInAStickyFolder() async throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    for name in ["root", "nobody"] { try write("old", to: name) }
    try FileManager.default.createSymbolicLink(atPath: "\(folder)/link", withDestinationPath: "root")
    try #require(chown("\(folder)/nobody", 65_534, 65_534) == 0)
    for (mode, owner) in [(0o1777, 0), (0o777, 0), (0o1777, 65_534)] as [(mode_t, uid_t)] {
      try #require(chown(folder, owner, owner) == 0 && chmod(folder, mode) == 0)
      await #expect(processExitsWith: .success) { [folder = folder as String, mode = mode as mode_t, owner = owner as uid_t] in
        // Root may.
        try AtomicFile.check(creating: "\(folder)/nobody")
        try #require(setuid(65_534) == 0)
        for name in ["nobody", "new"] { try AtomicFile.check(creating: "\(folder)/\(name)") }
        for name in ["root", "link"] {
          guard mode == 0o1777, owner == 0 else {
            try AtomicFile.check(creating: "\(folder)/\(name)")
            continue
          }
          let error = try #require(throws: FileError.self) { try AtomicFile.check(creating: "\(folder)/\(name)") }
          #expect(error == FileError(path: "\(folder)/\(name)", action: "replace", code: EPERM) && "\(error)".contains("another user's"), "\(error)")
        }
      }
    }
    #expect(try names() == ["link", "nobody", "root"])
  }

  private static let canMount = {
    let folder = NSTemporaryDirectory() + "/graft-\(UUID().uuidString)"
    guard mkdir(folder, 0o755) == 0 else { return false }
    defer { rmdir(folder) }
    return mount(folder, folder, nil, UInt(MS_BIND), nil) == 0 && umount2(folder, Int32(MNT_DETACH)) == 0
  }()

  @Test(.enabled(if: canMount, "mounting needs the right to")) func refusesAFileThatIsMounted() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    for name in ["source", "a \\ name", "beside"] { try write("old", to: name) }
    let target = "\(folder)/a \\ name"
    try AtomicFile.check(creating: target)
    try #require(mount("\(folder)/source", target, nil, UInt(MS_BIND), nil) == 0)
    let error = try #require(throws: FileError.self) { try AtomicFile.check(creating: target) }
    #expect(error == FileError(path: target, action: "replace", code: EBUSY) && "\(error)".contains("mounted"), "\(error)")
    try AtomicFile.check(creating: "\(folder)/beside")
    // As the system would have said at the end.
    #expect(throws: FileError(path: target, action: "rename to", code: EBUSY)) { try write("new", to: "a \\ name") }
    try #require(umount2(target, Int32(MNT_DETACH)) == 0)
    try AtomicFile.check(creating: target)
  }

  /// What `chattr +i` and `chattr +a` set.
  private static func set(_ flags: Int, of path: String) -> Bool {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    defer { close(descriptor) }
    var (before, after) = (0, 0)
    guard ioctl(descriptor, 0x8008_6601, &before) == 0 else { return false }
    after = before & ~0x30 | flags
    return ioctl(descriptor, 0x4008_6602, &after) == 0
  }

  @Test func refusesAFileThatMayNotBeChanged() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try write("old", to: "file")
    let path = "\(folder)/file"
    for flags in [0x10, 0x20] {
      // Neither every file system has that, nor every user the right to it.
      guard Self.set(flags, of: path) else { continue }
      defer { _ = Self.set(0, of: path) }
      #expect(throws: FileError(path: path, action: "replace", code: EPERM)) { try AtomicFile.check(creating: path) }
      #expect(throws: FileError(path: path, action: "rename to", code: EPERM)) { try write("new", to: "file") }
    }
    try AtomicFile.check(creating: path)
    #expect(try names() == ["file"])
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
