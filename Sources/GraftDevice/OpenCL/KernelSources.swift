import COpenCL

/// The texts of `Kernels/` by path ("common/params.h", "gpu/gemm.cl"), and programs assembled from them.
///
/// OpenCL compiles one text, and a driver's search path is a matter of luck; so `#include "path"` is resolved here, with
/// paths from `Kernels/`.
package struct KernelSources: Sendable {
  private var texts: [String: String]

  package init(_ texts: [String: String] = [:]) { self.texts = texts }

  /// The sources inside the program.
  package static let embedded: KernelSources = {
    var texts: [String: String] = [:]
    for index in 0..<graft_kernel_source_count() {
      guard let path = graft_kernel_source_path(index), let text = graft_kernel_source(path) else { continue }
      texts[String(cString: path)] = String(cString: text)
    }
    return KernelSources(texts)
  }()

  /// Sorted.
  package var paths: [String] { texts.keys.sorted() }

  package func text(_ path: String) -> String? { texts[path] }

  /// These sources and one more, or another text for one of them.
  package func adding(_ path: String, _ text: String) -> KernelSources {
    var copy = self
    copy.texts[path] = text
    return copy
  }

  /// The text of `path` with every `#include "…"` replaced by the text it names, recursively.
  ///
  /// A file may be included several times (one that generates a tile from macros): guards are left to the compiler.
  /// `#line` keeps files and lines of the compiler's log those of the sources.
  ///
  /// - Throws: `KernelSourceError` for a file that is not there, and for one that includes itself.
  package func assemble(_ path: String) throws(KernelSourceError) -> String {
    var program = ""
    try append(path, includedFrom: [], to: &program)
    return program
  }

  private func append(_ path: String, includedFrom chain: [String], to program: inout String) throws(KernelSourceError) {
    guard !chain.contains(path) else { throw KernelSourceError(path: path, chain: chain, problem: .cycle) }
    guard let text = texts[path] else { throw KernelSourceError(path: path, chain: chain, problem: .missing(known: paths)) }
    program += "#line 1 \"\(path)\"\n"
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
      if let included = Self.includedPath(line) {
        try append(included, includedFrom: chain + [path], to: &program)
        program += "#line \(index + 2) \"\(path)\"\n"
      } else {
        program += line
        program += "\n"
      }
    }
  }

  /// `common/x.h` of `#include "common/x.h"`.
  private static func includedPath(_ line: Substring) -> String? {
    let words = line.drop(while: \.isWhitespace)
    guard words.first == "#" else { return nil }
    let directive = words.dropFirst().drop(while: \.isWhitespace)
    guard directive.hasPrefix("include") else { return nil }
    let operand = directive.dropFirst("include".count).drop(while: \.isWhitespace)
    guard operand.first == "\"", let end = operand.dropFirst().firstIndex(of: "\"") else { return nil }
    return String(operand.dropFirst()[..<end])
  }
}

/// A kernel source that cannot be put together: a mistake in `Kernels/`, not in a user's input.
package struct KernelSourceError: Error, CustomStringConvertible, Sendable {
  package enum Problem: Sendable, Equatable {
    case missing(known: [String])
    case cycle
  }

  package let path: String
  /// The files that led there, outermost first.
  package let chain: [String]
  package let problem: Problem

  package var description: String {
    let way = chain.isEmpty ? "" : ", included from \(chain.joined(separator: " → "))"
    switch problem {
    case .missing(let known):
      return "there is no kernel source \(path)\(way). Known are: \(known.joined(separator: ", ")). "
        + "A new file of Kernels/ needs an entry in Sources/COpenCL/kernel_sources.c."
    case .cycle:
      return "kernel source \(path) includes itself\(way)."
    }
  }
}
