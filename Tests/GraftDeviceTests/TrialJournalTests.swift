import Foundation
import GraftDevice
import Testing

/// What is known, after a process ended, of what it was trying.
@Suite struct TrialJournalTests {
  private let folder: String
  private let journal: TrialJournal
  private let trial = ["a device", "matrix unit nobody"]

  init() throws {
    folder = NSTemporaryDirectory() + "trials-\(UUID().uuidString)"
    journal = TrialJournal(environment: ["GRAFT_CACHE": folder])
  }

  private struct Trouble: Error {}

  private func ended() throws -> pid_t {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sleep")
    process.arguments = ["0"]
    try process.run()
    process.waitUntilExit()
    return process.processIdentifier
  }

  private func write(_ lines: [String]) throws {
    let path = journal.path(trial)
    try FileManager.default.createDirectory(atPath: FilePath.folder(of: path), withIntermediateDirectories: true)
    try (lines.joined(separator: "\n") + "\n").write(toFile: path, atomically: true, encoding: .utf8)
  }

  private func isThere() -> Bool { FileManager.default.fileExists(atPath: journal.path(trial)) }

  @Test func aTrialIsOnDiskWhileItLasts() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let result = journal.trying(trial) {
      #expect(isThere() && journal.unfinishedCount(trial) == 0, "this process has not ended")
      return 7
    }
    #expect(result == 7 && !isThere())
    #expect(throws: Trouble.self) { try journal.trying(trial) { throw Trouble() } }
    #expect(!isThere(), "an error is an answer")
    #expect(throws: Trouble.self) { try journal.trying(trial, isFatal: { _ in true }) { throw Trouble() } }
    #expect(isThere())
  }

  @Test func processesThatEndedCountUntilOneIsThrough() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let dead = try (0..<2).map { _ in TrialJournal.line(of: try ended()) }
    try write(dead)
    #expect(journal.unfinishedCount(trial) == 2 && journal.unfinishedCount(["another"]) == 0)
    // Refused once more: the earlier ends stay.
    #expect(throws: Trouble.self) { try journal.trying(trial) { throw Trouble() } }
    #expect(journal.unfinishedCount(trial) == 2)
    journal.trying(trial) {}
    #expect(journal.unfinishedCount(trial) == 0 && !isThere())
  }

  /// A number that another process has by now, a machine whose processes cannot be looked up, and what is no line.
  @Test func onlyWhatIsKnownToHaveEndedCounts() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let own = TrialJournal.line(of: getpid()).split(separator: " ").map(String.init)
    try write([own.joined(separator: " "), "\(own[0]) \(own[1]) elsewhere", "nonsense", "", "x y \(own[2])"])
    #expect(journal.unfinishedCount(trial) == 0)
    try write(["\(own[0]) 1 \(own[2])"])
    #expect(journal.unfinishedCount(trial) == 1, "this number's process began at another time")
    // Before this machine was started the last time, where it can be told from others; another machine's process may still be at it.
    let place = own[2].split(separator: "/", omittingEmptySubsequences: false)
    try #require(place.count == 3)
    try write(["\(own[0]) \(own[1]) \(place[0])/earlier/\(place[2])", "\(own[0]) \(own[1]) other/earlier/\(place[2])"])
    #expect(journal.unfinishedCount(trial) == (place[0].isEmpty ? 0 : 1))
    // Nobody is at a trial for hours, wherever that was.
    try write(["\(own[0]) \(own[1]) elsewhere", "nonsense"])
    #expect(journal.unfinishedCount(trial) == 0)
    let path = journal.path(trial)
    try FileManager.default.setAttributes([.modificationDate: Date(timeIntervalSinceNow: -7200)], ofItemAtPath: path)
    #expect(journal.unfinishedCount(trial) == 1)
  }

  /// Someone who ends a process says nothing of what it was trying, unless that took too long.
  @Test func whoIsEndedTakesItsTrialsBack() async throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try write([TrialJournal.line(of: try ended())])
    for (name, isKept) in [("young", false), ("old", true)] {
      await #expect(processExitsWith: .exitCode(7)) { [folder = folder as String, name = name as String, isKept = isKept as Bool] in
        let journal = TrialJournal(environment: ["GRAFT_CACHE": folder]), trials = [["a device", "matrix unit nobody"], [name]]
        // The first had ended already: that line is another process's.
        try? journal.trying(["lost"], isFatal: { _ in true }) { throw Trouble() }
        journal.trying(trials[0]) {
          journal.trying(trials[1]) {
            TrialJournal.withdraw(youngerThan: isKept ? .zero : .seconds(3600))
            journal.trying(["later"]) { if access(journal.path(["later"]), F_OK) != 0 { _exit(7) } }
          }
        }
      }
      #expect((journal.unfinishedCount([name]) == 1) == isKept, "\(name)")
      #expect(journal.unfinishedCount(trial) == (isKept ? 2 : 1), "\(name)")
    }
    #expect(journal.unfinishedCount(["lost"]) == 2)
  }

  @Test func whereNothingCanBeWrittenNothingIsKnown() {
    let nowhere = TrialJournal(environment: ["GRAFT_CACHE": "/dev/null/graft"])
    #expect(nowhere.trying(trial) { 5 } == 5)
    #expect(nowhere.unfinishedCount(trial) == 0)
  }
}
