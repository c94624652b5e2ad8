import Foundation
import GraftData
import GraftDevice

/// What a head has to know beside its numbers; strings in the head file's header.
public struct HeadMetadata: Sendable, Equatable {
  /// The version of the layout that this code writes, and the newest it reads.
  public static let currentFormatVersion = 1

  /// Held-out samples that are kept; of more, every so many-th.
  public static let heldOutLimit = 4096

  public enum Kind: String, Sendable, Codable, CaseIterable {
    /// Softmax regression; for labels a logistic regression each, for numbers by least squares or Huber's loss.
    case linear
    /// Ridge regression, of classes on targets of ±1.
    case ridge
    /// Votes of the nearest training samples.
    case knn
    /// The nearest of the classes' means.
    case centroid
    /// Layers with rectifiers between them.
    case mlp
  }

  public var formatVersion: Int
  public var kind: Kind
  /// What the head says of a sample.
  public var task: LabelTask
  /// Names of the classes, or of the labels or targets, in the order of the weight's rows.
  public var classes: [String]
  /// The name of the graph's value that the features are; nil for features made elsewhere, like the next three.
  public var cut: String?
  /// SHA-256 of the backbone, 64 hexadecimal digits in lower case.
  public var backboneSHA256: String?
  /// The backbone's file name, without folders.
  public var backboneFile: String?
  /// Where the backbone's file was when the features were extracted.
  public var backbonePath: String?
  /// How pictures become the backbone's input: a JSON object.
  public var preprocessing: String?
  /// The number format the features were computed in; nil for heads that don't say.
  public var precision: ComputeFormat?
  public var featureNormalisation: FeatureNormalisation
  /// The strength of the penalty: λ of `linear`, α of `ridge`, weight decay of `mlp`; 0 without one.
  public var l2: Double
  /// What logits are divided by before softmax, from held-out samples; 1: they are taken as they are.
  public var temperature: Double
  /// What became of samples that the head was not trained on, with the temperature: what thresholds are chosen by. At most
  /// `heldOutLimit`, from the least certain to the most.
  public var heldOut: [Outcome] = []
  /// By the names that `graft evaluate --json` uses: "validation_top1", "objective".
  public var metrics: [String: Double]
  /// The version of Graft that trained the head.
  public var graftVersion: String

  public init(
    kind: Kind = .linear, task: LabelTask = .classification, classes: [String], cut: String?, backboneSHA256: String?, backboneFile: String?,
    backbonePath: String? = nil,
    preprocessing: String?, precision: ComputeFormat? = nil,
    featureNormalisation: FeatureNormalisation, l2: Double, temperature: Double = 1, metrics: [String: Double] = [:], graftVersion: String
  ) {
    formatVersion = Self.currentFormatVersion
    self.kind = kind
    self.task = task
    self.classes = classes
    self.cut = cut
    self.backboneSHA256 = backboneSHA256
    self.backboneFile = backboneFile
    self.backbonePath = backbonePath
    self.preprocessing = preprocessing
    self.precision = precision
    self.featureNormalisation = featureNormalisation
    self.l2 = l2
    self.temperature = temperature
    self.metrics = metrics
    self.graftVersion = graftVersion
  }

  private static func namesKey(_ task: LabelTask) -> Key {
    switch task {
    case .classification: .classes
    case .multilabel: .labels
    case .regression: .targets
    }
  }

  private enum Key: String {
    case format, task, labels, targets
    case formatVersion = "format_version"
    case kind, classes, cut
    case backboneSHA256 = "backbone_sha256"
    case backboneFile = "backbone_file"
    case backbonePath = "backbone_path"
    case preprocessing, precision
    case featureNormalisation = "feature_normalisation"
    case l2, temperature, metrics
    case heldOut = "held_out"
    case graftVersion = "graft_version"
  }

  /// What `format` says in every head file.
  static let formatName = "graft-head"

