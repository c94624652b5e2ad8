import Dispatch
import Foundation
import Graft
import Synchronization

/// What Ctrl-C, SIGTERM and a closed terminal do to a command.
///
/// As a rule it ends at once: unfinished files are removed, trials taken back, a sentence says what is left, and the exit status is 128 plus the
/// signal's number, as shells have it. A command that would lose work defers: the first signal then sets a flag, which asks
/// it to end cleanly, and the second ends the process.
final class Interruption: Sendable {
  static let shared = Interruption()

  private struct State {
    var sources: [any DispatchSourceSignal] = []
    /// Set while a signal is only a request.
    var flag: CancellationFlag?
    /// Where it is said that the request was heard.
    var console: Console?
    var remedy = Interruption.generalRemedy
    /// The last signal that came.
    var signal: Int32 = SIGINT
  }

  private static let generalRemedy = "Run the same command again."
  private let state = Mutex(State())
  // A queue of its own has a thread of its own, however busy the others are.
  private let queue = DispatchQueue(label: "signals", qos: .userInteractive)

  /// Begins to listen; once, before the command's work.
  func install() {
    // A limit on the size of files shall be an error that can be told, not the end of the process.
    signal(SIGXFSZ, SIG_IGN)
    state.withLock { state in
      guard state.sources.isEmpty else { return }
      for number in [SIGINT, SIGTERM, SIGHUP] {
        let previous = signal(number, SIG_IGN)
        // Under nohup a closed terminal is no reason to end.
        if number == SIGHUP, unsafeBitCast(previous, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self) { continue }
        let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
        source.setEventHandler { [self] in receive(number) }
        source.resume()
        state.sources.append(source)
      }
    }
  }

  /// Says what a user whose command is ended can do; `nil` for the sentence that holds for most.
  func setRemedy(_ text: String?) { state.withLock { $0.remedy = text ?? Self.generalRemedy } }

  /// Runs `body` with a flag that the first signal sets; until it returns, only the second ends the process.
  ///
  /// - Parameter remedy: of a command that has work left after `body`: what is kept if the signal came too late for `body` to see it.
  /// - Throws: what `body` throws; `CancelledError` in that case.
  func deferring<Result>(_ console: Console, goingOn remedy: String? = nil, _ body: (CancellationFlag) throws -> Result) throws -> Result {
    let flag = CancellationFlag()
    state.withLock { ($0.flag, $0.console) = (flag, console) }
    defer { state.withLock { ($0.flag, $0.console) = (nil, nil) } }
    let result = try body(flag)
    // From here on a signal ends the process itself.
    state.withLock { $0.flag = nil }
    if let remedy, flag.isCancelled { throw CancelledError(remedy: remedy) }
    return result
  }

  /// The exit status of a command that a signal has ended.
  var exitStatus: Int32 { 128 + state.withLock { $0.signal } }

  private func receive(_ number: Int32) {
    let (remedy, console) = state.withLock { state -> (String?, Console?) in
      state.signal = number
      guard let flag = state.flag, !flag.isCancelled else { return (state.remedy, nil) }
      flag.cancel()
      return (nil, state.console)
    }
    let lineStart = isatty(STDERR_FILENO) == 1 ? "\r\u{1B}[K" : ""
    guard let remedy else {
      console?.note(lineStart + "stopping after this step; Ctrl-C again ends at once")
      return
    }
    UnfinishedFiles.removeAll()
    TrialJournal.withdraw()
    Console.standardError(lineStart + "error: stopped. \(remedy)\n")
    _exit(128 + number)
  }
}
