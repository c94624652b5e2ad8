import Foundation
import GraftData
import GraftGraph
import Testing

/// Comma-separated labels: the format itself, what it says of images, and extraction by it.
@Suite struct LabelTableTests {
  private let photos: TestPhotos
  private let tables: TemporaryFolder
  private var store: String { tables.path + "/store" }

  init() throws { (photos, tables) = (try TestPhotos(), try TemporaryFolder()) }

  private func table(_ text: String, _ task: LabelTask = .classification) throws -> LabelTable {
    try LabelTable(path: try tables.write("labels.csv", Array(text.utf8)), task: task)
  }

  @discardableResult private func extract(
    _ text: String?, _ task: LabelTask = .classification, strict: Bool = false
  ) throws -> (summary: ExtractionSummary, computed: Int) {
    let backbone = TestBackbone()
    let data = try text.map { try ImageFolder(path: photos.folder.path, labels: table($0, task)) } ?? photos.data()
    let extraction = FeatureExtraction(
      data: data, store: store, key: testKey(), imageByteCount: TestBackbone.imageByteCount, options: testOptions(strict: strict),
      prepare: TestBackbone.prepare)
    let summary = try extraction.run(computing: { backbone })
    return (summary, backbone.computed)
  }

  /// What the index holds, by path, as another program reads it.
  private func label(_ path: String, is text: String) throws -> Bool {
    try sqlite(store, "SELECT label FROM sample WHERE path = '\(path)'") == text.debugDescription
  }

  // MARK: The format

  @Test(arguments: [
    ("a,b\n1,2\n", [["a", "b"], ["1", "2"]]), ("a,b\r\n1,2", [["a", "b"], ["1", "2"]]), ("\u{FEFF}a\n\n\"\"\nb\n", [["a"], ["b"]]),
    ("\"a,b\",c\n", [["a,b", "c"]]), ("\"a \"\"quoted\"\" word\",\n", [["a \"quoted\" word", ""]]),
    ("\"two\nlines\",x\n,\n", [["two\nlines", "x"], ["", ""]]),
    ("ä,é\n", [["ä", "é"]]), ("a\rb,c\n", [["a\rb", "c"]]), ("\"\"\"\",1", [["\"", "1"]]), ("a,b", [["a", "b"]]), ("", []),
  ]) func fieldsAreThoseOfTheStandard(text: String, rows: [[String]]) throws {
    var found: [[String]] = []
    try CommaSeparated.forEachRow(of: try tables.write("x.csv", Array(text.utf8))) { found.append($0.fields) }
    #expect(found == rows)
  }

  /// As an option of names has them.
  @Test(
    arguments: [
      ("cat,dog", ["cat", "dog"]), ("\"a,b\",c", ["a,b", "c"]), ("\"a \"\"b\"\"\",", ["a \"b\"", ""]), ("", []),
      ("\"two\nlines\",x", ["two\nlines", "x"]), ("a\nb", nil), ("\"a", nil), ("a\"b", nil), ("\"a\"b", nil),
    ] as [(String, [String]?)])
  func aTextIsOneRow(text: String, fields: [String]?) {
    #expect(CommaSeparated.fields(of: text) == fields)
  }

  @Test func linesAreCounted() throws {
    var lines: [Int] = []
    try CommaSeparated.forEachRow(of: try tables.write("x.csv", Array("a\n\n\"x\ny\nz\"\r\nb".utf8))) { lines.append($0.line) }
    #expect(lines == [1, 3, 6])
  }

  @Test(arguments: [
    ("a\n\"b", "line 2", "not closed"), ("a\n\"b\"c", "line 2", "behind"), ("a\nb\"c", "line 2", "quote"), ("\"\n\n", "line 1", "closed"),
  ])
  func strayQuotesAreNamed(text: String, line: String, words: String) throws {
    let path = try tables.write("x.csv", Array(text.utf8))
    let error = try #require(throws: DataSetError.self) { try CommaSeparated.forEachRow(of: path) { _ in } }
    #expect(error.description.contains(line) && error.description.contains(words) && error.description.contains("x.csv"), "\(error)")
  }

  /// Whatever bytes a file holds, it is read or refused.
  @Test func anyBytesAreReadOrRefused() throws {
    var random = SeededRandom(seed: 3)
    let alphabet = Array("\",\n\r ab\u{0}".utf8) + [0xC3, 0xFF]
    for _ in 0..<2000 {
      let path = try tables.write("x.csv", (0..<Int.random(in: 0...12, using: &random)).map { _ in alphabet.randomElement(using: &random) ?? 0 })
      do { try CommaSeparated.forEachRow(of: path) { _ in } } catch is DataSetError {}
    }
  }

