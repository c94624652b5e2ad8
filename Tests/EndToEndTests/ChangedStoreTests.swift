import Foundation
import Graft
import Testing

/// Fine-tuned models where the store that they came of, or its pictures, change afterwards.
@Suite(.serialized) struct ChangedStoreTests {
  private let folder: TemporaryFolder
  private var store: String { folder["store"] }
  private var tuned: String { folder["tuned.safetensors"] }

  init() throws { folder = try TemporaryFolder() }

  private func run(_ arguments: [String], status: Int32 = 0) throws -> GraftProcess.Outcome {
    let outcome = try GraftProcess(arguments + ["--device", "cpu"], folder: folder).wait()
    #expect(!outcome.wasSignalled && outcome.status == status, "\(arguments.first ?? ""): \(outcome.status), \(outcome.messages)")
    return outcome
  }

  private func extract(_ options: [String] = []) throws {
    _ = try run(["extract", "--backbone", Fixture.path("tiny.onnx"), "--data", folder["photos"], "--output", store] + options)
  }

  private func train() throws { _ = try run(["train", store, "--output", folder["head.safetensors"], "--l2", "0.001"]) }

  private func finetune(_ part: String, status: Int32 = 0, _ options: [String] = []) throws -> GraftProcess.Outcome {
    let files = [folder["head.safetensors"], store, "--output", tuned]
    let common = ["--unfreeze", part, "--epochs", "2", "--learning-rate", "1e-4", "--batch-size", "8", "--json"]
    return try run(["finetune"] + files + common + options, status: status)
  }

