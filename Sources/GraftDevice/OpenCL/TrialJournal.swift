import Foundation
import Synchronization

/// What processes were trying on a device when they ended.
///
/// A driver's compiler may crash, and a kernel on unproven instructions may never end. What was being tried is on disk before it is
/// tried, so that a later process knows, and does without it instead of ending in the same way. A file a trial, in
/// `~/.cache/graft/trials`, with a line for each process that is at it or ended while it was. Where it cannot be written nothing is
/// known of earlier trials, and nothing else changes. A process that someone ends takes its lines back, except those of trials that have
/// lasted so long that they may be why.
package struct TrialJournal: Sendable {
  private let folder: URL
  /// This machine, when it was started, and whose process numbers these are: others' processes cannot be looked up.
  private static let place = ["/etc/machine-id", "/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"].map { path in
    let text = (try? FileManager.default.destinationOfSymbolicLink(atPath: path)) ?? (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
    return text.filter { !$0.isWhitespace && $0 != "/" }
  }.joined(separator: "/")
  private static let own = line(of: getpid())
  private struct UnderWay {
    var trials: [(journal: TrialJournal, path: String, since: ContinuousClock.Instant)] = []
    /// Whether what there was has been taken back: nothing is begun any more.
    var isOver = false
  }
  private static let underWay = Mutex(UnderWay())

  package init(environment: [String: String]) { folder = CacheFolder.url("trials", environment: environment) }

  /// Where a trial's file is, while there is one.
  package func path(_ trial: [String]) -> String { folder.appendingPathComponent(ProgramCache.key(trial), isDirectory: false).path }

  /// How many processes of this machine ended during the trial.
  package func unfinishedCount(_ trial: [String]) -> Int {
    let path = path(trial)
    // No trial takes that long: whoever began it, in a container of its own or on another machine, is not at it any more.
    var status = stat()
    let isOld = stat(path, &status) == 0 && time(nil) - status.st_mtim.tv_sec > Self.longestTrialSeconds
    return lines(path).count { isOld ? Self.parse($0) != nil : Self.isDead($0) }
  }
  private static let longestTrialSeconds = 3600

  /// Runs `body`; if the process ends in it, or the error is one that the device does not survive, the trial counts as unfinished.
  package func trying<Result>(_ trial: [String], isFatal: (any Error) -> Bool = { _ in false }, _ body: () throws -> Result) rethrows -> Result {
    let path = path(trial)
    Self.underWay.withLock { state in
      guard !state.isOver else { return }
      state.trials.append((self, path, .now))
      change(path) { $0 + [Self.own] }
    }
    func end(_ body: ([String]) -> [String]) {
      Self.underWay.withLock { state in
        guard let place = state.trials.firstIndex(where: { $0.path == path }) else { return }
        state.trials.remove(at: place)
        change(path, body)
      }
    }
    do {
      let result = try body()
      end { _ in [] }
      return result
    } catch {
      // What it was refused for is no reason to shun it; earlier ends are.
      end { isFatal(error) ? $0 : Self.withoutOwn($0) }
      throw error
    }
  }

  /// Takes back what this process is trying, and begins nothing more: someone is ending it, which says nothing of a trial.
  ///
  /// - Parameter limit: a trial that has lasted longer stays. None takes that long that comes to an end, as a rule.
  package static func withdraw(youngerThan limit: Duration = .seconds(10)) {
    // Whoever ends the process shall not wait for a disk that another thread is stuck on.
    for _ in 0..<100 {
      let isDone: Void? = underWay.withLockIfAvailable { state in
        for trial in state.trials where trial.since.duration(to: .now) < limit { trial.journal.change(trial.path, withoutOwn) }
        state = UnderWay(isOver: true)
      }
      if isDone != nil { return }
      usleep(10_000)
    }
  }

  private static func withoutOwn(_ lines: [String]) -> [String] {
    lines.firstIndex(of: own).map { Array(lines[..<$0] + lines[($0 + 1)...]) } ?? lines
  }

  private func lines(_ path: String) -> [String] {
    ((try? String(contentsOfFile: path, encoding: .utf8)) ?? "").split(separator: "\n").map(String.init)
  }

  /// Only while `underWay` is locked.
  private func change(_ path: String, _ body: ([String]) -> [String]) {
    let before = lines(path), after = body(before)
    guard after != before else { return }
    guard !after.isEmpty else {
      unlink(path)
      return
    }
    try? AtomicFile.makeDirectory(folder.path)
    try? AtomicFile.write(Array((after.joined(separator: "\n") + "\n").utf8), to: path, isDurable: true)
  }

  /// A process as a line: its number, when it began, and where.
  package static func line(of process: pid_t) -> String { "\(process) \(start(of: process)) \(place)" }

  /// Ticks since the machine started, the 22nd field; the second, a name, is in parentheses and may hold anything.
  private static func start(of process: pid_t) -> String {
    let text = (try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8)) ?? ""
    let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
    return fields.count > 20 ? String(fields[20]) : "?"
  }

  private static func parts(_ place: String) -> [Substring] { place.split(separator: "/", omittingEmptySubsequences: false) }

  private static func parse(_ line: String) -> (process: pid_t, start: Substring, place: Substring)? {
    let words = line.split(separator: " ", maxSplits: 2)
    return words.count == 3 ? pid_t(words[0]).map { ($0, words[1], words[2]) } : nil
  }

  private static func isDead(_ line: String) -> Bool {
    guard let (process, start, place) = parse(line) else { return false }
    // What was under way when the machine went down ended with it, and may be why it did.
    let (then, now) = (parts(String(place)), parts(Self.place))
    if then.count == 3, now.count == 3, !now[0].isEmpty, then[0] == now[0], then[1] != now[1] { return true }
    guard place == Self.place else { return false }
    return kill(process, 0) != 0 && errno == ESRCH || Self.start(of: process) != start
  }
}
