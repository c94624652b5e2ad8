import Foundation
import GraftBackbones
import GraftGraph
import Testing

@Suite struct ONNXFileTests {
  @Test func everyEncodingOfEveryFormatGivesItsValues() throws {
    let file = try ONNXFile(path: Fixture.path("encodings.onnx"))
    let expected = try Fixture.expected("encodings.onnx")
    #expect(expected.count == 28)
    #expect(Set(file.initializers.keys) == Set(expected.keys))
    #expect(Set(file.initializerNames) == Set(expected.keys))
    for (name, tensor) in expected { Fixture.check(file.initializers[name], tensor, name) }
  }

  @Test func theGraphIsReadAsWritten() throws {
    let file = try ONNXFile(path: Fixture.path("encodings.onnx"))
    #expect(file.producer == "reference 1.0")
    #expect(file.irVersion == 8)
    #expect(file.opsetVersion == 13)
    #expect(file.operatorSets == ["": 13, "example.test": 2])
    #expect(file.graphName == "encodings")
    #expect(file.externalFiles.isEmpty)
    // A constant that is listed among the inputs is none.
    #expect(file.inputs == [ONNXValue(name: "x", elementType: .float32, shape: [.symbolic("N"), .fixed(3), .symbolic(""), .fixed(224)])])
    #expect(file.outputs == [ONNXValue(name: "y", elementType: .float16, shape: nil)])
    #expect(file.nodes.map(\.opType) == ["Attributes", "Relu"])
    #expect(file.nodes[0].inputs == ["x", "", "raw.float32"])
    #expect(file.nodes[0].outputs == ["a", ""])
    #expect(file.nodes[0].label == "node 'everything' (example.test.Attributes)")
    #expect(file.nodes[1].label == "node (Relu) that computes 'y'")
  }

  @Test func attributesHaveTheirTypes() throws {
    let node = try ONNXFile(path: Fixture.path("encodings.onnx")).nodes[0]
    #expect(node.attributes.count == 9)
    #expect(try node.integer("an_integer") == -7)
    #expect(try node.float("a_float") == 0.1)
    #expect(try node.string("a_string") == "text")
    #expect(try node.tensor("a_tensor")?.integers() == [1, -2, 3])
    #expect(try node.integers("integers") == [1, -(1 << 40), 3])
    #expect(try node.floats("floats") == [0.5, -1.25])
    #expect(try node.integers("nothing") == [])
    #expect(try node.integer("absent") == nil)
    guard case .strings(["a", "b"]) = node.attributes["strings"] else {
      Issue.record("strings: \(String(describing: node.attributes["strings"]))")
      return
    }
    let error = message { _ = try node.integer("a_graph") }
    #expect(
      error.hasSuffix("encodings.onnx: node 'everything' (example.test.Attributes): its attribute 'a_graph' is a graph, and an integer is expected."))
  }

  @Test func externalDataIsMappedOncePerFile() throws {
    let file = try ONNXFile(path: Fixture.path("external.onnx"))
    for (name, tensor) in try Fixture.expected("external.onnx") { Fixture.check(file.initializers[name], tensor, name) }
    let first = try #require(file.initializers["first"])
    let second = try #require(file.initializers["second"])
    #expect(first.storage === second.storage)
    #expect(file.externalFiles == [Fixture.path("external.bin"), Fixture.path("external.second")])
  }

  @Test func aMissingDataFileIsNamedWithItsConstant() throws {
    let folder = TemporaryFolder()
    for name in ["external.onnx", "external.bin"] { _ = try folder.file(name, Fixture.bytes(name)) }
    let error = message { _ = try ONNXFile(path: "\(folder.path)/external.onnx") }
    #expect(error.contains("constant 'third'"))
    #expect(error.contains("cannot open \(folder.path)/external.second: No such file"))
  }

  @Test(arguments: ["escape-parent", "escape-absolute", "escape-inside"])
  func externalDataOutsideTheFolderIsRefused(name: String) {
    let error = message { _ = try ONNXFile(path: Fixture.path("\(name).onnx")) }
    #expect(error.contains("constant 'first': its data is said to be in the file"))
    #expect(error.contains("which does not lie in the model's folder"))
  }

  @Test func externalDataThatIsTooShortIsAnError() throws {
    let folder = TemporaryFolder()
    let path = try folder.file("external.onnx", Fixture.bytes("external.onnx"))
    _ = try folder.file("external.second", Fixture.bytes("external.second"))
    _ = try folder.file("external.bin", Fixture.bytes("external.bin").dropLast())
    let error = message { _ = try ONNXFile(path: path) }
    #expect(error.contains("constant 'second': its data should be the 12 bytes from 96 of 'external.bin', and that file has 107"))
  }

  @Test func rawWeightsStayInTheMappedFile() throws {
    let file = try ONNXFile(path: Fixture.path("encodings.onnx"))
    let float = try #require(file.initializers["raw.float32"])
    let double = try #require(file.initializers["raw.float64"])
    #expect(float.storage === double.storage)
    #expect(float.storage.count == (try Fixture.bytes("encodings.onnx").count))
  }

  @Test(arguments: [
    ("page.onnx", "<!DOCTYPE html><html><body>Not found</body></html>", "this is a web page, not an ONNX model"),
    ("pointer.onnx", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"),
    ("archive.onnx", "PK\u{03}\u{04}and so on", "this is a zip archive"),
    ("empty.onnx", "", "the file is empty"),
    ("settings.onnx", "{ \"a\": 1 }", "this is JSON text"),
    ("words.onnx", "no model at all", "this is no ONNX model"),
    // A valid message in which every field is unknown.
    ("unknown.onnx", "\u{7A}\u{01}a", "it holds no graph"),
  ])
  func otherFilesAreNamedForWhatTheyAre(name: String, text: String, expected: String) throws {
    let folder = TemporaryFolder()
    let path = try folder.file(name, text.utf8)
    let error = message { _ = try ONNXFile(path: path) }
    #expect(error.hasPrefix(path))
    #expect(error.contains(expected), "\(error)")
  }

  @Test func aModelCutShortIsAnErrorAtEveryLength() throws {
    let folder = TemporaryFolder()
    let bytes = try Fixture.bytes("encodings.onnx")
    for count in stride(from: 0, to: bytes.count, by: 7) {
      let path = try folder.file("cut.onnx", bytes.prefix(count))
      #expect(throws: ImportError.self, "\(count) bytes") { try ONNXFile(path: path) }
    }
  }

  @Test func aMissingFileIsSaidToBeMissing() {
    #expect(throws: FileError(path: "/nowhere/model.onnx", action: "open", code: ENOENT)) { try ONNXFile(path: "/nowhere/model.onnx") }
  }
}
