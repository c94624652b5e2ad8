import Crypto
import Foundation
import GraftBackbones
import GraftGraph
import Testing

@Suite struct BackboneHashTests {
  @Test func itIsTheHashOfTheFile() throws {
    let folder = TemporaryFolder()
    #expect(try BackboneHash.sha256(path: try folder.file("empty", [])) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    #expect(try BackboneHash.sha256(path: try folder.file("abc", "abc".utf8)) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    // Longer than one read.
    let long = (0..<(3 << 20) + 7).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    let expected = SHA256.hash(data: long).map { String(format: "%02x", $0) }.joined()
    #expect(try BackboneHash.sha256(path: try folder.file("long", long)) == expected)
  }

  @Test func externalDataIsPartOfIt() throws {
    let folder = TemporaryFolder()
    let path = try folder.file("external.onnx", Fixture.bytes("external.onnx"))
    _ = try folder.file("external.bin", Fixture.bytes("external.bin"))
    _ = try folder.file("external.second", Fixture.bytes("external.second"))
    let before = try ONNXFile(path: path).hash()
    let whole = try ["external.onnx", "external.bin", "external.second"].flatMap(Fixture.bytes)
    #expect(before == SHA256.hash(data: whole).map { String(format: "%02x", $0) }.joined())
    var changed = try Fixture.bytes("external.second")
    changed[3] ^= 1
    _ = try folder.file("external.second", changed)
    #expect(try ONNXFile(path: path).hash() != before)
  }

  @Test func aFileThatCannotBeReadIsNamed() {
    let folder = TemporaryFolder()
    #expect(throws: FileError(path: "\(folder.path)/none", action: "open", code: ENOENT)) { try BackboneHash.sha256(path: "\(folder.path)/none") }
    #expect(throws: FileError(path: folder.path, action: "read", code: EISDIR)) { try BackboneHash.sha256(path: folder.path) }
  }
}
