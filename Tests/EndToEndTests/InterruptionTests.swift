import Foundation
import Graft
import Testing

/// Commands that a signal ends: at once, with the status shells have for it, and with no file half written.
@Suite(.serialized) struct InterruptionTests {
  private let model = Fixture.path("tiny.onnx")

  /// Starts a command, sends the signal once it computes, and says how it ended and how long that took.
  private func interrupt(_ arguments: [String], _ number: Int32, in folder: TemporaryFolder) throws -> (GraftProcess.Outcome, seconds: Double) {
    let process = try GraftProcess(arguments, folder: folder)
    let deadline = ContinuousClock.now + .seconds(60)
    while !process.messages.contains("device:"), process.process.isRunning, ContinuousClock.now < deadline { Thread.sleep(forTimeInterval: 0.001) }
    Thread.sleep(forTimeInterval: 0.1)
    try #require(process.process.isRunning, "it ended by itself: \(process.messages)")
    let start = ContinuousClock.now
    kill(process.process.processIdentifier, number)
    let outcome = try process.wait()
    return (outcome, (ContinuousClock.now - start) / .seconds(1))
  }

  private func check(_ outcome: (GraftProcess.Outcome, seconds: Double), _ number: Int32, _ words: String) {
    let (ended, seconds) = outcome
    #expect(!ended.wasSignalled && ended.status == 128 + number, "\(ended.status) \(ended.messages)")
    #expect(ended.messages.contains("stopped. \(words)"), "\(ended.messages)")
    #expect(ended.output.isEmpty)
    // Far less than any of the commands would have gone on for; this machine may be busy.
    #expect(seconds < 10, "\(seconds) s")
  }

  @Test(arguments: [SIGINT, SIGTERM, SIGHUP]) func bench(_ number: Int32) throws {
    let folder = try TemporaryFolder()
    check(
      try interrupt(["bench", model, "--device", "cpu", "--seconds", "600", "--json"], number, in: folder), number, "Run the same command again.")
  }

  @Test(arguments: [SIGINT, SIGTERM]) func train(_ number: Int32) throws {
    let folder = try TemporaryFolder()
    var generator = Generator(3)
    // Labels that no feature tells, and a tolerance that no solver reaches.
    try Npy.write(HostTensor([4000, 256], (0..<4000 * 256).map { _ in Float.random(in: -1...1, using: &generator) }), to: folder["x.npy"])
    try Npy.write(HostTensor([4000], integers: (0..<4000).map { _ in Int64.random(in: 0..<50, using: &generator) }), to: folder["y.npy"])
    _ = try FeatureStore.importing(features: folder["x.npy"], labels: folder["y.npy"], output: folder["store"])
    try Data("the head before".utf8).write(to: URL(fileURLWithPath: folder["head.safetensors"]))
    let train = [
      "train", folder["store"], "--output", folder["head.safetensors"], "--device", "cpu", "--l2", "1e-9,1e-8,1e-7,1e-6", "--tolerance", "1e-30",
      "--max-iterations", "100000000",
    ]
    check(try interrupt(train, number, in: folder), number, "No head was written; run the same command again.")
    #expect(try String(contentsOfFile: folder["head.safetensors"], encoding: .utf8) == "the head before")
    #expect(try unfinishedFiles(in: folder) == [])
  }

  /// Blocked while it writes: a pipe that nobody reads.
  @Test(arguments: [SIGINT, SIGTERM]) func run(_ number: Int32) throws {
    let folder = try TemporaryFolder()
    try Npy.write(HostTensor([2, 3, 32, 32], Array(repeating: 0.5, count: 6144)), to: folder["x.npy"])
    try #require(mkfifo(folder["y.npy"], 0o600) == 0)
    let run = ["run", model, "--input", folder["x.npy"], "--output", folder["y.npy"], "--device", "cpu"]
    check(try interrupt(run, number, in: folder), number, "No \(folder["y.npy"]) was written")
    #expect(try unfinishedFiles(in: folder) == [])
  }

