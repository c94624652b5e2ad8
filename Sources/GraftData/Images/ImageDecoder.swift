import CCodecs

/// Decodes JPEG, PNG, WebP, TIFF and binary PNM to the pixels of Pillow's `Image.open(path).convert("RGB")`.
///
/// Palettes are looked up, greys repeated, CMYK converted, alpha dropped (unless there is a `background`), the first frame
/// of an animation and the first page of a TIFF taken. A TIFF's own orientation is always applied, as Pillow does; EXIF
/// orientation only if asked. A file that ends early is an error; so are damaged data, except where a JPEG decoder can go
/// on: Pillow goes on there, too.
///
/// Differs from Pillow in one thing: of 16-bit grey the high byte is taken, as of 16-bit colour. Pillow clips such values at
/// 255, which leaves a white picture.
public struct ImageDecoder: Sendable, Hashable {
  /// Pillow's limit against decompression bombs: it refuses what has more pixels than this.
  public static let defaultPixelLimit = 2 * 89_478_485

  /// The most pixels a picture may have; its header is held against it before memory is taken.
  public var pixelLimit: Int
  /// What transparent pixels are composited over, as Pillow's `Image.alpha_composite` does; nil drops alpha.
  public var background: RGBColor?
  /// Whether the picture is turned as its EXIF data say.
  public var appliesEXIFOrientation: Bool

  public init(pixelLimit: Int = Self.defaultPixelLimit, background: RGBColor? = nil, appliesEXIFOrientation: Bool = false) {
    self.pixelLimit = pixelLimit
    self.background = background
    self.appliesEXIFOrientation = appliesEXIFOrientation
  }

  /// Reads and decodes a file.
  ///
  /// - Parameter contentHash: what the file must be, by `ContentHash`; `nil`: any.
  /// - Throws: `ImageError`.
  public func decode(path: String, contentHash: String? = nil) throws(ImageError) -> DecodedImage {
    let bytes = try ImageFile.read(path: path)
    // Array's own method would lose the type of the error.
    let result = bytes.withUnsafeBytes { bytes in
      Result { () throws(ImageError) in
        try ImageError.check(bytes, contentHash: contentHash, path: path)
        return try decode(bytes, path: path)
      }
    }
    return try result.get()
  }

  /// Decodes a file's bytes; `path` is for messages.
  ///
  /// - Throws: `ImageError`.
  public func decode(_ bytes: UnsafeRawBufferPointer, path: String) throws(ImageError) -> DecodedImage {
    guard let format = ImageFormat(bytes), let start = bytes.bindMemory(to: UInt8.self).baseAddress else {
      throw ImageError.unknownFormat(bytes, path: path)
    }
    guard let codec = format.codec else {
      let map = try PortableMap(bytes, path: path)
      try check(width: map.width, height: map.height, path: path)
      try map.checkLength(bytes, path: path)
      try PixelMemory.check(map.width * map.height * 3, file: bytes.count, format, path: path)
      return map.pixels(bytes)
    }
    var reader: OpaquePointer?
    var header = graft_image_header()
    var message = graft_image_message()
    var status = graft_image_open(codec, start, bytes.count, &reader, &header, &message)
    defer { graft_image_close(reader) }
    guard status == GRAFT_IMAGE_OK, let reader else { throw ImageError(status, message, format, path: path) }

    let (width, height) = (Int(header.width), Int(header.height))
    try check(width: width, height: height, path: path)
    try PixelMemory.check(width * height * 3, file: bytes.count, format, path: path)
    var orientation = header.orientation
    if appliesEXIFOrientation, format != .tiff { orientation = EXIF.orientation(of: bytes, format: format) }
    let isTurned = orientation >= 5

    let pixels = [UInt8](unsafeUninitializedCapacity: width * height * 3) { buffer, count in
      var canvas = graft_canvas()
      canvas.pixels = buffer.baseAddress
      (canvas.width, canvas.height, canvas.orientation) = (header.width, header.height, orientation)
      if let background {
        canvas.composites = 1
        canvas.background = (background.red, background.green, background.blue)
      }
      status = graft_image_decode(reader, &canvas, &message)
      count = status == GRAFT_IMAGE_OK ? width * height * 3 : 0
    }
    guard status == GRAFT_IMAGE_OK else { throw ImageError(status, message, format, path: path) }
    return DecodedImage(checkedWidth: isTurned ? height : width, height: isTurned ? width : height, pixels: pixels)
  }

  private func check(width: Int, height: Int, path: String) throws(ImageError) {
    guard max(width, height) <= DecodedImage.longestSide else {
      throw ImageError(
        path: path, kind: .unsupported, what: "it is \(width) × \(height) pixels, and a side may have \(DecodedImage.longestSide)",
        remedy: "Cut it into smaller pictures, or leave it out.")
    }
    // both sides are below 2^20
    let pixels = width * height
    guard pixels <= pixelLimit else {
      throw ImageError(
        path: path, kind: .tooManyPixels, what: "it claims \(width) × \(height) = \(pixels) pixels, and \(pixelLimit) are allowed",
        remedy: "If you trust it, allow more with --max-pixels \(pixels).")
    }
  }
}

extension ImageError {
  static func unknownFormat(_ bytes: UnsafeRawBufferPointer, path: String) -> ImageError {
    let guess = ImageFormat.guess(bytes)
    let names = ImageFormat.allCases.map(\.rawValue).joined(separator: ", ")
    return ImageError(
      path: path, kind: .unknownFormat, what: bytes.isEmpty ? "the file is empty" : "pictures are read as \(names); this is \(guess)",
      remedy: bytes.isEmpty ? "Get it again, or remove it." : "Convert it to PNG or JPEG, or remove it.")
  }

  /// The codec's status and words as an error.
  init(_ status: graft_image_status, _ message: graft_image_message, _ format: ImageFormat, path: String) {
    let details = withUnsafeBytes(of: message.text) { text in
      String(decoding: text.prefix { $0 != 0 }, as: UTF8.self)
    }
    let suffix = details.isEmpty ? "" : ": \(details)"
    let again = "Get it again, or remove it."
    switch status {
    case GRAFT_IMAGE_TRUNCATED:
      self.init(path: path, kind: .truncated, what: "the \(format.rawValue) file is cut off\(suffix)", remedy: again)
    case GRAFT_IMAGE_UNSUPPORTED:
      self.init(
        path: path, kind: .unsupported, what: "this kind of \(format.rawValue) is not read\(suffix)",
        remedy: "Convert it to an ordinary PNG or JPEG, or remove it.")
    case GRAFT_IMAGE_OUT_OF_MEMORY:
      self.init(
        path: path, kind: .outOfMemory, what: "there is not enough memory for this \(format.rawValue)\(suffix)",
        remedy: "Decode fewer pictures at a time, or remove it.")
    default:
      self.init(path: path, kind: .damaged, what: "the \(format.rawValue) file is damaged\(suffix)", remedy: again)
    }
  }
}