  /// The header's strings. Lists and objects are JSON with sorted keys, so that equal heads are equal files.
  ///
  /// - Throws: `HeadError` for a metric that isn't finite, which JSON can't hold.
  func encoded() throws(HeadError) -> [String: String] {
    var strings: [Key: String] = [
      .format: Self.formatName, .formatVersion: "\(formatVersion)", .kind: kind.rawValue, Self.namesKey(task): try Self.json(classes),
      .featureNormalisation: featureNormalisation.rawValue, .l2: "\(l2)", .metrics: try Self.json(metrics), .graftVersion: graftVersion,
    ]
    // A head of classes is as it always was; one of another task lacks the classes, so that a Graft that knows no tasks refuses it.
    if task != .classification { strings[.task] = task.rawValue }
    if temperature != 1 { strings[.temperature] = "\(temperature)" }
    if !heldOut.isEmpty { strings[.heldOut] = Self.text(heldOut) }
    strings[.cut] = cut
    strings[.backboneSHA256] = backboneSHA256
    strings[.backboneFile] = backboneFile
    strings[.backbonePath] = backbonePath
    strings[.preprocessing] = preprocessing
    strings[.precision] = precision?.rawValue
    return Dictionary(uniqueKeysWithValues: strings.map { ($0.key.rawValue, $0.value) })
  }

  /// - Throws: `HeadError` that names the entry that is missing or damaged; `file` appears in it.
  init(decoding strings: [String: String], file: String) throws(HeadError) {
    func required(_ key: Key) throws(HeadError) -> String {
      guard let value = strings[key.rawValue] else { throw HeadError(file: file, problem: "its header has no entry \(key.rawValue)") }
      return value
    }
    func damaged(_ key: Key, _ problem: String) -> HeadError { HeadError(file: file, problem: "the header's entry \(key.rawValue) \(problem)") }

    guard strings[Key.format.rawValue] == Self.formatName else { throw HeadError.notAHead(file: file) }
    guard let version = Int(try required(.formatVersion)), version >= 1 else { throw damaged(.formatVersion, "is not a version") }
    guard version <= Self.currentFormatVersion else {
      throw HeadError(
        file: file, problem: "it has version \(version) of the format, and this is a Graft that reads up to \(Self.currentFormatVersion)",
        remedy: "Use a newer Graft, or train the head again.")
    }
    let kindName = try required(.kind)
    guard let kind = Kind(rawValue: kindName) else { throw damaged(.kind, "is \(kindName), which this Graft doesn't know") }
    var task = LabelTask.classification
    if let name = strings[Key.task.rawValue] {
      guard let known = LabelTask(rawValue: name) else { throw damaged(.task, "is \(name), which this Graft doesn't know") }
      task = known
    }
    let namesKey = Self.namesKey(task)
    guard let classes = try? JSONDecoder().decode([String].self, from: Data(try required(namesKey).utf8)) else {
      throw damaged(namesKey, "is not a JSON list of names")
    }
    let normalisationName = try required(.featureNormalisation)
    guard let normalisation = FeatureNormalisation(rawValue: normalisationName) else {
      throw damaged(.featureNormalisation, "is \(normalisationName), which this Graft doesn't know")
    }
    guard let l2 = Double(try required(.l2)) else { throw damaged(.l2, "is not a number") }
    guard let temperature = Double(strings[Key.temperature.rawValue] ?? "1") else { throw damaged(.temperature, "is not a number") }
    guard let metrics = try? JSONDecoder().decode([String: Double].self, from: Data(try required(.metrics).utf8)) else {
      throw damaged(.metrics, "is not a JSON object of numbers")
    }
    var precision: ComputeFormat?
    if let name = strings[Key.precision.rawValue] {
      guard let known = ComputeFormat(rawValue: name) else { throw damaged(.precision, "is \(name), which this Graft doesn't know") }
      precision = known
    }
    self.init(
      kind: kind, task: task, classes: classes, cut: strings[Key.cut.rawValue], backboneSHA256: strings[Key.backboneSHA256.rawValue],
      backboneFile: strings[Key.backboneFile.rawValue], backbonePath: strings[Key.backbonePath.rawValue],
      preprocessing: strings[Key.preprocessing.rawValue], precision: precision,
      featureNormalisation: normalisation, l2: l2, temperature: temperature, metrics: metrics, graftVersion: try required(.graftVersion))
    guard let heldOut = Self.outcomes(strings[Key.heldOut.rawValue] ?? "") else { throw damaged(.heldOut, "is not a list of confidences") }
    (formatVersion, self.heldOut) = (version, heldOut)
  }

