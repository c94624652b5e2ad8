import Foundation
import GraftTraining
import Testing

@Suite struct TensorBoardTests {
  private func hexadecimal(_ bytes: [UInt8]) -> String { bytes.map { String(format: "%02x", $0) }.joined() }

  /// RFC 3720, B.4, and the usual check value.
  @Test(
    arguments: [
      (Array("123456789".utf8), 0xe306_9283), ([UInt8](repeating: 0, count: 32), 0x8a91_36aa), ([UInt8](repeating: 0xff, count: 32), 0x62a8_ab43),
      (Array(0..<32), 0x46dd_794e), ([], 0),
    ] as [([UInt8], UInt32)])
  func checksums(data: [UInt8], expected: UInt32) { #expect(CRC32C.checksum(data) == expected) }

  /// What Tools/reference/tensorboard_record.py prints.
  @Test func recordsAreTensorBoards() {
    #expect(
      hexadecimal(TensorBoardRecord.framed(TensorBoardRecord.fileVersion(wallTime: 1.5)))
        == "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c")
    let scalars = TensorBoardRecord.scalars([("loss/train", 0.625), ("top1/validation", -3)], step: 300, wallTime: 2.25)
    #expect(
      hexadecimal(TensorBoardRecord.framed(scalars))
        == "39000000000000008b0737f109000000000000024010ac022a2b0a110a0a6c6f73732f747261696e150000203f0a160a0f746f70312f76616c696461"
        + "74696f6e15000040c0b354a7e5")
  }

  @Test func aLogIsAFileOfRecords() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("tensorboard-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let log = try TensorBoardLog(folder: folder + "/runs")
    try log.add([("a", 1)], step: 1, wallTime: 7)
    try log.add([("a", 2)], step: 2, wallTime: 8)
    let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: log.path)))
    let tail = [1, 2].flatMap { TensorBoardRecord.framed(TensorBoardRecord.scalars([("a", Double($0))], step: $0, wallTime: 6 + Double($0))) }
    #expect(bytes.suffix(tail.count) == tail[...] && bytes.count > tail.count && log.path.contains("/events.out.tfevents."))
    #expect(throws: (any Error).self) { try TensorBoardLog(folder: log.path + "/below a file") }
  }
}
