import Foundation
import Graft
import Testing

/// Fine-tuning and training from scratch as a user does them.
@Suite(.serialized) struct FinetuneCommandTests {
  private let model = Fixture.path("tiny.onnx")

  /// A store and a head of three classes.
  private func prepare(_ folder: TemporaryFolder, count: Int = 14) throws {
    try Photos.write(to: folder["photos"], count: count)
    let extracted = try GraftProcess.run(
      "extract", "--backbone", model, "--data", folder["photos"], "--output", folder["store"], "--device", "cpu", in: folder)
    #expect(extracted.status == 0, "\(extracted.messages)")
    let trained = try GraftProcess.run(
      "train", folder["store"], "--output", folder["head.safetensors"], "--l2", "0.001", "--device", "cpu", in: folder)
    #expect(trained.status == 0, "\(trained.messages)")
  }

  @Test(arguments: ["1", "all"]) func theWholeJob(_ part: String) throws {
    let folder = try TemporaryFolder()
    try prepare(folder)
    let tune = [
      "finetune", folder["head.safetensors"], folder["store"], "--unfreeze", part, "--output", folder["tuned.safetensors"], "--epochs", "4",
      "--learning-rate", "1e-3", "--batch-size", "8", "--device", "cpu", "--csv", folder["log.csv"],
    ]
    let dry = try GraftProcess(tune + ["--dry-run"], folder: folder).wait()
    #expect(dry.status == 0 && dry.output.contains("trained") && !FileManager.default.fileExists(atPath: folder["tuned.safetensors"]))
    let withoutOutput = tune.filter { $0 != "--output" && $0 != folder["tuned.safetensors"] }
    let told = try GraftProcess(withoutOutput + ["--dry-run", "--json", "--quiet"], folder: folder).wait()
    #expect(told.status == 0 && told.messages.isEmpty, "\(told.messages)")
    let outline = try told.json()
    #expect((outline["cut"] as? String == "image") == (part == "all") && (outline["cut_store"] == nil) == (part == "all"))
    #expect((outline["bytes"] as? Int == 0) == (part == "all") && outline["cut_shape"] != nil)
    // Found before anything is computed.
    let normalised = try GraftProcess(tune + ["--normalisation", "batch", "--dry-run"], folder: folder).wait()
    #expect(normalised.status == 65 && normalised.messages.contains("no batch normalisation"), "\(normalised.messages)")
    let tuned = try GraftProcess(tune + ["--json"], folder: folder).wait()
    #expect(tuned.status == 0, "\(tuned.messages)")
    let report = try tuned.json(), epochs = try #require(report["epochs"] as? [[String: Any]])
    let losses = epochs.compactMap { $0["train_loss"] as? Double }
    #expect(losses.count == 4 && losses[3] < losses[0], "\(losses)")
    #expect((report["cut"] as? String == "image") == (part == "all"))
    #expect(report["parameters"] as? Int == outline["parameters"] as? Int && report["samples"] as? Int == outline["samples"] as? Int)
    #expect(try String(contentsOfFile: folder["log.csv"], encoding: .utf8).split(separator: "\n").count == 5)
    #expect(!FileManager.default.fileExists(atPath: folder["tuned.safetensors.checkpoint"]))

    let scored = try GraftProcess.run("evaluate", folder["tuned.safetensors"], folder["store"], "--device", "cpu", "--json", in: folder)
    #expect(scored.status == 0, "\(scored.messages)")
    let top1 = try #require(try scored.json()["top1"] as? Double)
    #expect(top1 > 0.8)
    let picture = folder["photos/red brick/0-3.tiff"]
    let predicted = try GraftProcess.run("predict", folder["tuned.safetensors"], picture, "--device", "cpu", "--json", in: folder)
    let predictions = try #require(JSONSerialization.jsonObject(with: Data(predicted.output.utf8)) as? [[String: Any]], "\(predicted.messages)")
    #expect((predictions.first?["predictions"] as? [[String: Any]])?.first?["label"] as? String == "red brick")
    // Its head alone means nothing.
    let refused = try GraftProcess(["finetune", folder["tuned.safetensors"]] + tune[2...], folder: folder).wait()
    #expect(refused.status == 65 && refused.messages.contains("fine-tuned model"), "\(refused.messages)")
  }

