import Foundation
import GraftData
import Testing

/// The JSON file beside a model.
@Suite struct ModelConfigurationTests {
  /// A folder with the files given, for as long as `body` runs.
  private func withFolder(_ files: [String: String], _ body: (String) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "graft-configuration-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    for (name, text) in files { try Data(text.utf8).write(to: folder.appending(path: name)) }
    try body(folder.path)
  }

  private static let values =
    #""input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.875, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]"#

  @Test("timm's form, nested or not")
  func forms() throws {
    let nested = #"{"architecture": "lite", "num_classes": 2, "label_names": ["cat", "dog"], "pretrained_cfg": {"# + Self.values + "}}"
    let flat = #"{"architecture": "lite", "num_classes": 2, "id2label": {"1": "dog", "0": "cat"}, "other": {"x": 1}, "# + Self.values + "}"
    for text in [nested, flat] {
      try withFolder(["net.v1.json": text]) { folder in
        let configuration = try ModelConfiguration.read(beside: folder + "/net.v1.onnx")
        #expect(configuration.path == folder + "/net.v1.json")
        #expect(configuration.architecture == "lite")
        #expect(configuration.classCount == 2)
        #expect(configuration.labels == ["cat", "dog"])
        #expect(configuration.preprocessing?.inputSize == [3, 224, 224])
        #expect(try Preprocessing.read(beside: folder + "/net.v1.onnx") == configuration.preprocessing)
      }
    }
  }

  @Test("the model's own file comes before config.json, which comes before nothing")
  func order() throws {
    try withFolder(["config.json": #"{"architecture": "b"}"#]) { folder in
      #expect(try ModelConfiguration.read(beside: folder + "/model.pth").architecture == "b")
      try Data(#"{"architecture": "a"}"#.utf8).write(to: URL(filePath: folder + "/model.json"))
      #expect(try ModelConfiguration.read(beside: folder + "/model.pth").architecture == "a")
    }
    try withFolder(["model.index.json": "{}", "config.json": #"{"architecture": "c"}"#]) { folder in
      let configuration = try ModelConfiguration.read(beside: folder + "/model.index.json")
      #expect(configuration.architecture == "c")
    }
    try withFolder([:]) { folder in
      let none = try ModelConfiguration.read(beside: folder + "/model.onnx")
      #expect(none == ModelConfiguration())
      let error = #expect(throws: PreprocessingError.self) { try Preprocessing.read(beside: folder + "/model.onnx") }
      #expect(error?.description.contains(folder + "/model.onnx") == true)
    }
  }

  @Test(
    "a wrong file is an error that names file and place",
    arguments: [
      ("{", "end of file"), ("[]", ""), (#"{"pretrained_cfg": 3}"#, "pretrained_cfg"), (#"{"crop_pct": "much"}"#, "crop_pct"),
      (#"{"pretrained_cfg": {"mean": [0.5, "x", 0.5]}}"#, "mean[1]"), (#"{"interpolation": "psychic"}"#, "psychic"),
      (#"{"crop_mode": "border"}"#, "border"),
      (#"{"id2label": {"0": "a", "2": "b"}}"#, "id2label"), (#"{"input_size": [3, 1e99, 2]}"#, "input_size: 1e+99"),
      (#"{"input_size": [3, 2.5, 2]}"#, "input_size: 2.5"), ("\u{0}\u{1}", ""),
      (String(repeating: "[", count: 100_000), ""),
    ])
  func wrong(text: String, place: String) throws {
    try withFolder(["model.json": text]) { folder in
      let error = #expect(throws: ModelConfigurationError.self) { try ModelConfiguration.read(beside: folder + "/model.onnx") }
      #expect(error?.description.hasPrefix(folder + "/model.json: ") == true)
      #expect(error?.description.contains(place) == true || place.isEmpty, "\(String(describing: error))")
    }
  }

  @Test("a value that makes no sense names the file")
  func nonsense() throws {
    try withFolder(["model.json": "{" + Self.values.replacing("0.875", with: "0") + "}"]) { folder in
      let configuration = try ModelConfiguration.read(beside: folder + "/model.onnx")
      #expect(configuration.preprocessing == nil)
      let error = #expect(throws: PreprocessingError.self) { try Preprocessing.read(beside: folder + "/model.onnx") }
      #expect(error?.description.hasPrefix(folder + "/model.json: crop_pct: ") == true)
    }
  }
}