  /// Fits the temperature to held-out samples and remembers what became of them.
  mutating func calibrate(_ held: HeldOutScores?) -> TemperatureFit? {
    guard let held, let fit = TemperatureFit(held) else { return nil }
    temperature = fit.temperature
    let ordered = held.outcomes(temperature: fit.temperature).sorted { ($0.confidence, $0.isRight ? 1 : 0) < ($1.confidence, $1.isRight ? 1 : 0) }
    let kept = min(ordered.count, Self.heldOutLimit)
    // As the file holds them, so that a head read again says the same.
    heldOut = Self.outcomes(Self.text((0..<kept).map { ordered[$0 * ordered.count / kept] })) ?? []
    return fit
  }

  /// Confidences in millionths, those of wrong predictions negative.
  ///
  /// A number stands for its millionth, half of it below and half above, as in files whose confidences were rounded to nearest. What is
  /// read is the lower end, so a threshold that one of them becomes accepts the sample that it came from. What is written is the largest
  /// number that reads as no more than the confidence.
  private static func text(_ outcomes: [Outcome]) -> String {
    outcomes.map { outcome in
      var number = Int((outcome.confidence * 1e6).rounded()) + 1
      while number > 1, confidence(number) > outcome.confidence { number -= 1 }
      return "\(number * (outcome.isRight ? 1 : -1))"
    }.joined(separator: " ")
  }

  private static func confidence(_ millionths: Int) -> Double { Double(2 * millionths - 1) / 2e6 }

  private static func outcomes(_ text: String) -> [Outcome]? {
    var result: [Outcome] = []
    for part in text.split(separator: " ") {
      guard let value = Int(part), value != 0, (-1_000_000...1_000_000).contains(value) else { return nil }
      result.append(Outcome(confidence: confidence(abs(value)), isRight: value > 0))
    }
    return result
  }

  /// Checks what every head must keep to, read or made.
  func validate(file: String) throws(HeadError) {
    if task == .classification, classes.count < 2 {
      throw HeadError(file: file, problem: "it names \(classes.count) classes, and a classifier has two or more")
    }
    guard !classes.isEmpty else { throw HeadError(file: file, problem: "it names no \(task.outputWord)") }
    guard Set(classes).count == classes.count else { throw HeadError(file: file, problem: "two of its \(task.outputWord) have the same name") }
    guard task == .classification || (temperature == 1 && heldOut.isEmpty) else {
      throw HeadError(file: file, problem: "it has a temperature or confidences, which are for heads of classes")
    }
    let kinds: Set<Kind> =
      switch task {
      case .classification: Set(Kind.allCases)
      case .multilabel: [.linear, .mlp, .knn]
      case .regression: [.linear, .ridge, .mlp, .knn]
      }
    guard kinds.contains(kind) else { throw HeadError(file: file, problem: "it is a head of the kind \(kind.rawValue) for \(task.rawValue)") }
    guard l2.isFinite, l2 >= 0 else { throw HeadError(file: file, problem: "its λ is \(l2)") }
    guard temperature > 0, temperature.isFinite else { throw HeadError(file: file, problem: "its temperature is \(temperature)") }
    if let wrong = heldOut.first(where: { !(0...1).contains($0.confidence) }) {
      throw HeadError(file: file, problem: "one of its confidences is \(wrong.confidence)")
    }
    if let hash = backboneSHA256, hash.utf8.count != 64 || !hash.utf8.allSatisfy({ (48...57).contains($0) || (97...102).contains($0) }) {
      throw HeadError(file: file, problem: "the backbone's SHA-256 is not 64 hexadecimal digits in lower case")
    }
    if let preprocessing, ((try? JSONSerialization.jsonObject(with: Data(preprocessing.utf8))) as? [String: Any]) == nil {
      throw HeadError(file: file, problem: "its preprocessing is not a JSON object")
    }
    for (name, value) in metrics where !value.isFinite { throw HeadError(file: file, problem: "its metric \(name) is \(value)") }
  }

  private static func json(_ value: some Encodable) throws(HeadError) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    do {
      return String(decoding: try encoder.encode(value), as: UTF8.self)
    } catch {
      throw HeadError(file: nil, problem: "its metadata can't be written as JSON: \(error)")
    }
  }
}
