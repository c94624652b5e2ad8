import Foundation
import GraftGraph

/// A data set on disk: a folder a class, as torchvision and timm have it.
///
///     PATH/class/any/depth/picture.jpg               the split is drawn by the store's rule
///     PATH/train/class/…, PATH/val/…, PATH/test/…    the split is the folder's
///
/// The second form is meant when the top level holds only such folders (`train`, `val`, `valid`, `validation`, `test`, in
/// any case); `SplitFolders` says what does not count beside them, and when that is an error. Class names are sorted by
/// their bytes, as Python's `sorted` does, and so are all names below: files always come in the same order. Hidden names
/// are passed over. Links are followed, and a folder is entered once a class, so that a loop ends. Only one folder's names
/// are in memory at a time.
///
/// With a `LabelTable` the folders mean nothing: every image below the path that has a row counts, wherever it lies.
///
/// A folder of IDX files, as MNIST and Fashion-MNIST come, is a data set too: see `IDXDataSet`.
///
/// A file is taken for an image by its extension. One that no decoder can read is reported as skipped, with the reason; a
/// file of any other extension is counted as ignored.
public struct ImageFolder: Sendable {
  /// The path as it was given.
  public let path: String
  /// The classes that have a folder, or those of them that were asked for, sorted by bytes; with a table its classes.
  public let classNames: [String]
  /// What images are labelled with.
  public let labelling: Labelling
  /// The file that labels them; `nil`: their folders do.
  public let table: LabelTable?

  /// The pictures, where they lie in IDX files.
  public let packed: IDXDataSet?

  /// The folders that hold class folders, and the split each stands for.
  private let parts: [(folder: [UInt8], split: String?)]
  /// The folders beside splits that do not count.
  private let passedOver: [[UInt8]]

  /// One file that is, or claims to be, an image.
  package struct Entry: Equatable {
    /// Relative to the data set's folder; bytes that are not UTF-8 are written `\xE9`.
    package var path: String
    /// `nil` if the class folder's name is not UTF-8.
    package var label: String?
    /// From the folder; `nil` if the store's rule decides.
    package var split: String?
    var stamp: SampleRecord.Stamp?
    /// Why it cannot be read, if that is known already.
    package var problem: String?
  }

  /// What a walk passed over.
  package struct Tally: Equatable {
    package var images = 0
    /// Files whose extension is not an image's, and files outside the class folders.
    package var ignored = 0
    /// Classes without a single image.
    package var emptyClasses: [String] = []
    /// Folders beside train, val and test that hold files, and no images or a store's; the files are ignored.
    package var passedOver: [String] = []
    /// Images outside the class folders; they are ignored, too.
    package var outside = PathTally()
    /// Links that lead nowhere where class folders lie: each may have been one.
    package var deadLinks: [String] = []
    /// With a table: images that it has no row for, and rows whose image is not there; of both the first paths.
    package var unlabelled = PathTally()
    package var missing = PathTally()
  }

  private static let extensions: Set<String> = [
    "jpg", "jpeg", "jpe", "jfif", "png", "webp", "tif", "tiff", "bmp", "gif", "heic", "heif", "avif", "ppm", "pgm", "jp2", "jxl", "svg", "ico", "psd",
  ]

  /// The classes asked for; `nil`: all.
  private let wanted: Set<String>?
  /// What says which images there are, in place of the folders.
  private let store: FeatureStore?

  /// Looks at the top level.
  ///
  /// - Parameter classes: the classes whose images count; `nil`: all. Others are as if they were not there.
  /// - Throws: `FileError` if a folder cannot be read; `DataSetError` if there are no class folders, or one of `classes` is none.
  public init(path: String, classes: [String]? = nil) throws {
    self.path = path
    (labelling, table, wanted, store) = (.classes, nil, classes.map(Set.init), nil)
    packed = try IDXDataSet.open(path)
    if let packed {
      (classNames, parts, passedOver) = (try Self.chosen(packed.classNames, classes, path: path), [], [])
      return
    }
    let root = Array(path.utf8)
    let top = try Self.folders(in: root)
    let splits = try SplitFolders(top.folders, in: root)
    (parts, passedOver) = (splits.parts.isEmpty ? [(root, nil)] : splits.parts, splits.passedOver)
    var names: Set<[UInt8]> = []
    var images = top.images
    for part in parts {
      let inside = try Self.folders(in: part.folder)
      names.formUnion(inside.folders)
      images += inside.images
    }
    guard !names.isEmpty else {
      throw DataSetError(
        path: path,
        reason: images > 0 ? "the images lie in the folder itself, and not in one folder a class" : "there are no class folders in it",
        remedy: "Put the images of each class into a folder named after the class: PATH/cat/1.jpg, PATH/dog/2.jpg.")
    }
    let found = names.sorted { $0.lexicographicallyPrecedes($1) }.compactMap { String(validating: $0, as: UTF8.self) }
    classNames = try Self.chosen(found, classes, path: path)
    if let (first, second) = Spelling.twins(in: classNames) {
      throw DataSetError(
        path: path, reason: "the class folders \(Spelling.text(first, second))",
        remedy: "Give both the same name, or move the images of one into the other.")
    }
  }

