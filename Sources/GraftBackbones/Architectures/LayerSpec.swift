/// One layer of an architecture, with the names its weights have in a state dict.
///
/// Layers run in order, each on the output of the one before; the first on the image. Shapes are PyTorch's:
/// images `[N, C, H, W]`, convolution weights `[C_out, C_in / groups, kH, kW]`, linear weights `[C_out, C_in]`.
public struct LayerSpec: Sendable, Hashable {
  public enum Operation: Sendable, Hashable {
    case convolution(ConvolutionSpec)
    /// The maximum over 3 × 3 windows that are 2 apart, one pixel of padding.
    case maximumPool
    /// The mean over height and width: `[N, C, H, W]` to `[N, C]`.
    case globalAveragePool
    case linear(LinearSpec)
  }

  /// Unique in its architecture ("blocks.3.expand"): what a cut is named by.
  public let name: String
  public let operation: Operation
  /// The index of the layer whose output it takes; `nil`: the one before.
  public let input: Int?

  public init(name: String, operation: Operation, input: Int? = nil) { (self.name, self.operation, self.input) = (name, operation, input) }

  /// Every tensor of the state dict that the layer reads, with the shape it must have.
  public var weights: [(name: String, shape: [Int])] {
    switch operation {
    case .convolution(let convolution):
      let normalization = convolution.normalization
      return [(convolution.weight, convolution.weightShape)]
        + [normalization.scale, normalization.bias, normalization.mean, normalization.variance].map { ($0, [convolution.outChannels]) }
    case .globalAveragePool, .maximumPool: return []
    case .linear(let linear): return [(linear.weight, [linear.outChannels, linear.inChannels]), (linear.bias, [linear.outChannels])]
    }
  }
}

/// Convolution without bias, batch normalisation, then the residual and the activation: `y = f(bn(w * x) + r)`.
public struct ConvolutionSpec: Sendable, Hashable {
  public let weight: String
  public let inChannels: Int
  public let outChannels: Int
  /// Height and width of the kernel.
  public let kernel: Int
  public let stride: Int
  public let padding: LayerPadding
  /// 1, or the number of channels for a depthwise convolution.
  public let groups: Int
  public let normalization: BatchNormSpec
  public let activation: LayerActivation
  /// The index of the layer whose output is added, if any.
  public let residual: Int?

  public var weightShape: [Int] { [outChannels, inChannels / groups, kernel, kernel] }
}

/// Inference-time batch normalisation: `(x - mean) / sqrt(variance + epsilon) * scale + bias`, a channel at a time.
public struct BatchNormSpec: Sendable, Hashable {
  public let scale: String
  public let bias: String
  public let mean: String
  public let variance: String
  public let epsilon: Double
}

/// `y = x Wᵀ + b`.
public struct LinearSpec: Sendable, Hashable {
  public let weight: String
  public let bias: String
  public let inChannels: Int
  public let outChannels: Int
}

public enum LayerActivation: String, Sendable, Hashable {
  case identity
  /// `min(max(x, 0), 6)`.
  case relu6
  /// `max(x, 0)`.
  case relu
}

/// Zeros around an image.
public enum LayerPadding: Sendable, Hashable {
  /// TensorFlow's SAME: as many as make the output `ceil(extent / stride)`, the odd one after the image. They depend on
  /// the extent, and may differ before and after.
  case same
  /// As many on every side.
  case symmetric(Int)

  /// The zeros before and after an axis of `extent`. Our own invariant: all arguments are positive.
  public func amounts(extent: Int, kernel: Int, stride: Int) -> (before: Int, after: Int) {
    switch self {
    case .symmetric(let amount): return (amount, amount)
    case .same:
      let outputs = (extent + stride - 1) / stride
      let total = max(0, (outputs - 1) * stride + kernel - extent)
      return (total / 2, total - total / 2)
    }
  }
}
