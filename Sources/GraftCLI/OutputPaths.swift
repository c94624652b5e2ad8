import ArgumentParser
import Foundation
import Graft

/// Makes sure, before anything is computed, that a command's results can be written, each to a file of its own.
///
/// - Throws: `FileError`; `ValidationError` for two results in one file.
func checkOutputs(_ paths: [String?]) throws {
  var known: Set<String> = []
  for path in paths.compactMap(\.self) {
    try AtomicFile.check(creating: path)
    // Streams take several results one after the other.
    guard let file = AtomicFile.file(of: path) else { continue }
    guard known.insert(file).inserted else { throw ValidationError("two results would go to \(path). Name a file of its own for each.") }
  }
}
