import Foundation
import GraftDevice
import GraftGraph

/// What the JSON file beside a model tells about it, in timm's form.
///
/// ```json
/// {"architecture": "efficientnet_lite0", "num_classes": 1000,
///  "pretrained_cfg": {"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.875,
///                     "mean": [0.498, 0.498, 0.498], "std": [0.502, 0.502, 0.502]}}
/// ```
/// The values of `pretrained_cfg` may also stand at the top. Other keys are ignored. Where it tells nothing of the preprocessing,
/// transformers' `preprocessor_config.json` in the same folder does, as its exporters leave it there.
public struct ModelConfiguration: Sendable, Equatable {
  /// The file; nil if there was none.
  public var path: String?
  public var architecture: String?
  public var classCount: Int?
  /// Names of the classes the model was trained on, in the order of its outputs.
  public var labels: [String]?
  /// What is told of the preprocessing.
  public var fields = PreprocessingFields()

  public init() {}

  /// The whole preprocessing; nil if a value is missing or makes no sense. `Preprocessing.read(beside:)` says which.
  public var preprocessing: Preprocessing? { try? fields.resolved() }

  /// The files that may hold a model's configuration, the first that exists counts: NAME.json, config.json; the latter also in the folder
  /// around one that is named onnx.
  public static func candidates(beside modelPath: String) -> [String] {
    let name = FilePath.name(of: modelPath), folders = folders(of: modelPath)
    // The dot of a hidden file begins no extension.
    let end = name.utf8.lastIndex(of: UInt8(ascii: ".")).flatMap { $0 > name.startIndex ? $0 : nil } ?? name.endIndex
    return [FilePath.joined(folders[0], name[..<end] + ".json")] + folders.map { FilePath.joined($0, "config.json") }
  }

  /// Where the files lie that belong to a model.
  private static func folders(of modelPath: String) -> [String] {
    let folder = FilePath.folder(of: modelPath)
    return FilePath.name(of: folder) == "onnx" ? [folder, FilePath.folder(of: folder)] : [folder]
  }

  /// Reads the configuration beside a model; one without a path if there is no such file.
  ///
  /// - Throws: `ModelConfigurationError`.
  public static func read(beside modelPath: String) throws(ModelConfigurationError) -> ModelConfiguration {
    // an index of weights may be a JSON file itself
    let others = candidates(beside: modelPath).filter { FilePath.absolute($0) != FilePath.absolute(modelPath) }
    let path = others.first { FileManager.default.fileExists(atPath: $0) }
    var configuration = try path.map { path throws(ModelConfigurationError) in try read(path: path) } ?? ModelConfiguration()
    let processors = folders(of: modelPath).map { FilePath.joined($0, ImageProcessorFile.name) }
    if configuration.fields.isEmpty, let processor = processors.first(where: { FileManager.default.fileExists(atPath: $0) }) {
      configuration.path = processor
      configuration.fields = try decoded(ImageProcessorFile.self, path: processor).fields
    }
    return configuration
  }

  /// Reads a configuration file.
  ///
  /// - Throws: `ModelConfigurationError`.
  public static func read(path: String) throws(ModelConfigurationError) -> ModelConfiguration {
    let file = try decoded(ConfigurationFile.self, path: path)
    var configuration = ModelConfiguration()
    configuration.path = path
    configuration.architecture = file.architecture
    configuration.classCount = file.classCount
    configuration.labels = file.labels
    configuration.fields = file.fields
    return configuration
  }

  private static func decoded<File: Decodable>(_: File.Type, path: String) throws(ModelConfigurationError) -> File {
    do {
      let bytes = try HostBytes(mapping: path)
      // a configuration is a page of text: whatever is larger is something else, weights perhaps
      guard bytes.count <= 16 << 20 else { throw ModelConfigurationError(path: path, what: "it is too large for a configuration") }
      return try decode(bytes.withUnsafeBytes { Data($0) }, path: path)
    } catch let error as ModelConfigurationError {
      throw error
    } catch {
      throw ModelConfigurationError(path: path, what: "it can't be read: \((error as? FileError)?.reason ?? error.localizedDescription)")
    }
  }