  // MARK: What it says

  @Test(arguments: [
    ("", LabelTask.classification, "empty"), ("path,label\n", .classification, "no rows"),
    ("path,class\nx,1\n", .classification, "no column 'label'"),
    ("path,label\na.png\n", .classification, "line 2: it has 1 fields"),
    ("path,label\na.png,cat\n./a.png,cat\n", .classification, "on line 2 already"),
    ("path,label\na.png,\n", .classification, "line 2: the label is empty"), ("path,label\n,cat\n", .classification, "line 2: the path is empty"),
    ("path,label,split\na.png,cat,dev\n", .classification, "the split is 'dev'"), ("path,label,label\n", .classification, "'label' is there twice"),
    ("path\na.png\n", .multilabel, "no column of labels"), ("path,labels\na.png,\n", .multilabel, "no image has a label"),
    ("path,labels\na.png,cat||dog\n", .multilabel, "empty name"), ("path,cat,dog\na.png,1,2\n", .multilabel, "the label dog is '2'"),
    ("path,split\na.png,test\n", .regression, "no column of numbers"), ("path,age\na.png,old\n", .regression, "the target age is 'old'"),
    ("path,age\na.png,nan\n", .regression, "'nan'"), ("path,age\na.png,1e999\n", .regression, "'1e999'"), ("path,age\na.png,\n", .regression, "''"),
    ("a.png,31\nb.png,40\n", .regression, "is a row of data"),
    ("a/b,31.5,-2\nb,40,3\n", .regression, "names the columns, as path,age; if this one does, call the paths' column path"),
    ("deep/a.JPG,1,x\nb.png,0,1\n", .multilabel, "is a row of data"), ("a.png,cat\nb.png,dog\n", .classification, "is a row of data"),
    ("path,,age\na.png,1,2\n", .regression, "empty"), ("split,age\n,2\n", .regression, "no column for the paths"),
  ]) func mistakesAreNamed(text: String, task: LabelTask, words: String) throws {
    let error = try #require(throws: DataSetError.self) { try table(text, task) }
    #expect(error.description.contains(words) && error.description.contains("labels.csv"), "\(error)")
  }

  /// Labels may be called by numbers where the header says that it is one.
  @Test func aHeaderMayHoldNumbers() throws {
    #expect(try table("path,7,9\na.png,1,0\n", .multilabel).labelling.names == ["7", "9"])
    #expect(try table("image,0,1,2\na.png,1,0,1\n", .multilabel).labelling.names == ["0", "1", "2"])
    #expect(try table("file,2019,2020\na.png,3.5,4\n", .regression).labelling.names == ["2019", "2020"])
    #expect(try table("image,age\na.png,1\n", .regression).labelling.names == ["age"])
  }

  @Test(arguments: ["cat", "dog"]) func anImageByBothItsPathsIsThereTwice(_ label: String) throws {
    try photos.add("a/1.png", seed: 1)
    let root = photos.folder.path
    let error = try #require(throws: DataSetError.self) { try extract("path,label\na/1.png,cat\n\(root)/a/1.png,\(label)\n") }
    #expect(error.description.contains("line 3: '\(root)/a/1.png' is on line 2 already"), "\(error)")
    #expect(try extract("path,label\n\(root)//a/1.png,cat\n/elsewhere/a/1.png,dog\n").summary.extracted == 1)
  }

  /// The folder may be reached in other ways than the table's paths say, and both in others than the system's.
  @Test func absolutePathsLeadToTheFolderHoweverItIsSpelt() throws {
    for name in ["photos/a/1.png", "photos/b/deep/2.png", "other/3.png"] { try photos.folder.write(name, TestPhotos.bytes(seed: name.count)) }
    let root = photos.folder.path, target = try #require(realpath(root, nil).map { String(cString: $0) })
    for (link, leads) in [("link", "photos/a"), ("again", "photos"), ("photos/inside", "../other")] {
      try FileManager.default.createSymbolicLink(atPath: "\(root)/\(link)", withDestinationPath: leads)
    }
    let text = "path,label\n\(target)/photos/a/1.png,x\n\(root)/again/b/deep/2.png,y\n\(root)/link/../inside/3.png,z\n\(root)/other/3.png,z\n"
    for data in ["photos", "again", "link/..", "link/../../again", "photos/a/../../photos/b/..//"] {
      var labels: [String: String] = [:]
      let tally = try ImageFolder(path: "\(root)/\(data)", labels: table(text)).forEachImage { labels[$0.path] = $0.label }
      #expect(labels == ["a/1.png": "x", "b/deep/2.png": "y", "inside/3.png": "z"], "\(data)")
      #expect(tally.missing.first == ["\(root)/other/3.png"] && tally.unlabelled.count == 0)
    }
  }