  /// A pattern's cut is the last one before what it names, also where a file calls nodes and values differently.
  @Test func patternsMoveTheCutNoFurther() throws {
    let folder = try TemporaryFolder()
    try prepare(folder, count: 6)
    let tune = ["finetune", folder["head.safetensors"], folder["store"], "--output", folder["t.safetensors"], "--epochs", "2", "--device", "cpu"]
    for (pattern, cut) in [("w2", "r1"), ("b2", "r1"), ("w*", "image")] {
      let report = try GraftProcess(tune + ["--unfreeze", pattern, "--json"], folder: folder).wait().json()
      #expect(report["cut"] as? String == cut, "\(pattern)")
    }
  }

  /// A checkpoint is gone on from by the run that it belongs to: not with another head, nor another part unfrozen.
  @Test func refusesAnotherRunsCheckpoint() throws {
    let folder = try TemporaryFolder()
    try prepare(folder, count: 6)
    let head = folder["head.safetensors"], output = folder["t.safetensors"]
    let tune = ["finetune", head, folder["store"], "--output", output, "--epochs", "400", "--batch-size", "4", "--device", "cpu"]
    let process = try GraftProcess(tune + ["--unfreeze", "w2"], folder: folder)
    let deadline = ContinuousClock.now + .seconds(60)
    while !FileManager.default.fileExists(atPath: output + ".checkpoint"), ContinuousClock.now < deadline { Thread.sleep(forTimeInterval: 0.001) }
    kill(process.process.processIdentifier, SIGKILL)
    _ = try process.wait()
    let other = try GraftProcess(tune + ["--unfreeze", "b2"], folder: folder).wait()
    #expect(other.status == 65 && other.messages.contains("another output"), "\(other.messages)")
    let wider = try GraftProcess(tune + ["--unfreeze", "w2", "--feature-type", "float32", "--cut-store", folder["wide"]], folder: folder).wait()
    #expect(wider.status == 65 && wider.messages.contains("another output"), "\(wider.messages)")
    let trained = try GraftProcess.run("train", folder["store"], "--output", head, "--l2", "0.1", "--device", "cpu", in: folder)
    #expect(trained.status == 0)
    let changed = try GraftProcess(tune + ["--unfreeze", "w2"], folder: folder).wait()
    #expect(changed.status == 65 && changed.messages.contains("another output"), "\(changed.messages)")
  }

  /// α of ridge is no λ: the weights of a head that was fitted with a large one grow, as cross-entropy wants them to, and do not vanish.
  @Test func ridgeHeadsAreNotUndone() throws {
    let folder = try TemporaryFolder()
    try prepare(folder)
    let head = folder["ridge.safetensors"], tuned = folder["tuned.safetensors"]
    let train = ["train", folder["store"], "--head", "ridge", "--alpha", "1000", "--normalise", "standardise", "--output", head]
    #expect(try GraftProcess(train + ["--device", "cpu"], folder: folder).wait().status == 0)
    let tune = ["finetune", head, folder["store"], "--output", tuned, "--epochs", "4", "--optimizer", "sgd", "--learning-rate", "1e-4"]
    let outcome = try GraftProcess(tune + ["--batch-size", "8", "--device", "cpu"], folder: folder).wait()
    #expect(outcome.status == 0, "\(outcome.messages)")
    func squares(_ file: String) throws -> Double {
      try #require(try SafetensorsFile(path: file)["weight"]).doubles().reduce(0) { $0 + $1 * $1 }
    }
    let before = try squares(head), after = try squares(tuned)
    #expect(before > 0 && after > 0.99 * before, "\(before) \(after)")
  }