  /// A signal that comes after the last row at the new cut was computed still ends the command, before it trains.
  @Test func finetune() throws {
    let folder = try TemporaryFolder()
    try Photos.write(to: folder["photos"], count: 14)
    let extract = ["extract", "--backbone", model, "--data", folder["photos"], "--output", folder["store"], "--device", "cpu"]
    #expect(try GraftProcess(extract, folder: folder).wait().status == 0)
    let train = ["train", folder["store"], "--output", folder["head.safetensors"], "--l2", "0.001", "--device", "cpu"]
    #expect(try GraftProcess(train, folder: folder).wait().status == 0)
    // Several times: when the rows' file is there, what is left takes some milliseconds.
    for index in 0..<4 {
      let cut = folder["cut\(index)"], output = folder["tuned\(index).safetensors"]
      let tune = [
        "finetune", folder["head.safetensors"], folder["store"], "--output", output, "--cut-store", cut, "--epochs", "2", "--device", "cpu",
      ]
      let process = try GraftProcess(tune, folder: folder), deadline = ContinuousClock.now + .seconds(60)
      while access(cut + "/shards/000000.npy", F_OK) != 0, process.process.isRunning, ContinuousClock.now < deadline {}
      kill(process.process.processIdentifier, SIGINT)
      let outcome = try process.wait()
      #expect(outcome.status == 130 && outcome.messages.contains("stopped."), "\(outcome.status) \(outcome.messages)")
      #expect(!FileManager.default.fileExists(atPath: output))
    }
  }

  /// Images come in the order of their folders: what a store holds before its end is not what anyone meant to train on.
  @Test func anUnfinishedStoreIsTold() throws {
    let folder = try TemporaryFolder()
    try Photos.write(to: folder["photos"], count: 100, side: 200)
    let extract = [
      "extract", "--backbone", model, "--data", folder["photos"], "--output", folder["store"], "--device", "cpu", "--shard-rows", "8",
    ]
    let train = ["train", folder["store"], "--output", folder["head.safetensors"], "--device", "cpu", "--quiet"]
    let process = try GraftProcess(extract, folder: folder), deadline = ContinuousClock.now + .seconds(60)
    while !FileManager.default.fileExists(atPath: folder["store/shards/000002.npy"]), ContinuousClock.now < deadline {
      Thread.sleep(forTimeInterval: 0.001)
    }
    // While it runs, and once it was killed.
    kill(process.process.processIdentifier, SIGSTOP)
    #expect(try GraftProcess(train, folder: folder).wait().messages.contains("store is unfinished"))
    kill(process.process.processIdentifier, SIGKILL)
    _ = try process.wait()
    for command in [train, ["curve", folder["store"], "--output", folder["curve.svg"], "--device", "cpu"]] {
      let outcome = try GraftProcess(command, folder: folder).wait()
      #expect(outcome.messages.contains("of 300 samples"), "\(outcome.messages)")
    }
    // The same command again ends it, and what has a row already is not marked.
    #expect(try GraftProcess(extract, folder: folder).wait().status == 0)
    let outcome = try GraftProcess(train, folder: folder).wait()
    #expect(outcome.status == 0 && !outcome.messages.contains("unfinished"), "\(outcome.messages)")
  }

  /// Someone who does not wait: whenever the signals come, the store is whole and the next run goes on with it.
  @Test func severalSignals() throws {
    let folder = try TemporaryFolder()
    try Photos.write(to: folder["photos"], count: 100, side: 200)
    let extract = [
      "extract", "--backbone", model, "--data", folder["photos"], "--output", folder["store"], "--device", "cpu", "--shard-rows", "8", "--json",
    ]
    let process = try GraftProcess(extract, folder: folder)
    let deadline = ContinuousClock.now + .seconds(60)
    while !process.messages.contains("cut:"), process.process.isRunning, ContinuousClock.now < deadline { Thread.sleep(forTimeInterval: 0.001) }
    while process.process.isRunning {
      kill(process.process.processIdentifier, SIGINT)
      Thread.sleep(forTimeInterval: 0.002)
    }
    let ended = try process.wait()
    #expect(!ended.wasSignalled && ended.status == 130 && ended.messages.contains("stopped."), "\(ended.status) \(ended.messages)")
    let report = try GraftProcess(extract, folder: folder).wait().json()
    #expect((report["extracted"] as? Int ?? 0) + (report["reused"] as? Int ?? 0) == 300)
    try FeatureStore.open(reading: folder["store"]).verify()
  }

  private func unfinishedFiles(in folder: TemporaryFolder) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".part") }
  }
}
