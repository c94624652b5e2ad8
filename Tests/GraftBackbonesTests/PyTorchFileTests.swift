import Foundation
import GraftBackbones
import GraftGraph
import Testing

@Suite struct PyTorchFileTests {
  @Test(arguments: ["zip-2.pth", "zip-4.pth", "legacy-2.pth", "legacy-4.pth"])
  func everyTensorOfACheckpointHasItsValues(name: String) throws {
    let state = try StateDictionary(path: Fixture.path(name))
    let expected = try Fixture.expected(name)
    #expect(expected.count == 19)
    #expect(state.source == ["state_dict"])
    #expect(Set(state.names) == Set(expected.keys))
    #expect(state.names.first == "conv.weight")
    #expect(state.names.last == "channels_last")
    for (name, tensor) in expected { Fixture.check(state[name], tensor, name) }
  }

  @Test func contiguousTensorsOfTheLegacyFormStayInTheMappedFile() throws {
    let state = try StateDictionary(path: Fixture.path("legacy-2.pth"))
    let (base, row, slice) = (try #require(state["base"]), try #require(state["row"]), try #require(state["slice"]))
    #expect(base.storage === row.storage)
    #expect(base.storage !== slice.storage)
    #expect(base.storage.count == (try Fixture.bytes("legacy-2.pth").count))
  }

  @Test func tensorsOnOneStorageShareItsBytesInTheZipForm() throws {
    let state = try StateDictionary(path: Fixture.path("zip-4.pth"))
    #expect(state["base"]?.storage === state["row"]?.storage)
  }

  @Test(arguments: ["zip", "legacy"])
  func aPickleThatCallsIsRefusedAndNothingRuns(form: String) {
    let error = message { _ = try StateDictionary(path: Fixture.path("attack-\(form).pth")) }
    #expect(error.contains("its pickle asks for 'posix.system', and only tensors and plain containers are read"))
    #expect(error.contains("torch.save(model.state_dict(), path)"))
    #expect(!FileManager.default.fileExists(atPath: "/tmp/graft-pickle-was-run"))
  }

  @Test(arguments: ["zip", "legacy"])
  func aWholeModuleIsRefusedWithTheWayOut(form: String) {
    let error = message { _ = try StateDictionary(path: Fixture.path("module-\(form).pth")) }
    #expect(error.contains("__main__.Net") || error.contains("whole pickled module"), "\(error)")
    #expect(error.contains("torch.save(model.state_dict(), path)"))
  }

  @Test(arguments: ["zip", "legacy"])
  func settingsThatAreObjectsAreNamed(form: String) {
    let error = message { _ = try StateDictionary(path: Fixture.path("namespace-\(form).pth")) }
    #expect(error.contains("'argparse.Namespace'"))
  }

  @Test(arguments: ["zip", "legacy"])
  func anExpandedTensorAllocatesNothing(form: String) async {
    await #expect(processExitsWith: .success) { [form = form as String] in
      let error = message { _ = try StateDictionary(path: Fixture.path("expanded-\(form).pth")) }
      #expect(error.contains("tensor 'w': its shape [1048576, 1048576] in float32 needs 4398046511104 bytes, and its storage has 4"))
      let peak = try peakByteCount()
      #expect(peak < 1 << 30)
    }
  }

  @Test func otherFilesAreNamedForWhatTheyAre() throws {
    #expect(message { _ = try StateDictionary(path: Fixture.path("script.pt")) }.contains("this is a TorchScript program"))
    #expect(message { _ = try StateDictionary(path: Fixture.path("plain.pkl")) }.contains("this is a Python pickle, not a file of weights"))
    #expect(message { _ = try StateDictionary(path: Fixture.path("encodings.onnx")) }.contains("neither a PyTorch nor a safetensors file"))
    let folder = TemporaryFolder()
    // Known by nothing but its name.
    let lost = try folder.file("lost.safetensors", [UInt8](repeating: 0x77, count: 100))
    #expect(message { _ = try Backbone(path: lost) }.contains("neither a PyTorch nor a safetensors file"))
    let empty = try folder.file("empty.zip", [0x50, 0x4B, 0x05, 0x06] + [UInt8](repeating: 0, count: 18))
    #expect(message { _ = try StateDictionary(path: empty) }.contains("it holds no data.pkl"))
  }

  @Test(arguments: ["zip-4.pth", "legacy-4.pth", "reference.safetensors"])
  func aFileCutShortIsAnErrorAtEveryLength(name: String) throws {
    let folder = TemporaryFolder()
    let bytes = try Fixture.bytes(name)
    for count in stride(from: 0, to: bytes.count, by: 13) {
      let path = try folder.file("cut", bytes.prefix(count))
      #expect(throws: ImportError.self, "\(count) bytes") { try StateDictionary(path: path) }
    }
  }

  @Test func damagedWeightsInAZipAreNoticed() throws {
    // Bytes of a storage, not of the directory: only the checksum can tell.
    var bytes = try Fixture.bytes("zip-4.pth")
    let weights = try #require(try StateDictionary(path: Fixture.path("zip-4.pth"))["base"]).withUnsafeBytes { Array($0) }
    let place = try #require((0..<bytes.count - weights.count).first { bytes[$0..<$0 + weights.count].elementsEqual(weights) })
    bytes[place + 5] ^= 1
    let folder = TemporaryFolder()
    let path = try folder.file("damaged.pth", bytes)
    #expect(message { _ = try StateDictionary(path: path) }.contains("CRC error"))
  }
}
