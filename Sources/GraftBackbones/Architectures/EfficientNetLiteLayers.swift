extension EfficientNetLite {
  /// How a state dict names the weights.
  public enum Layout: Sendable, Hashable, CaseIterable {
    /// `_conv_stem`, `_blocks.7._expand_conv`, `_fc`: blocks counted through.
    case flat
    /// timm's `conv_stem`, `blocks.3.1.conv_pw`, `classifier`: blocks counted in their stage.
    case timm

    /// The tensor whose presence tells the layout.
    var stem: String { self == .flat ? "_conv_stem.weight" : "conv_stem.weight" }
    var classifier: String { self == .flat ? "_fc" : "classifier" }
  }

  /// The network as a list of layers.
  ///
  /// - Parameter classes: outputs of the classifier; nil to end with the pooled features.
  public func layers(layout: Layout, classes: Int?) -> [LayerSpec] {
    var builder = Builder(convention: convention)
    builder.convolution(
      "stem", layout == .flat ? ("_conv_stem", "_bn0") : ("conv_stem", "bn1"), from: 3, to: Self.stemChannels, kernel: 3, stride: 2)
    var (inChannels, block) = (Self.stemChannels, 0)
    for (index, stage) in Stage.table.enumerated() {
      let outChannels = channels(stage.outChannels)
      for position in 0..<repeats(stage: index) {
        let names = BlockNames(layout: layout, block: block, stage: index, position: position, expands: stage.expansion > 1)
        let input = builder.layers.count - 1
        let inside = inChannels * stage.expansion
        if let expand = names.expand { builder.convolution("blocks.\(block).expand", expand, from: inChannels, to: inside, kernel: 1) }
        let stride = position == 0 ? stage.stride : 1
        builder.convolution(
          "blocks.\(block).depthwise", names.depthwise, from: inside, to: inside, kernel: stage.kernel, stride: stride, groups: inside)
        builder.convolution(
          "blocks.\(block).project", names.project, from: inside, to: outChannels, kernel: 1, activation: .identity,
          residual: stride == 1 && inChannels == outChannels ? input : nil)
        (inChannels, block) = (outChannels, block + 1)
      }
    }
    builder.convolution(
      "head", layout == .flat ? ("_conv_head", "_bn1") : ("conv_head", "bn2"), from: inChannels, to: Self.featureChannels, kernel: 1)
    builder.layers.append(LayerSpec(name: "pool", operation: .globalAveragePool))
    if let classes {
      let spec = LinearSpec(
        weight: "\(layout.classifier).weight", bias: "\(layout.classifier).bias", inChannels: Self.featureChannels, outChannels: classes)
      builder.layers.append(LayerSpec(name: "classifier", operation: .linear(spec)))
    }
    return builder.layers
  }

  /// The names of a convolution and of its normalisation.
  typealias ConvolutionNames = (weight: String, normalization: String)

  /// The names of the convolutions of one block.
  private struct BlockNames {
    var expand: ConvolutionNames?
    let depthwise: ConvolutionNames
    let project: ConvolutionNames

    init(layout: Layout, block: Int, stage: Int, position: Int, expands: Bool) {
      let prefix = layout == .flat ? "_blocks.\(block)." : "blocks.\(stage).\(position)."
      func names(_ weight: String, _ normalization: String) -> ConvolutionNames { (prefix + weight, prefix + normalization) }
      switch (layout, expands) {
      case (.flat, _):
        expand = expands ? names("_expand_conv", "_bn0") : nil
        depthwise = names("_depthwise_conv", "_bn1")
        project = names("_project_conv", "_bn2")
      case (.timm, true):
        expand = names("conv_pw", "bn1")
        depthwise = names("conv_dw", "bn2")
        project = names("conv_pwl", "bn3")
      case (.timm, false):
        depthwise = names("conv_dw", "bn1")
        project = names("conv_pw", "bn2")
      }
    }
  }

  private struct Builder {
    let convention: Convention
    var layers: [LayerSpec] = []

    mutating func convolution(
      _ name: String, _ names: ConvolutionNames, from inChannels: Int, to outChannels: Int, kernel: Int, stride: Int = 1, groups: Int = 1,
      activation: LayerActivation = .relu6, residual: Int? = nil
    ) {
      let normalization = BatchNormSpec(
        scale: "\(names.normalization).weight", bias: "\(names.normalization).bias", mean: "\(names.normalization).running_mean",
        variance: "\(names.normalization).running_var", epsilon: convention == .tensorFlow ? 1e-3 : 1e-5)
      let spec = ConvolutionSpec(
        weight: "\(names.weight).weight", inChannels: inChannels, outChannels: outChannels, kernel: kernel, stride: stride,
        padding: convention == .tensorFlow ? .same : .symmetric((kernel - 1) / 2), groups: groups, normalization: normalization,
        activation: activation, residual: residual)
      layers.append(LayerSpec(name: name, operation: .convolution(spec)))
    }
  }
}
