import Foundation
import GraftData
import GraftGraph
import Testing

@Suite struct StoreImportTests {
  private let folder: TemporaryFolder
  private var store: String { folder.path + "/store" }

  init() throws { folder = try TemporaryFolder() }

  private func features(_ shape: [Int], _ value: (Int) -> Float = { Float($0) / 4 }) throws {
    try Npy.write(HostTensor(shape, (0..<shape.reduce(1, *)).map(value)), to: folder.path + "/x.npy")
  }

  private func labels(_ values: [Int64]) throws { try Npy.write(HostTensor([values.count], integers: values), to: folder.path + "/y.npy") }

  private func words(_ values: [String], to name: String) throws {
    let width = max(1, values.map { $0.unicodeScalars.count }.max() ?? 1)
    var header = NpyHeader(elementType: .int32, shape: [values.count])
    header.element = .unicode(characters: width)
    let body = values.flatMap { value in
      (value.unicodeScalars.map(\.value) + [UInt32](repeating: 0, count: width)).prefix(width).flatMap { scalar in
        (0..<4).map { UInt8(truncatingIfNeeded: scalar >> (8 * $0)) }
      }
    }
    try folder.write(name, header.encoded() + body)
  }

  @discardableResult private func importing(split: Bool = false, opening: StoreOpening = .resuming) throws -> ImportSummary {
    try FeatureStore.importing(
      features: folder.path + "/x.npy", labels: folder.path + "/y.npy", split: split ? folder.path + "/s.npy" : nil, output: store, opening: opening,
      shardRows: 7)
  }

  /// As `graft extract` does with folders: before a store is made of what no head can be trained on.
  @Test func classesInTwoSpellingsAreRefused() throws {
    try features([3, 2])
    try words(["caf\u{E9}", "tea", "cafe\u{301}"], to: "y.npy")
    let error = try #require(throws: DataSetError.self) { try importing() }
    #expect(error.reason == #"the labels 'caf\u{00E9}' and 'cafe\u{0301}' are one name in two spellings of Unicode"#)
    #expect(try !folder.names().contains("store"))
    try words(["caf\u{E9}", "tea", "caf\u{E9}"], to: "y.npy")
    #expect(try importing().classes == 2)
  }

  @Test func keepsIntegerLabelsInNumericOrder() throws {
    try features([23, 3])
    try labels((0..<23).map { Int64([10, 9, 100, -2][$0 % 4]) })
    let summary = try importing()
    #expect((summary.imported, summary.reused, summary.classes) == (23, 0, 4))
    let opened = try FeatureStore.open(reading: store)
    #expect(opened.classNames == ["-2", "9", "10", "100"])
    for sample in opened.samples() {
      let path = try #require(try opened.path(of: sample))
      let row = try #require(Int(path.dropFirst(4)))
      #expect(path == String(format: "row %06d", row))
      #expect(opened.classNames[sample.label] == ["10", "9", "100", "-2"][row % 4])
      var values = [Float](repeating: 0, count: 3)
      values.withUnsafeMutableBufferPointer { opened.gather([sample], into: $0) }
      #expect(values == (0..<3).map { Float(row * 3 + $0) / 4 })
    }
    try opened.verify()
    #expect((try importing()).imported == 0)
    // A remedy is one that the command has.
    try FileManager.default.removeItem(atPath: store + "/shards/000001.npy")
    let error = try #require(throws: StoreError.self) { try importing() }
    #expect(error.description.contains("'graft import'") && error.description.contains("--rebuild") && !error.description.contains("--repair"))
    #expect((try importing(opening: .rebuilding)).imported == 23)
  }

  @Test func takesTextLabelsAndSplitWords() throws {
    try features([9, 2, 2])
    try words((0..<9).map { ["10", "9", "zwölf"][$0 % 3] }, to: "y.npy")
    try words((0..<9).map { ["train", "val", "test", "train"][$0 % 4] }, to: "s.npy")
    try importing(split: true)
    let opened = try FeatureStore.open(reading: store)
    #expect(opened.classNames == ["10", "9", "zwölf"])
    #expect(opened.samplesBySplit.mapValues(\.count) == ["train": 5, "val": 2, "test": 2])
    #expect(opened.key.cutShape == [2, 2] && opened.key.source == .imported)
    // Fewer rows the next time: the rest leaves.
    try features([5, 2, 2])
    try labels([0, 1, 2, 3, 4])
    #expect((try importing()).reused == 5)
    #expect(try FeatureStore.open(reading: store).samples().count == 5)
  }

