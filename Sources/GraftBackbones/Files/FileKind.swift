import GraftGraph

/// What a file is by its first bytes, whatever its name says.
enum FileKind: Equatable {
  case empty, html, gitLFSPointer, zip, gzip, tar, hdf5, safetensors, torchLegacy, pickle, numpy, json, unknown

  init(of bytes: HostBytes) {
    self = bytes.withUnsafeBytes { Self.kind(of: $0) }
  }

  private static func kind(of bytes: UnsafeRawBufferPointer) -> FileKind {
    func starts(with text: String, at offset: Int = 0) -> Bool {
      bytes.count >= offset && bytes[offset...].starts(with: text.utf8)
    }
    func starts(with signature: [UInt8]) -> Bool { bytes.starts(with: signature) }
    if bytes.isEmpty { return .empty }
    if starts(with: [0x50, 0x4B, 0x03, 0x04]) || starts(with: [0x50, 0x4B, 0x05, 0x06]) { return .zip }
    if starts(with: [0x1F, 0x8B]) { return .gzip }
    if starts(with: [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A]) { return .hdf5 }
    if starts(with: [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59]) { return .numpy }
    if starts(with: "version https://git-lfs") { return .gitLFSPointer }
    if starts(with: "ustar", at: 257) { return .tar }
    // The legacy form begins with a pickle of one 80-bit number; from protocol 4 on it is behind the length of its frame.
    let number = [0x8A, 0x0A] + PyTorchFile.magic
    if bytes.count > 2, bytes[0] == 0x80, bytes[2...].starts(with: number) || bytes.count > 11 && bytes[11...].starts(with: number) {
      return .torchLegacy
    }
    if bytes.count > 2, bytes[0] == 0x80, (2...5).contains(bytes[1]), bytes.last == UInt8(ascii: ".") { return .pickle }
    // A safetensors header is JSON behind its 64-bit length, of which no real header uses the upper half.
    if bytes.count > 8, bytes[8] == UInt8(ascii: "{"), bytes[4..<8].allSatisfy({ $0 == 0 }) { return .safetensors }
    let text = bytes.prefix(256).drop { [0x20, 0x09, 0x0A, 0x0D, 0xEF, 0xBB, 0xBF].contains($0) }
    if let first = text.first, first == UInt8(ascii: "<") {
      let head = String(decoding: text.prefix(64), as: UTF8.self).lowercased()
      if head.hasPrefix("<!doctype") || head.hasPrefix("<html") || head.hasPrefix("<?xml") { return .html }
    }
    if text.first == UInt8(ascii: "{"), text.dropFirst().first(where: { $0 > 0x20 }) == UInt8(ascii: "\"") { return .json }
    return .unknown
  }

  /// The error for a file of this kind where `expected` ("an ONNX model") should be; nil where the kind says nothing.
  func mismatch(file: String, expected: String) -> ImportError? {
    let (found, remedy): (String, String)
    switch self {
    case .empty: (found, remedy) = ("the file is empty", "Fetch it again.")
    case .html:
      (found, remedy) = ("this is a web page, not \(expected)", "The download link led to a page about the file; fetch the file itself.")
    case .gitLFSPointer:
      (found, remedy) = ("this is a Git LFS pointer, a few lines of text that stand for the file", "Run 'git lfs pull' where it came from.")
    case .zip: (found, remedy) = ("this is a zip archive, not \(expected)", "Unpack it, or, if it is a PyTorch file, name it .pth.")
    case .gzip: (found, remedy) = ("this is gzip-compressed, not \(expected)", "Unpack it with gunzip or tar first.")
    case .tar: (found, remedy) = ("this is a tar archive, not \(expected)", "Unpack it with tar first.")
    case .hdf5: (found, remedy) = ("this is an HDF5 file (Keras), not \(expected)", "Export the model as ONNX.")
    case .safetensors: (found, remedy) = ("this is a safetensors file, not \(expected)", "Name it .safetensors.")
    case .torchLegacy: (found, remedy) = ("this is a PyTorch file, not \(expected)", "Name it .pth.")
    case .pickle:
      (found, remedy) = ("this is a Python pickle, not \(expected)", "In Python, save the tensors with torch.save or safetensors.")
    case .numpy: (found, remedy) = ("this is a NumPy array, not \(expected)", "Check which file holds the model.")
    case .json: (found, remedy) = ("this is JSON text, not \(expected)", "Check which file holds the model.")
    case .unknown: return nil
    }
    return ImportError(file: file, what: found, remedy: remedy)
  }
}
