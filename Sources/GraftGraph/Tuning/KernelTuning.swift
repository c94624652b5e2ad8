import Foundation
import GraftDevice
import Synchronization

/// The kernels that `graft tune` found to be the fastest on a device, by shape.
package struct KernelTuning: Sendable, Equatable {
  package struct Entry: Sendable, Equatable {
    package var kernel: ProductKernel
    /// The images of the batch it was the fastest for. Others take its cuts of k and the tile that suits them.
    package var imageCount: Int
    /// Seconds it took, and those of the kernel that the model of costs had chosen.
    package var seconds, defaultSeconds: Double

    package init(kernel: ProductKernel, imageCount: Int, seconds: Double, defaultSeconds: Double) {
      (self.kernel, self.imageCount, self.seconds, self.defaultSeconds) = (kernel, imageCount, seconds, defaultSeconds)
    }
  }

  package struct Key: Sendable, Hashable {
    package var shape: String
    package var precision: String
    /// The matrix unit, or "plain".
    package var unit: String
  }

  package private(set) var entries: [Key: Entry] = [:]

  package init() {}

  package static func key(_ shape: ProductShape, _ format: ComputeFormat, unit: MatrixUnit?) -> Key {
    Key(shape: shape.text, precision: format.rawValue, unit: unit.map { $0.isEmulated ? "\($0.kind.name), emulated" : $0.kind.name } ?? "plain")
  }

  /// `nil` for a shape that nothing is known of.
  package subscript(_ shape: ProductShape, _ format: ComputeFormat, unit unit: MatrixUnit?) -> Entry? {
    get { entries.isEmpty ? nil : entries[Self.key(shape, format, unit: unit)] }
    set { entries[Self.key(shape, format, unit: unit)] = newValue }
  }

  /// These entries and others, which win.
  package func merging(_ other: KernelTuning) -> KernelTuning {
    var copy = self
    copy.entries.merge(other.entries) { $1 }
    return copy
  }

  package subscript(_ key: Key) -> Entry? {
    get { entries[key] }
    set { entries[key] = newValue }
  }
}

// MARK: Names

extension ProductKernel {
  /// What files and tables call it, without the cuts of k.
  package var name: String {
    switch self {
    case .naive: "naive"
    case .skinny: "skinny"
    case .tiled(let tile, _): "tile \(tile.tileM)x\(tile.tileN)x\(tile.tileK)"
    case .winograd(let outputs, let tile): "winograd \(outputs)x\(outputs), tile \(tile.tileM)x\(tile.tileN)x\(tile.tileK)"
    case .matrix(let tile, _) where tile.isByGroups: "groups \(tile.tileM)x\(tile.tileN)x\(tile.tileK) stages \(tile.stages)"
    case .matrix(let tile, _):
      "matrix \(tile.tileM)x\(tile.tileN)x\(tile.tileK) warps \(tile.warpsM)x\(tile.warpsN) stages \(tile.stages) lanes \(tile.lanes)"
    }
  }

  package var splits: Int {
    switch self {
    case .naive, .winograd: 1
    case .skinny(let splits), .tiled(_, let splits), .matrix(_, let splits): splits
    }
  }

  /// The kernel of that name; `nil` for one that there is not, in this version.
  package init?(name: String, splits: Int) {
    guard (1...Self.mostSplits).contains(splits) else { return nil }
    let tiles = GEMMTile.candidates.map { ProductKernel.tiled($0, splits: splits) }
    let matrixTiles = MatrixTile.all.map { ProductKernel.matrix($0, splits: splits) }
    let winograd = splits > 1 ? [] : [4, 2].flatMap { m in GEMMTile.candidates.map { ProductKernel.winograd(outputs: m, $0) } }
    guard let found = ([.skinny(splits: splits)] + tiles + matrixTiles + winograd).first(where: { $0.name == name }) else { return nil }
    self = found
  }
}

// MARK: On disk

