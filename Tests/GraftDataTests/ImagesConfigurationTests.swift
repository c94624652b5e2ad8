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

  @Test("the file beside the model that the system finds, where a link comes before ..")
  func links() throws {
    try withFolder(["model.json": #"{"architecture": "wrong"}"#]) { folder in
      try FileManager.default.createDirectory(atPath: folder + "/real/sub", withIntermediateDirectories: true)
      try FileManager.default.createSymbolicLink(atPath: folder + "/link", withDestinationPath: "real/sub")
      try Data(#"{"architecture": "right"}"#.utf8).write(to: URL(filePath: folder + "/real/model.json"))
      #expect(try ModelConfiguration.read(beside: folder + "/link/../model.onnx").architecture == "right")
      // One full stop, whatever the system says.
      try FileManager.default.createDirectory(atPath: folder + "/real/folder.json", withIntermediateDirectories: true)
      let error = #expect(throws: ModelConfigurationError.self) { try ModelConfiguration.read(beside: folder + "/real/folder.onnx") }
      #expect(error?.description.contains("it can't be read: Is a directory. Correct the file") == true, "\(error?.description ?? "")")
    }
  }

  private static let cropped = #""size": {"shortest_edge": 224}, "crop_size": 224, "do_center_crop": true"#

  /// The geometry of each as its documentation has it; pixels were compared with transformers' own.
  @Test(
    "the file of a transformers image processor",
    arguments: [
      (#""size": {"height": 256, "width": 256}, "do_center_crop": true, "crop_size": {"height": 224, "width": 224}"#, 224, 0.875, "squash"),
      (#""size": {"height": 224, "width": 224}, "do_center_crop": false, "crop_size": 196"#, 224, 1, "squash"),
      (#""size": 192, "image_processor_type": "ViTImageProcessor""#, 192, 1, "squash"),
      (#""size": [192, 192], "feature_extractor_type": "BeitFeatureExtractor""#, 192, 1, "squash"),
      (#""size": 224, "crop_size": 224, "do_center_crop": true, "feature_extractor_type": "CLIPFeatureExtractor""#, 224, 1, "center"),
      (#""size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": true"#, 224, 0.875, "center"),
      (#""size": {"shortest_edge": 224}, "crop_pct": 0.875, "image_processor_type": "ConvNextImageProcessor""#, 224, 0.875, "center"),
      (#""size": {"shortest_edge": 384}, "crop_pct": 0.875, "image_processor_type": "ConvNextFeatureExtractor""#, 384, 1, "squash"),
      (#"\#(cropped), "crop_pct": 0.9, "image_processor_type": "PoolFormerImageProcessorFast""#, 224, 0.9, "center"),
      (#"\#(cropped), "image_processor_type": "LevitImageProcessorPil""#, 224, 0.875, "center"),
    ])
  func imageProcessors(_ size: String, _ side: Int, _ cropPct: Double, _ mode: String) throws {
    let text = "{\(size), \"resample\": 3, \"rescale_factor\": 0.00392156862745098, \"image_mean\": [0.5, 0.4, 0.3], \"image_std\": [0.2, 0.2, 0.1]}"
    try withFolder(["preprocessor_config.json": text, "config.json": #"{"id2label": {"0": "cat"}}"#]) { folder in
      for model in ["/model.onnx", "/onnx/model.onnx"] {
        let configuration = try ModelConfiguration.read(beside: folder + model)
        let found = try Preprocessing.read(beside: folder + model)
        #expect(configuration.labels == ["cat"] && configuration.path == folder + "/preprocessor_config.json")
        #expect(found.inputSize == [3, side, side] && found.cropPct == cropPct && found.cropMode.rawValue == mode)
        // Where no crop can be rounded, keys are what they were.
        #expect((found.cropRounding == .even) == (mode == "squash"))
        #expect(found.interpolation == .bicubic && found.mean == [0.5, 0.4, 0.3] && found.std == [0.2, 0.2, 0.1])
      }
      // What a file in timm's form says comes first.
      try Data("{\(Self.values)}".utf8).write(to: URL(filePath: folder + "/config.json"))
      #expect(try Preprocessing.read(beside: folder + "/model.onnx").mean == [0.5, 0.5, 0.5])
    }
  }

  /// Mean and deviation are of red, green and blue; the processor's are of the channels as the network takes them.
  @Test("blue first")
  func channelOrder() throws {
    let text = #"{"do_flip_channel_order": true, "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 4], "do_normalize": true, "size": 32}"#
    try withFolder(["preprocessor_config.json": text, "rgb.json": "{\(Self.values)}"]) { folder in
      let fields = try ModelConfiguration.read(beside: folder + "/model.onnx").fields
      #expect(fields.channelOrder == .bgr && fields.mean == [0.3, 0.2, 0.1] && fields.std == [4, 2, 1])
      let plain = try Preprocessing.read(beside: folder + "/rgb.onnx")
      #expect(plain.channelOrder == .rgb && !plain.canonicalJSON.contains("channel"))
      let turned = try PreprocessingFields(channelOrder: .bgr).over(plain.fields).resolved()
      #expect(turned != plain && turned.canonicalJSON.contains(#""channel_order":"bgr""#))
      #expect(try JSONDecoder().decode(Preprocessing.self, from: Data(turned.canonicalJSON.utf8)) == turned)
    }
  }

  /// The first row and column of what is seen, in pictures whose bytes say where they are, as transformers' processors crop them; -1 is black.
  @Test(
    "crops begin where transformers' do",
    arguments: [
      ("CLIPImageProcessor", 33, 32, 0), ("CLIPImageProcessorFast", 35, 32, 1), ("CLIPImageProcessorPil", 35, 32, 1),
      ("CLIPImageProcessor", 29, 32, -1), ("CLIPImageProcessorPil", 29, 32, -2), ("", 35, 32, 1), ("timm", 33, 32, 0), ("timm", 35, 32, 2),
      ("timm", 29, 32, -1),
    ])
  func cropRounding(_ kind: String, _ side: Int, _ crop: Int, _ offset: Int) throws {
    var pixels: [UInt8] = []
    for row in 0..<side { for column in 0..<side { pixels += [UInt8(100 + row), UInt8(100 + column), 1] } }
    let image = try #require(DecodedImage(width: side, height: side, pixels: pixels))
    let values = #""resample": 2, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]"#
    let processor =
      #"{"image_processor_type": "\#(kind)", "do_center_crop": true, "size": {"shortest_edge": \#(side)}, "crop_size": \#(crop), \#(values)}"#
    try withFolder(["preprocessor_config.json": processor]) { folder in
      var found = try ModelConfiguration.read(beside: folder + "/model.onnx").fields
      if kind == "timm" { found.cropRounding = nil }
      let preprocessing = try found.resolved()
      let result = preprocessing.apply(to: image)
      let first = offset < 0 ? 0 : 100 + offset, place = max(-offset, 0)
      #expect(result[0] == first && result[1] == first)
      let inside = (place * crop + place) * 3
      #expect(result[inside] == 100 + max(offset, 0) && result[inside + 1] == 100 + max(offset, 0))
      #expect(preprocessing.canonicalJSON.contains("crop_rounding") == (kind != "timm"))
      #expect(try JSONDecoder().decode(Preprocessing.self, from: Data(preprocessing.canonicalJSON.utf8)) == preprocessing)
    }
  }

  @Test("a crop leads back to the side it was taken from", arguments: 1...600)
  func ratios(_ side: Int) throws {
    let text = #"{"size": {"shortest_edge": \#(side + 97)}, "do_center_crop": true, "crop_size": \#(side)}"#
    try withFolder(["preprocessor_config.json": text]) { folder in
      let ratio = try #require(try ModelConfiguration.read(beside: folder + "/model.onnx").fields.cropPct)
      #expect(Int(Double(side) / ratio) == side + 97)
    }
  }

  @Test("pixels that a processor scales otherwise, or not at all")
  func processorScales() throws {
    let cases: [(String, mean: [Double]?, std: [Double]?)] = [
      (#""do_normalize": false"#, [0, 0, 0], [1, 1, 1]),
      (#""do_normalize": false, "do_rescale": false"#, [0, 0, 0], [1, 1, 1].map { $0 / 255 }),
      (#""image_mean": [1, 1, 1], "image_std": [1, 1, 1], "rescale_factor": 0.00784313725490196"#, [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
      (
        #""image_mean": [0, 0, 0], "image_std": [0.5, 0.5, 0.5], "image_processor_type": "EfficientNetImageProcessor""#, [0, 0, 0],
        [0.25, 0.25, 0.25]
      ),
      ("\"do_resize\": true", nil, nil),
    ]
    for (text, mean, std) in cases {
      try withFolder(["preprocessor_config.json": "{\(text)}"]) { folder in
        let fields = try ModelConfiguration.read(beside: folder + "/model.onnx").fields
        #expect((fields.mean == nil) == (mean == nil) && (fields.std == nil) == (std == nil), "\(text)")
        for (found, expected) in zip((fields.mean ?? []) + (fields.std ?? []), (mean ?? []) + (std ?? [])) { #expect(abs(found - expected) < 1e-12) }
      }
    }
  }

  @Test(
    "what a processor does and graft does not is an error",
    arguments: [
      (#""do_flip_channel_order": 7"#, "do_flip_channel_order"), (#""rescale_offset": true"#, "rescale_offset"), (#""do_pad": true"#, "padded"),
      (#""do_resize": false"#, "do_resize"), (#""resample": 9"#, "no filter"), (#""size": {"shortest_edge": 224}"#, "not cropped"),
      (#""size": {"shortest_edge": 0}, "do_center_crop": true, "crop_size": 9"#, "size"), (#""size": {"longest_edge": 224}"#, "size"),
      (#""size": {"height": 0, "width": 224}"#, "size"), (#""size": {"height": 9000000000000000000, "width": 4}"#, "9000000000000000000"),
      (#""size": {"shortest_edge": 256}, "do_center_crop": true, "crop_size": 0"#, "a side of 0"), (#""size": -1"#, "a side of -1"),
      (#""size": 1e300"#, "size"),
      (#""size": {"height": 256, "width": 256}, "do_center_crop": true, "crop_size": {"height": 224, "width": 192}"#, "proportions"),
      (#""size": {"shortest_edge": 256}, "do_center_crop": true, "crop_size": {"height": 224, "width": 192}"#, "not square"),
    ])
  func imageProcessorErrors(_ text: String, _ words: String) throws {
    try withFolder(["preprocessor_config.json": "{\(text)}"]) { folder in
      let error = #expect(throws: ModelConfigurationError.self) { try ModelConfiguration.read(beside: folder + "/model.onnx") }
      #expect(error?.path == folder + "/preprocessor_config.json" && error?.what.contains(words) == true, "\(error?.what ?? "")")
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