  @Test(arguments: [
    ("path,label\n\u{E9}.png,x\ne\u{301}.png,x\n", LabelTask.classification, "and the first is on line 2. Rename"),
    ("path,label\n1.png,\u{E9}\n2.png,e\u{301}\n", .classification, "line 3: the labels '"),
    ("path,labels\n1.png,a|\u{E9}\n2.png,e\u{301}|a\n", .multilabel, "line 3: the labels '"),
  ]) func namesInTwoSpellingsAreRefused(text: String, task: LabelTask, words: String) throws {
    let error = try #require(throws: DataSetError.self) { try table(text, task) }
    #expect(error.description.contains(words) && error.description.contains(#"u{00E9}"#) && error.description.contains(#"u{0301}"#), "\(error)")
  }

  @Test func aRowIsForOneFileOfTwoSpellings() throws {
    try photos.add("e\u{301}.png", seed: 1)
    try photos.add("a.png", seed: 2)
    let text = "path,label\n\u{E9}.png,x\na.png,y\n"
    #expect(try extract(text).summary.extracted == 2)
    try photos.add("\u{E9}.png", seed: 3)
    let error = try #require(throws: DataSetError.self) { try extract(text) }
    #expect(error.reason == #"the files 'e\u{0301}.png' and '\u{00E9}.png' are one name in two spellings of Unicode"#)
  }

  /// As a shell's <(…) is, and /dev/null.
  @Test func aTableMayBeAPipe() throws {
    let pipe = tables.path + "/pipe"
    try #require(mkfifo(pipe, 0o600) == 0)
    let text = "path,label\n" + (0..<20_000).map { "a/\($0).png,cat\n" }.joined() + "b.png,dog\n"
    let writer = Thread {
      guard let file = fopen(pipe, "w") else { return }
      fputs(text, file)
      fclose(file)
    }
    writer.start()
    #expect(try ImageFolder(path: tables.path, labels: LabelTable(path: pipe, task: .classification)).classNames == ["cat", "dog"])
    let error = try #require(throws: DataSetError.self) { try LabelTable(path: "/dev/null", task: .classification) }
    #expect(error.reason == "it is empty")
    #expect(throws: FileError(path: tables.path, action: "read", code: EISDIR)) { try LabelTable(path: tables.path, task: .classification) }
  }

  @Test func aMissingFileIsNamed() throws {
    #expect(throws: FileError.self) { try LabelTable(path: tables.path + "/none.csv", task: .classification) }
    let table = try table("path,label\na.png,x\n")
    #expect(throws: FileError.self) { try ImageFolder(path: tables.path + "/nowhere", labels: table) }
  }

  // MARK: Extraction