  /// A model says what it was tuned in, and a head takes features of the format that it was trained on.
  @Test func formatsAreKeptApart() throws {
    let folder = try TemporaryFolder()
    try prepare(folder, count: 6)
    let head = folder["head.safetensors"], store = folder["store"], tuned = folder["tuned.safetensors"], wide = folder["wide.safetensors"]
    let tune = ["finetune", head, store, "--epochs", "1", "--batch-size", "4", "--device", "cpu"]
    let short = try GraftProcess(tune + ["--precision", "bfloat16", "--output", tuned], folder: folder).wait()
    #expect(short.status == 0, "\(short.messages)")
    #expect(try SafetensorsFile(path: tuned).metadata["precision"] == "bfloat16")
    let scored = try GraftProcess(["evaluate", tuned, store, "--device", "cpu"], folder: folder).wait()
    #expect(scored.status == 0, "\(scored.messages)")
    // Rows at the same cut, but in another format.
    #expect(try GraftProcess(tune + ["--output", wide, "--cut-store", folder["cut"]], folder: folder).wait().status == 0)
    #expect(try SafetensorsFile(path: wide).metadata["precision"] == "float32")
    let mixed = try GraftProcess(["evaluate", wide, store, "--device", "cpu"], folder: folder).wait()
    #expect(mixed.status == 65 && mixed.messages.contains("tuned in float32"), "\(mixed.messages)")
    #expect(try GraftProcess(["evaluate", wide, folder["cut"], "--device", "cpu"], folder: folder).wait().status == 0)

    let extract = ["extract", "--backbone", model, "--data", folder["photos"], "--output", folder["other"], "--precision", "bfloat16"]
    #expect(try GraftProcess(extract + ["--device", "cpu"], folder: folder).wait().status == 0)
    let refused = try GraftProcess(["evaluate", head, folder["other"], "--device", "cpu"], folder: folder).wait()
    #expect(refused.status == 65 && refused.messages.contains("--precision float32"), "\(refused.messages)")
  }

  /// Killed after an epoch, the same command goes on and writes the same file to the bit.
  @Test func goesOnAfterAKill() throws {
    let folder = try TemporaryFolder()
    try prepare(folder)
    func tune(_ output: String) -> [String] {
      [
        "finetune", folder["head.safetensors"], folder["store"], "--output", folder[output], "--epochs", "60", "--batch-size", "4", "--device", "cpu",
      ]
    }
    #expect(try GraftProcess(tune("whole.safetensors"), folder: folder).wait().status == 0)
    let process = try GraftProcess(tune("killed.safetensors"), folder: folder)
    let deadline = ContinuousClock.now + .seconds(60)
    while !FileManager.default.fileExists(atPath: folder["killed.safetensors.checkpoint"]), ContinuousClock.now < deadline {
      Thread.sleep(forTimeInterval: 0.001)
    }
    kill(process.process.processIdentifier, SIGKILL)
    _ = try process.wait()
    #expect(!FileManager.default.fileExists(atPath: folder["killed.safetensors"]))
    let resumed = try GraftProcess(tune("killed.safetensors"), folder: folder).wait()
    #expect(resumed.status == 0 && resumed.messages.contains("going on after epoch"), "\(resumed.messages)")
    let files = try ["whole.safetensors", "killed.safetensors"].map { try Data(contentsOf: URL(fileURLWithPath: folder[$0])) }
    #expect(files[0] == files[1])
  }

  @Test(
    arguments: [
      (["--unfreeze", "99"], 65, "blocks"), (["--unfreeze", "nothing.*"], 65, "nothing.*"), (["--unfreeze", "0"], 64, "--unfreeze"),
      (["--learning-rate", "-1"], 64, "learning rate"),
      (["--warmup", "nan"], 64, "warm-up"), (["--warmup", "1e30"], 64, "warm-up"),
      (["--epochs", "0"], 64, "epochs"), (["--data", "/nowhere"], 65, "/nowhere"),
      (["--plot", "/nowhere/p.svg"], 74, "/nowhere/p.svg"), (["--find-lr", "--plot", "/nowhere/p.svg"], 74, "/nowhere/p.svg"),
      (["--tensorboard", "HEAD"], 74, "Not a directory"), (["--epochs", "1000000000"], 64, "1 to 1000000 "),
      (["--backbone", "HEAD"], 65, "head.safetensors"), (["--batch-size", "100000"], 64, "1 to 65536"),
    ] as [([String], Int32, String)])
  func mistakes(_ arguments: [String], _ status: Int32, _ words: String) throws {
    let folder = try TemporaryFolder()
    try prepare(folder, count: 6)
    let given = arguments.map { $0 == "HEAD" ? folder["head.safetensors"] : $0 }
    let outcome = try GraftProcess(
      ["finetune", folder["head.safetensors"], folder["store"], "--output", folder["t.safetensors"], "--device", "cpu"] + given, folder: folder
    ).wait()
    #expect(!outcome.wasSignalled && outcome.status == status, "\(outcome.status): \(outcome.messages)")
    #expect(outcome.messages.contains(words), "\(outcome.messages)")
    // Whatever is wrong is told before rows are computed for it.
    #expect(try !FileManager.default.contentsOfDirectory(atPath: folder.path).contains { $0 == "t.safetensors" || $0.hasPrefix("store.at-") })
  }

