import Foundation

/// What the samples of a store are labelled with, and so what a head on it says.
public enum LabelTask: String, Sendable, Codable, CaseIterable {
  /// One class a sample.
  case classification
  /// Any number of labels a sample.
  case multilabel
  /// Numbers.
  case regression

  /// How a message calls what a head of this task gives: "classes", "labels", "targets".
  public var outputWord: String {
    switch self {
    case .classification: "classes"
    case .multilabel: "labels"
    case .regression: "targets"
    }
  }
}

/// A task with the names of its labels or targets, as the table `store` keeps it. A store of classes says nothing here: its classes are
/// those of its samples.
public struct Labelling: Sendable, Equatable {
  public let task: LabelTask
  /// Of the labels or targets, in the order of the head's outputs; empty for classes.
  public let names: [String]

  public static let classes = Labelling(task: .classification, names: [])

  init(task: LabelTask, names: [String]) { (self.task, self.names) = (task, names) }

  static let taskKey = "task", namesKey = "target_names"
  /// Whether classes are in the order of their numbers.
  static let orderKey = "label_order"
  /// Where labels came from a file: which.
  static let fileKey = "label_file"

  /// The rows of the table `store`, in which a store of classes has none.
  var entries: [String: String] {
    task == .classification ? [:] : [Self.taskKey: task.rawValue, Self.namesKey: Self.json(names)]
  }

  /// What a store's table says; `nil` if that makes no sense.
  init?(entries: [String: String]) {
    guard let text = entries[Self.taskKey] else {
      self = .classes
      return
    }
    guard let task = LabelTask(rawValue: text) else { return nil }
    guard task != .classification else {
      self = .classes
      return
    }
    guard let names = try? JSONDecoder().decode([String].self, from: Data((entries[Self.namesKey] ?? "").utf8)), Self.problem(names) == nil
    else { return nil }
    self.init(task: task, names: names)
  }

  /// What is wrong with names of labels or targets; `nil`: nothing.
  static func problem(_ names: [String]) -> String? {
    if names.isEmpty { return "there are no names" }
    if let place = names.firstIndex(where: \.isEmpty) { return "name \(place) is empty" }
    var seen: Set<String> = []
    if let twice = names.first(where: { !seen.insert($0).inserted }) { return "'\(twice)' is there twice" }
    return nil
  }

  // MARK: A sample's text

  /// The labels that a sample has, as a JSON list of their names.
  static func text(labels: some Sequence<String>) -> String { json(Array(labels)) }

  /// Numbers as a JSON list; each reads back as the same number.
  static func text(values: some Sequence<Double>) -> String { "[" + values.map { "\($0)" }.joined(separator: ",") + "]" }

  /// What a sample's text says, `[T]`: 1 for labels that it has and 0 for the others, or numbers; `nil` if it makes no sense.
  func values(of text: String, places: [String: Int]) -> [Double]? {
    switch task {
    case .classification: return nil
    case .multilabel:
      guard let found = try? JSONDecoder().decode([String].self, from: Data(text.utf8)) else { return nil }
      var values = [Double](repeating: 0, count: names.count)
      for name in found {
        guard let place = places[name] else { return nil }
        values[place] = 1
      }
      return values
    case .regression:
      guard text.hasPrefix("["), text.hasSuffix("]") else { return nil }
      let numbers = text.dropFirst().dropLast().split(separator: ",", omittingEmptySubsequences: false)
        .compactMap { Double($0.trimmingCharacters(in: .whitespaces)) }
      return numbers.count == names.count && numbers.allSatisfy(\.isFinite) ? numbers : nil
    }
  }

  private static func json(_ names: [String]) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.withoutEscapingSlashes]
    // Always: any list of text is JSON.
    return (try? encoder.encode(names)).map { String(decoding: $0, as: UTF8.self) } ?? "[]"
  }
}
