import Foundation
import GraftBackbones
import GraftGraph

/// A training run's state on disk: one `.safetensors` that appears whole or not at all.
enum Checkpoint {
  private static let statePrefix = "state/", bestPrefix = "best/", headerKey = "graft_training"

  static func write(_ state: [(name: String, tensor: HostTensor)], best: [String: HostTensor], header: Data, to path: String) throws {
    let tensors = state.map { (name: statePrefix + $0.name, tensor: $0.tensor) } + best.map { (name: bestPrefix + $0.key, tensor: $0.value) }
    try SafetensorsFile.write(tensors: tensors, metadata: [headerKey: String(decoding: header, as: UTF8.self)], to: path)
  }

  /// - Throws: `FileError`, `ImportError`, `CheckpointError`.
  static func read(_ path: String) throws -> (state: [String: HostTensor], best: [String: HostTensor], header: Data) {
    let file = try SafetensorsFile(path: path)
    guard let header = file.metadata[headerKey] else { throw CheckpointError(path: path, problem: "it is no checkpoint of a training run") }
    var (state, best): ([String: HostTensor], [String: HostTensor]) = ([:], [:])
    for name in file.names {
      guard let tensor = file[name] else { continue }
      // Copied: the file is replaced while its numbers may still be needed.
      let copy = HostTensor(tensor.shape, tensor.floats())
      if name.hasPrefix(statePrefix) { state[String(name.dropFirst(statePrefix.count))] = copy }
      if name.hasPrefix(bestPrefix) { best[String(name.dropFirst(bestPrefix.count))] = copy }
    }
    return (state, best, Data(header.utf8))
  }
}

/// A checkpoint that can't be gone on from.
public struct CheckpointError: Error, CustomStringConvertible, Sendable {
  public let path: String
  public let problem: String
  public let remedy: String

  init(path: String, problem: String, remedy: String = "Remove it to train from the beginning.") {
    (self.path, self.problem, self.remedy) = (path, problem, remedy)
  }

  public var description: String { "\(path): \(problem). \(remedy)" }
}
