import Foundation

/// What a picture goes through before the network sees it, in the terms of timm's `pretrained_cfg`.
///
/// 1. Decode (see `ImageDecoder`): alpha dropped or over `background`; EXIF orientation ignored or applied.
/// 2. Resize. The crop's sides divided by `cropPct`, rounded down, are the target. If both are equal, the picture's short
///    side becomes that long and the other keeps the ratio, rounded down (torchvision's `Resize`); if not, the picture is
///    scaled until it just covers the target, both sides rounded to the nearest, halves to even (timm's `ResizeKeepRatio`).
///    With `cropMode` squash both sides become the target's and the ratio is lost.
/// 3. Crop `inputSize` from the centre, its offset rounded as `cropRounding` says; what the picture lacks is black.
/// 4. Normalise each channel: (x / 255 − mean) / std. That is the device's work; see `scale` and `shift`.
/// 5. Put blue first, where `channelOrder` says so; the device's work, too.
public struct Preprocessing: Hashable, Sendable {
  public enum CropMode: String, Codable, Sendable, Hashable, CaseIterable {
    case center
    case squash
  }

  /// Which colour the network's first channel is.
  public enum ChannelOrder: String, Codable, Sendable, Hashable, CaseIterable {
    case rgb
    case bgr
  }

  /// What becomes of half a pixel in a crop's offset, (side − crop) / 2, which is negative where the picture lacks pixels.
  public enum CropRounding: String, Codable, Sendable, Hashable, CaseIterable {
    /// To the nearest, halves to even; of what is missing the smaller half comes first (torchvision's and timm's `CenterCrop`).
    case even
    /// Towards zero (transformers' processors that are built on torchvision).
    case zero
    /// Down (transformers' processors that are built on Pillow and NumPy).
    case down
  }

  /// [3, height, width].
  public let inputSize: [Int]
  public let interpolation: Interpolation
  /// The part of the resized picture's short side that the crop takes.
  public let cropPct: Double
  public let cropMode: CropMode
  /// Of red, green and blue, where full intensity is 1.
  public let mean: [Double]
  public let std: [Double]
  /// What transparent pixels are composited over; nil drops alpha.
  public let background: RGBColor?
  /// Whether EXIF orientation is applied.
  public let exif: Bool
  /// `mean` and `std` are of red, green and blue in either.
  public let channelOrder: ChannelOrder
  public let cropRounding: CropRounding

  /// - Throws: `PreprocessingError` if a value makes no sense.
  public init(
    inputSize: [Int], interpolation: Interpolation, cropPct: Double, cropMode: CropMode = .center, mean: [Double], std: [Double],
    background: RGBColor? = nil, exif: Bool = false, channelOrder: ChannelOrder = .rgb,
    cropRounding: CropRounding = .even
  ) throws(PreprocessingError) {
    self.inputSize = inputSize
    self.interpolation = interpolation
    self.cropPct = cropPct
    self.cropMode = cropMode
    self.mean = mean
    self.std = std
    self.background = background
    self.exif = exif
    self.channelOrder = channelOrder
    self.cropRounding = cropRounding
    try check()
  }

  /// Rows of the network's input.
  public var height: Int { inputSize[1] }
  /// Columns of the network's input.
  public var width: Int { inputSize[2] }
  /// Bytes of a preprocessed picture, [height, width, 3].
  public var byteCount: Int { height * width * 3 }

  /// A channel's byte x becomes `x * scale + shift`: 1 / (255 · std).
  public var scale: [Float] { std.map { Float(1 / (255 * $0)) } }
  /// −mean / std.
  public var shift: [Float] { zip(mean, std).map { Float(-$0 / $1) } }

  /// A decoder that does step 1.
  public func decoder(pixelLimit: Int = ImageDecoder.defaultPixelLimit) -> ImageDecoder {
    ImageDecoder(pixelLimit: pixelLimit, background: background, appliesEXIFOrientation: exif)
  }

  /// The longest side of an input, in pixels.
  package static let longestInputSide = 16_384

