import Crypto
import Foundation
import GraftBackbones
import GraftGraph
import Testing

@Suite struct EfficientNetLiteTests {
  /// What timm builds, as digests of names and shapes.
  struct Digest: Decodable {
    let tensors: Int
    let parameters: Int
    let sha256: String
  }

  static func digests() throws -> [String: Digest] {
    try JSONDecoder().decode([String: Digest].self, from: Data(Fixture.bytes("efficientnet-lite.json")))
  }

  /// Tensors of the right shapes, all on the same zeros.
  static func weights(_ layers: [LayerSpec], prefix: String = "", changing change: (inout [String: [Int]]) -> Void = { _ in }) throws
    -> StateDictionary
  {
    var shapes: [String: [Int]] = [:]
    for layer in layers {
      for weight in layer.weights { shapes[prefix + weight.name] = weight.shape }
      if case .convolution(let convolution) = layer.operation {
        shapes[prefix + convolution.normalization.scale.replacingOccurrences(of: ".weight", with: ".num_batches_tracked")] = []
      }
    }
    change(&shapes)
    let zeros = HostBytes(count: 4 * (shapes.values.map { $0.reduce(1, *) }.max() ?? 0)) { $0.initializeMemory(as: UInt8.self, repeating: 0) }
    let tensors = try shapes.sorted { $0.key < $1.key }.map {
      (name: $0.key, tensor: try HostTensor(shape: $0.value, elementType: .float32, storage: zeros))
    }
    return StateDictionary(file: "weights.pth", tensors: tensors)
  }

  @Test(arguments: EfficientNetLite.Variant.allCases)
  func namesAndShapesAreThoseOfTimm(variant: EfficientNetLite.Variant) throws {
    let network = EfficientNetLite(variant)
    let weights = network.layers(layout: .timm, classes: 1000).flatMap(\.weights)
    let expected = try #require(try Self.digests()[network.name])
    #expect(weights.count == expected.tensors)
    let learned = weights.filter { !$0.name.contains(".running_") }
    #expect(learned.reduce(0) { $0 + $1.shape.reduce(1, *) } == expected.parameters)
    let lines = weights.map { "\($0.name) \($0.shape.map(String.init).joined(separator: ","))\n" }.sorted {
      $0.utf8.lexicographicallyPrecedes($1.utf8)
    }
    let digest = SHA256.hash(data: Data(lines.joined().utf8)).map { String(format: "%02x", $0) }.joined()
    #expect(digest == expected.sha256)
  }

  @Test(arguments: EfficientNetLite.Variant.allCases, EfficientNetLite.Layout.allCases)
  func variantsAndLayoutsAreRecognised(variant: EfficientNetLite.Variant, layout: EfficientNetLite.Layout) throws {
    let network = EfficientNetLite(variant)
    for classes in [nil, 7, 1000] {
      let layers = network.layers(layout: layout, classes: classes)
      let found = try Architecture.recognise(try Self.weights(layers, prefix: classes == 7 ? "module." : ""))
      #expect(found.name == network.name)
      #expect(found.layers == layers)
      #expect(found.preprocessing == network.preprocessing)
      #expect(found.assumptions.count == (layout == .timm ? 1 : 0))
    }
  }

  @Test func aNameDecidesWhatTheWeightsCannot() throws {
    let weights = try Self.weights(EfficientNetLite(.lite0).layers(layout: .timm, classes: 10))
    let own = try Architecture.recognise(weights, name: "efficientnet_lite0.ra_in1k")
    #expect(own.layers == EfficientNetLite(.lite0, convention: .pyTorch).layers(layout: .timm, classes: 10))
    #expect(own.assumptions.isEmpty)
    let ported = try Architecture.recognise(weights, name: "tf_efficientnet_lite0")
    #expect(ported.layers == EfficientNetLite(.lite0).layers(layout: .timm, classes: 10))
    #expect(throws: ImportError.self) { try Architecture.recognise(weights, name: "tf_efficientnet_lite1") }
    #expect(message { _ = try Architecture.recognise(weights, name: "resnet50") }.contains("the architecture 'resnet50' is not known"))
    // The converters' layout is TensorFlow's whatever it is called.
    let flat = try Self.weights(EfficientNetLite(.lite0).layers(layout: .flat, classes: 10))
    #expect(try Architecture.recognise(flat, name: "efficientnet-lite0").name == "tf_efficientnet_lite0")
  }

  /// Networks with a plain one's weights that pool in another way.
  @Test func variantsOfResidualNetworksAreRefused() throws {
    let weights = try #require(ResNet(name: "resnet18", classes: 10)).initialState(seed: 1)
    for name in ["resnetblur18", "resnetaa50d.sw_in12k", "timm/resnetblur50.bt_in1k", "seresnextaa101d_32x8d"] {
      #expect(message { _ = try Architecture.recognise(weights, name: name) }.contains("'\(name)' has the weights of a residual network"))
    }
    for name in ["resnet18", "resnet18.a1_in1k", "tv_resnet50", "resnext50_32x4d", "resnet_small", "resnetcustom", "resnetv1c50", "my own"] {
      #expect(try Architecture.recognise(weights, name: name).assumptions.isEmpty)
    }
    #expect(try Architecture.recognise(weights).assumptions.count == 1)
  }

