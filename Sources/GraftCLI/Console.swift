import ArgumentParser
import Foundation
import Graft

/// Where text goes: results to standard output, everything else to standard error.
struct Console: Sendable {
  let json: Bool
  let quiet: Bool
  /// Whether people see standard error as it happens: colours and a line that is rewritten are for them only.
  let isTerminal = isatty(STDERR_FILENO) == 1
  var usesColor: Bool {
    isTerminal && ProcessInfo.processInfo.environment["NO_COLOR"] == nil && ProcessInfo.processInfo.environment["TERM"] != "dumb"
  }

  /// A remark on standard error, unless --quiet.
  func note(_ text: String) {
    if !quiet { Console.standardError((usesColor ? "\u{1B}[2m\(text)\u{1B}[0m" : text) + "\n") }
  }

  /// Something the user should know even with --quiet.
  func warn(_ text: String) { Console.standardError((usesColor ? "\u{1B}[33mwarning:\u{1B}[0m " : "warning: ") + text + "\n") }

  /// The same of paths, how many there are and the first of them.
  func warn(_ paths: PathTally, one: String, more: String) {
    guard paths.count > 0 else { return }
    let first = paths.first.prefix(5).map(ImageFolder.shown).joined(separator: ", ")
    warn("\(paths.count) \(paths.count == 1 ? one : more): \(first)\(paths.count > 5 ? ", …" : "")")
  }

  /// Text on standard output, unless --json.
  func result(_ text: String) { if !json { print(text) } }

  /// The value on standard output, with --json: an object, or a list of them.
  func object(_ value: some Encodable) throws {
    guard json else { return }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.nonConformingFloatEncodingStrategy = .convertToString(positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN")
    print(String(decoding: try encoder.encode(value), as: UTF8.self))
  }

  /// What was printed goes out now; a result that could not be written is an error like any other.
  static func flush() throws { guard fflush(nil) == 0 else { throw FileError(path: "standard output", action: "write to", code: errno) } }

  static func standardError(_ text: String) { StandardError.write(text) }
}

/// A command whose errors become one line and an exit status.
protocol ReportingCommand: ParsableCommand {
  func execute() throws
}

extension ReportingCommand {
  func run() throws {
    Interruption.shared.install()
    do {
      try execute()
      try Console.flush()
    } catch let error as ExitCode {
      throw error
    } catch let error as ValidationError {
      // As the parser shows it, which by now would take it for one of the whole command.
      let usage = GraftCommand.usageString(for: Self.self), name = usage.prefix { $0 != "<" && $0 != "[" }.trimmingCharacters(in: .whitespaces)
      Console.standardError("Error: \(error.message)\nUsage: \(usage)\n  See '\(name) --help' for more information.\n")
      throw ExitCode.validationFailure
    } catch {
      let color = isatty(STDERR_FILENO) == 1 && ProcessInfo.processInfo.environment["NO_COLOR"] == nil
      Console.standardError((color ? "\u{1B}[31merror:\u{1B}[0m " : "error: ") + "\(error)\n")
      throw ExitCode(exitStatus(of: error))
    }
  }
}

/// sysexits(3): 65 bad data, 70 our fault, 74 input or output.
func exitStatus(of error: any Error) -> Int32 {
  switch error {
  case is FileError: 74
  case let error as ImageError where error.kind == .unreadable: 74
  case is ImportError, is ShapeError, is TensorError, is NpyError, is ImageError, is DataSetError, is StoreError, is BrokenImageError,
    is SkippedPicturesError:
    65
  case is HeadError, is TrainingDataError, is CheckpointError, is TrainingDivergedError, is DivergenceError, is GradientError, is EvaluationError,
    is ModelConfigurationError, is PreprocessingError:
    65
  case is PlanMemoryError: 65
  case is DeviceChoiceError, is ChipError, is TrainingOptionError, is OperationBenchmark.SizeError: 64
  case let error as DeviceError where error.isOfChoice: 64
  case is CancelledError: Interruption.shared.exitStatus
  default: 70
  }
}

/// 1234567 as "1.2 MB".
func byteText(_ count: Int) -> String {
  var value = Double(count)
  for unit in ["B", "KB", "MB", "GB"] {
    if value < 1000 { return unit == "B" ? "\(count) B" : String(format: value < 10 ? "%.2f \(unit)" : "%.1f \(unit)", value) }
    value /= 1000
  }
  return String(format: "%.1f TB", value)
}

/// Columns aligned with two spaces between them; numbers right.
func tableText(_ rows: [[String]], rightAligned: Set<Int> = []) -> String {
  let widths = (rows.first ?? []).indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
  return rows.map { row in
    row.enumerated().map { column, text in
      let padding = String(repeating: " ", count: widths[column] - text.count)
      return rightAligned.contains(column) ? padding + text : column == row.count - 1 ? text : text + padding
    }.joined(separator: "  ")
  }.joined(separator: "\n")
}
