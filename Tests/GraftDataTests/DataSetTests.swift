import Foundation
import GraftData
import GraftGraph
import Testing

@Suite struct DataSetTests {
  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func make(_ names: String...) throws { for name in names { try folder.write(name, [1]) } }

  private func walk(_ path: String? = nil) throws -> (ImageFolder, [ImageFolder.Entry], ImageFolder.Tally) {
    let data = try ImageFolder(path: path ?? folder.path)
    var entries: [ImageFolder.Entry] = []
    let tally = try data.forEachImage { entries.append($0) }
    return (data, entries, tally)
  }

  @Test func classesAreFoldersInTheOrderOfTheirBytes() throws {
    try make("b/2.png", "b/10.PNG", "B/x.jpeg", "a/deep/er/z.webp", "a/c.jpg", "é/1.tif", "z/1.bmp", "10/1.heic", "9/1.gif")
    try make("a/notes.txt", "a/.hidden.png", ".git/objects/1.png", "stray.png", "README", "empty/readme.md", "b/.DS_Store")
    let (data, entries, tally) = try walk()
    #expect(data.classNames == ["10", "9", "B", "a", "b", "empty", "z", "é"])
    #expect(entries.map(\.path) == ["10/1.heic", "9/1.gif", "B/x.jpeg", "a/c.jpg", "a/deep/er/z.webp", "b/10.PNG", "b/2.png", "z/1.bmp", "é/1.tif"])
    #expect(entries.map { $0.label ?? "?" } == ["10", "9", "B", "a", "a", "b", "b", "z", "é"])
    #expect(entries.allSatisfy { $0.split == nil && $0.problem == nil })
    #expect((tally.images, tally.ignored) == (9, 4))
    #expect(tally.outside.first == ["stray.png"] && tally.deadLinks.isEmpty)
    #expect(tally.emptyClasses == ["empty"])
    // However the path is written, the samples' names are the same.
    #expect(try walk(folder.path + "//").1 == entries)
  }

