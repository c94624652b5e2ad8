import Foundation

/// PTX as NVIDIA's driver gives a program's binary, and takes it back.
///
/// The compiler of OpenCL C makes code for a chip's common instructions: those of `sm_90a` it has no target for, and refuses in
/// assembly. Kernels therefore show them to it as comments, which reach the PTX with the names of its registers in them, in lines that
/// begin with `//!` (`Kernels/gpu/matrix_group.h`).
package enum PTXText {
  /// Why a binary is not what is needed.
  package enum Failure: Error, CustomStringConvertible, Equatable {
    case notPTX
    case otherTarget(String)
    case nothingHidden

    package var description: String {
      switch self {
      case .notPTX: "The driver's binary is not PTX."
      case .otherTarget(let target): "The driver compiles for \(target), not for sm_90."
      case .nothingHidden: "The driver's PTX has none of the lines that hold the instructions of groups of warps."
      }
    }
  }

  /// Changes with what is made of a driver's text: programs that are kept, and findings about them, hold for one.
  static let revision = "PTX 1"

  /// The version of the language that has the instructions.
  private static let leastVersion = (major: 8, minor: 0)

  /// The text with its hidden lines uncovered, for `sm_90a`.
  package static func uncovering(_ binary: [UInt8]) throws(Failure) -> [UInt8] {
    // Some drivers end it as C does.
    let text = String(decoding: binary.prefix { $0 != 0 }, as: UTF8.self)
    var (target, hasVersion, uncovered): (String?, Bool, Int) = (nil, false, 0)
    var lines: [Substring] = []
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      let words = line.drop { $0 == " " || $0 == "\t" }
      if words.hasPrefix("//!") {
        lines.append(words.dropFirst(3))
        uncovered += 1
      } else if words.hasPrefix(".version") {
        hasVersion = true
        lines.append(isOlder(words.dropFirst(".version".count)) ? ".version \(leastVersion.major).\(leastVersion.minor)" : line)
      } else if target == nil, words.hasPrefix(".target") {
        let options = words.dropFirst(".target".count).split(separator: ",", omittingEmptySubsequences: false)
        let chip = options.first.map { $0.filter { !$0.isWhitespace } } ?? ""
        target = chip
        lines.append(([".target sm_90a"] + options.dropFirst().map(String.init)).joined(separator: ",")[...])
      } else {
        lines.append(line)
      }
    }
    guard hasVersion, let target else { throw .notPTX }
    guard target == "sm_90" || target == "sm_90a" else { throw .otherTarget(target) }
    guard uncovered > 0 else { throw .nothingHidden }
    return Array(lines.joined(separator: "\n").utf8) + [0]
  }

  private static func isOlder(_ version: Substring) -> Bool {
    let numbers = version.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
    return numbers.count == 2 && (numbers[0], numbers[1]) < leastVersion
  }
}
