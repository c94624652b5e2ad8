import Foundation
import GraftBackbones
import GraftGraph
import Testing

@Suite struct SafetensorsTests {
  @Test func everyFormatGivesItsValues() throws {
    let file = try SafetensorsFile(path: Fixture.path("reference.safetensors"))
    let expected = try Fixture.expected("reference.safetensors")
    #expect(expected.count == 16)
    #expect(Set(file.names) == Set(expected.keys))
    for (name, tensor) in expected { Fixture.check(file[name], tensor, name) }
    #expect(file.metadata == ["format": "np", "note": "größe\t\"x\""])
    #expect(file["float32"]?.storage === file["float64"]?.storage)
    let state = try StateDictionary(path: Fixture.path("reference.safetensors"))
    #expect(state.names == file.names)
  }

  /// A file with this header, padded as given, and so many bytes of data.
  private func file(_ header: String, dataCount: Int = 0, length: UInt64? = nil) -> [UInt8] {
    withUnsafeBytes(of: (length ?? UInt64(header.utf8.count)).littleEndian, Array.init) + header.utf8 + [UInt8](repeating: 7, count: dataCount)
  }
  private func error(_ bytes: [UInt8], _ location: SourceLocation = #_sourceLocation) throws -> String {
    let folder = TemporaryFolder()
    let path = try folder.file("model.safetensors", bytes)
    return message(location) { _ = try SafetensorsFile(path: path) }
  }

