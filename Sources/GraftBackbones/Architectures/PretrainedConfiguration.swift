/// What an image goes through before a network sees it, in timm's terms.
public struct PretrainedConfiguration: Sendable, Hashable {
  public enum Interpolation: String, Sendable, Hashable, CaseIterable {
    case bilinear, bicubic
  }

  /// Channels, height and width of what the network is given.
  public var channels: Int
  public var height: Int
  public var width: Int
  /// The filter of the resize.
  public var interpolation: Interpolation
  /// The share of the resized short side that the centre crop keeps: the short side becomes `floor(size / cropFraction)`.
  public var cropFraction: Double
  /// Taken from each channel of the pixels in 0...1.
  public var mean: [Double]
  /// What each channel is then divided by.
  public var standardDeviation: [Double]

  public init(
    channels: Int = 3, height: Int, width: Int, interpolation: Interpolation, cropFraction: Double, mean: [Double], standardDeviation: [Double]
  ) {
    (self.channels, self.height, self.width) = (channels, height, width)
    (self.interpolation, self.cropFraction) = (interpolation, cropFraction)
    (self.mean, self.standardDeviation) = (mean, standardDeviation)
  }
}
