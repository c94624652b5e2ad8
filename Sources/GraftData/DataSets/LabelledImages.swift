import Foundation

/// The images of a folder with their classes and splits, as paths: what a network is trained on from pictures.
public struct LabelledImages: Sendable {
  public struct Image: Sendable, Equatable {
    /// The file, with the data set's folder before it.
    public let path: String
    /// A place in `classNames`.
    public let label: Int
    /// `train`, `val` or `test`.
    public let split: String
  }

  /// Sorted by bytes.
  public let classNames: [String]
  public let images: [Image]
  /// Where the images are, if they are no files.
  public let packed: IDXDataSet?
  /// Files that are no images' or can't be read, and folders without any.
  public let ignored: Int
  public let emptyClasses: [String]
  /// Folders beside train, val and test that do not count and hold files.
  public let passedOver: [String]
  /// Images outside the class folders, and links among these that lead nowhere.
  public let outside: PathTally
  public let deadLinks: [String]
  /// A hash of what training depends on: paths, labels and splits of the images that are not for the test, in order, with the hash of
  /// the content where the split is drawn by it, and elsewhere the file's size and when it was modified: a picture that is replaced
  /// under its name is another one.
  public let identity: String

  /// Walks the folder. Where its folders do not say which split an image belongs to, the rule does, by the hash of the content.
  ///
  /// - Throws: `FileError`, `DataSetError` if there is no image.
  public init(_ folder: ImageFolder, rule: SplitRule = .default) throws {
    var (images, problems): ([Image], Int) = ([], 0), hash = TextListHash()
    let places = Dictionary(uniqueKeysWithValues: folder.classNames.enumerated().map { ($1, $0) })
    let tally = try folder.forEachImage { entry in
      guard entry.problem == nil, let name = entry.label, let label = places[name] else {
        problems += 1
        return
      }
      let path = folder.path + "/" + entry.path
      let content = entry.split == nil ? try ContentHash.ofFile(path) : "", split = entry.split ?? rule.split(groupKey: content)
      images.append(Image(path: path, label: label, split: split))
      let stamp = entry.stamp.map { "\($0.byteCount) \($0.modifiedNanoseconds)" } ?? ""
      if split != "test" { hash.add(entry.path, name, split, content.isEmpty ? stamp : content) }
    }
    guard !images.isEmpty else { throw DataSetError(path: folder.path, reason: "there is no image in it", remedy: "Name another folder.") }
    (classNames, self.images) = (folder.classNames, images)
    packed = folder.packed
    (ignored, emptyClasses, passedOver) = (tally.ignored + problems, tally.emptyClasses, tally.passedOver)
    (outside, deadLinks) = (tally.outside, tally.deadLinks)
    identity = hash.finish()
  }

  public func images(split: String) -> [Image] { images.filter { $0.split == split } }
}