  @Test func theSmallestFilesAreValid() throws {
    let folder = TemporaryFolder()
    #expect(try SafetensorsFile(path: try folder.file("a", file("{}"))).names == [])
    #expect(
      try SafetensorsFile(path: try folder.file("b", file("{ \"__metadata__\" : { \"k\" : \"\\ud83c\\udf31\\u00e9\" } }   "))).metadata == ["k": "🌱é"]
    )
    let one = try SafetensorsFile(path: try folder.file("c", file(#"{"w":{"shape":[2],"data_offsets":[0,2],"dtype":"U8"}}"#, dataCount: 2)))
    #expect(one["w"]?.integers() == [7, 7])
  }

  @Test(arguments: [
    (#"{"w":{"dtype":"U8","shape":[3],"data_offsets":[0,2]}}"#, 2, "its shape [3] in U8 needs 3 bytes, and it has 2"),
    (#"{"w":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}"#, 2, "its bytes should be 0 to 3 of 2"),
    (#"{"w":{"dtype":"U8","shape":[2],"data_offsets":[2,0]}}"#, 2, "its bytes should be 2 to 0 of 2"),
    (#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#, 2, "leave a gap before them"),
    (#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, 2, "1 bytes at its end belong to no tensor"),
    (#"{"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"v":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#, 2, "overlap"),
    (#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#, 2, "it is there twice"),
    (#"{"w":{"dtype":"U8","dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#, 2, "has two 'dtype'"),
    (#"{"w":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}"#, 2, "its number format 'F8_E4M3' is not read"),
    (#"{"w":{"dtype":"F32","shape":[4611686018427387904,4611686018427387904],"data_offsets":[0,2]}}"#, 2, "is not one a tensor can have"),
    (#"{"w":{"dtype":"U8","shape":[99999999999999999999],"data_offsets":[0,2]}}"#, 2, "a number is too large"),
    (#"{"w":{"dtype":"U8","shape":[-1],"data_offsets":[0,2]}}"#, 2, "a count is expected"),
    (#"{"w":{"dtype":"U8","shape":[02],"data_offsets":[0,2]}}"#, 2, "a count is expected"),
    (#"{"w":{"dtype":"U8","shape":[2.0],"data_offsets":[0,2]}}"#, 2, "] is expected"),
    (#"{"w":{"dtype":"U8","shape":[2],"data_offsets":[0]}}"#, 2, "has 1 data_offsets"),
    (#"{"w":{"dtype":"U8","shape":[2]}}"#, 2, "lacks dtype, shape or data_offsets"),
    (#"{"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2],"more":1}}"#, 2, "the unknown field 'more'"),
    (#"{"__metadata__":{"k":1}}"#, 0, "\" is expected"),
    (#"{"__metadata__":{"k":"1","k":"2"}}"#, 0, "'k' is in its metadata twice"),
    (#"{"__metadata__":{},"__metadata__":{}}"#, 0, "__metadata__ is there twice"),
    (#"{"__metadata__":{"k":"\ud83c"}}"#, 0, "half of a surrogate pair"),
    (#"{"__metadata__":{"k":"\x"}}"#, 0, "an escape is not known"),
    (#"{"__metadata__":{"k":"abc"#, 0, "a string does not end"),
    (#"{} {}"#, 0, "text follows its end"),
    (#"{"a":{"#, 0, "is expected"),
    (#" {}"#, 0, "does not begin with {"),
  ])
  func rulesOfTheFormatAreKept(header: String, dataCount: Int, expected: String) throws {
    #expect(try error(file(header, dataCount: dataCount)).contains(expected))
  }

  @Test func headerLengthsAreChecked() throws {
    #expect(try error(file("{}", length: 3)).contains("its header at byte 8 needs 3 bytes, and the file has 2 left"))
    #expect(try error(file("{}", length: 100_000_001)).contains("its header would have 100000001 bytes"))
    #expect(try error(file("{}", length: .max)).contains("its header would have 18446744073709551615 bytes"))
    #expect(try error([1, 2, 3]).contains("the length of its header"))
    #expect(try error([]).contains("the file is empty"))
    #expect(try error(file("{\"\u{0}\":{}}")).contains("a control character"))
  }

  @Test(.timeLimit(.minutes(1))) func nestingIsRefusedAtOnce() throws {
    #expect(try error(file(String(repeating: "{\"a\":", count: 1_000_000))).contains("'a' has the unknown field 'a'"))
  }

  @Test func whatIsWrittenIsRead() throws {
    let folder = TemporaryFolder()
    let path = "\(folder.path)/head.safetensors"
    let expected = try Fixture.expected("reference.safetensors")
    let original = try SafetensorsFile(path: Fixture.path("reference.safetensors"))
    try SafetensorsFile.write(tensors: original.names.map { ($0, original[$0]!) }, metadata: original.metadata, to: path)
    let copy = try SafetensorsFile(path: path)
    for (name, tensor) in expected { Fixture.check(copy[name], tensor, name) }
    #expect(copy.metadata == original.metadata)
    // Nothing else is left in the folder.
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["head.safetensors"])
  }

  @Test func writtenFilesAreDeterministicAndAligned() throws {
    let folder = TemporaryFolder()
    let bias = HostTensor([3], [1, 2, 3])
    let labels = HostTensor([2], integers: [4, 5])
    let metadata = ["b": "2", "a": "1\n\u{1}", "ü": "\\"]
    try SafetensorsFile.write(
      tensors: [("weight", HostTensor([1, 3], [4, 5, 6])), ("labels", labels), ("bias", bias)], metadata: metadata, to: "\(folder.path)/1")
    try SafetensorsFile.write(
      tensors: [("bias", bias), ("weight", HostTensor([1, 3], [4, 5, 6])), ("labels", labels)], metadata: metadata, to: "\(folder.path)/2")
    let bytes = try Data(contentsOf: URL(fileURLWithPath: "\(folder.path)/1"))
    #expect(try Data(contentsOf: URL(fileURLWithPath: "\(folder.path)/2")) == bytes)
    let headerCount = bytes.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
    #expect(headerCount.isMultiple(of: 8))
    #expect(
      String(decoding: bytes[8..<8 + headerCount], as: UTF8.self).trimmingCharacters(in: [" "])
        == #"{"__metadata__":{"a":"1\n\u0001","b":"2","ü":"\\"},"labels":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},"#
        + #""bias":{"dtype":"F32","shape":[3],"data_offsets":[16,28]},"weight":{"dtype":"F32","shape":[1,3],"data_offsets":[28,40]}}"#)
    #expect(bytes.count == 8 + headerCount + 40)
    #expect(try SafetensorsFile(path: "\(folder.path)/1").metadata == metadata)
  }

  @Test func aFileThatCannotBeWrittenLeavesNothingBehind() throws {
    let folder = TemporaryFolder()
    let path = "\(folder.path)/none/head.safetensors"
    #expect(throws: FileError(path: path, action: "create", code: ENOENT)) { try SafetensorsFile.write(tensors: [], to: path) }
    // The target is a folder.
    try FileManager.default.createDirectory(atPath: "\(folder.path)/taken", withIntermediateDirectories: true)
    #expect(throws: FileError.self) { try SafetensorsFile.write(tensors: [("a", HostTensor([1], [1]))], to: "\(folder.path)/taken") }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["taken"])
  }

  @Test func namesThatCannotBeWrittenAreRefused() {
    let tensor = HostTensor([1], [1])
    let folder = TemporaryFolder()
    #expect(throws: TensorError.self) { try SafetensorsFile.write(tensors: [("a", tensor), ("a", tensor)], to: "\(folder.path)/x") }
    #expect(throws: TensorError.self) { try SafetensorsFile.write(tensors: [("__metadata__", tensor)], to: "\(folder.path)/x") }
    #expect(!FileManager.default.fileExists(atPath: "\(folder.path)/x"))
  }
}
