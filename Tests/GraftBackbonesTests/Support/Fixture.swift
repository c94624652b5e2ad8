import Foundation
import GraftGraph
import Testing

/// Files made by Tools/reference/model_files.py.
enum Fixture {
  static func path(_ name: String) -> String {
    Bundle.module.bundleURL.appendingPathComponent("Fixtures/\(name)").path
  }

  static func bytes(_ name: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: path(name)))) }

  /// What the library that wrote a file says is in it.
  struct Expected: Decodable {
    let type: ElementType
    let shape: [Int]
    let values: [Number]

    /// JSON has booleans where Python had them.
    enum Number: Decodable {
      case number(Double)
      init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let flag = try? container.decode(Bool.self) { self = .number(flag ? 1 : 0) } else { self = .number(try container.decode(Double.self)) }
      }
      var value: Double { if case .number(let value) = self { value } else { .nan } }
    }
  }

  static func expected(_ name: String) throws -> [String: Expected] {
    try JSONDecoder().decode([String: Expected].self, from: Data(contentsOf: URL(fileURLWithPath: path("\(name).expected.json"))))
  }

  /// Every value, bit for bit.
  static func check(_ tensor: HostTensor?, _ expected: Expected, _ name: String, _ location: SourceLocation = #_sourceLocation) {
    guard let tensor else {
      Issue.record("\(name) is missing", sourceLocation: location)
      return
    }
    #expect(tensor.elementType == expected.type, "\(name)", sourceLocation: location)
    #expect(tensor.shape == expected.shape, "\(name)", sourceLocation: location)
    #expect(tensor.doubles() == expected.values.map(\.value), "\(name)", sourceLocation: location)
  }
}

/// A folder that is gone when the object is.
final class TemporaryFolder {
  let path: String

  init() {
    path = FileManager.default.temporaryDirectory.appendingPathComponent("graft-\(UUID().uuidString)").path
    try! FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// Writes a file into the folder and gives its path.
  func file(_ name: String, _ bytes: some Sequence<UInt8>) throws -> String {
    let file = "\(path)/\(name)"
    try Data(bytes).write(to: URL(fileURLWithPath: file))
    return file
  }
}

/// The message of the error that `body` must throw.
func message(_ location: SourceLocation = #_sourceLocation, _ body: () throws -> Void) -> String {
  do {
    try body()
    Issue.record("no error was thrown", sourceLocation: location)
    return ""
  } catch { return "\(error)" }
}
