import Foundation
import GraftGraph

extension Npy {
  /// Writes a tensor as a version-1 `.npy` file, byte for byte what NumPy 2 writes; a bfloat16 tensor as its bits (`<u2`).
  ///
  /// The file appears whole or not at all: see `AtomicFile`.
  ///
  /// - Throws: `FileError`.
  public static func write(_ tensor: HostTensor, to path: String) throws {
    let file = try AtomicFile(replacing: path)
    try NpyHeader(elementType: tensor.elementType, shape: tensor.shape).encoded().withUnsafeBytes { try file.append($0) }
    try tensor.withUnsafeBytes { bytes in try file.append(bytes) }
    try file.commit()
  }
}
