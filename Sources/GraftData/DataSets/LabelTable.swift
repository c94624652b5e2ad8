import Foundation
import GraftDevice

/// What the images of a folder are labelled with, by a file of comma-separated values with a header.
///
///     path,label                  classification: one class an image
///     path,labels                 multilabel: names with | between them; none is none
///     path,indoor,night,people    multilabel: 0 or 1 in the label's column
///     path,age,weight             regression: a number in the target's column
///
/// Paths are relative to the folder, or absolute. The column `path` is the first one if none is called so. A column `split` may
/// say train, val or test; where it is empty, or missing, the store's rule decides. Beside `label` or `labels` other columns are left
/// alone.
public struct LabelTable: Sendable {
  struct Row: Sendable {
    /// As the index holds it.
    var label: String
    var split: String?
    var line: Int
  }

  /// The file.
  public let path: String
  public let labelling: Labelling
  /// The classes that occur, sorted by bytes; empty for other tasks.
  let classNames: [String]
  /// By path.
  let rows: [String: Row]

  private static let splits = ["train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"]

  /// Reads the file.
  ///
  /// - Parameter task: what its columns mean.
  /// - Throws: `FileError`; `DataSetError` that names the line that makes no sense.
  public init(path: String, task: LabelTask) throws {
    self.path = path
    var columns: Columns?
    var (rows, values): ([String: Row], [String: [String]]) = ([:], [:])
    var (classes, named): (Set<String>, Set<String>) = ([], [])
    try CommaSeparated.forEachRow(of: path) { row in
      guard let columns else {
        columns = try Columns(row, task: task, path: path)
        return
      }
      func failure(_ reason: String, _ remedy: String) -> DataSetError {
        DataSetError(path: path, reason: "line \(row.line): \(reason)", remedy: remedy)
      }
      guard row.fields.count == columns.count else {
        throw failure("it has \(row.fields.count) fields, and the header has \(columns.count)", "Give each row as many fields as the header.")
      }
      let image = Self.normalised(row.fields[columns.path])
      guard !image.isEmpty else { throw failure("the path is empty", "Name an image, or remove the line.") }
      if let place = rows.index(forKey: image) {
        let (first, known) = rows[place]
        guard Spelling.differ(first, image) else { throw failure("'\(image)' is on line \(known.line) already", "Remove one of both lines.") }
        throw failure("\(Spelling.text(first, image)), and the first is on line \(known.line)", "Rename one of both files.")
      }
      /// A name that other rows may have, in the same spelling.
      func insert(_ name: String, into names: inout Set<String>) throws {
        let (isNew, first) = names.insert(name)
        guard isNew || !Spelling.differ(first, name) else { throw failure("the labels \(Spelling.text(first, name))", "Write both alike.") }
      }
      var split: String?
      if let column = columns.split, case let text = row.fields[column].trimmingCharacters(in: .whitespaces), !text.isEmpty {
        guard let known = Self.splits[text.lowercased()] else {
          throw failure("the split is '\(text)'", "Only train, val and test are known; leave it empty for the store's rule.")
        }
        split = known
      }
      let label: String
      switch try columns.content(of: row, failure) {
      case .text(let text): label = text
      case .names(let found):
        // Their order is known at the end.
        (label, values[image]) = ("", found)
        for name in found { try insert(name, into: &named) }
      }
      if case .classes = columns.content { try insert(label, into: &classes) }
      rows[image] = Row(label: label, split: split, line: row.line)
    }
    guard let columns else { throw DataSetError(path: path, reason: "it is empty", remedy: "Write a header, as path,label, and a line an image.") }
    guard !rows.isEmpty else { throw DataSetError(path: path, reason: "it has a header and no rows", remedy: "Write a line an image.") }
    classNames = Self.sorted(classes)
    switch columns.content {
    case .classes: labelling = .classes
    case .names:
      let names = Self.sorted(named)
      guard !names.isEmpty else {
        throw DataSetError(path: path, reason: "no image has a label", remedy: "Write names with | between them into the column labels.")
      }
      labelling = Labelling(task: .multilabel, names: names)
      for (image, found) in values {
        let own = Set(found)
        rows[image]?.label = Labelling.text(labels: names.filter(own.contains))
      }
    case .marks(let places): labelling = Labelling(task: .multilabel, names: places.map { columns.names[$0] })
    case .numbers(let places): labelling = Labelling(task: .regression, names: places.map { columns.names[$0] })
    }
    self.rows = rows
  }

  /// What the header says.
  private struct Columns {
    enum Content {
      case classes(Int)
      /// Names with | between them.
      case names(Int)
      /// 0 or 1 in each.
      case marks([Int])
      case numbers([Int])
    }

    let names: [String]
    let path: Int
    let split: Int?
    let content: Content
    var count: Int { names.count }

