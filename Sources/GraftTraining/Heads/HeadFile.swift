import GraftBackbones
import GraftGraph

extension Head {
  /// Reads a head's file.
  ///
  /// - Throws: `FileError`, `ImportError`, `HeadError`.
  public init(path: String) throws {
    let file = try SafetensorsFile(path: path)
    if FineTunedModel.isOne(file) {
      throw HeadError(
        file: path, problem: "it is a fine-tuned model, whose head means nothing without the trained part of its backbone",
        remedy: "Give the head that it was tuned from, or use it with evaluate and predict.")
    }
    var tensors: [String: HostTensor] = [:]
    for name in file.names { tensors[name] = file[name] }
    try self.init(tensors: tensors, metadata: file.metadata, file: path)
  }

  /// Writes a head's file; it appears whole or not at all.
  ///
  /// - Throws: `FileError`, `HeadError`.
  public func write(to path: String) throws {
    let parts = try encoded()
    try SafetensorsFile.write(tensors: parts.tensors, metadata: parts.metadata, to: path)
  }
}