  @Test func lite0IsTheNetworkOfThePaper() {
    let layers = EfficientNetLite(.lite0).layers(layout: .flat, classes: 1000)
    var (extent, shapes) = (224, [(String, Int, Int)]())
    for layer in layers {
      guard case .convolution(let convolution) = layer.operation else { continue }
      let padding = convolution.padding.amounts(extent: extent, kernel: convolution.kernel, stride: convolution.stride)
      extent = (extent + padding.before + padding.after - convolution.kernel) / convolution.stride + 1
      if layer.name.hasSuffix("project") || !layer.name.contains(".") { shapes.append((layer.name, convolution.outChannels, extent)) }
    }
    let expected = [
      ("stem", 32, 112), ("blocks.0.project", 16, 112), ("blocks.1.project", 24, 56), ("blocks.2.project", 24, 56), ("blocks.3.project", 40, 28),
      ("blocks.4.project", 40, 28), ("blocks.5.project", 80, 14), ("blocks.6.project", 80, 14), ("blocks.7.project", 80, 14),
      ("blocks.8.project", 112, 14), ("blocks.9.project", 112, 14), ("blocks.10.project", 112, 14), ("blocks.11.project", 192, 7),
      ("blocks.12.project", 192, 7), ("blocks.13.project", 192, 7), ("blocks.14.project", 192, 7), ("blocks.15.project", 320, 7), ("head", 1280, 7),
    ]
    #expect(shapes.map { "\($0)" } == expected.map { "\($0)" })
    // Residuals: from the output of the block before, in every block that keeps its shape.
    let residuals = layers.compactMap { layer -> String? in
      guard case .convolution(let convolution) = layer.operation, let residual = convolution.residual else { return nil }
      return "\(layers[residual].name)>\(layer.name)"
    }
    #expect(residuals == [2, 4, 6, 7, 9, 10, 12, 13, 14].map { "blocks.\($0 - 1).project>blocks.\($0).project" })
    #expect(layers.suffix(2).map(\.name) == ["pool", "classifier"])
  }

  @Test(arguments: [(224, 3, 2, 0, 1), (225, 3, 2, 1, 1), (112, 3, 1, 1, 1), (56, 5, 2, 1, 2), (7, 5, 1, 2, 2), (1, 3, 2, 1, 1), (4, 1, 2, 0, 0)])
  func samePaddingPutsTheOddZeroAfter(extent: Int, kernel: Int, stride: Int, before: Int, after: Int) {
    #expect(LayerPadding.same.amounts(extent: extent, kernel: kernel, stride: stride) == (before, after))
  }

  @Test func damageIsNamed() throws {
    let layers = EfficientNetLite(.lite0).layers(layout: .flat, classes: 1000)
    let missing = try Self.weights(layers) { $0["_blocks.3._bn1.running_var"] = nil }
    #expect(
      message { _ = try Architecture.recognise(missing) }.contains(
        "weights.pth: tensor '_blocks.3._bn1.running_var': it is missing; shape [144] is expected by tf_efficientnet_lite0"))
    let reshaped = try Self.weights(layers) { $0["_conv_head.weight"] = [1280, 320] }
    #expect(
      message { _ = try Architecture.recognise(reshaped) }.contains(
        "tensor '_conv_head.weight': its shape is [1280, 320], and [1280, 320, 1, 1] is expected"))
    let squeezing = try Self.weights(layers) { $0["_blocks.0._se_reduce.weight"] = [8, 32, 1, 1] }
    #expect(message { _ = try Architecture.recognise(squeezing) }.contains("squeeze-and-excitation"))
    let other = StateDictionary(file: "weights.pth", tensors: [("layer1.0.conv1.weight", HostTensor([1], [0]))])
    #expect(message { _ = try Architecture.recognise(other) }.contains("its architecture is not known: its tensors are 'layer1.0.conv1.weight'"))
  }

  @Test func preprocessingLeavesOut32Pixels() {
    let lite0 = EfficientNetLite(.lite0).preprocessing
    #expect(lite0.cropFraction == 0.875)
    // (x - 127) / 128 on bytes is (x / 255 - mean) / deviation on 0...1.
    let (mean, deviation): (Double, Double) = (127 / 255, 128 / 255)
    #expect(lite0.mean == [mean, mean, mean])
    #expect(lite0.standardDeviation == [deviation, deviation, deviation])
    for variant in EfficientNetLite.Variant.allCases {
      let preprocessing = EfficientNetLite(variant).preprocessing
      #expect(Int((Double(preprocessing.height) / preprocessing.cropFraction).rounded()) == variant.resolution + 32)
    }
  }
}
