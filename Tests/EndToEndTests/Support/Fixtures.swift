import Foundation
import GraftGraph

enum Fixture {
  static func path(_ name: String) -> String { Bundle.module.bundleURL.appendingPathComponent("Fixtures/\(name)").path }
}

/// A folder that is gone when the object is.
final class TemporaryFolder {
  let path: String

  init() throws {
    path = FileManager.default.temporaryDirectory.appendingPathComponent("graft-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  subscript(_ name: String) -> String { "\(path)/\(name)" }
}

/// Random values that are the same on every machine.
typealias Generator = SplitMix

/// Pictures of three classes that differ in colour, under noise.
enum Photos {
  static let classes = ["blue sky", "grass", "red brick"]
  private static let colors = [[70, 90, 160], [80, 150, 70], [170, 80, 60]]

  /// Writes `count` pictures a class into PATH/CLASS/.
  static func write(to path: String, count: Int, seed: UInt64 = 0, side: Int = 40) throws {
    var generator = Generator(seed)
    for (name, color) in zip(classes, colors) {
      try FileManager.default.createDirectory(atPath: "\(path)/\(name)", withIntermediateDirectories: true)
      for index in 0..<count {
        let pixels = (0..<side * side).flatMap { _ in color.map { UInt8(clamping: $0 + Int.random(in: -60...60, using: &generator)) } }
        try Data(tiff(pixels, width: side, height: side)).write(to: URL(fileURLWithPath: "\(path)/\(name)/\(seed)-\(index).tiff"))
      }
    }
  }

  /// An uncompressed RGB image, one strip (TIFF 6.0, section 6).
  static func tiff(_ pixels: [UInt8], width: Int, height: Int) -> [UInt8] {
    func little(_ value: Int, _ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
    // Header, 10 entries of 12 bytes, the next directory's offset, three bit depths, pixels.
    let depths = 8 + 2 + 10 * 12 + 4, strip = depths + 6
    let entries: [(tag: Int, type: Int, count: Int, value: Int)] = [
      (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, depths), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, strip), (277, 3, 1, 3),
      (278, 4, 1, height), (279, 4, 1, pixels.count), (284, 3, 1, 1),
    ]
    var bytes = Array("II".utf8) + little(42, 2) + little(8, 4) + little(entries.count, 2)
    for entry in entries { bytes += little(entry.tag, 2) + little(entry.type, 2) + little(entry.count, 4) + little(entry.value, 4) }
    return bytes + little(0, 4) + little(8, 2) + little(8, 2) + little(8, 2) + pixels
  }
}
