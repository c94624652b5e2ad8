import CZip
import GraftGraph

/// The zip form of PyTorch files: `NAME/data.pkl` describes the object, `NAME/data/KEY` holds the bytes of each storage.
///
/// Storages are read rather than mapped, so that libzip checks their checksums.
final class PyTorchArchive {
  private let path: String
  /// libzip's archive; closed in `deinit`.
  private let archive: OpaquePointer
  /// The folder in the archive, with its slash; usually the name under which the file was first saved.
  private let folder: String
  /// Bytes that entries may still unpack to. PyTorch stores its entries as they are; an archive packed again by other
  /// tools is read too, but one that unpacks to many times its size is no file of weights.
  private var bytesLeft: Int

  private static let pickleName = "data.pkl"

  init(path: String, fileByteCount: Int) throws {
    var code: Int32 = 0
    guard let archive = zip_open(path, ZIP_RDONLY, &code) else {
      var error = zip_error_t()
      zip_error_init_with_code(&error, code)
      defer { zip_error_fini(&error) }
      throw ImportError(
        file: path, what: "its zip archive cannot be opened (\(String(cString: zip_error_strerror(&error))))", remedy: ImportError.fetchAgain)
    }
    (self.path, self.archive) = (path, archive)
    self.bytesLeft = fileByteCount.multipliedReportingOverflow(by: 16).partialValue

    let names = (0..<max(0, zip_get_num_entries(archive, 0))).compactMap { zip_get_name(archive, UInt64($0), 0).map { String(cString: $0) } }
    // From here on every property has a value, so an error runs `deinit`, which closes the archive.
    let pickle = names.first { $0 == Self.pickleName || $0.hasSuffix("/" + Self.pickleName) }
    folder = String((pickle ?? "").dropLast(Self.pickleName.count))
    guard pickle != nil else {
      throw ImportError(
        file: path, what: "this zip archive is no PyTorch file: it holds no data.pkl, but \(names.isEmpty ? "nothing" : listed(names))",
        remedy: "If the model is one of the files in it, unpack it.")
    }
    guard !names.contains(folder + "constants.pkl") else {
      throw ImportError(
        file: path, what: "this is a TorchScript program, not tensors",
        remedy: "In Python: torch.save(torch.jit.load(path).state_dict(), \"weights.pth\").")
    }
    if names.contains(folder + "byteorder"), try read("byteorder").withUnsafeBytes({ String(decoding: $0, as: UTF8.self) }) == "big" {
      throw ImportError(
        file: path, what: "it was written on a big-endian machine", remedy: "Load it in PyTorch on a little-endian machine and save it again.")
    }
  }

  deinit { zip_discard(archive) }

  /// The pickle that describes the object.
  func pickle() throws -> HostBytes { try read(Self.pickleName) }

  /// The bytes of a storage.
  func storage(_ storage: PickledStorage) throws -> StorageBytes {
    let bytes = try read("data/" + storage.key, expecting: storage.rootByteCount)
    return StorageBytes(bytes: bytes, byteOffset: 0, byteCount: bytes.count)
  }

  private func read(_ name: String, expecting expected: Int? = nil) throws -> HostBytes {
    func error(_ what: String) -> ImportError {
      ImportError(file: path, node: "entry \(quoted(folder + name))", what: what, remedy: ImportError.fetchAgain)
    }
    func reason() -> String { String(cString: zip_strerror(archive)) }
    var status = zip_stat_t()
    zip_stat_init(&status)
    guard zip_stat(archive, folder + name, 0, &status) == 0 else { throw error("it cannot be found in the archive (\(reason()))") }
    guard status.valid & UInt64(ZIP_STAT_SIZE) != 0, let count = Int(exactly: status.size) else { throw error("its size is not stated") }
    guard expected == nil || expected == count else { throw error("it has \(count) bytes, and its tensors need \(expected ?? 0)") }
    // Before anything is allocated: what an archive claims is not yet there.
    guard count <= bytesLeft else { throw error("it is said to unpack to \(count) bytes, far more than the file could hold") }
    bytesLeft -= count

    guard let entry = zip_fopen_index(archive, status.index, 0) else { throw error("it cannot be opened (\(reason()))") }
    defer { zip_fclose(entry) }
    return try HostBytes(count: count) { target in
      var filled = 0
      // One read past the end makes libzip compare the checksum.
      var probe: UInt8 = 0
      while true {
        let read =
          filled < count
          ? zip_fread(entry, target.baseAddress! + filled, UInt64(count - filled)) : zip_fread(entry, &probe, 1)
        guard read >= 0 else { throw error("it is damaged (\(String(cString: zip_file_strerror(entry))))") }
        if read == 0 { break }
        guard filled < count else { throw error("it is longer than stated") }
        filled += Int(read)
      }
      guard filled == count else { throw error("it ends after \(filled) of \(count) bytes") }
    }
  }
}
