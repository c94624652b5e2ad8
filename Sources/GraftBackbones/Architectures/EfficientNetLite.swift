/// EfficientNet-Lite, variants 0 to 4: EfficientNet without squeeze-and-excitation, with ReLU6, and with a stem, a head
/// and a number of blocks in the first and last stage that do not grow with the variant.
///
/// Source: M. Tan and Q. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019, and the
/// `efficientnet/lite` folder of the tensorflow/tpu repository, whose block table and scaling rules these are.
public struct EfficientNetLite: Sendable, Hashable {
  public enum Variant: Int, Sendable, Hashable, CaseIterable {
    case lite0, lite1, lite2, lite3, lite4

    /// The factor on the channels of every stage.
    var width: Double { [1.0, 1.0, 1.1, 1.2, 1.4][rawValue] }
    /// The factor on the number of blocks of the stages between the first and the last.
    var depth: Double { [1.0, 1.1, 1.2, 1.4, 1.8][rawValue] }
    /// Height and width of the images it was trained on.
    public var resolution: Int { [224, 240, 260, 280, 300][rawValue] }
    /// The share of features dropped before the classifier while training; identity at inference.
    public var dropout: Double { [0.2, 0.2, 0.3, 0.3, 0.3][rawValue] }
  }

  /// The two ways of counting in which weights exist; they give different numbers for the same weights.
  public enum Convention: Sendable, Hashable {
    /// As trained in TensorFlow: SAME padding, epsilon 1e-3 (timm: `tf_efficientnet_lite0`).
    case tensorFlow
    /// As trained in PyTorch: symmetric padding, epsilon 1e-5 (timm: `efficientnet_lite0`).
    case pyTorch
  }

  /// A row of the block table: `repeats` blocks, of which the first has the stride.
  struct Stage {
    let repeats: Int
    let kernel: Int
    let stride: Int
    /// How many times wider than its input the inside of a block is.
    let expansion: Int
    let outChannels: Int

    /// The rows r1_k3_s11_e1_i32_o16, r2_k3_s22_e6_i16_o24, … of the original; the input is the row before's output.
    static let table = [
      Stage(repeats: 1, kernel: 3, stride: 1, expansion: 1, outChannels: 16),
      Stage(repeats: 2, kernel: 3, stride: 2, expansion: 6, outChannels: 24),
      Stage(repeats: 2, kernel: 5, stride: 2, expansion: 6, outChannels: 40),
      Stage(repeats: 3, kernel: 3, stride: 2, expansion: 6, outChannels: 80),
      Stage(repeats: 3, kernel: 5, stride: 1, expansion: 6, outChannels: 112),
      Stage(repeats: 4, kernel: 5, stride: 2, expansion: 6, outChannels: 192),
      Stage(repeats: 1, kernel: 3, stride: 1, expansion: 6, outChannels: 320),
    ]
  }

  static let stemChannels = 32
  /// Channels of the pooled features.
  public static let featureChannels = 1280

  public let variant: Variant
  public let convention: Convention

  public init(_ variant: Variant, convention: Convention = .tensorFlow) {
    (self.variant, self.convention) = (variant, convention)
  }

  /// timm's name: "tf_efficientnet_lite0".
  public var name: String { "\(convention == .tensorFlow ? "tf_" : "")efficientnet_lite\(variant.rawValue)" }

  /// Scaled channels, a multiple of 8 that is not more than a tenth below the exact number.
  func channels(_ channels: Int) -> Int {
    let exact = Double(channels) * variant.width
    let rounded = max(8, Int(exact + 4) / 8 * 8)
    return Double(rounded) < 0.9 * exact ? rounded + 8 : rounded
  }

  /// Blocks of a stage after scaling.
  func repeats(stage index: Int) -> Int {
    let repeats = Stage.table[index].repeats
    return index == 0 || index == Stage.table.count - 1 ? repeats : Int((Double(repeats) * variant.depth).rounded(.up))
  }

  /// What its weights were trained to expect: pixels as (x - 127) / 128, a centre crop that leaves 32 pixels out.
  ///
  /// The filter is what comes nearest to the original's resize (TensorFlow's without antialiasing), as timm found:
  /// bicubic for the small variants, bilinear for the large.
  public var preprocessing: PretrainedConfiguration {
    let size = variant.resolution
    return PretrainedConfiguration(
      height: size, width: size, interpolation: variant.rawValue < 3 ? .bicubic : .bilinear, cropFraction: Double(size) / Double(size + 32),
      mean: .init(repeating: 127.0 / 255, count: 3), standardDeviation: .init(repeating: 128.0 / 255, count: 3))
  }
}