  private func check() throws(PreprocessingError) {
    guard inputSize.count == 3, inputSize[0] == 3, inputSize[1...].allSatisfy({ (1...Self.longestInputSide).contains($0) }) else {
      throw PreprocessingError(
        field: "input_size", what: "\(inputSize) is not [3, height, width] with sides of 1 to \(Self.longestInputSide)")
    }
    guard cropPct.isFinite, cropPct > 0, inputSize[1...].allSatisfy({ isUsable(Double($0) / cropPct) }) else {
      throw PreprocessingError(field: "crop_pct", what: "\(cropPct) is not a usable ratio of crop to resized picture, such as 0.875")
    }
    for (field, values) in [("mean", mean), ("std", std)] {
      guard values.count == 3, values.allSatisfy(\.isFinite) else {
        throw PreprocessingError(field: field, what: "\(values) is not one number each for red, green and blue")
      }
    }
    guard std.allSatisfy({ $0 > 0 }) else { throw PreprocessingError(field: "std", what: "\(std) has a number that is not above 0") }
    guard scale.allSatisfy(\.isFinite), shift.allSatisfy(\.isFinite) else {
      throw PreprocessingError(field: "std", what: "\(mean) / \(std) is beyond float32")
    }
  }

  private func isUsable(_ side: Double) -> Bool { side >= 1 && side <= Double(DecodedImage.longestSide) }

  /// Where the crop lies in the resized picture. A crop that is larger than the picture begins before it.
  private struct Geometry {
    /// Of the whole resized picture.
    var size: (width: Int, height: Int)
    /// Of the crop's first pixel in the resized picture; negative where black is added.
    var left: Int
    var top: Int
  }

  /// The sizes of steps 2 and 3 for a picture of `imageWidth` × `imageHeight`.
  private func geometry(imageWidth: Int, imageHeight: Int) -> Geometry {
    let target = (width: Int(Double(width) / cropPct), height: Int(Double(height) / cropPct))
    var size = target
    if cropMode == .center, target.width == target.height {
      // integers below 2^40, exact as doubles: Python's true division of integers rounds the same
      if imageWidth <= imageHeight {
        size.height = Int(Double(target.width * imageHeight) / Double(imageWidth))
      } else {
        size.width = Int(Double(target.height * imageWidth) / Double(imageHeight))
      }
    } else if cropMode == .center {
      let ratio = min(Double(imageHeight) / Double(target.height), Double(imageWidth) / Double(target.width))
      size.width = Int((Double(imageWidth) / ratio).rounded(.toNearestOrEven))
      size.height = Int((Double(imageHeight) / ratio).rounded(.toNearestOrEven))
    }
    return Geometry(size: size, left: offset(of: width, in: size.width), top: offset(of: height, in: size.height))
  }

  private func offset(of crop: Int, in side: Int) -> Int {
    switch cropRounding {
    case .even where crop <= side: Int((Double(side - crop) / 2).rounded(.toNearestOrEven))
    case .even, .zero: (side - crop) / 2
    case .down: (side - crop) >> 1
    }
  }

  /// Resizes and crops (steps 2 and 3) into `target`: [height, width, 3] bytes, of which there must be `byteCount`.
  public func apply(to image: DecodedImage, into target: UnsafeMutableBufferPointer<UInt8>) {
    precondition(target.count >= byteCount, "\(target.count) bytes for a picture of \(byteCount)")
    let geometry = geometry(imageWidth: image.width, imageHeight: image.height)
    let columns = max(geometry.left, 0)..<min(geometry.left + width, geometry.size.width)
    let rows = max(geometry.top, 0)..<min(geometry.top + height, geometry.size.height)
    if columns.count < width || rows.count < height { target.update(repeating: 0) }
    let first = ((rows.lowerBound - geometry.top) * width + columns.lowerBound - geometry.left) * 3
    ImageResizer(interpolation).resize(
      image, to: geometry.size, columns: columns, rows: rows, into: UnsafeMutableBufferPointer(rebasing: target[first..<byteCount]),
      rowBytes: 3 * width)
  }

  /// Resizes and crops (steps 2 and 3): [height, width, 3] bytes.
  public func apply(to image: DecodedImage) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, count in
      apply(to: image, into: UnsafeMutableBufferPointer(rebasing: buffer[..<byteCount]))
      count = byteCount
    }
  }
}

/// A value that preprocessing can't work with, or one that is missing.
public struct PreprocessingError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The file it came from; nil if it came from flags or code.
  public var path: String?
  /// timm's name of the value.
  public let field: String
  public let what: String
  /// What to do, if it isn't plain.
  public let remedy: String?

  public init(path: String? = nil, field: String, what: String, remedy: String? = nil) {
    (self.path, self.field, self.what, self.remedy) = (path, field, what, remedy)
  }

  public var description: String {
    let place = path.map { "\($0): " } ?? ""
    let flag = "--" + field.replacing("_", with: "-")
    return "\(place)\(field): \(what). " + (remedy ?? (path == nil ? "Correct \(flag)." : "Correct the file, or give \(flag)."))
  }
}
