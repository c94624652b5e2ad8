import Foundation

/// Whether the folders at the top level of a data set are splits that hold the class folders, or the class folders themselves.
///
/// They are splits where each is called like one. What is no class for sure does not count: a feature store, `__MACOSX` and whatever
/// else holds no image at any depth. So a store that is written into the data set's own folder changes nothing. With images in
/// another folder beside splits that hold class folders there are two ways to read it, with other labels: that is an error. A picture
/// that strayed in among the class folders makes no class of a split.
struct SplitFolders {
  /// The folders that are splits, train first; empty: the folders are classes.
  let parts: [(folder: [UInt8], split: String?)]
  /// Folders beside the splits that do not count.
  let passedOver: [[UInt8]]

  private static let names = ["train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"]

  /// - Throws: `FileError` if a folder cannot be read; `DataSetError` if it can be read in two ways.
  init(_ top: [[UInt8]], in root: [UInt8]) throws {
    func split(_ name: [UInt8]) -> String? { Self.names[String(decoding: name, as: UTF8.self).lowercased()] }
    let named = top.filter { split($0) != nil }, others = top.filter { split($0) == nil }
    guard try others.isEmpty || Self.areSplits(named, beside: others, in: root, split) else {
      (parts, passedOver) = ([], [])
      return
    }
    let order = ["train", "val", "test"]
    parts = named.map { (root + [0x2F] + $0, split($0)) }.sorted { order.firstIndex(of: $0.1 ?? "") ?? 0 < order.firstIndex(of: $1.1 ?? "") ?? 0 }
    passedOver = others
  }

  private static func areSplits(_ named: [[UInt8]], beside others: [[UInt8]], in root: [UInt8], _ split: ([UInt8]) -> String?) throws -> Bool {
    // A class may be called 'test': its folder holds images, and a split's holds folders that do.
    let sure = try named.filter { name in
      let folder = root + [0x2F] + name, inside = try ImageFolder.folders(in: folder)
      guard inside.images > 0 else { return !inside.folders.isEmpty }
      return try inside.folders.contains { try mayBeClass(folder + [0x2F] + $0) }
    }
    guard !sure.isEmpty else { return false }
    guard let odd = try others.first(where: { try mayBeClass(root + [0x2F] + $0) }) else { return true }
    let splits = Set(sure.compactMap(split))
    guard splits.contains("train") || splits.count > 1 else { return false }
    let name = ImageFolder.escaped(odd), text = sure.map { "'\(ImageFolder.escaped($0))'" }.joined(separator: " and ")
    let (isSplit, isClass) = sure.count == 1 ? ("is a split", "it is a class") : ("are splits", "they are classes")
    throw DataSetError(
      path: String(decoding: root, as: UTF8.self),
      reason: "'\(name)', which holds images, lies beside \(text): the folders could be splits or classes",
      remedy: "Move '\(name)' out if \(text) \(isSplit); rename \(text) if \(isClass).")
  }

  private static func mayBeClass(_ folder: [UInt8]) throws -> Bool {
    guard folder.split(separator: 0x2F).last?.elementsEqual("__MACOSX".utf8) != true, !isStore(folder) else { return false }
    var entered: Set<[UInt64]> = []
    return try holdsImage(folder, &entered)
  }

  static func isStore(_ folder: [UInt8]) -> Bool {
    guard case .success(let status) = FileStatus.of(folder + [0x2F] + Array(StoreIndex.fileName.utf8)) else { return false }
    return status.isFile
  }

  /// Files of a folder come before what its folders hold, so that the first image is found soon.
  private static func holdsImage(_ folder: [UInt8], _ entered: inout Set<[UInt64]>) throws -> Bool {
    guard case .success(let status) = FileStatus.of(folder), entered.insert(status.identity).inserted else { return false }
    let inside = try ImageFolder.folders(in: folder)
    if inside.images > 0 { return true }
    for name in inside.folders where try holdsImage(folder + [0x2F] + name, &entered) { return true }
    return false
  }

  /// Files below a folder whose names are not hidden.
  static func fileCount(_ folder: [UInt8]) throws -> Int {
    var (count, entered): (Int, Set<[UInt64]>) = (0, [])
    func visit(_ folder: [UInt8], _ status: FileStatus) throws {
      guard entered.insert(status.identity).inserted else { return }
      for name in try FolderListing(path: folder).names where name.first != 0x2E {
        let path = folder + [0x2F] + name
        if case .success(let status) = FileStatus.of(path), status.isFolder { try visit(path, status) } else { count += 1 }
      }
    }
    if case .success(let status) = FileStatus.of(folder) { try visit(folder, status) }
    return count
  }
}
