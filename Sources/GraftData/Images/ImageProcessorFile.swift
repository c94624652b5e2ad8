import Foundation

/// `preprocessor_config.json`, in which transformers keeps what its image processors do; as far as it can be said in timm's terms.
///
/// What a processor leaves out is its class' default, which is not known here and not guessed.
struct ImageProcessorFile: Decodable {
  let fields: PreprocessingFields

  static let name = "preprocessor_config.json"

  private enum CodingKeys: String, CodingKey {
    case size, resample
    case processorType = "image_processor_type"
    case extractorType = "feature_extractor_type"
    case doResize = "do_resize"
    case doCenterCrop = "do_center_crop"
    case cropSize = "crop_size"
    case cropPct = "crop_pct"
    case doRescale = "do_rescale"
    case rescaleFactor = "rescale_factor"
    case rescaleOffset = "rescale_offset"
    case doNormalize = "do_normalize"
    case imageMean = "image_mean"
    case imageStd = "image_std"
    case includeTop = "include_top"
    case doFlipChannelOrder = "do_flip_channel_order"
    case doPad = "do_pad"
  }

  /// A size in its two forms: both sides, or the shorter one.
  private enum Size: Decodable {
    case sides(height: Int, width: Int)
    case shortestEdge(Int)
    /// As files of earlier versions have it; what it means is up to the processor.
    case number(Int)

    private enum CodingKeys: String, CodingKey {
      case height, width
      case shortestEdge = "shortest_edge"
    }

    init(from decoder: any Decoder) throws {
      if let number = try? decoder.singleValueContainer().decode(Int.self) {
        self = .number(number)
      } else if var pair = try? decoder.unkeyedContainer() {
        // [width, height], Pillow's order.
        let width = try pair.decode(Int.self)
        self = .sides(height: try pair.decode(Int.self), width: width)
      } else {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        if let edge = try container.decodeIfPresent(Int.self, forKey: .shortestEdge) {
          self = .shortestEdge(edge)
        } else {
          self = .sides(height: try container.decode(Int.self, forKey: .height), width: try container.decode(Int.self, forKey: .width))
        }
      }
    }
  }

  init(from decoder: any Decoder) throws {
    let file = try decoder.container(keyedBy: CodingKeys.self)
    func flag(_ key: CodingKeys, _ otherwise: Bool) throws -> Bool { try file.decodeIfPresent(Bool.self, forKey: key) ?? otherwise }
    func refuse(_ key: CodingKeys, _ what: String) -> DecodingError {
      DecodingError.dataCorruptedError(forKey: key, in: file, debugDescription: what)
    }
    guard try !flag(.rescaleOffset, false) else { throw refuse(.rescaleOffset, "pixels that are moved after they are scaled are not supported") }
    guard try !flag(.doPad, false) else { throw refuse(.doPad, "pictures that are padded are not supported") }
    guard try flag(.doResize, true) else { throw refuse(.doResize, "pictures that keep their size are not supported") }

    let given = try file.decodeIfPresent(String.self, forKey: .processorType) ?? file.decodeIfPresent(String.self, forKey: .extractorType) ?? ""
    // What follows says how it is implemented: "", "Fast", "Pil".
    let ends = ["ImageProcessor", "FeatureExtractor"].compactMap { given.firstRange(of: $0)?.lowerBound }
    let kind = String(given[..<(ends.first ?? given.endIndex)])
    var known = PreprocessingFields(channelOrder: try flag(.doFlipChannelOrder, false) ? .bgr : nil)
    known.interpolation = try file.decodeIfPresent(Int.self, forKey: .resample).map { number in
      guard let filter = Self.filters[number] else { throw refuse(.resample, "\(number) is no filter of Pillow") }
      return filter
    }
    try Self.setNormalization(&known, file, kind: kind)
    guard let size = try file.decodeIfPresent(Size.self, forKey: .size) else {
      fields = known
      return
    }
    let crop = try flag(.doCenterCrop, false) ? file.decodeIfPresent(Size.self, forKey: .cropSize) : nil
    let cropPct = try file.decodeIfPresent(Double.self, forKey: .cropPct)
    do {
      try Self.setGeometry(&known, kind: kind, size: size, crop: crop, cropPct: cropPct)
    } catch let error as GeometryError {
      throw refuse(.size, error.what)
    }
    // As transformers 5 crops: where its class says Pil in NumPy, and else, whether it says Fast or nothing, in torch.
    if Self.mayHalve(known) { known.cropRounding = given.hasSuffix("Pil") ? .down : .zero }
    fields = known
  }

  /// Pillow's numbers.
  private static let filters: [Int: Interpolation] = [0: .nearest, 1: .lanczos, 2: .bilinear, 3: .bicubic, 4: .box, 5: .hamming]

