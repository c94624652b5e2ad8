import GraftGraph

/// The network that a file of weights belongs to: its layers, every weight of which is there in the right shape.
public struct Architecture: Sendable {
  /// timm's name: "tf_efficientnet_lite0".
  public let name: String
  public let layers: [LayerSpec]
  /// What the weights were trained with, unless a file beside them says otherwise.
  public let preprocessing: PretrainedConfiguration
  /// What had to be assumed because the weights do not tell; sentences to show to the user.
  public let assumptions: [String]

  /// Names of the architectures that can be recognised.
  public static let known = EfficientNetLite.Variant.allCases.map { EfficientNetLite($0).name } + ResNet.known

  /// Finds the architecture by the names and shapes of the weights.
  ///
  /// - Parameter name: the architecture's name where it is known, from a configuration or a flag, in timm's or the
  ///   original's spelling ("tf_efficientnet_lite0.in1k", "efficientnet-lite0"); then only that is tried.
  /// - Throws: `ImportError` naming the tensor that is missing, has another shape, or has no place in the architecture.
  public static func recognise(_ weights: StateDictionary, name: String? = nil) throws -> Architecture {
    try ResNet.recognise(weights, name: name) ?? EfficientNetLite.recognise(weights, name: name)
  }
}

extension EfficientNetLite {
  /// Weights that inference does not use.
  private static let counter = ".num_batches_tracked"

  static func recognise(_ weights: StateDictionary, name: String?) throws -> Architecture {
    let told = try name.map { try parse($0, file: weights.file) }
    guard let layout = Layout.allCases.first(where: { weights[$0.stem] != nil }) else {
      throw ImportError(
        file: weights.file, what: "its architecture is not known: its tensors are \(listed(weights.names))",
        remedy: "State dicts are read of \(Architecture.known.joined(separator: ", ")). Export other models as ONNX.")
    }
    // The flat layout was only ever written by converters from TensorFlow, whatever name the network goes by.
    let convention: Convention = layout == .timm ? told?.convention ?? .tensorFlow : .tensorFlow
    let classes = weights["\(layout.classifier).weight"].flatMap { $0.shape.count == 2 && $0.shape[0] > 0 ? $0.shape[0] : nil }

    let variants = told.map { [$0.variant] } ?? Variant.allCases
    let candidates = variants.map { variant in
      let network = EfficientNetLite(variant, convention: convention)
      return (network, network.layers(layout: layout, classes: classes))
    }
    // The nearest one, so that the message about a damaged file is about that variant.
    guard let (network, layers) = candidates.min(by: { mismatches(weights, $0.1) < mismatches(weights, $1.1) }) else {
      throw ImportError(file: weights.file, what: "its architecture is not known", remedy: "Export the model as ONNX.")
    }
    for layer in layers {
      for weight in layer.weights {
        do { _ = try weights.tensor(weight.name, shape: weight.shape) } catch let error {
          throw ImportError(
            file: error.file, node: error.node, what: "\(error.what) by \(network.name), the nearest architecture", remedy: error.remedy)
        }
      }
    }
    // The same names with more between them are another network: plain EfficientNet has the same convolutions.
    let used = Set(layers.flatMap { $0.weights.map(\.name) })
    if let extra = weights.names.first(where: { !used.contains($0) && !$0.hasSuffix(counter) }) {
      throw ImportError(
        file: weights.file, node: "tensor \(quoted(extra))", what: "\(network.name), the nearest architecture, has no place for it",
        remedy: extra.contains("se.") || extra.contains("_se_")
          ? "This is EfficientNet with squeeze-and-excitation, not EfficientNet-Lite; export it as ONNX." : "Export the model as ONNX.")
    }
    var assumptions: [String] = []
    if layout == .timm, told == nil {
      let other = EfficientNetLite(network.variant, convention: .pyTorch).name
      assumptions.append(
        "The weights do not tell \(network.name) from \(other), which pads differently; \(network.name) is assumed. "
          + "If they are the other's, say so: \"architecture\": \"\(other)\" in the JSON file beside them.")
    }
    return Architecture(name: network.name, layers: layers, preprocessing: network.preprocessing, assumptions: assumptions)
  }

  private static func mismatches(_ weights: StateDictionary, _ layers: [LayerSpec]) -> Int {
    let needed = layers.flatMap(\.weights)
    let found = needed.count { weights[$0.name]?.shape == $0.shape }
    // A smaller variant's names may all be there in a larger one's file: what is left over counts too.
    return needed.count - found + max(0, weights.names.count { !$0.hasSuffix(counter) } - found)
  }

  /// Reads "tf_efficientnet_lite0.in1k", "efficientnet_lite0", "efficientnet-lite0".
  private static func parse(_ name: String, file: String) throws -> EfficientNetLite {
    let plain = name.lowercased().prefix { $0 != "." }.map { $0 == "-" ? "_" : $0 }
    for variant in Variant.allCases {
      for convention in [Convention.tensorFlow, .pyTorch] where EfficientNetLite(variant, convention: convention).name == String(plain) {
        return EfficientNetLite(variant, convention: convention)
      }
    }
    throw ImportError(
      file: file, what: "the architecture \(quoted(name)) is not known",
      remedy: "State dicts are read of \(Architecture.known.joined(separator: ", ")). Export other models as ONNX.")
  }
}
