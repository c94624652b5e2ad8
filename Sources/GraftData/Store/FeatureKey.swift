import GraftGraph

/// What the features of a store are a function of, besides the images.
///
/// Two runs with equal keys compute the same rows; a store whose key differs is never added to and never served.
public struct FeatureKey: Sendable, Equatable {
  /// Where the rows come from.
  public enum Source: String, Sendable {
    case extraction
    /// `graft import`: computed elsewhere.
    case imported = "import"
  }

  public var source: Source
  /// SHA-256 of the model's weights and graph; empty for imported features.
  public var backboneSHA256: String
  /// The name of the value that is stored.
  public var cut: String
  /// The shape of one row.
  public var cutShape: [Int]
  /// A canonical description: equal text means equal pixels.
  public var preprocessing: String
  /// The number format of the arithmetic: `float32`, `float16`, `bfloat16`.
  public var precision: String
  /// Rows a sample, one a view; 1 is the image itself.
  public var views: Int
  /// How views beyond the first are drawn (`StoredViews.canonicalJSON`); empty where there are none.
  public var viewDrawing: String
  /// The number format of the rows: `float32` or `float16`.
  public var featureType: ElementType

  public init(
    source: Source = .extraction, backboneSHA256: String, cut: String, cutShape: [Int], preprocessing: String, precision: String, views: Int = 1,
    viewDrawing: String = "", featureType: ElementType
  ) {
    (self.source, self.backboneSHA256, self.cut, self.cutShape) = (source, backboneSHA256, cut, cutShape)
    (self.preprocessing, self.precision, self.views, self.featureType) = (preprocessing, precision, views, featureType)
    self.viewDrawing = viewDrawing
  }

  /// More would be a mistake.
  public static let mostViews = 1024

  /// Numbers a row.
  public var featureCount: Int { cutShape.reduce(1, *) }

  /// The rows of the table `store`, with the words a message uses for each.
  var entries: [(key: String, words: String, value: String)] {
    [
      ("source", "the way the features came here", source.rawValue),
      ("backbone_sha256", "the backbone", backboneSHA256),
      ("cut", "the cut", cut),
      ("cut_shape", "the cut's shape", cutShape.map(String.init).joined(separator: "x")),
      ("preprocessing", "the preprocessing", preprocessing),
      ("precision", "the precision", precision),
      ("views", "the number of views", String(views)),
      ("view_drawing", "the way views are drawn", viewDrawing),
      ("feature_type", "the features' number format", featureType.rawValue),
    ]
  }

  /// The key that a store's table holds; `nil` if a row is missing or makes no sense.
  init?(entries: [String: String]) {
    guard let source = entries["source"].flatMap(Source.init), let backbone = entries["backbone_sha256"], let cut = entries["cut"],
      let shapeText = entries["cut_shape"], let preprocessing = entries["preprocessing"], let precision = entries["precision"],
      let views = entries["views"].flatMap(Int.init), let featureType = entries["feature_type"].flatMap(ElementType.init)
    else { return nil }
    let shape = shapeText.isEmpty ? [] : shapeText.split(separator: "x", omittingEmptySubsequences: false).map { Int($0) ?? 0 }
    self.init(
      source: source, backboneSHA256: backbone, cut: cut, cutShape: shape, preprocessing: preprocessing, precision: precision, views: views,
      viewDrawing: entries["view_drawing"] ?? "", featureType: featureType)
    guard isUsable else { return nil }
  }

  /// Whether rows of this kind can be stored: positive extents whose product fits, float32 or float16.
  var isUsable: Bool {
    guard featureType == .float32 || featureType == .float16, (1...Self.mostViews).contains(views), cutShape.allSatisfy({ $0 > 0 }) else {
      return false
    }
    return ((try? TensorError.byteCount(shape: cutShape, elementType: featureType)) ?? .max) <= 1 << 40
  }

  /// In words, each entry in which a store differs: "the cut is 'a' there and 'b' here".
  func differences(from stored: [String: String]) -> [String] {
    entries.compactMap { entry in
      let there = stored[entry.key] ?? ""
      return there.utf8.elementsEqual(entry.value.utf8) ? nil : "\(entry.words) is '\(Self.short(there))' there and '\(Self.short(entry.value))' now"
    }
  }

  private static func short(_ value: String) -> String {
    value.count == 64 && value.allSatisfy(\.isHexDigit) ? value.prefix(12) + "…" : value
  }
}