  @Test func classesThatWereNotAskedForAreNotThere() throws {
    try make("train/cat/1.png", "train/dog/2.png", "train/emu/3.png", "test/dog/4.png", "test/emu/5.png", "test/emu/notes.txt")
    let data = try ImageFolder(path: folder.path, classes: ["dog", "cat"])
    var paths: [String] = []
    let tally = try data.forEachImage { paths.append($0.path) }
    #expect(data.classNames == ["cat", "dog"])
    #expect(paths == ["train/cat/1.png", "train/dog/2.png", "test/dog/4.png"])
    #expect((tally.images, tally.ignored, tally.emptyClasses) == (3, 0, []))
    #expect(throws: DataSetError(path: folder.path, reason: "it has no class 'cow'", remedy: "It has cat, dog, emu.")) {
      _ = try ImageFolder(path: folder.path, classes: ["cat", "cow"])
    }
    #expect(throws: DataSetError.self) { _ = try ImageFolder(path: folder.path, classes: []) }
  }

  /// Other bytes, and for Swift and for people the same name.
  @Test func classesInTwoSpellingsAreRefused() throws {
    try make("train/caf\u{E9}/1.png", "train/dog/2.png", "val/cafe\u{301}/3.png")
    let error = try #require(throws: DataSetError.self) { try ImageFolder(path: folder.path) }
    #expect(error.reason == #"the class folders 'cafe\u{0301}' and 'caf\u{00E9}' are one name in two spellings of Unicode"#)
    #expect(try ImageFolder(path: folder.path, classes: ["dog"]).classNames == ["dog"])
    try folder.move("val/cafe\u{301}", to: "val/caf\u{E9}")
    #expect(try LabelledImages(ImageFolder(path: folder.path)).classNames == ["caf\u{E9}", "dog"])
  }

  @Test func splitFoldersGiveTheSplit() throws {
    try make("train/cat/1.png", "train/dog/2.png", "valid/dog/3.png", "Test/cat/4.png", "Test/emu/5.png", "labels.csv")
    let (data, entries, _) = try walk()
    #expect(data.classNames == ["cat", "dog", "emu"])
    #expect(entries.map(\.path) == ["train/cat/1.png", "train/dog/2.png", "valid/dog/3.png", "Test/cat/4.png", "Test/emu/5.png"])
    #expect(entries.map { $0.split ?? "?" } == ["train", "train", "val", "test", "test"])
  }

  /// A class whose folder is on a disk that is not mounted must not leave without a word.
  @Test(arguments: [("", "cow"), ("train/", "train/cow"), ("train/", "val")])
  func linksThatLeadNowhereAreNamed(_ folder: String, _ link: String) throws {
    let photos = try TestPhotos()
    for index in 0..<4 { try photos.add("\(folder)\(index % 2 == 0 ? "cat" : "dog")/\(index).png", seed: index) }
    try FileManager.default.createSymbolicLink(atPath: photos.folder.path + "/" + link, withDestinationPath: "/nowhere/at/all")
    try photos.add("\(folder)stray.png", seed: 9)
    let store = self.folder.path + "/store"
    let error = try #require(throws: DataSetError.self) { try extract(photos, to: store, options: testOptions(strict: true)) }
    #expect(error.reason.contains("'\(link)' leads nowhere"))
    let (summary, _) = try extract(photos, to: store)
    #expect((summary.extracted, summary.ignored, summary.deadLinks) == (4, 2, [link]))
    #expect(summary.outside.first == ["\(folder)stray.png"])
    #expect(try LabelledImages(photos.data()).deadLinks == [link])
  }

  /// A store, what a zip of a Mac's brings, or notes, in the same folder, must not make classes of the splits.
  @Test func whatHoldsNoImagesBesideSplitsIsPassedOver() throws {
    try make("train/cat/1.png", "train/dog/2.png", "val/dog/3.png", "__MACOSX/train/cat/1.png", "features/index.sqlite", "features/preview.png")
    try make("notes/deep/read.me", "scripts/.hidden.png")
    try FileManager.default.createSymbolicLink(atPath: folder.path + "/notes/deep/up", withDestinationPath: "..")
    let (data, entries, tally) = try walk()
    #expect(data.classNames == ["cat", "dog"])
    #expect(entries.map { $0.split ?? "?" } == ["train", "train", "val"])
    #expect((tally.ignored, tally.passedOver) == (4, ["__MACOSX", "features", "notes"]))
    #expect(try LabelledImages(data).passedOver == tally.passedOver)
  }

  /// A second run with the store in the data set's folder is the first one again.
  @Test func aStoreAmongTheSplitsChangesNothing() throws {
    let photos = try TestPhotos()
    for index in 0..<12 { try photos.add("\(index < 8 ? "train" : "val")/\(index % 2 == 0 ? "cat" : "dog")/\(index).png", seed: index) }
    let store = photos.folder.path + "/features"
    try extract(photos, to: store)
    let (summary, _) = try extract(photos, to: store)
    #expect((summary.reused, summary.removed, summary.passedOver) == (12, 0, ["features"]))
    #expect(try FeatureStore.open(reading: store).classNames == ["cat", "dog"])
    #expect(try FeatureStore.open(reading: store).samplesBySplit.mapValues(\.count) == ["train": 8, "val": 4])
  }

  @Test(arguments: [["train/cat/1.png"], ["val/cat/1.png", "test/dog/2.png"]]) func splitsBesideAnotherClassAreRefused(_ splits: [String]) throws {
    for name in splits + ["horse/far/1.png"] { try make(name) }
    let error = try #require(throws: DataSetError.self) { try walk() }
    #expect(error.reason.contains("'horse', which holds images") && error.remedy.contains("Move 'horse' out"), "\(error)")
    for split in splits { #expect(error.remedy.contains("'\(split.prefix { $0 != "/" })'"), "\(error)") }
  }

  /// Pictures that lie beside the class folders of a split are left out, whatever else is there.
  @Test func strayPicturesMakeNoClassesOfSplits() throws {
    try make("train/cat/1.png", "train/dog/deep/2.png", "train/stray.png", "test/cat/3.png", "test/stray.png")
    let first = try walk()
    #expect(first.0.classNames == ["cat", "dog"] && first.2.outside.first == ["train/stray.png", "test/stray.png"])
    // What the first run wrote, and a folder for what comes next.
    try make("features/index.sqlite", "features/shards/000000.npy")
    try FileManager.default.createDirectory(atPath: folder.path + "/heads", withIntermediateDirectories: true)
    let second = try walk()
    #expect(second.0.classNames == ["cat", "dog"] && second.1 == first.1)
    #expect(second.2.outside == first.2.outside && second.2.passedOver == ["features"])
    try folder.remove("test/stray.png")
    try make("extra/4.png")
    let error = try #require(throws: DataSetError.self) { try walk() }
    #expect(error.reason.contains("'extra', which holds images, lies beside 'test' and 'train'"), "\(error)")
    try folder.remove("test")
    #expect(try #require(throws: DataSetError.self) { try walk() }.reason.contains("'extra', which holds images, lies beside 'train'"))
  }

  @Test func aClassMayBeCalledAsASplitIs() throws {
    try make("test/1.png", "test/more/2.png", "exam/3.png", "empty/readme.md")
    let (data, entries, tally) = try walk()
    #expect(data.classNames == ["empty", "exam", "test"])
    #expect(entries.allSatisfy { $0.split == nil })
    #expect((tally.emptyClasses, tally.passedOver) == (["empty"], []))
    // One folder of validation data is no sign of splits.
    try folder.remove("test")
    try make("valid/red/4.png")
    #expect(try walk().0.classNames == ["empty", "exam", "valid"])
  }

  /// A picture that is replaced under its name makes another data set, of whatever size; one of the test does not.
  @Test func replacedPicturesAreNoticed() throws {
    try make("train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "test/dog/4.png")
    func identity() throws -> String { try LabelledImages(ImageFolder(path: folder.path)).identity }
    func replace(_ name: String, _ bytes: [UInt8], at seconds: Double) throws {
      try folder.write(name, bytes)
      try FileManager.default.setAttributes([.modificationDate: Date(timeIntervalSince1970: seconds)], ofItemAtPath: folder.path + "/" + name)
    }
    try replace("train/cat/1.png", [1, 2, 3], at: 1e9)
    let first = try identity()
    try replace("test/cat/3.png", [9, 9], at: 1e9)
    #expect(try identity() == first)
    try replace("train/cat/1.png", [1, 2, 4], at: 1e9 + 1)
    let second = try identity()
    #expect(second != first)
    try replace("train/cat/1.png", [1, 2, 4, 5], at: 1e9 + 1)
    #expect(try identity() != second)
  }

  @Test func theSplitOfTheFolderGoesIntoTheStoreAndFollowsIt() throws {
    let photos = try TestPhotos()
    for index in 0..<12 { try photos.add("\(index < 8 ? "train" : "val")/\(index % 2 == 0 ? "cat" : "dog")/\(index).png", seed: index) }
    let store = folder.path + "/store"
    try extract(photos, to: store)
    #expect(try FeatureStore.open(reading: store).samplesBySplit.mapValues(\.count) == ["train": 8, "val": 4])
    try photos.folder.move("val", to: "test")
    let (summary, computed) = try extract(photos, to: store)
    #expect((summary.reused, computed) == (12, 0))
    #expect(try FeatureStore.open(reading: store).samplesBySplit.mapValues(\.count) == ["train": 8, "test": 4])
  }

  @Test func loopsEndAndSharedFoldersCountOnceAClass() throws {
    try make("a/1.png", "a/sub/2.png", "b/3.png")
    for (link, target) in [("a/sub/up", ".."), ("a/self", "."), ("b/other", "../a"), ("c", "b")] {
      try FileManager.default.createSymbolicLink(atPath: folder.path + "/" + link, withDestinationPath: target)
    }
    let (_, entries, _) = try walk()
    #expect(
      entries.map(\.path) == [
        "a/1.png", "a/sub/2.png", "b/3.png", "b/other/1.png", "b/other/sub/2.png", "c/3.png", "c/other/1.png", "c/other/sub/2.png",
      ])
  }

  @Test func saysWhatIsWrong() throws {
    func reason() throws -> String { try #require(throws: DataSetError.self) { try walk() }.description }
    #expect(try reason().contains("no class folders"))
    try make("1.png", "2.jpg")
    #expect(try reason().contains("the images lie in the folder itself"))
    #expect(throws: FileError.self) { try ImageFolder(path: folder.path + "/none") }
    #expect(throws: FileError.self) { try ImageFolder(path: folder.path + "/1.png") }
    try make("train/1.png")
    #expect(try reason().contains("the images lie in the folder itself"))
    // Class folders without images are found out when they are walked.
    let photos = try TestPhotos()
    try photos.folder.write("cat/readme.txt", [1])
    let error = try #require(throws: DataSetError.self) { try extract(photos, to: folder.path + "/store") }
    #expect(error.description.contains("not a single image in its 1 class folders"))
  }

  @Test func anUnreadableFolderIsAnError() async throws {
    try make("a/1.png", "a/closed/2.png")
    chmod(folder.path + "/a/closed", 0)
    defer { chmod(folder.path + "/a/closed", 0o755) }
    let path = folder.path
    // Root may read everything: the walk is made by nobody.
    await #expect(processExitsWith: .success) { [path = path as String] in
      if getuid() == 0 { try #require(setuid(65_534) == 0) }
      let data = try ImageFolder(path: path)
      let error = try #require(throws: FileError.self) { try data.forEachImage { _ in } }
      #expect(error.path.hasSuffix("a/closed") && error.code == EACCES)
    }
  }
}