    init(_ row: CommaSeparated.Row, task: LabelTask, path file: String) throws(DataSetError) {
      let names = row.fields.map { $0.trimmingCharacters(in: .whitespaces) }
      func failure(_ reason: String, _ remedy: String) -> DataSetError {
        DataSetError(path: file, reason: "its header, '\(names.joined(separator: ",").prefix(200))', \(reason)", remedy: remedy)
      }
      if let problem = Labelling.problem(names) { throw failure("names no columns: \(problem)", "Give each column a name of its own.") }
      let path = names.firstIndex(of: "path") ?? 0, split = names.firstIndex(of: "split")
      guard split != path else { throw failure("has no column for the paths", "Call it path.") }
      let others = names.indices.filter { $0 != path && $0 != split }
      let content: Content
      // Without a header the first image would be lost, and its numbers be what targets are called. Labels may be called by numbers, too:
      // only what stands where an image does tells.
      let first = names[path].utf8, numbers = !others.isEmpty && others.allSatisfy { Double(names[$0]) != nil }
      guard names[path] == "path" || !(ImageFolder.isImage(Array(first)) || numbers && first.contains(UInt8(ascii: "/"))) else {
        let example = [LabelTask.classification: "path,label", .multilabel: "path,cat,outdoor", .regression: "path,age"][task] ?? ""
        throw failure("is a row of data", "Write a first line that names the columns, as \(example); if this one does, call the paths' column path.")
      }
      switch task {
      case .classification:
        guard let column = names.firstIndex(of: "label"), column != path else {
          throw failure(
            "has no column 'label'", "Write path,label; for many labels or numbers an image say --task multilabel or --task regression.")
        }
        content = .classes(column)
      case .multilabel:
        if let column = names.firstIndex(of: "labels"), column != path {
          content = .names(column)
        } else {
          guard !others.isEmpty else { throw failure("has no column of labels", "Write path,labels, or a column of 0 and 1 for each label.") }
          content = .marks(others)
        }
      case .regression:
        guard !others.isEmpty else { throw failure("has no column of numbers", "Write a column for each number.") }
        content = .numbers(others)
      }
      (self.names, self.path, self.split, self.content) = (names, path, split, content)
    }

    /// A row's label as the index holds it, or, where names stand in a column, those.
    enum Label {
      case text(String)
      case names([String])
    }

    func content(of row: CommaSeparated.Row, _ failure: (_ reason: String, _ remedy: String) -> DataSetError) throws -> Label {
      func text(_ column: Int) -> String { row.fields[column].trimmingCharacters(in: .whitespaces) }
      switch content {
      case .classes(let column):
        guard !text(column).isEmpty else { throw failure("the label is empty", "Name a class, or remove the line.") }
        return .text(text(column))
      case .names(let column):
        guard !text(column).isEmpty else { return .names([]) }
        let found = text(column).split(separator: "|", omittingEmptySubsequences: false).map { $0.trimmingCharacters(in: .whitespaces) }
        guard found.allSatisfy({ !$0.isEmpty }) else { throw failure("there is an empty name in the labels '\(text(column))'", "Write name|name.") }
        return .names(found)
      case .marks(let places):
        let found = try places.filter { column in
          guard ["0", "1"].contains(text(column)) else {
            throw failure("the label \(names[column]) is '\(text(column))'", "Write 1 for images that have it and 0 for the others.")
          }
          return text(column) == "1"
        }
        return .text(Labelling.text(labels: found.map { names[$0] }))
      case .numbers(let places):
        let found = try places.map { column in
          guard let value = Double(text(column)), value.isFinite else {
            throw failure(
              "the target \(names[column]) is '\(text(column))'", "Write a finite number, with a point before its decimals, or remove the line.")
          }
          return value
        }
        return .text(Labelling.text(values: found))
      }
    }
  }

  private static func normalised(_ path: String) -> String {
    var path = path[...]
    while path.hasPrefix("./") { path = path.dropFirst(2).drop { $0 == "/" } }
    return String(path)
  }

  private static func sorted(_ names: Set<String>) -> [String] { names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) } }

  /// The rows by their path relative to a folder.
  ///
  /// - Throws: `DataSetError` if two rows name one image, one of them by its absolute path.
  func rows(in folder: String) throws(DataSetError) -> [String: Row] {
    guard rows.keys.contains(where: { $0.hasPrefix("/") }) else { return rows }
    let prefixes = [FilePath.absolute(folder), folder].map { $0.hasSuffix("/") ? $0 : $0 + "/" }
    var leading = LeadingFolders(of: folder), found: [String: Row] = [:]
    for (path, row) in rows.sorted(by: { $0.value.line < $1.value.line }) {
      var rest = path[...]
      if path.hasPrefix("/") {
        if let prefix = prefixes.first(where: { path.hasPrefix($0) }) {
          rest = path.dropFirst(prefix.count)
        } else if let count = leading.byteCount(of: path) {
          rest = Substring(path.utf8.dropFirst(count))
        }
      }
      let image = rest.startIndex == path.startIndex ? path : String(rest.drop { $0 == "/" })
      if let known = found.updateValue(row, forKey: image) {
        throw DataSetError(
          path: self.path, reason: "line \(row.line): '\(path)' is on line \(known.line) already", remedy: "Remove one of both lines.")
      }
    }
    return found
  }
}

/// How much of a path names a folder, however it is spelt: by way of a link, or with "..".
private struct LeadingFolders {
  private let identity: [UInt64]?
  /// By the folder that an image lies in.
  private var known: [[UInt8]: Int?] = [:]

  init(of folder: String) { identity = try? FileStatus.of(Array(folder.utf8)).get().identity }

  /// The bytes before an image's path relative to the folder; `nil` if it does not lie there.
  mutating func byteCount(of path: String) -> Int? {
    guard let identity else { return nil }
    let folder = FilePath.folder(of: path), bytes = Array(folder.utf8)
    if let found = known[bytes] { return found }
    // The longest first: what follows names no folder above it.
    var leading = folder, found: Int?
    while found == nil, !leading.isEmpty {
      if case .success(let status) = FileStatus.of(Array(leading.utf8)), status.identity == identity { found = leading.utf8.count }
      leading = FilePath.folder(of: leading)
    }
    known[bytes] = .some(found)
    return found
  }
}
