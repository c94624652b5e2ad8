import Foundation
import GraftGraph

/// A folder of the MNIST family: pictures and labels in pairs of IDX files, compressed or not.
///
///     train-images-idx3-ubyte[.gz]  train-labels-idx1-ubyte[.gz]
///     t10k-images-idx3-ubyte[.gz]   t10k-labels-idx1-ubyte[.gz]     the test split
///
/// Pictures are in memory, decompressed. One is known as `train-images-idx3-ubyte/00042`, whether the file is compressed or not, and its
/// content is what it would be as a PGM file.
public final class IDXDataSet: Sendable {
  /// Where the files are.
  public let path: String
  /// The labels that occur, as numbers in decimal.
  let classNames: [String]
  private let parts: [Part]

  private struct Part: Sendable {
    let name: String
    let split: String
    let images: IDXFile
    let labels: IDXFile
    let stamp: SampleRecord.Stamp?

    var count: Int { images.shape[0] }
    var pixelCount: Int { images.shape[1] * images.shape[2] }
  }

  private static let splits = [(name: "train", split: "train"), (name: "t10k", split: "test")]

  /// Reads the folder's IDX files; `nil` if there are none.
  ///
  /// - Throws: `FileError`, `DataSetError` that names the file that is damaged, or missing beside another.
  public static func open(_ path: String) throws -> IDXDataSet? {
    var parts: [Part] = []
    for (name, split) in splits {
      guard let images = find("\(name)-images", "idx3-ubyte", in: path) else {
        if let labels = find("\(name)-labels", "idx1-ubyte", in: path) {
          throw DataSetError(path: labels, reason: "there are labels and no \(name)-images-idx3-ubyte beside them", remedy: "Get the missing file.")
        }
        continue
      }
      guard let labels = find("\(name)-labels", "idx1-ubyte", in: path) else {
        throw DataSetError(path: images, reason: "there is no \(name)-labels-idx1-ubyte beside it", remedy: "Get the missing file.")
      }
      parts.append(try part(name, split, images: images, labels: labels))
    }
    return parts.isEmpty ? nil : try IDXDataSet(path: path, parts: parts)
  }

  private static func part(_ name: String, _ split: String, images: String, labels: String) throws -> Part {
    let stamp = (try? FileStatus.of(Array(images.utf8)).get())?.stamp
    let part = Part(
      name: "\(name)-images-idx3-ubyte", split: split, images: try IDXFile(path: images, extents: 3), labels: try IDXFile(path: labels, extents: 1),
      stamp: stamp)
    let sides = 1...Preprocessing.longestInputSide
    guard part.count == 0 || (sides.contains(part.images.shape[1]) && sides.contains(part.images.shape[2])) else {
      throw DataSetError(path: images, reason: "its pictures are \(part.images.shape[2]) × \(part.images.shape[1])", remedy: "Get the file again.")
    }
    guard part.labels.shape[0] == part.count else {
      throw DataSetError(
        path: labels, reason: "it has \(part.labels.shape[0]) labels, and \(images) has \(part.count) pictures", remedy: "Get both files again.")
    }
    return part
  }

  /// With a hyphen or, as some copies have it, a dot; not compressed first.
  private static func find(_ name: String, _ kind: String, in folder: String) -> String? {
    for file in ["\(name)-\(kind)", "\(name).\(kind)", "\(name)-\(kind).gz", "\(name).\(kind).gz"] {
      let path = folder + "/" + file
      if case .success(let status) = FileStatus.of(Array(path.utf8)), status.isFile { return path }
    }
    return nil
  }

  private init(path: String, parts: [Part]) throws {
    (self.path, self.parts) = (path, parts)
    var present = [Bool](repeating: false, count: 256)
    for part in parts { for label in part.labels.values { present[Int(label)] = true } }
    // Sorted as folders would be.
    classNames = present.indices.filter { present[$0] }.map(String.init).sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    guard !classNames.isEmpty else { throw DataSetError(path: path, reason: "its IDX files hold no picture", remedy: "Get them again.") }
  }

  /// Visits every picture in the files' order.
  func forEachImage(_ body: (ImageFolder.Entry) throws -> Void) rethrows -> Int {
    for part in parts {
      for (number, label) in part.labels.values.enumerated() {
        let digits = String(number), name = String(repeating: "0", count: max(0, 5 - digits.count)) + digits
        try body(ImageFolder.Entry(path: "\(part.name)/\(name)", label: String(label), split: part.split, stamp: part.stamp))
      }
    }
    return parts.reduce(0) { $0 + $1.count }
  }

  /// A picture by its name in the data set, as the bytes of a PGM file; `nil` if there is none.
  func file(_ name: String) -> (bytes: [UInt8], stamp: SampleRecord.Stamp?)? {
    guard let slash = name.utf8.lastIndex(of: UInt8(ascii: "/")), let number = Int(name[name.index(after: slash)...]),
      let part = parts.first(where: { $0.name == name[..<slash] }), (0..<part.count).contains(number)
    else { return nil }
    let start = part.images.values.startIndex + number * part.pixelCount
    return (
      PortableMap.grey(width: part.images.shape[2], height: part.images.shape[1], pixels: part.images.values[start..<start + part.pixelCount]),
      part.stamp
    )
  }

  /// Decodes a picture by its path with the data set's folder before it.
  ///
  /// - Throws: `ImageError`.
  public func decode(path: String, contentHash: String? = nil, with decoder: ImageDecoder) throws(ImageError) -> DecodedImage {
    guard path.hasPrefix(self.path + "/"), let file = file(String(path.dropFirst(self.path.count + 1))) else {
      throw ImageError(path: path, kind: .unreadable, what: "the data set has no such picture", remedy: "Extract it again.")
    }
    let result = file.bytes.withUnsafeBytes { bytes in
      Result { () throws(ImageError) in
        try ImageError.check(bytes, contentHash: contentHash, path: path)
        return try decoder.decode(bytes, path: path)
      }
    }
    return try result.get()
  }
}