/// The file that keeps what was found for a device.
///
/// It is named by the device, and says inside which driver and which kernel sources it holds for: with others it counts for
/// nothing until the device is tuned again.
package struct KernelTuningFile: Sendable {
  package let path: String
  private let header: Header

  private struct Header: Codable, Equatable, Sendable {
    var format = 1
    var platform, device, driver, kernels: String
  }

  private struct Contents: Codable {
    struct Entry: Codable {
      var shape, precision, unit, kernel: String
      var splits, images: Int
      var microseconds, defaultMicroseconds: Double

      enum CodingKeys: String, CodingKey {
        case shape, precision, unit, kernel, splits, images, microseconds
        case defaultMicroseconds = "default_microseconds"
      }
    }
    var format: Int
    var platform, device, driver, kernels: String
    var entries: [Entry]
  }

  /// - Parameter folder: where the files are.
  package init(for device: any Device, folder: URL) {
    let traits = device.traits, info = (device as? OpenCLDevice)?.info
    header = Header(
      platform: info.map { "\($0.platformName) \($0.platformVersion)" } ?? "",
      device: "\(traits.vendor) \(traits.name), \(traits.computeUnits) units",
      driver: traits.driver, kernels: Self.kernels)
    path = folder.appendingPathComponent("\(ProgramCache.key([info?.platformName ?? "", header.device]).prefix(16)).json").path
  }

  private static let kernels = KernelSources.embedded.digest(of: ["gpu", "common"])

  /// What its entries hold for.
  package var holdsFor: [String] { [header.platform, header.device, header.driver, header.kernels] }

  /// What a file could not be used for.
  package struct Unusable: Error, CustomStringConvertible, Sendable {
    package let description: String
  }

  /// - Returns: the entries; none if there is no file.
  /// - Throws: `Unusable` for a file that is damaged, or of another device, driver or version.
  package func load() throws(Unusable) -> KernelTuning {
    guard FileManager.default.fileExists(atPath: path) else { return KernelTuning() }
    func unusable(_ reason: String) -> Unusable {
      Unusable(
        description: "\(path): the kernels found by tuning are not used, because \(reason). Run 'graft tune' again, or delete the file.")
    }
    // A file of this program is some kilobytes.
    guard let attributes = try? FileManager.default.attributesOfItem(atPath: path), let size = attributes[.size] as? Int, size <= 16 << 20,
      let data = FileManager.default.contents(atPath: path)
    else { throw unusable("the file cannot be read") }
    guard let contents = try? JSONDecoder().decode(Contents.self, from: data) else { throw unusable("the file is damaged") }
    guard contents.format == header.format else { throw unusable("the file has format \(contents.format), and this version reads \(header.format)") }
    guard contents.platform == header.platform, contents.device == header.device else {
      throw unusable("they are those of another device, \(contents.device)")
    }
    guard contents.driver == header.driver else { throw unusable("they were found with another driver, \(contents.driver)") }
    guard contents.kernels == header.kernels else { throw unusable("they were found with the kernels of another version") }
    var tuning = KernelTuning()
    for entry in contents.entries {
      guard let kernel = ProductKernel(name: entry.kernel, splits: entry.splits), entry.images > 0 else {
        throw unusable("it names a kernel that there is not, \(entry.kernel) in \(entry.splits) parts")
      }
      tuning[KernelTuning.Key(shape: entry.shape, precision: entry.precision, unit: entry.unit)] = KernelTuning.Entry(
        kernel: kernel, imageCount: entry.images, seconds: entry.microseconds * 1e-6, defaultSeconds: entry.defaultMicroseconds * 1e-6)
    }
    return tuning
  }

  /// Replaces the file, whole or not at all.
  ///
  /// - Throws: `FileError`.
  package func save(_ tuning: KernelTuning) throws {
    let entries = tuning.entries.map { key, entry in
      Contents.Entry(
        shape: key.shape, precision: key.precision, unit: key.unit, kernel: entry.kernel.name, splits: entry.kernel.splits,
        images: entry.imageCount, microseconds: entry.seconds * 1e6, defaultMicroseconds: entry.defaultSeconds * 1e6)
    }
    let sorted = entries.sorted { ($0.precision, $0.unit, $0.shape) < ($1.precision, $1.unit, $1.shape) }
    let contents = Contents(
      format: header.format, platform: header.platform, device: header.device, driver: header.driver, kernels: header.kernels, entries: sorted)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    let folder = FilePath.folder(of: path)
    do {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    } catch {
      throw FileError(path: folder, action: "create", code: (error as NSError).underlyingPOSIXCode)
    }
    let file = try AtomicFile(replacing: path)
    try (try encoder.encode(contents)).withUnsafeBytes { try file.append($0) }
    try file.commit()
    KernelTuning.forget(path)
  }
}

extension NSError {
  /// The system's error number behind a Foundation error.
  fileprivate var underlyingPOSIXCode: Int32 {
    if domain == NSPOSIXErrorDomain { return Int32(truncatingIfNeeded: code) }
    return (userInfo[NSUnderlyingErrorKey] as? NSError).map(\.underlyingPOSIXCode) ?? EIO
  }
}

extension KernelTuning {
  private static let known = Mutex<[String: KernelTuning]>([:])

  static func forget(_ path: String) { known.withLock { _ = $0.removeValue(forKey: path) } }

  /// What is stored for a device, read once; nothing, with one note, where the file is damaged or of something else.
  package static func stored(for device: any Device, environment: [String: String] = ProcessInfo.processInfo.environment) -> KernelTuning {
    if environment["GRAFT_TUNING"]?.lowercased() == "off" { return KernelTuning() }
    let file = KernelTuningFile(for: device, folder: CacheFolder.url("tuning", environment: environment))
    return known.withLock { known in
      if let found = known[file.path] { return found }
      let found: KernelTuning
      do {
        found = try file.load()
      } catch {
        DeviceNotes.note("\(error)")
        found = KernelTuning()
      }
      known[file.path] = found
      return found
    }
  }
}