  /// All images below a path, as a table labels them.
  ///
  /// - Throws: `FileError` if the folder cannot be read.
  public init(path: String, labels table: LabelTable) throws {
    self.path = path
    (labelling, classNames, self.table) = (table.labelling, table.classNames, table)
    (packed, parts, passedOver, wanted, store) = (nil, [], [], nil, nil)
    guard case .success(let status) = FileStatus.of(Array(path.utf8)), status.isFolder else {
      throw FileError(path: path, action: "read the folder", code: access(path, F_OK) == 0 ? ENOTDIR : errno)
    }
  }

  /// The images below a path that a store has features of, with the labels and splits it gives them: however it came to know them, by
  /// some of the folders or a table that is elsewhere now.
  ///
  /// - Throws: `FileError`, `DataSetError` for IDX files that cannot be read.
  public init(path: String, samplesOf store: FeatureStore) throws {
    self.path = path
    (labelling, classNames, packed) = (store.labelling, store.classNames, try IDXDataSet.open(path))
    (self.store, table, parts, passedOver, wanted) = (store, nil, [], [], nil)
  }

  private static func chosen(_ found: [String], _ classes: [String]?, path: String) throws(DataSetError) -> [String] {
    guard let classes else { return found }
    let missing = Set(classes).subtracting(found).sorted()
    guard missing.isEmpty, !classes.isEmpty else {
      throw DataSetError(
        path: path, reason: missing.isEmpty ? "no class was asked for" : "it has no class '\(missing[0])'",
        remedy: "It has \(found.prefix(20).joined(separator: ", "))\(found.count > 20 ? " and \(found.count - 20) more" : "").")
    }
    return found.filter(Set(classes).contains)
  }

  /// Visits every image, in an order that depends on the names alone.
  ///
  /// - Throws: `FileError` if a folder cannot be read; what `body` throws.
  package func forEachImage(_ body: (Entry) throws -> Void) throws -> Tally {
    var tally = Tally()
    if let store {
      try store.forEachSample { path, label, split in
        tally.images += 1
        var entry = Entry(path: path, label: label, split: split)
        // What has gone is told by who reads it.
        entry.stamp = packed.map { $0.file(path)?.stamp } ?? (try? FileStatus.of(Array("\(self.path)/\(path)".utf8)).get())?.stamp
        try body(entry)
      }
      return tally
    }
    if let packed {
      _ = try packed.forEachImage { entry in
        guard wanted == nil || entry.label.map(classNames.contains) == true else { return }
        tally.images += 1
        try body(entry)
      }
      return tally
    }
    if let table { return try forEachImage(labelledBy: table, body) }
    var seen: Set<[UInt8]> = []
    var counts: [[UInt8]: Int] = [:]
    let rootCount = path.utf8.count
    for part in parts {
      for name in try FolderListing(path: part.folder).names where name.first != 0x2E {
        let folder = part.folder + [0x2F] + name
        guard case .success(let status) = FileStatus.of(folder), status.isFolder else {
          pass(folder, name, &tally)
          continue
        }
        let label = String(validating: name, as: UTF8.self)
        if let wanted, label.map(wanted.contains) != true { continue }
        var walk = Walk(rootCount: rootCount, label: label, split: part.split)
        try walk.visit(folder, status, body)
        tally.images += walk.images
        tally.ignored += walk.ignored
        counts[name, default: 0] += walk.images
        seen.insert(name)
      }
    }
    if parts.contains(where: { $0.split != nil }) {
      let root = Array(path.utf8)
      for name in try FolderListing(path: root).names where name.first != 0x2E {
        if case .success(let status) = FileStatus.of(root + [0x2F] + name), status.isFolder { continue }
        pass(root + [0x2F] + name, name, &tally)
      }
    }
    for name in passedOver {
      let count = try SplitFolders.fileCount(Array(path.utf8) + [0x2F] + name)
      tally.ignored += count
      if count > 0 { tally.passedOver.append(Self.escaped(name)) }
    }
    tally.emptyClasses = seen.filter { counts[$0] == 0 }.sorted { $0.lexicographicallyPrecedes($1) }.map { String(decoding: $0, as: UTF8.self) }
    return tally
  }

  /// Counts what lies among the class folders and is none.
  private func pass(_ file: [UInt8], _ name: [UInt8], _ tally: inout Tally) {
    let relative = Self.escaped(file[(path.utf8.count + 1)...].drop { $0 == 0x2F })
    tally.ignored += 1
    if Self.isImage(name) { return tally.outside.add(relative) }
    if case .failure = FileStatus.of(file), wanted == nil { tally.deadLinks.append(relative) }
  }