  private static func decode<File: Decodable>(_ data: Data, path: String) throws(ModelConfigurationError) -> File {
    do {
      return try JSONDecoder().decode(File.self, from: data)
    } catch {
      if let details = syntaxFault(in: data) { throw ModelConfigurationError(path: path, what: "it is no JSON. \(details)") }
      let words = (error as? DecodingError)?.inWords ?? error.localizedDescription
      throw ModelConfigurationError(path: path, what: words.trimmingCharacters(in: ["."]))
    }
  }

  /// Where text that is no JSON goes wrong, which JSONDecoder does not say; nil if it is JSON.
  private static func syntaxFault(in data: Data) -> String? {
    do {
      _ = try JSONSerialization.jsonObject(with: data)
      return nil
    } catch {
      let details = (error as NSError).userInfo[NSDebugDescriptionErrorKey] as? String ?? error.localizedDescription
      return details.trimmingCharacters(in: ["."])
    }
  }
}

/// A configuration file that can't be read or understood.
public struct ModelConfigurationError: Error, Sendable, Equatable, CustomStringConvertible {
  public let path: String
  public let what: String

  public var description: String {
    "\(path): \(what). Correct the file, or move it away and give the preprocessing with flags."
  }
}

/// The file as it is written.
private struct ConfigurationFile: Decodable {
  let architecture: String?
  let classCount: Int?
  let labels: [String]?
  let fields: PreprocessingFields

  enum CodingKeys: String, CodingKey {
    case architecture
    case classCount = "num_classes"
    case pretrained = "pretrained_cfg"
    case labelNames = "label_names"
    case labels
    case idToLabel = "id2label"
  }

  init(from decoder: any Decoder) throws {
    let top = try decoder.container(keyedBy: CodingKeys.self)
    let nested = try top.contains(.pretrained) && !top.decodeNil(forKey: .pretrained) ? top.superDecoder(forKey: .pretrained) : nil
    let inner = try nested?.container(keyedBy: CodingKeys.self)
    fields = try nested.map { try PreprocessingFields(from: $0) } ?? PreprocessingFields(from: decoder)
    architecture = try top.decodeIfPresent(String.self, forKey: .architecture) ?? inner?.decodeIfPresent(String.self, forKey: .architecture)
    classCount = try top.decodeIfPresent(Int.self, forKey: .classCount) ?? inner?.decodeIfPresent(Int.self, forKey: .classCount)
    labels = try Self.labels(in: top) ?? inner.flatMap(Self.labels)
  }

  /// timm's `label_names`, a plain `labels`, or the `id2label` of transformers.
  private static func labels(in container: KeyedDecodingContainer<CodingKeys>) throws -> [String]? {
    for key in [CodingKeys.labelNames, .labels] {
      if let names = try? container.decodeIfPresent([String].self, forKey: key) { return names }
    }
    guard let byIndex = try container.decodeIfPresent([String: String].self, forKey: .idToLabel) else { return nil }
    let names = (0..<byIndex.count).compactMap { byIndex[String($0)] }
    guard names.count == byIndex.count else {
      throw DecodingError.dataCorruptedError(forKey: .idToLabel, in: container, debugDescription: "the numbers are not 0 to \(byIndex.count - 1)")
    }
    return names
  }
}

extension DecodingError {
  /// Where and what, without the type names of Swift.
  fileprivate var inWords: String {
    func place(_ context: Context) -> String {
      let keys = context.codingPath.map { $0.intValue.map { "[\($0)]" } ?? $0.stringValue }
      return keys.isEmpty ? "" : keys.joined(separator: ".").replacing(".[", with: "[") + ": "
    }
    switch self {
    case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context):
      return place(context) + context.debugDescription
    case .keyNotFound(let key, let context): return place(context) + "\(key.stringValue) is missing"
    @unknown default: return "it is not the JSON of a configuration"
    }
  }
}
