import Foundation
import GraftData
import GraftGraph
import Testing

/// Folders of the MNIST family, sound and damaged.
@Suite struct IDXTests {
  private let folder: TemporaryFolder
  private let pictures: [[UInt8]] = (0..<6).map { number in (0..<12).map { pixel -> UInt8 in UInt8((number * 40 + pixel * 7) % 256) } }
  private let labels: [UInt8] = [3, 0, 3, 9, 0, 9]

  init() throws { folder = try TemporaryFolder() }

  private static func idx(_ extents: [Int], _ values: [UInt8], type: UInt8 = 8) -> [UInt8] {
    var bytes: [UInt8] = [0, 0, type, UInt8(extents.count)]
    for extent in extents { withUnsafeBytes(of: UInt32(extent).bigEndian) { bytes.append(contentsOf: $0) } }
    return bytes + values
  }

  /// gzip with what is not compressed: stored blocks, as RFC 1951 and 1952 have them.
  private static func gzip(_ bytes: [UInt8]) -> [UInt8] {
    var crc: UInt32 = 0xFFFF_FFFF
    for byte in bytes {
      crc ^= UInt32(byte)
      for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0xEDB8_8320 : crc >> 1 }
    }
    func little(_ value: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { Array($0) } }
    let count = UInt16(bytes.count)
    var file: [UInt8] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3, 1]
    file += little(count) + little(~count) + bytes
    return file + little(~crc) + little(UInt32(bytes.count))
  }

  private func images(_ chosen: Range<Int>) -> [UInt8] { Self.idx([chosen.count, 3, 4], chosen.flatMap { pictures[$0] }) }
  private func names(_ chosen: Range<Int>) -> [UInt8] { Self.idx([chosen.count], Array(labels[chosen])) }

  private func fill(compressed: Bool = false) throws {
    let suffix = compressed ? ".gz" : ""
    func pack(_ bytes: [UInt8]) -> [UInt8] { compressed ? Self.gzip(bytes) : bytes }
    try folder.write("train-images-idx3-ubyte" + suffix, pack(images(0..<4)))
    try folder.write("train-labels-idx1-ubyte" + suffix, pack(names(0..<4)))
    try folder.write("t10k-images-idx3-ubyte" + suffix, pack(images(4..<6)))
    try folder.write("t10k-labels-idx1-ubyte" + suffix, pack(names(4..<6)))
  }

  @Test func classesCanBeChosen() throws {
    try fill()
    let images = try LabelledImages(try ImageFolder(path: folder.path, classes: ["9", "0"]))
    #expect(images.classNames == ["0", "9"])
    #expect(images.images.map(\.label) == labels.filter { $0 != 3 }.map { $0 == 0 ? 0 : 1 })
    #expect(throws: DataSetError.self) { _ = try ImageFolder(path: folder.path, classes: ["5"]) }
  }

  @Test func replacedFilesAreNoticed() throws {
    try fill()
    let first = try LabelledImages(ImageFolder(path: folder.path)).identity
    #expect(try LabelledImages(ImageFolder(path: folder.path)).identity == first)
    let name = folder.path + "/train-images-idx3-ubyte"
    try FileManager.default.setAttributes([.modificationDate: Date(timeIntervalSince1970: 1e9)], ofItemAtPath: name)
    #expect(try LabelledImages(ImageFolder(path: folder.path)).identity != first)
  }

  @Test(arguments: [false, true])
  func readsPicturesAndLabels(compressed: Bool) throws {
    try fill(compressed: compressed)
    let data = try ImageFolder(path: folder.path), images = try LabelledImages(data)
    #expect(images.classNames == ["0", "3", "9"])
    #expect(images.images.map(\.label) == [1, 0, 1, 2, 0, 2])
    #expect(images.images.map(\.split) == ["train", "train", "train", "train", "test", "test"])
    #expect(images.images.last?.path == folder.path + "/t10k-images-idx3-ubyte/00001")
    for (image, expected) in zip(images.images, pictures) {
      let decoded = try #require(try images.packed?.decode(path: image.path, with: ImageDecoder()))
      #expect((decoded.width, decoded.height) == (4, 3))
      #expect(decoded.pixels == expected.flatMap { [$0, $0, $0] })
    }
    for wrong in ["train-images-idx3-ubyte/00004", "train-images-idx3-ubyte/-1", "nothing/0", "x"] {
      #expect(throws: ImageError.self) { try images.packed?.decode(path: folder.path + "/" + wrong, with: ImageDecoder()) }
    }
  }

  @Test func storesThemLikeAnyOther() throws {
    try fill(compressed: true)
    for name in try folder.names() { try folder.age(name) }
    let preprocessing = try Preprocessing(inputSize: [3, 2, 2], interpolation: .nearest, cropPct: 1, mean: [0, 0, 0], std: [1, 1, 1])
    let store = try TemporaryFolder()
    func run() throws -> (ExtractionSummary, Int) {
      let backbone = TestBackbone()
      let summary = try FeatureExtraction(
        data: ImageFolder(path: folder.path), store: store.path + "/s", key: testKey(), preprocessing: preprocessing, options: testOptions()
      ).run(computing: { backbone })
      return (summary, backbone.computed)
    }
    let (first, computed) = try run()
    #expect((first.extracted, first.reused, first.skipped, computed) == (6, 0, 0, 6))
    let (again, none) = try run()
    #expect((again.extracted, again.reused, none) == (0, 6, 0))
    let opened = try FeatureStore.open(reading: store.path + "/s")
    #expect(opened.classNames == ["0", "3", "9"] && opened.samples(split: "train").count == 4 && opened.samples(split: "test").count == 2)
    // Unpacked they are the same pictures.
    for name in try folder.names() { try folder.remove(name) }
    try fill()
    let (unpacked, nothing) = try run()
    #expect((unpacked.extracted, unpacked.reused, unpacked.removed, nothing) == (0, 6, 0, 0))
  }

  private func error() -> String {
    do {
      _ = try ImageFolder(path: folder.path)
      return "no error"
    } catch {
      return "\(error)"
    }
  }

  @Test func namesTheFileThatIsMissing() throws {
    try folder.write("train-images-idx3-ubyte", images(0..<4))
    #expect(error().contains("no train-labels-idx1-ubyte beside it"))
    try folder.write("train-labels-idx1-ubyte", names(0..<3))
    #expect(error().contains("3 labels") && error().contains("4 pictures"))
    try folder.remove("train-images-idx3-ubyte")
    #expect(error().contains("no train-images-idx3-ubyte beside them"))
  }

  @Test func namesWhatIsDamaged() throws {
    let file = "train-images-idx3-ubyte"
    try folder.write("train-labels-idx1-ubyte", names(0..<4))
    let whole = images(0..<4), packed = Self.gzip(whole)
    let cases: [([UInt8], String)] = [
      ([], "cut off"), (Array(whole.prefix(7)), "cut off"), (Array(whole.dropLast()), "63 bytes, and its header announces 64"),
      (whole + [0], "65 bytes"), ([1] + Array(whole.dropFirst()), "two zeros"), (Self.idx([4, 3, 4], pictures[0], type: 13), "type 13"),
      (Self.idx([4], [1, 2, 3, 4]), "cut off"), (Self.idx([0xFFFF_FFFF, 0xFFFF_FFFF, 0xFFFF_FFFF], []), "more than are read"),
      (Self.idx([4, 0, 4], []), "4 × 0"), (Array(packed.dropLast(9)), "cut off"), (Array(packed.dropLast(8)) + [0, 0, 0, 0, 64, 0, 0, 0], "damaged"),
      (Array(packed.prefix(12)), "cut off"), (Self.gzip(whole + [1]), "65 bytes"), (Self.gzip(whole + [1, 2, 3]), "more than 64"),
      (Self.gzip(Array(whole.dropLast())), "63"),
      (Self.gzip(Self.idx([60000, 280, 280], [])), "cannot hold"),
    ]
    for (bytes, words) in cases {
      try folder.write(file, bytes)
      let text = error()
      #expect(text.contains(words) && text.contains(file), "\(words): \(text)")
    }
  }

  @Test func portableMapsAreRead() throws {
    func decode(_ header: String, _ bytes: [UInt8]) throws -> DecodedImage { try ImageDecoder(pixelLimit: 100).decode(Array(header.utf8) + bytes) }
    #expect(try decode("P5\n2 1\n255\n", [5, 9]).pixels == [5, 5, 5, 9, 9, 9])
    #expect(try decode("P6 # a comment\n1 2\t255 ", [1, 2, 3, 4, 5, 6]) == DecodedImage(width: 1, height: 2, pixels: [1, 2, 3, 4, 5, 6]))
    let cases: [(String, [UInt8], ImageError.Kind)] = [
      ("P5\n2 1\n255\n", [5], .truncated), ("P5\n2 1\n65535\n", [0, 0, 0, 0], .unsupported), ("P5\n2 x", [], .damaged), ("P5\n2 ", [], .truncated),
      ("P5\n0 1\n255\n", [], .damaged), ("P6\n11 10\n255\n", [], .tooManyPixels), ("P5\n99999999999 1\n255\n", [], .damaged),
      ("P5\n999999999 999999999\n255\n", [], .unsupported),
    ]
    for (header, bytes, kind) in cases {
      let error = #expect(throws: ImageError.self) { try decode(header, bytes) }
      #expect(error?.kind == kind, "\(header) \(error?.description ?? "")")
    }
  }
}