  private func forEachImage(labelledBy table: LabelTable, _ body: (Entry) throws -> Void) throws -> Tally {
    guard case .success(let status) = FileStatus.of(Array(path.utf8)) else { throw FileError(path: path, action: "read the folder", code: errno) }
    var tally = Tally(), rows = try table.rows(in: path)
    var walk = Walk(rootCount: path.utf8.count, label: nil, split: nil)
    // A row may be spelt otherwise than its file, as long as there is one such file: those found that can be spelt in two ways.
    var found: Set<String> = []
    try walk.visit(Array(path.utf8), status) { entry in
      guard let row = rows.removeValue(forKey: entry.path) else {
        if let place = found.firstIndex(of: entry.path) {
          throw DataSetError(path: path, reason: "the files \(Spelling.text(found[place], entry.path))", remedy: "Rename one of both.")
        }
        return tally.unlabelled.add(entry.path)
      }
      if !entry.path.utf8.allSatisfy({ $0 < 0x80 }) { found.insert(entry.path) }
      var entry = entry
      (entry.label, entry.split) = (row.label, row.split)
      tally.images += 1
      try body(entry)
    }
    tally.ignored = walk.ignored
    for (path, _) in rows.sorted(by: { $0.value.line < $1.value.line }) { tally.missing.add(path) }
    return tally
  }

  /// The walk through one class.
  private struct Walk {
    let rootCount: Int
    let label: String?
    let split: String?
    var images = 0
    var ignored = 0
    var entered: Set<[UInt64]> = []

    mutating func visit(_ folder: [UInt8], _ status: FileStatus, _ body: (Entry) throws -> Void) throws {
      guard entered.insert(status.identity).inserted else { return }
      for name in try FolderListing(path: folder).names where name.first != 0x2E {
        let path = folder + [0x2F] + name
        let status = FileStatus.of(path)
        if case .success(let status) = status, status.isFolder {
          try visit(path, status, body)
          continue
        }
        guard ImageFolder.isImage(name) else {
          ignored += 1
          continue
        }
        images += 1
        try body(entry(path, status))
      }
    }

    private func entry(_ path: [UInt8], _ status: Swift.Result<FileStatus, FileCode>) -> Entry {
      let relative = path[(rootCount + 1)...].drop { $0 == 0x2F }
      var entry = Entry(path: "", label: label, split: split)
      if let text = String(validating: relative, as: UTF8.self) {
        entry.path = text
      } else {
        entry.path = ImageFolder.escaped(relative)
        entry.problem = "the name is not UTF-8; rename the file"
      }
      switch status {
      case .failure(let code): entry.problem = code.code == ENOENT ? "the link leads nowhere" : code.text
      case .success(let status) where !status.isFile: entry.problem = "this is not a regular file"
      case .success(let status): entry.stamp = status.stamp
      }
      return entry
    }
  }

  static func folders(in folder: [UInt8]) throws -> (folders: [[UInt8]], images: Int) {
    var found: (folders: [[UInt8]], images: Int) = ([], 0)
    for name in try FolderListing(path: folder).names where name.first != 0x2E {
      if case .success(let status) = FileStatus.of(folder + [0x2F] + name), status.isFolder {
        found.folders.append(name)
      } else if isImage(name) {
        found.images += 1
      }
    }
    return found
  }

  static func isImage(_ name: [UInt8]) -> Bool {
    guard let dot = name.lastIndex(of: 0x2E), name.count - dot <= 6 else { return false }
    return extensions.contains(String(decoding: name[(dot + 1)...], as: UTF8.self).lowercased())
  }

  /// Text on one line, for messages: control characters as `escaped` shows bytes.
  package static func shown(_ text: String) -> String {
    text.unicodeScalars.map { scalar in
      guard scalar.properties.generalCategory == .control else { return String(scalar) }
      return String(scalar).utf8.map { digits(of: $0) }.joined()
    }.joined()
  }

  private static func digits(of byte: UInt8) -> String {
    let digits = String(byte, radix: 16, uppercase: true)
    return "\\x" + (digits.count < 2 ? "0" : "") + digits
  }

  /// Text that shows every byte: a backslash and two digits for those that are not UTF-8.
  package static func escaped(_ name: some RandomAccessCollection<UInt8>) -> String {
    var text = ""
    var rest = name[...]
    while let first = rest.first {
      // A UTF-8 character has at most four bytes.
      let character = (1...4).lazy.compactMap { count in
        rest.count >= count ? String(validating: rest.prefix(count), as: UTF8.self).map { ($0, count) } : nil
      }.first
      if let (scalar, count) = character {
        text += scalar
        rest = rest.dropFirst(count)
      } else {
        text += digits(of: first)
        rest = rest.dropFirst()
      }
    }
    return text
  }
}

/// How many paths there are of a kind, and the first of them.
public struct PathTally: Sendable, Equatable {
  public private(set) var count = 0
  /// At most `listed`.
  public private(set) var first: [String] = []

  public static let listed = 100

  mutating func add(_ path: String) {
    count += 1
    if first.count < Self.listed { first.append(path) }
  }
}

/// A folder of images that cannot be used, and why.
public struct DataSetError: Error, CustomStringConvertible, Equatable {
  public let path: String
  public let reason: String
  public let remedy: String

  public init(path: String, reason: String, remedy: String) { (self.path, self.reason, self.remedy) = (path, reason, remedy) }

  public var description: String { "\(path): \(reason). \(remedy)" }
}