  // MARK: --find-lr

  private func expectFinding(_ outcome: GraftProcess.Outcome) throws {
    #expect(outcome.status == 0, "\(outcome.messages)")
    let report = try outcome.json(), points = try #require(report["points"] as? [[String: Any]])
    #expect((11...100).contains(points.count) && report["end"] is String && report["seconds"] is Double && report["device"] is String)
    let rates = points.compactMap { $0["learning_rate"] as? Double }
    #expect(rates.count == points.count && rates == rates.sorted() && abs(rates[0] - 1e-7) < 1e-12)
    #expect(points.allSatisfy { $0["loss"] is Double && $0["smoothed_loss"] is Double })
    let suggestion = try #require(report["suggestion"] as? Double), lowest = try #require(report["lowest_loss_rate"] as? Double)
    #expect(suggestion > 1e-7 && suggestion <= 1 && abs(suggestion * 10 / lowest - 1) < 1e-9)
  }

  /// Nothing is written but what was asked for, and what is there stays as it is.
  @Test func findsALearningRateForFinetuning() throws {
    let folder = try TemporaryFolder()
    try prepare(folder)
    let head = folder["head.safetensors"], before = try Data(contentsOf: URL(fileURLWithPath: head))
    let search = ["finetune", head, folder["store"], "--find-lr", "--batch-size", "8", "--device", "cpu", "--plot", folder["rates.svg"]]
    let names = try Set(FileManager.default.contentsOfDirectory(atPath: folder.path).filter { !$0.hasSuffix(".out") && !$0.hasSuffix(".err") })
    try expectFinding(GraftProcess(search + ["--json"], folder: folder).wait())
    #expect(try String(contentsOfFile: folder["rates.svg"], encoding: .utf8).contains(">learning rate<"))
    let now = try Set(FileManager.default.contentsOfDirectory(atPath: folder.path).filter { !$0.hasSuffix(".out") && !$0.hasSuffix(".err") })
    #expect(now.subtracting(names).filter { !$0.hasPrefix("store.at-") } == ["rates.svg"])
    #expect(try Data(contentsOf: URL(fileURLWithPath: head)) == before)
    let shown = try GraftProcess(search, folder: folder).wait()
    #expect(shown.status == 0 && shown.output.contains("smoothed") && shown.output.contains("suggested: --learning-rate "), "\(shown.output)")
  }

  /// What was found is told also where it can't be drawn.
  @Test func aFindingOutlivesItsPlot() throws {
    let folder = try TemporaryFolder()
    try prepare(folder, count: 6)
    let outcome = try GraftProcess.run(
      "finetune", folder["head.safetensors"], folder["store"], "--find-lr", "--plot", "/dev/full", "--device", "cpu", in: folder)
    #expect(outcome.status == 74 && outcome.output.contains("smoothed"), "\(outcome.messages)")
  }

  @Test func findsALearningRateForPretraining() throws {
    let folder = try TemporaryFolder()
    try Photos.write(to: folder["photos"], count: 20)
    try expectFinding(
      GraftProcess.run(
        "pretrain", "--architecture", "resnet_tiny", "--data", folder["photos"], "--find-lr", "--input-size", "16", "--batch-size", "8", "--device",
        "cpu", "--json", in: folder))
  }