  /// Words and numbers are never in one store, wherever the second import ends.
  @Test(arguments: [true, false]) func anInterruptedChangeOfTheKindOfLabelsLeavesAStore(toNumbers: Bool) throws {
    try features([3000, 2])
    func label(asNumbers: Bool) throws {
      if asNumbers { try labels((0..<3000).map { Int64($0 % 3) }) } else { try words((0..<3000).map { ["a", "b", "c"][$0 % 3] }, to: "y.npy") }
    }
    try label(asNumbers: !toNumbers)
    try importing()
    try label(asNumbers: toNumbers)
    let flag = CancellationFlag()
    flag.cancel()
    #expect(throws: CancelledError.self) {
      try FeatureStore.importing(features: folder.path + "/x.npy", labels: folder.path + "/y.npy", output: store, cancellation: flag)
    }
    let opened = try FeatureStore.open(reading: store)
    #expect(opened.samples().isEmpty && opened.unfinishedCount == 3000)
    #expect(try importing().reused == 3000)
    #expect(try FeatureStore.open(reading: store).classNames == (toNumbers ? ["0", "1", "2"] : ["a", "b", "c"]))
  }

  @Test func roundsDoublesAndKeepsHalves() throws {
    try labels([0, 1])
    let doubles: [Double] = [0.1, 1e-30, -3.3, 65504]
    try Npy.write(
      HostTensor(
        shape: [2, 2], elementType: .float64, storage: doubles.withUnsafeBytes { b in HostBytes(count: b.count) { $0.copyMemory(from: b) } }),
      to: folder.path + "/x.npy")
    try importing()
    #expect(try rows(store) == ["row 000000": [Float(0.1), Float(1e-30)], "row 000001": [Float(-3.3), 65504]])
    #expect(try FeatureStore.open(reading: store).key.featureType == .float32)
  }

  @Test func refusesWhatCannotBeRight() throws {
    func refused(_ words: String, sourceLocation: SourceLocation = #_sourceLocation, split: Bool = false) throws {
      let error = try #require(throws: NpyError.self, sourceLocation: sourceLocation) { try importing(split: split) }
      #expect(error.description.contains(words), "\(error)", sourceLocation: sourceLocation)
      #expect(!FileManager.default.fileExists(atPath: store), "a store was begun", sourceLocation: sourceLocation)
    }
    try labels([0, 1, 2])
    try features([3, 4]) { $0 == 6 ? .nan : 1 }
    try refused("row 1 has a NaN at column 2")
    try features([3, 4]) { $0 == 11 ? -.infinity : 1 }
    try refused("row 2 has a number that is infinite in float32 at column 3")
    try features([4, 4])
    try refused("has 4 rows")
    try features([3])
    try refused("[samples, features…]")
    try features([0, 3])
    try refused("[samples, features…]")
    try features([3, 2])
    try Npy.write(HostTensor([3, 1, 1], [0, 1, 2]), to: folder.path + "/y.npy")
    try refused("[3] or [3, targets] is needed")
    try words(["a", "", "b"], to: "y.npy")
    try refused("label at 1 is empty")
    try labels([0, 1, 2])
    try words(["train", "dev", "test"], to: "s.npy")
    try refused("the word at 1 is 'dev'", split: true)
    try words(["train", "test"], to: "s.npy")
    try refused("its shape is [2]", split: true)
    try Npy.write(HostTensor([3], integers: [0, 1, 2]), to: folder.path + "/s.npy")
    try refused("it holds numbers", split: true)
    try Npy.write(HostTensor([3, 2], integers: [0, 1, 2, 3, 4, 5]), to: folder.path + "/x.npy")
    try refused("features are int64")
  }
}