  @Test func labelsNeverCostAComputation() throws {
    for index in 0..<6 { try photos.add("\(index % 2 == 0 ? "even" : "odd")/\(index).png", seed: index) }
    try photos.add("top.png", seed: 77)
    for name in ["even/0.png", "even/2.png", "even/4.png", "odd/1.png", "odd/3.png", "odd/5.png", "top.png"] { try photos.folder.age(name) }
    // Images in the folder itself count too; one has no row, one row has no image.
    var done = try extract(
      "path,labels,by,split\neven/0.png,cat|dog,A,test\neven/2.png,,B,\neven/4.png,dog,B,val\n./odd/1.png,\"a \"\"bird\"\"\",C,train\n"
        + "\(photos.folder.path)/odd/3.png, dog | cat ,C,train\ntop.png,cat,D,train\ngone.png,dog,D,train\n", .multilabel)
    #expect((done.summary.extracted, done.computed) == (6, 6))
    #expect(done.summary.unlabelled.count == 1 && done.summary.unlabelled.first == ["odd/5.png"])
    #expect(done.summary.missing.count == 1 && done.summary.missing.first == ["gone.png"])
    var opened = try FeatureStore.open(reading: store)
    #expect(opened.labelling.task == .multilabel && opened.labelling.names == ["a \"bird\"", "cat", "dog"] && opened.classNames.isEmpty)
    #expect(try label("odd/3.png", is: #"["cat","dog"]"#) && label("even/2.png", is: "[]") && label("odd/1.png", is: #"["a \"bird\""]"#))
    func targets(_ path: String) throws -> [Double]? {
      try opened.samples().first { try opened.path(of: $0) == path }.map { opened.targets(of: [$0]) }
    }
    #expect(try targets("even/0.png") == [0, 1, 1] && targets("even/2.png") == [0, 0, 0] && targets("odd/1.png") == [1, 0, 0])
    #expect(try opened.samples(split: "test").map { try opened.path(of: $0) }.contains("even/0.png"))
    #expect(try opened.samples(split: "val").map { try opened.path(of: $0) } == ["even/4.png"])

    // Columns of 0 and 1, then numbers, then classes, then the folders again: the index alone changes.
    done = try extract("path,x,y\neven/0.png,1,0\neven/2.png,0,0\nodd/1.png,1,1\nodd/3.png,0,1\n", .multilabel)
    #expect((done.summary.reused, done.summary.removed, done.computed) == (4, 2, 0))
    opened = try FeatureStore.open(reading: store)
    #expect(opened.labelling.names == ["x", "y"])
    #expect(try targets("odd/1.png") == [1, 1] && targets("even/2.png") == [0, 0])

    done = try extract("path,age,weight\neven/0.png,1.5,-2e3\neven/2.png,0.1,7\nodd/1.png,3,4\nodd/3.png,5,6\n", .regression)
    #expect((done.summary.reused, done.computed) == (4, 0))
    opened = try FeatureStore.open(reading: store)
    #expect(try targets("even/0.png") == [1.5, -2000] && label("even/2.png", is: "[0.1,7.0]"))

    done = try extract("path,label\neven/0.png,b\neven/2.png,a\nodd/1.png,b\nodd/3.png,b\n")
    #expect((done.summary.reused, done.computed) == (4, 0))
    opened = try FeatureStore.open(reading: store)
    #expect(opened.labelling == .classes && opened.classNames == ["a", "b"])
    #expect(opened.entries["task"] == nil && opened.entries["target_names"] == nil && opened.entries["label_file"]?.hasSuffix("labels.csv") == true)

    done = try extract(nil)
    // The folders know two more, one of them never computed before.
    #expect((done.summary.reused, done.summary.extracted, done.computed) == (5, 1, 1))
    opened = try FeatureStore.open(reading: store)
    #expect(opened.classNames == ["even", "odd"] && opened.entries["label_file"] == nil)
  }

  /// Images that must be looked at again have labels of the new kind at once: an interruption leaves a store that opens.
  @Test func anInterruptedChangeOfLabelsLeavesAStore() throws {
    for index in 0..<9 { try photos.add("a/\(index).png", seed: index) }
    let rows = (0..<9).map { "a/\($0).png,\($0).5" }.joined(separator: "\n")
    try extract("path,labels\n" + (0..<9).map { "a/\($0).png,cat" }.joined(separator: "\n"), .multilabel)
    for index in 0..<9 { try photos.add("a/\(index).png", seed: 100 + index) }
    let flag = CancellationFlag()
    flag.cancel()
    let backbone = TestBackbone()
    let extraction = FeatureExtraction(
      data: try ImageFolder(path: photos.folder.path, labels: table("path,age\n" + rows, .regression)), store: store, key: testKey(),
      imageByteCount: TestBackbone.imageByteCount, options: testOptions(), prepare: TestBackbone.prepare)
    #expect(throws: CancelledError.self) {
      try extraction.run(
        computing: {
          flag.cancel(); return backbone
        }, cancellation: flag)
    }
    let opened = try FeatureStore.open(reading: store)
    #expect(opened.samples().count == 9)
  }

  @Test func strictMeansEveryImageAndEveryRow() throws {
    try photos.add("a/1.png", seed: 1)
    try photos.add("a/2.png", seed: 2)
    var error = try #require(throws: DataSetError.self) { try extract("path,label\na/1.png,x\n", strict: true) }
    #expect(error.description.contains("images without a row in") && error.description.contains("a/2.png"))
    error = try #require(throws: DataSetError.self) { try extract("path,label\na/1.png,x\na/2.png,y\na/3.png,y\n", strict: true) }
    #expect(error.description.contains("names and are not there: 1") && error.description.contains("a/3.png"))
    error = try #require(throws: DataSetError.self) { try extract("path,label\nb/1.png,x\n") }
    #expect(error.description.contains("none of its 2 images") && error.description.contains("'b/1.png'") && error.description.contains("'a/1.png'"))
    #expect(try extract("path,label\na/1.png,x\na/2.png,y\n", strict: true).summary.extracted == 2)
  }
}
