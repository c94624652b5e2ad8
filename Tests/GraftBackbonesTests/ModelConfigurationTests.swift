import Foundation
import GraftBackbones
import GraftGraph
import Testing

@Suite struct ModelConfigurationTests {
  static let timm =
    #"{"architecture": "tf_efficientnet_lite0", "num_classes": 10, "pretrained_cfg": {"input_size": [3, 192, 160], "interpolation": "bilinear", "crop_pct": 0.9, "mean": [0.1, 0.2, 0.3], "std": [1, 0.5, 0.25], "crop_mode": "center"}}"#

  @Test func timmsFormIsRead() throws {
    let folder = TemporaryFolder()
    _ = try folder.file("net.json", Self.timm.utf8)
    let configuration = try #require(try ModelConfiguration.beside(model: "\(folder.path)/net.pth"))
    #expect(configuration.architecture == "tf_efficientnet_lite0")
    let preprocessing = configuration.applied(to: EfficientNetLite(.lite0).preprocessing)
    #expect(
      preprocessing
        == Preprocessing(
          height: 192, width: 160, interpolation: .bilinear, cropFraction: 0.9, mean: [0.1, 0.2, 0.3], standardDeviation: [1, 0.5, 0.25]))
  }

  @Test func theNameOfTheModelComesBeforeTheFolder() throws {
    let folder = TemporaryFolder()
    #expect(try ModelConfiguration.beside(model: "\(folder.path)/net.onnx") == nil)
    _ = try folder.file("config.json", #"{"interpolation": "bicubic"}"#.utf8)
    #expect(try ModelConfiguration.beside(model: "\(folder.path)/net.onnx")?.interpolation == .bicubic)
    _ = try folder.file("net.json", "{}".utf8)
    let own = try #require(try ModelConfiguration.beside(model: "\(folder.path)/net.onnx"))
    #expect(own.interpolation == nil)
    #expect(own.applied(to: EfficientNetLite(.lite0).preprocessing) == EfficientNetLite(.lite0).preprocessing)
  }

  @Test(arguments: [
    ("[]", "no JSON object"), ("{", "no JSON object"), ("", "no JSON object"), (#"{"mean": [1, 2]}"#, "mean should be 3 numbers"),
    (#"{"mean": "x"}"#, "mean should be"), (#"{"std": [0, 1, 1]}"#, "std should be"), (#"{"input_size": [3, 0, 224]}"#, "input_size should be"),
    (#"{"input_size": [3, 1e9, 224]}"#, "input_size should be"), (#"{"input_size": [1, 28, 28]}"#, "has 1 channels"),
    (#"{"input_size": [3, 1.5, 2]}"#, "three whole numbers"), (#"{"crop_pct": 0}"#, "crop_pct should be"),
    (#"{"crop_pct": 1e400}"#, "no JSON object"),
    (#"{"interpolation": "nearest"}"#, "interpolation should be one of bilinear, bicubic"), (#"{"crop_mode": "squash"}"#, "crop_mode 'squash'"),
  ])
  func whatMakesNoSenseIsNamed(text: String, expected: String) throws {
    let folder = TemporaryFolder()
    let path = try folder.file("net.json", text.utf8)
    let error = message { _ = try ModelConfiguration(path: path) }
    #expect(error.hasPrefix(path))
    #expect(error.contains(expected), "\(error)")
  }

  @Test func nestingAndSizeAreBounded() throws {
    let folder = TemporaryFolder()
    let deep = try folder.file("deep.json", String(repeating: "[", count: 1_000_000).utf8)
    #expect(throws: ImportError.self) { try ModelConfiguration(path: deep) }
    let long = try folder.file("long.json", "{\"a\": \"\(String(repeating: "x", count: 2 << 20))\"}".utf8)
    #expect(message { _ = try ModelConfiguration(path: long) }.contains("too long"))
  }
}
