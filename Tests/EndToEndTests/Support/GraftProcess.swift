import Foundation
import Testing

/// The command as a user runs it.
struct GraftProcess {
  let process = Process()
  private let standardOutput: URL
  private let standardError: URL

  struct Outcome {
    let status: Int32
    let wasSignalled: Bool
    let output: String
    let messages: String

    func json() throws -> [String: Any] {
      try #require(JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any], "\(output)\(messages)")
    }
  }

  /// Beside the tests, where the build puts it.
  static let executable: URL = {
    let bundle = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath().deletingLastPathComponent()
    return [bundle, Bundle.module.bundleURL.deletingLastPathComponent()].map { $0.appendingPathComponent("graft") }
      .first { FileManager.default.isExecutableFile(atPath: $0.path) } ?? bundle.appendingPathComponent("graft")
  }()

  /// - Parameters:
  ///   - output: where standard output goes; by default a file that `wait` reads.
  ///   - largestFile: the most units of 512 bytes that a file it writes may have.
  init(
    _ arguments: [String], folder: TemporaryFolder, environment: [String: String] = [:], output: String? = nil, largestFile: Int? = nil
  ) throws {
    let name = UUID().uuidString
    (standardOutput, standardError) = (URL(fileURLWithPath: folder["\(name).out"]), URL(fileURLWithPath: folder["\(name).err"]))
    for url in [standardOutput, standardError] { _ = FileManager.default.createFile(atPath: url.path, contents: nil) }
    if let largestFile {
      process.executableURL = URL(fileURLWithPath: "/bin/sh")
      process.arguments = ["-c", "ulimit -f \(largestFile); exec \"$0\" \"$@\"", Self.executable.path] + arguments
    } else {
      process.executableURL = Self.executable
      process.arguments = arguments
    }
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { _, new in new }
    process.standardOutput = try FileHandle(forWritingTo: output.map { URL(fileURLWithPath: $0) } ?? standardOutput)
    process.standardError = try FileHandle(forWritingTo: standardError)
    try process.run()
  }

  var messages: String { (try? String(contentsOf: standardError, encoding: .utf8)) ?? "" }

  func wait() throws -> Outcome {
    process.waitUntilExit()
    return Outcome(
      status: process.terminationStatus, wasSignalled: process.terminationReason == .uncaughtSignal,
      output: try String(contentsOf: standardOutput, encoding: .utf8), messages: messages)
  }

  static func run(_ arguments: String..., in folder: TemporaryFolder, environment: [String: String] = [:]) throws -> Outcome {
    try GraftProcess(arguments, folder: folder, environment: environment).wait()
  }
}