  /// (factor · x − mean) / std of bytes x, in terms of x / 255.
  private static func setNormalization(_ known: inout PreprocessingFields, _ file: KeyedDecodingContainer<CodingKeys>, kind: String) throws {
    var factor = 255.0
    if try file.decodeIfPresent(Bool.self, forKey: .doRescale) ?? true {
      factor = 1
      // 1 / 255 is written with as many digits as its writer had.
      if let scale = try file.decodeIfPresent(Double.self, forKey: .rescaleFactor), abs(scale * 255 - 1) > 1e-6 { factor = scale * 255 }
    }
    var (mean, std): ([Double]?, [Double]?) = ([0, 0, 0], [1, 1, 1])
    if try file.decodeIfPresent(Bool.self, forKey: .doNormalize) ?? (kind != "MobileViT") {
      mean = try file.decodeIfPresent([Double].self, forKey: .imageMean)
      std = try file.decodeIfPresent([Double].self, forKey: .imageStd)
      // The processor of EfficientNet divides twice for its classifiers.
      if kind == "EfficientNet", try file.decodeIfPresent(Bool.self, forKey: .includeTop) ?? true { std = std?.map { $0 * $0 } }
    }
    // A processor normalises what it has turned; ours are of red, green and blue.
    if known.channelOrder == .bgr { (mean, std) = (mean?.reversed(), std?.reversed()) }
    (known.mean, known.std) = (mean?.map { $0 / factor }, std?.map { $0 / factor })
  }

  private struct GeometryError: Error {
    let what: String
  }

  /// Processors for which one number is the shorter side.
  private static let shortestEdgeKinds: Set = [
    "CLIP", "ChineseCLIP", "Bit", "ConvNext", "Levit", "PoolFormer", "MobileNetV1", "MobileNetV2", "MobileViT", "VideoMAE",
  ]

  private static func setGeometry(_ known: inout PreprocessingFields, kind: String, size: Size, crop: Size?, cropPct: Double?) throws {
    var (size, ratio) = (size, cropPct)
    if case .number(let side) = size { size = shortestEdgeKinds.contains(kind) ? .shortestEdge(side) : .sides(height: side, width: side) }
    let cropped: (height: Int, width: Int)? =
      switch crop {
      case .sides(let height, let width): (height, width)
      case .number(let side), .shortestEdge(let side): (side, side)
      case nil: nil
      }
    func check(_ sides: Int...) throws {
      guard sides.allSatisfy({ (1...Preprocessing.longestInputSide).contains($0) }) else {
        let side = sides.first { $0 < 1 } ?? sides.max() ?? 0
        throw GeometryError(what: "a side of \(side) pixels is not one of 1 to \(Preprocessing.longestInputSide)")
      }
    }
    if let cropped { try check(cropped.height, cropped.width) }
    switch size {
    case .sides(let height, let width):
      // Both sides become these, whatever the picture's ratio; a crop of the same proportion may follow.
      let input = cropped ?? (height, width)
      try check(height, width)
      guard input.height * width == input.width * height else {
        throw GeometryError(what: "a crop of other proportions than the resized picture is not supported")
      }
      (known.cropMode, known.inputSize) = (.squash, [3, input.height, input.width])
      known.cropPct = ratioOf(crop: input.height, in: height)
    case .shortestEdge(let edge):
      try check(edge)
      var resized = edge
      // What the other processors say with crop_size.
      var input = cropped ?? (edge, edge)
      switch kind {
      case "ConvNext":
        input = (edge, edge)
        // From 384 on it resizes both sides and crops nothing.
        if edge >= 384 { (known.cropMode, ratio) = (.squash, 1) }
      case "PoolFormer": break
      case "Levit": (resized, ratio) = (Int(Double(256 * edge) / 224), nil)
      default:
        ratio = nil
        guard cropped != nil else { throw GeometryError(what: "pictures that keep their ratio and are not cropped are not supported") }
      }
      guard input.height == input.width else {
        throw GeometryError(what: "a crop that is not square, of a picture that keeps its ratio, is not supported")
      }
      known.inputSize = [3, input.height, input.width]
      known.cropPct = ratio ?? ratioOf(crop: input.height, in: resized)
    case .number: break
    }
  }

  /// Whether a crop's offset may be rounded: not where both sides are given and differ by even numbers. Stores of such say what they said.
  private static func mayHalve(_ known: PreprocessingFields) -> Bool {
    guard let ratio = known.cropPct, let sides = known.inputSize?.dropFirst() else { return false }
    return known.cropMode != .squash || sides.contains { !(Int(Double($0) / ratio) - $0).isMultiple(of: 2) }
  }

  /// The ratio that leads from the crop's side back to the resized one, whole as it was.
  private static func ratioOf(crop: Int, in side: Int) -> Double {
    var ratio = Double(crop) / Double(side)
    if Int(Double(crop) / ratio) < side { ratio = ratio.nextDown }
    return ratio
  }
}