  @Test(arguments: [
    ["--find-lr", "--csv", "log.csv"], ["--find-lr", "--tensorboard", "events"], ["--find-lr", "--batch-size", "0"], [],
  ]) func mistakesOfASearch(_ arguments: [String]) throws {
    let folder = try TemporaryFolder()
    let outcome = try GraftProcess(["finetune", folder["head.safetensors"], folder["store"]] + arguments, folder: folder).wait()
    #expect(outcome.status == 64 && !outcome.wasSignalled)
    #expect(outcome.messages.contains(arguments.count > 1 ? arguments[1] : "--output"), "\(outcome.messages)")
  }

  @Test(arguments: ["finetune", "pretrain"]) func theHelpNamesTheSearch(_ command: String) throws {
    let folder = try TemporaryFolder()
    let help = try GraftProcess(["help", command], folder: folder).wait()
    #expect(help.status == 0 && help.output.contains("--find-lr") && help.output.contains("Nothing trained is kept"), "\(help.output)")
  }

  /// What is trained from scratch is a backbone like any other.
  @Test func trainsABackbone() throws {
    let folder = try TemporaryFolder()
    try Photos.write(to: folder["photos"], count: 20)
    let trained = try GraftProcess.run(
      "pretrain", "--architecture", "resnet_tiny", "--data", folder["photos"], "--output", folder["own.safetensors"], "--input-size", "16",
      "--batch-size", "8", "--epochs", "3", "--device", "cpu", "--json", in: folder)
    #expect(trained.status == 0, "\(trained.messages)")
    let report = try trained.json()
    let losses = try #require(report["epochs"] as? [[String: Any]]).compactMap { $0["train_loss"] as? Double }
    #expect(losses.count == 3 && losses[2] < losses[0], "\(losses)")
    let test = try #require(report["test"] as? [String: Any])
    let top1 = try #require(test["top1"] as? Double)
    #expect(top1 > 0.5)
    let extracted = try GraftProcess.run(
      "extract", "--backbone", folder["own.safetensors"], "--data", folder["photos"], "--output", folder["store"], "--device", "cpu", "--json",
      in: folder)
    #expect(extracted.status == 0, "\(extracted.messages)")
    #expect(try extracted.json()["cut_shape"] as? [Int] == [64])
    // It is looked at in the size that it was trained in, unless another one is asked for.
    for (flags, size) in [([], 16), (["--input-size", "24"], 24)] {
      let inspected = try GraftProcess(["inspect", folder["own.safetensors"], "--json"] + flags, folder: folder).wait().json()
      #expect(inspected["input_shape"] as? [Int] == [1, 3, size, size])
    }
    // Fine-tuned with each batch's statistics, which the model then has as its own.
    let (head, tuned) = (folder["head.safetensors"], folder["tuned.safetensors"])
    #expect(try GraftProcess(["train", folder["store"], "--output", head, "--device", "cpu"], folder: folder).wait().status == 0)
    let finetune = [
      "finetune", head, folder["store"], "--output", tuned, "--unfreeze", "all", "--epochs", "2", "--batch-size", "8", "--device", "cpu",
    ]
    let outcome = try GraftProcess(finetune + ["--normalisation", "batch"], folder: folder).wait()
    #expect(outcome.status == 0, "\(outcome.messages)")
    let (own, before) = (try SafetensorsFile(path: tuned), try SafetensorsFile(path: folder["own.safetensors"]))
    let statistic = try #require(before.names.first { $0.hasSuffix("running_var") })
    let (followed, stored) = (try #require(own["backbone." + statistic]), try #require(before[statistic]))
    #expect(followed.floats() != stored.floats())
    let evaluated = try GraftProcess(["evaluate", tuned, folder["store"], "--device", "cpu", "--json"], folder: folder).wait()
    let tunedTop1 = try #require(try evaluated.json()["top1"] as? Double)
    #expect(tunedTop1 > 0.5)
    // Those that are stored are left alone otherwise.
    #expect(try GraftProcess(finetune, folder: folder).wait().status == 0)
    #expect(try !SafetensorsFile(path: tuned).names.contains { $0.hasSuffix("running_var") })
    let wrong = try GraftProcess.run(
      "pretrain", "--architecture", "perceptron", "--data", folder["photos"], "--output", folder["own.safetensors"], in: folder)
    #expect(wrong.status == 64 && wrong.messages.contains("resnet_small"), "\(wrong.messages)")
  }
}
