import GraftGraph

/// How pictures are changed at random before a network is trained on them.
///
/// In this order: a part of the picture is resized to the network's input, or the whole is prepared as for looking at it
/// (`Preprocessing.apply`); it is moved by some pixels; mirrored; its colours move; RandAugment; a rectangle is erased.
public struct Augmentation: ViewDrawing, Hashable {
  /// The area of the part that is shown, of the picture's; `nil`: no part is drawn.
  public var cropScale: ClosedRange<Double>?
  /// The most pixels of the input that the picture is moved by, to each side; what comes in is black.
  public var padding = 0
  /// Whether half of the views are mirrored.
  public var flip = false
  public var jitter: ColorJitter?
  public var randAugment: RandAugment?
  /// The probability that a rectangle is painted with the mean colour.
  public var erasing = 0.0

  public init() {}

  /// Ready-made strengths.
  public enum Preset: String, Sendable, CaseIterable {
    case none, light, standard, strong
  }

  /// A ready-made strength for an input of that size. Up to 64 pixels a picture is moved by up to an eighth of its side rather than
  /// cut: parts of something so small show little.
  public init(_ preset: Preset, width: Int, height: Int) {
    guard preset != .none else { return }
    flip = true
    if min(width, height) <= 64 {
      padding = max(1, min(width, height) / (preset == .light ? 16 : 8))
    } else {
      cropScale = preset == .light ? 0.7...1 : 0.08...1
    }
    if preset == .strong {
      randAugment = RandAugment(count: 2, magnitude: 9)
      erasing = 0.25
    }
  }

  /// Whether every view is the picture as it is.
  public var isIdentity: Bool { cropScale == nil && padding == 0 && !flip && jitter == nil && randAugment == nil && erasing == 0 }

  public func draw(_ image: DecodedImage, preprocessing: Preprocessing, seed: UInt64, into target: UnsafeMutableBufferPointer<UInt8>) {
    var random = SplitMix(seed)
    let pixels = ViewPixels(
      width: preprocessing.width, height: preprocessing.height, bytes: UnsafeMutableBufferPointer(rebasing: target[..<preprocessing.byteCount]))
    if let cropScale {
      let box = RandomCrop(area: cropScale).draw(width: image.width, height: image.height, using: &random)
      RandomCrop.resize(image, box, preprocessing.interpolation, into: pixels)
    } else {
      preprocessing.apply(to: image, into: pixels.bytes)
    }
    if padding > 0 {
      let x = random.below(2 * padding + 1) - padding, y = random.below(2 * padding + 1) - padding
      pixels.shift(x: x, y: y)
    }
    if flip, random.chance(0.5) { pixels.flip() }
    for operation in jitter?.draw(using: &random) ?? [] { operation.apply(to: pixels) }
    let mean = preprocessing.meanColor
    for operation in randAugment?.draw(width: pixels.width, height: pixels.height, using: &random) ?? [] { operation.apply(to: pixels, fill: mean) }
    if random.chance(erasing), let box = RandomErasing.draw(width: pixels.width, height: pixels.height, using: &random) {
      pixels.fill(x: box.x, y: box.y, width: box.width, height: box.height, mean)
    }
  }
}

extension Preprocessing {
  /// What becomes 0, or nearly, when it is normalised.
  var meanColor: RGBColor {
    func byte(_ value: Double) -> UInt8 { UInt8(min(255, max(0, (value * 255).rounded()))) }
    return RGBColor(red: byte(mean[0]), green: byte(mean[1]), blue: byte(mean[2]))
  }
}
