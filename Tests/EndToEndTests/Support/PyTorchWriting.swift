import Foundation
import Graft

/// PyTorch files as `torch.save` writes them, of tensors in float16 that all lie on one storage: small files of large networks.
enum PyTorchWriting {
  static let storageKey = "0"

  /// The zip form (PyTorch 1.6 and later), its entries stored as they are.
  static func zip(_ tensors: [(name: String, shape: [Int])], storage: [UInt8]) -> (bytes: [UInt8], structure: [Range<Int>]) {
    let pickle = stateDictionary(tensors, elementCount: storage.count / 2, isLegacy: false)
    var archive: [UInt8] = [], directory: [UInt8] = []
    let entries = [("archive/data.pkl", pickle), ("archive/data/\(storageKey)", storage), ("archive/version", Array("3\n".utf8))]
    for (name, content) in entries {
      let common = little(0, 2) + little(0, 2) + little(0, 4) + little(Int(crc32(content)), 4) + little(content.count, 4) + little(content.count, 4)
      let length = little(name.utf8.count, 2) + little(0, 2)
      directory += Array("PK".utf8) + [1, 2, 0, 0, 0, 0] + common + length + little(0, 2 + 2 + 2 + 4) + little(archive.count, 4) + Array(name.utf8)
      archive += Array("PK".utf8) + [3, 4, 0, 0] + common + length + Array(name.utf8) + content
    }
    let start = archive.count
    archive += directory + Array("PK".utf8) + [5, 6] + little(0, 4) + little(entries.count, 2) + little(entries.count, 2)
    archive += little(directory.count, 4) + little(start, 4) + little(0, 2)
    return (archive, [0..<pickle.count + 46, start..<archive.count])
  }

  /// The legacy form: a magic number, a version, facts about the machine, the object, the keys, then the storages.
  static func legacy(_ tensors: [(name: String, shape: [Int])], storage: [UInt8]) -> (bytes: [UInt8], structure: [Range<Int>]) {
    var bytes: [UInt8] = [0x80, 2, 0x8A, 10, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19] + Array(".".utf8)
    bytes += [0x80, 2] + Array("M".utf8) + little(1001, 2) + Array(".".utf8)
    bytes += [0x80, 2] + Array("}(".utf8) + text("little_endian") + [0x88] + Array("u.".utf8)
    bytes += stateDictionary(tensors, elementCount: storage.count / 2, isLegacy: true)
    bytes += [0x80, 2] + Array("](".utf8) + text(storageKey) + Array("e.".utf8)
    bytes += little(storage.count / 2, 8)
    return (bytes + storage, [0..<bytes.count])
  }

  private static func stateDictionary(_ tensors: [(name: String, shape: [Int])], elementCount: Int, isLegacy: Bool) -> [UInt8] {
    var bytes: [UInt8] = [0x80, 2] + Array("}(".utf8)
    for (name, shape) in tensors {
      bytes += text(name) + Array("ctorch._utils\n_rebuild_tensor_v2\n((".utf8)
      bytes += text("storage") + Array("ctorch\nHalfStorage\n".utf8) + text(storageKey) + text("cpu") + integer(elementCount)
      bytes += Array(isLegacy ? "NtQ".utf8 : "tQ".utf8) + integer(0) + tuple(shape) + tuple(rowMajorStrides(shape))
      bytes += [0x89] + Array("ccollections\nOrderedDict\n)RtR".utf8)
    }
    return bytes + Array("u.".utf8)
  }

  private static func little(_ value: Int, _ count: Int) -> [UInt8] { (0..<count).map { $0 < 8 ? UInt8(truncatingIfNeeded: value >> (8 * $0)) : 0 } }
  private static func integer(_ value: Int) -> [UInt8] { Array("J".utf8) + little(value, 4) }
  private static func text(_ value: String) -> [UInt8] { Array("X".utf8) + little(value.utf8.count, 4) + Array(value.utf8) }
  private static func tuple(_ values: [Int]) -> [UInt8] { Array("(".utf8) + values.flatMap(integer) + Array("t".utf8) }

  /// The checksum of zip and PNG (ISO 3309).
  static func crc32(_ bytes: some Sequence<UInt8>) -> UInt32 {
    ~bytes.reduce(0xFFFF_FFFF as UInt32) { crc, byte in
      (0..<8).reduce(crc ^ UInt32(byte)) { crc, _ in crc & 1 == 1 ? crc >> 1 ^ 0xEDB8_8320 : crc >> 1 }
    }
  }
}
