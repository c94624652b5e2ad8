import Foundation
import GraftGraph

/// What a `.npy` file says of each row of imported features: its class, its labels, or its targets.
struct ImportedLabels {
  let labelling: Labelling
  /// A row's text in the index, `[N]`.
  let texts: [String]
  /// Classes are numbers, and stay in their order.
  let isNumeric: Bool
  /// Targets that are all whole numbers.
  let hasWholeTargets: Bool

  /// - Parameters:
  ///   - namesPath: a file with a name on each line.
  ///   - count: how many rows there are.
  /// - Throws: `NpyError`, `DataSetError` for names that don't fit or are there in two spellings, `FileError`.
  init(_ path: String, namesPath: String?, count: Int, featuresPath: String) throws {
    switch try Npy.contents(of: path) {
    case .strings(let shape, let values):
      (texts, isNumeric) = (values, false)
      try Self.checkLength(shape, path: path, count: count, featuresPath: featuresPath)
    case .numbers(let tensor) where tensor.elementType.isFloatingPoint:
      (labelling, texts, hasWholeTargets) = try Self.targets(tensor, path, namesPath: namesPath, count: count, featuresPath: featuresPath)
      isNumeric = false
      return
    case .numbers(let tensor) where tensor.shape.count == 2:
      (labelling, texts) = try Self.labels(tensor, path, namesPath: namesPath, count: count, featuresPath: featuresPath)
      (isNumeric, hasWholeTargets) = (false, false)
      return
    case .numbers(let tensor):
      let values = tensor.integers()
      if tensor.elementType == .uint64, let large = values.firstIndex(of: .max) {
        throw NpyError(path: path, reason: "the label at \(large) does not fit 64 bits with a sign")
      }
      (texts, isNumeric) = (values.map(String.init), true)
      try Self.checkLength(tensor.shape, path: path, count: count, featuresPath: featuresPath)
    }
    (labelling, hasWholeTargets) = (.classes, false)
    if let empty = texts.firstIndex(of: "") { throw NpyError(path: path, reason: "the label at \(empty) is empty text") }
    if let (first, second) = Spelling.twins(in: texts) {
      throw DataSetError(
        path: path, reason: "the labels \(Spelling.text(first, second))",
        remedy: "Write both alike, as by unicodedata.normalize('NFC', label) for each label.")
    }
    if let namesPath {
      throw DataSetError(
        path: namesPath, reason: "names are for labels [N, C] of 0 and 1 and for floating-point targets, and \(path) holds one class a row",
        remedy: "Leave --label-names out; classes are called by what the file holds.")
    }
  }

  /// `[N, C]` of 0 and 1.
  private static func labels(
    _ tensor: HostTensor, _ path: String, namesPath: String?, count: Int, featuresPath: String
  ) throws -> (Labelling, [String]) {
    let width = tensor.shape[1]
    guard tensor.shape[0] == count, width > 0 else {
      throw NpyError(path: path, reason: "its shape is \(tensor.shape), and \(featuresPath) has \(count) rows: [\(count), labels] is needed")
    }
    let values = tensor.integers()
    if let wrong = values.firstIndex(where: { $0 != 0 && $0 != 1 }) {
      throw NpyError(
        path: path,
        reason: "row \(wrong / width) has \(values[wrong]) at column \(wrong % width), and integers [N, C] say by 0 and 1 which labels a row has. "
          + "For one class a row give [N]; for numbers to be told, floating-point ones (labels.astype('float64'))")
    }
    let names = try names(namesPath, count: width, what: "labels", of: path)
    let quoted = names.map { Labelling.text(labels: [$0]).dropFirst().dropLast() }
    let texts = (0..<count).map { row in
      "[" + (0..<width).filter { values[row * width + $0] == 1 }.map { quoted[$0] }.joined(separator: ",") + "]"
    }
    return (Labelling(task: .multilabel, names: names), texts)
  }

  /// `[N]` or `[N, T]` of finite numbers.
  private static func targets(
    _ tensor: HostTensor, _ path: String, namesPath: String?, count: Int, featuresPath: String
  ) throws -> (Labelling, [String], isWhole: Bool) {
    let width = tensor.shape.count == 2 ? tensor.shape[1] : 1
    guard (1...2).contains(tensor.shape.count), tensor.shape[0] == count, width > 0 else {
      throw NpyError(
        path: path, reason: "its shape is \(tensor.shape), and \(featuresPath) has \(count) rows: [\(count)] or [\(count), targets] is needed")
    }
    let values = tensor.doubles()
    if let wrong = values.firstIndex(where: { !$0.isFinite }) {
      let place = tensor.shape.count == 2 ? "row \(wrong / width), column \(wrong % width)," : "row \(wrong)"
      throw NpyError(path: path, reason: "the target of \(place) is \(values[wrong].isNaN ? "NaN" : "infinite"); targets must be finite numbers")
    }
    let names = try namesPath == nil && tensor.shape.count == 1 ? ["target"] : names(namesPath, count: width, what: "targets", of: path)
    let texts = (0..<count).map { Labelling.text(values: values[$0 * width..<($0 + 1) * width]) }
    return (Labelling(task: .regression, names: names), texts, values.allSatisfy { $0 == $0.rounded() })
  }

  /// The lines of a file, or numbers in decimal.
  private static func names(_ path: String?, count: Int, what: String, of labelsPath: String) throws -> [String] {
    guard let path else { return (0..<count).map(String.init) }
    let bytes = try HostBytes(reading: path)
    guard var text = bytes.withUnsafeBytes({ String(validating: $0, as: UTF8.self) }) else {
      throw DataSetError(path: path, reason: "it is not UTF-8 text", remedy: "Write one name a line, in UTF-8.")
    }
    if text.hasPrefix("\u{FEFF}") { text.removeFirst() }
    var names = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).map { $0.trimmingCharacters(in: .whitespaces) }
    while names.last == "" { names.removeLast() }
    guard names.count == count else {
      throw DataSetError(path: path, reason: "it has \(names.count) names, and \(labelsPath) has \(count) \(what)", remedy: "Write one name a line.")
    }
    if let problem = Labelling.problem(names) { throw DataSetError(path: path, reason: problem, remedy: "Write a name of its own on each line.") }
    return names
  }

  static func checkLength(_ shape: [Int], path: String, count: Int, featuresPath: String) throws {
    guard shape == [count] else {
      throw NpyError(path: path, reason: "its shape is \(shape), and \(featuresPath) has \(count) rows: \([count]) is needed")
    }
  }
}
