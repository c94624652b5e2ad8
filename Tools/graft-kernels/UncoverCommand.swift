import ArgumentParser
import Foundation
import GraftDevice

struct UncoverCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "uncover", abstract: "Make instructions of those that PTX has as comments: standard input to standard output.")

  func run() throws {
    let text = try PTXText.uncovering([UInt8](FileHandle.standardInput.readToEnd() ?? Data()))
    FileHandle.standardOutput.write(Data(text.dropLast()))
  }
}