  private func evaluate(_ options: [String] = []) throws -> (samples: Int, top1: Double) {
    let report = try run(["evaluate", tuned, store, "--json"] + options).json()
    return (try #require(report["samples"] as? Int), try #require(report["top1"] as? Double))
  }

  private func swap(_ one: String, _ other: String) throws {
    let files = FileManager.default
    try files.moveItem(atPath: folder["photos/\(one)"], toPath: folder["aside"])
    try files.moveItem(atPath: folder["photos/\(other)"], toPath: folder["photos/\(one)"])
    try files.moveItem(atPath: folder["aside"], toPath: folder["photos/\(other)"])
  }

  /// Rows come from the store at the cut; which samples there are, their labels and their splits are the store's that is named.
  @Test func evaluationIsOfTheStoreAsItIs() throws {
    try Photos.write(to: folder["photos"], count: 14)
    try extract()
    try train()
    _ = try finetune("1")
    let before = try evaluate()
    #expect(before.top1 > 0.8)

    try swap("grass", "red brick")
    try extract()
    let swapped = try evaluate()
    #expect(swapped.samples == before.samples && swapped.top1 < 0.5, "\(swapped)")
    // Training, too, is by the store's labels: the head as it came has them wrong now.
    let report = try finetune("1", ["--learning-rate", "1e-12"]).json()
    let epochs = try #require(report["epochs"] as? [[String: Any]])
    #expect(try #require(epochs.first?["train_top1"] as? Double) < 0.5)

    try swap("grass", "red brick")
    try extract(["--seed", "9"])
    let drawn = try FeatureStore.open(reading: store).samples(split: "test").count
    #expect(drawn != before.samples)
    #expect(try evaluate().samples == drawn)
    try FileManager.default.removeItem(atPath: folder["photos/grass"])
    try extract()
    let left = try FeatureStore.open(reading: store).samples(split: "test").count
    #expect(left < drawn)
    #expect(try evaluate().samples == left)
    // What the store at the cut lacks is not passed over.
    try Photos.write(to: folder["photos"], count: 14, seed: 1)
    try extract()
    let missing = try run(["evaluate", tuned, store], status: 65)
    #expect(missing.messages.contains("has no rows of") && missing.messages.contains("graft finetune"), "\(missing.messages)")
    _ = try finetune("1")
    #expect(try evaluate().samples == FeatureStore.open(reading: store).samples(split: "test").count)
  }

  /// Ends a command as soon as its checkpoint is there.
  private func kill(_ arguments: [String], checkpoint: String) throws {
    let process = try GraftProcess(arguments, folder: folder), deadline = ContinuousClock.now + .seconds(60)
    while !FileManager.default.fileExists(atPath: checkpoint), ContinuousClock.now < deadline { Thread.sleep(forTimeInterval: 0.001) }
    Foundation.kill(process.process.processIdentifier, SIGKILL)
    _ = try process.wait()
  }

  /// The same number of samples with other labels, or of other pictures, is another run.
  @Test func checkpointsKnowTheirData() throws {
    try Photos.write(to: folder["photos"], count: 6)
    try extract()
    try train()
    let finetune = ["finetune", folder["head.safetensors"], store, "--output", tuned, "--epochs", "400", "--batch-size", "4", "--device", "cpu"]
    try kill(finetune, checkpoint: tuned + ".checkpoint")
    try swap("grass", "red brick")
    try extract()
    #expect(try run(finetune, status: 65).messages.contains("other data or options"))
    try swap("grass", "red brick")
    try extract()
    #expect(try run(finetune).messages.contains("going on after epoch"))

    let own = folder["own.safetensors"]
    let pretrain = [
      "pretrain", "--architecture", "resnet_tiny", "--data", folder["photos"], "--output", own, "--input-size", "16", "--batch-size", "8", "--epochs",
      "40", "--device", "cpu",
    ]
    try kill(pretrain, checkpoint: own + ".checkpoint")
    try swap("grass", "red brick")
    #expect(try run(pretrain, status: 65).messages.contains("other data or options"))
    try swap("grass", "red brick")
    #expect(try run(pretrain).messages.contains("going on after epoch"))
  }

  /// What is computed at the new cut are the store's samples, not all that its folder holds.
  @Test func someOfTheClassesAreFinetuned() throws {
    try Photos.write(to: folder["photos"], count: 8)
    try extract(["--classes", "grass,red brick"])
    try train()
    let cutStore = try #require(try finetune("1").json()["cut_store"] as? String)
    let (samples, rows) = (try FeatureStore.open(reading: store), try FeatureStore.open(reading: cutStore))
    #expect(rows.classNames == ["grass", "red brick"])
    for split in ["train", "test"] { #expect(rows.samples(split: split).count == samples.samples(split: split).count) }
    #expect(try evaluate().samples == samples.samples(split: "test").count)
  }

  /// A name with a comma stands in quotes, as in a table.
  @Test func aClassMayHaveAComma() throws {
    try Photos.write(to: folder["photos"], count: 4)
    try FileManager.default.moveItem(atPath: folder["photos/grass"], toPath: folder["photos/grass, \"green\""])
    try extract(["--classes", #""grass, ""green""",red brick"#])
    #expect(try FeatureStore.open(reading: store).classNames == ["grass, \"green\"", "red brick"])
    let source = ["extract", "--backbone", Fixture.path("tiny.onnx"), "--data", folder["photos"], "--output", folder["other"]]
    #expect(try run(source + ["--classes", "\"grass"], status: 64).messages.contains("in double quotes"))
  }

  @Test func theTableOfLabelsMayBeGone() throws {
    try Photos.write(to: folder["photos"], count: 8)
    let lines = Photos.classes.flatMap { name in (0..<8).map { "\(name)/0-\($0).tiff,\(name == "grass" ? "green" : "other")" } }
    try (["path,label"] + lines).joined(separator: "\n").write(toFile: folder["labels.csv"], atomically: true, encoding: .utf8)
    try extract(["--labels", folder["labels.csv"]])
    try train()
    try FileManager.default.removeItem(atPath: folder["labels.csv"])
    _ = try finetune("1")
    #expect(try evaluate().top1 > 0.8)
  }

  /// What is trained on, and scored, are the pictures that the store was made of.
  @Test func picturesThatChangedAreRefused() throws {
    try Photos.write(to: folder["photos"], count: 8)
    try extract()
    try train()
    _ = try finetune("all")
    let files = FileManager.default, opened = try FeatureStore.open(reading: store)
    for (split, command) in [("train", "finetune"), ("test", "evaluate")] {
      let sample = try #require(opened.samples(split: split).first), last = try #require(opened.samples(split: "train").last)
      let name = try #require(try opened.path(of: sample)), other = try #require(try opened.path(of: last))
      func check(_ words: String, status: Int32) throws {
        let outcome =
          command == "finetune" ? try finetune("all", status: status) : try run(["evaluate", tuned, store], status: status)
        #expect(outcome.messages.contains(name) && outcome.messages.contains(words), "\(outcome.messages)")
        #expect(outcome.messages.contains("graft extract"), "\(outcome.messages)")
      }
      try files.moveItem(atPath: folder["photos/\(name)"], toPath: folder["aside"])
      try check("cannot read it", status: 74)
      try files.copyItem(atPath: folder["photos/\(other)"], toPath: folder["photos/\(name)"])
      try check("another picture", status: 65)
      // At a cut, a row that is to be computed now.
      if command == "finetune" {
        let outcome = try finetune("1", status: 65)
        #expect(outcome.messages.contains(name) && outcome.messages.contains("graft extract"), "\(outcome.messages)")
      }
      try files.removeItem(atPath: folder["photos/\(name)"])
      try files.moveItem(atPath: folder["aside"], toPath: folder["photos/\(name)"])
    }
  }

  @Test func rowsInAnotherFormatAreNotMixed() throws {
    try Photos.write(to: folder["photos"], count: 8)
    try extract()
    try train()
    _ = try finetune("1", ["--feature-type", "float32"])
    let outcome = try finetune("1", status: 65)
    #expect(outcome.messages.contains("number format") && outcome.messages.contains("--cut-store"), "\(outcome.messages)")
    #expect(!outcome.messages.contains("--rebuild"))
    _ = try finetune("1", ["--cut-store", folder["half"]])
  }

  @Test func picturesMayHaveMoved() throws {
    try Photos.write(to: folder["photos"], count: 8)
    try extract()
    try train()
    _ = try finetune("all")
    let before = try evaluate()
    try FileManager.default.moveItem(atPath: folder["photos"], toPath: folder["moved"])
    #expect(try run(["evaluate", tuned, store], status: 65).messages.contains("--data"))
    #expect(try evaluate(["--data", folder["moved"]]) == before)
    _ = try finetune("1", ["--data", folder["moved"]])
  }
}
