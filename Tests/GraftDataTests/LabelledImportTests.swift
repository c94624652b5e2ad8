import Foundation
import GraftData
import GraftGraph
import Testing

/// Imports of many labels and of numbers.
@Suite struct LabelledImportTests {
  private let folder: TemporaryFolder
  private var store: String { folder.path + "/store" }

  init() throws {
    folder = try TemporaryFolder()
    try Npy.write(HostTensor([5, 3], (0..<15).map { Float($0) / 4 }), to: folder.path + "/x.npy")
  }

  private func labels(_ shape: [Int], integers: [Int64]) throws { try Npy.write(HostTensor(shape, integers: integers), to: folder.path + "/y.npy") }

  private func numbers(_ shape: [Int], _ values: [Double]) throws {
    let bytes = values.withUnsafeBytes { source in HostBytes(count: source.count) { $0.copyMemory(from: source) } }
    try Npy.write(HostTensor(shape: shape, elementType: .float64, storage: bytes), to: folder.path + "/y.npy")
  }

  @discardableResult private func importing(names: String? = nil) throws -> ImportSummary {
    try FeatureStore.importing(
      features: folder.path + "/x.npy", labels: folder.path + "/y.npy",
      labelNames: try names.map { try folder.write("names.txt", Array($0.utf8)) }, output: store)
  }

  private func targets() throws -> [String: [Double]] {
    let opened = try FeatureStore.open(reading: store)
    return Dictionary(uniqueKeysWithValues: try opened.samples().map { (try opened.path(of: $0) ?? "", opened.targets(of: [$0])) })
  }

  @Test func manyLabels() throws {
    try labels([5, 3], integers: [1, 0, 1, 0, 0, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1])
    var summary = try importing()
    #expect(summary.labelling.task == .multilabel && summary.classes == 3 && summary.imported == 5)
    #expect(
      try targets() == [
        "row 000000": [1, 0, 1], "row 000001": [0, 0, 0], "row 000002": [1, 1, 1], "row 000003": [0, 1, 0], "row 000004": [1, 0, 1],
      ])
    #expect(try sqlite(store, "SELECT label FROM sample WHERE path = 'row 000000'") == "[\"0\",\"2\"]".debugDescription)
    #expect(try sqlite(store, "SELECT label FROM sample WHERE path = 'row 000001'") == #""[]""#)
    #expect(try sqlite(store, "SELECT value FROM store WHERE key = 'target_names'") == "[\"0\",\"1\",\"2\"]".debugDescription)
    // Names for them, and the same in bools: nothing is written but the index.
    try folder.write("y.npy", NpyHeader(elementType: .bool, shape: [5, 3]).encoded() + [1, 0, 1, 0, 0, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1])
    summary = try importing(names: "\u{FEFF}cat\r\n  \"quoted\" dog \r\nsea\r\n\r\n")
    #expect(summary.reused == 5 && summary.labelling.names == ["cat", "\"quoted\" dog", "sea"])
    #expect(try targets()["row 000002"] == [1, 1, 1])
    let opened = try FeatureStore.open(reading: store)
    #expect(opened.classNames.isEmpty && opened.labelling == summary.labelling)
  }

  @Test func numbers() throws {
    try numbers([5], [0.1, -1e-300, 12345678.000000001, 3, 1.0 / 3])
    var summary = try importing()
    #expect(summary.labelling.task == .regression && summary.labelling.names == ["target"] && !summary.hasWholeTargets)
    #expect(
      try targets() == [
        "row 000000": [0.1], "row 000001": [-1e-300], "row 000002": [12345678.000000001], "row 000003": [3], "row 000004": [1.0 / 3],
      ])
    try numbers([5, 2], (0..<10).map { Double($0) })
    summary = try importing(names: "age\nweight")
    #expect(summary.hasWholeTargets && summary.reused == 5 && summary.labelling.names == ["age", "weight"])
    #expect(try targets()["row 000004"] == [8, 9])
  }

  /// A store of classes is what it was: no row of the table tells of tasks, also after it was something else.
  @Test func classesAreWhatTheyWere() throws {
    try labels([5], integers: [0, 1, 0, 1, 2])
    try importing()
    let entries = try FeatureStore.open(reading: store).entries
    #expect(entries["task"] == nil && entries["target_names"] == nil && entries["label_file"] == nil)
    try numbers([5], [1, 2, 3, 4, 5])
    try importing()
    #expect(try FeatureStore.open(reading: store).entries["task"] == "regression")
    try labels([5], integers: [0, 1, 0, 1, 2])
    #expect(try importing().reused == 5)
    let opened = try FeatureStore.open(reading: store)
    #expect(opened.entries == entries && opened.classNames == ["0", "1", "2"] && opened.labelling == .classes)
  }

  @Test func refusesWhatCannotBeRight() throws {
    func refused(_ words: String, names: String? = nil, sourceLocation: SourceLocation = #_sourceLocation) {
      do {
        try importing(names: names)
        Issue.record("it was taken", sourceLocation: sourceLocation)
      } catch {
        #expect((error is NpyError || error is DataSetError) && "\(error)".contains(words), "\(error)", sourceLocation: sourceLocation)
      }
      #expect(!FileManager.default.fileExists(atPath: store), "a store was begun", sourceLocation: sourceLocation)
    }
    try labels([5, 2], integers: [0, 1, 0, 1, 0, 7, 0, 1, 0, 1])
    refused("row 2 has 7 at column 1")
    refused("give [N]")
    try labels([4, 2], integers: [Int64](repeating: 0, count: 8))
    refused("has 5 rows")
    try labels([5, 0], integers: [])
    refused("[5, labels]")
    try labels([5, 2], integers: [Int64](repeating: 1, count: 10))
    refused("it has 1 names", names: "cat\n")
    refused("'cat' is there twice", names: "cat\ncat\n")
    refused("name 0 is empty", names: "\ncat\n")
    try labels([5], integers: [0, 1, 2, 3, 4])
    refused("Leave --label-names out", names: "a\nb\n")
    try numbers([5, 2], (0..<10).map { $0 == 7 ? .nan : 0 })
    refused("row 3, column 1, is NaN")
    try numbers([5], [0, 1, .infinity, 2, 3])
    refused("row 2 is infinite")
    try numbers([5, 1, 2], [Double](repeating: 0, count: 10))
    refused("[5, targets]")
    try numbers([6], [Double](repeating: 0, count: 6))
    refused("has 5 rows")
  }

  /// What another program wrote into the index, or damaged there.
  @Test(arguments: [
    "UPDATE sample SET label = '[\"cat\"' WHERE path = 'row 000001'", "UPDATE sample SET label = '[\"cow\"]' WHERE path = 'row 000001'",
    "UPDATE sample SET label = 'cat' WHERE path = 'row 000001'", "UPDATE sample SET label = NULL WHERE path = 'row 000001'",
    "UPDATE store SET value = 'guessing' WHERE key = 'task'", "UPDATE store SET value = '[]' WHERE key = 'target_names'",
    "UPDATE store SET value = '[\"cat\",\"cat\"]' WHERE key = 'target_names'", "DELETE FROM store WHERE key = 'target_names'",
    "UPDATE store SET value = 'regression' WHERE key = 'task'",
  ]) func aDamagedIndexIsSaid(sql: String) throws {
    try labels([5, 2], integers: [Int64](repeating: 1, count: 10))
    try importing(names: "cat\ndog\n")
    try sqlite(store, sql)
    let error = try #require(throws: StoreError.self) { try FeatureStore.open(reading: store) }
    #expect(error.kind == .damaged && error.description.contains("index.sqlite"))
  }
}
