import Foundation
import Graft
import Testing

/// Heads of every kind through the command: trained, scored, shown pictures, drawn.
@Suite(.serialized) struct HeadCommandTests {
  private let model = Fixture.path("tiny.onnx")

  private func store(_ folder: TemporaryFolder, count: Int = 20, arguments: [String] = []) throws {
    try Photos.write(to: folder["photos"], count: count)
    let extract = ["extract", "--backbone", model, "--data", folder["photos"], "--output", folder["store"], "--device", "cpu"] + arguments
    let done = try GraftProcess(extract, folder: folder).wait()
    #expect(done.status == 0, "\(done.messages)")
  }

  private func run(_ arguments: [String], _ folder: TemporaryFolder) throws -> [String: Any] {
    let done = try GraftProcess(arguments + ["--device", "cpu", "--json"], folder: folder).wait()
    #expect(done.status == 0, "\(arguments): \(done.messages)")
    return try done.json()
  }

  @Test func everyKindOfHead() throws {
    let folder = try TemporaryFolder()
    try store(folder)
    let picture = folder["photos/red brick/0-3.tiff"]
    for (kind, options) in [
      ("linear", ["--class-weight", "balanced", "--label-smoothing", "0.05"]), ("ridge", ["--alpha", "0.1,1,10"]),
      ("knn", ["--k", "1,3", "--distance", "euclidean", "--feature-type", "float16"]), ("centroid", ["--normalise", "standardise"]),
      ("mlp", ["--hidden", "16,8", "--epochs", "40", "--learning-rate", "0.01", "--normalise", "standardise", "--batch-size", "8"]),
    ] {
      let head = folder["\(kind).safetensors"]
      let report = try run(["train", folder["store"], "--output", head, "--head", kind] + options, folder)
      #expect(report["head"] as? String == kind && report["classes"] as? Int == 3)
      let calibration = try #require(report["calibration"] as? [String: Any])
      #expect(try #require(calibration["log_loss_after"] as? Double) <= #require(calibration["log_loss_before"] as? Double) + 1e-12)
      let scored = try run(["evaluate", head, folder["store"], "--precision-target", "0.9"], folder)
      #expect(try #require(scored["top1"] as? Double) > 0.9, "\(kind)")
      #expect(scored["temperature"] as? Double == calibration["temperature"] as? Double)
      let interval = try #require(scored["top1_interval"] as? [String: Double]), abstention = try #require(scored["abstention"] as? [String: Any])
      #expect(interval["low"]! < interval["high"]! && abstention["target"] as? Double == 0.9)
      let predicted = try GraftProcess(["predict", head, picture, "--device", "cpu"], folder: folder).wait()
      #expect(predicted.status == 0 && predicted.output.contains("red brick"), "\(kind): \(predicted.output)\(predicted.messages)")
    }
    // What is no layer can't be fine-tuned, and says so.
    let tuned = try GraftProcess(
      ["finetune", folder["knn.safetensors"], folder["store"], "--unfreeze", "1", "--output", folder["t.safetensors"]], folder: folder
    ).wait()
    #expect(tuned.status == 65 && tuned.messages.contains("--head linear"), "\(tuned.messages)")
  }

  /// Those of a sweep and of both spaces that a head is fitted in count, and that the limit was reached is said.
  @Test func theIterationLimitIsSaid() throws {
    let folder = try TemporaryFolder()
    try store(folder)
    for (limit, options) in [(1, []), (1, ["--l2", "1e-6"]), (3, []), (1000, [])] {
      let train = ["train", folder["store"], "--output", folder["h.safetensors"], "--device", "cpu", "--json", "--max-iterations", "\(limit)"]
      let done = try GraftProcess(train + options, folder: folder).wait(), report = try done.json()
      #expect(try #require(report["iterations"] as? Int) <= limit)
      #expect(report["status"] as? String == (limit == 1000 ? "converged" : "iteration_limit"))
      #expect(done.messages.contains("Raise --max-iterations") == (limit < 1000), "\(done.messages)")
    }
  }

  @Test func foldsCurvesAndPlots() throws {
    let folder = try TemporaryFolder()
    try store(folder)
    let folded = try run(
      ["train", folder["store"], "--output", folder["h.safetensors"], "--head", "ridge", "--folds", "4", "--repeats", "2"], folder)
    let folds = try #require(folded["folds"] as? [String: Any]), results = try #require(folds["results"] as? [[String: Any]])
    #expect(folds["folds"] as? Int == 4 && results.count == 10 && results.contains { $0["strength"] as? Double == folded["strength"] as? Double })
    _ = try run(["evaluate", folder["h.safetensors"], folder["store"], "--plots", folder["plots"]], folder)
    let curve = try run(
      ["curve", folder["store"], "--head", "centroid", "--shots", "1,4,all", "--seeds", "3", "--output", folder["c.svg"], "--csv", folder["c.csv"]],
      folder)
    #expect((curve["points"] as? [[String: Any]])?.map { $0["shots"] as? String } == ["1", "4", "all"])
    let watched = [
      "train", folder["store"], "--head", "mlp", "--epochs", "3", "--output", folder["m.safetensors"], "--plot", folder["m.svg"], "--tensorboard",
      folder["board"], "--csv", folder["m.csv"],
    ]
    #expect((try run(watched, folder)["epochs"] as? [[String: Any]])?.count == 3)
    for name in ["plots/confusion.svg", "plots/reliability.svg", "c.svg", "m.svg"] {
      #expect(try String(contentsOfFile: folder[name], encoding: .utf8).hasSuffix("</svg>\n"), "\(name)")
    }
    #expect(try String(contentsOfFile: folder["m.csv"], encoding: .utf8).split(separator: "\n").count == 4)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder["board"]).count == 1)
  }

  @Test func mistakes() throws {
    let folder = try TemporaryFolder()
    try store(folder)
    _ = try run(["train", folder["store"], "--output", folder["h.safetensors"], "--l2", "0.1"], folder)
    try Photos.write(to: folder["others"], count: 6)
    try FileManager.default.moveItem(atPath: folder["others/grass"], toPath: folder["others/gravel"])
    let extract = ["extract", "--backbone", model, "--data", folder["others"], "--output", folder["elsewhere"], "--device", "cpu"]
    #expect(try GraftProcess(extract, folder: folder).wait().status == 0)
    let untested = ["extract", "--backbone", model, "--data", folder["photos"], "--output", folder["all"], "--test-fraction", "0", "--device", "cpu"]
    #expect(try GraftProcess(untested, folder: folder).wait().status == 0)
    let train = ["train", folder["store"], "--output", folder["x.safetensors"]], head = folder["h.safetensors"]
    for (arguments, status, words) in [
      (train + ["--head", "ridge", "--l2", "1"], 64, "--l2 is for --head linear"), (train + ["--head", "forest"], 64, "forest"),
      (train + ["--k", "0", "--head", "knn"], 64, "--k"), (train + ["--k", "99999999", "--head", "knn"], 64, "1 and 1000000"),
      (train + ["--distance", "cosine"], 64, "--distance is for --head knn"), (train + ["--dropout", "0.2"], 64, "--dropout is for --head mlp"),
      (train + ["--k", "1,2,,3", "--head", "knn"], 64, "not '1,2,,3'"), (train + ["--l2", "-1"], 64, "not negative"),
      (train + ["--l2", "1,"], 64, "not '1,'"), (train + ["--head", "knn", "--k", "5000"], 65, "5000 neighbours"),
      (train + ["--head", "mlp", "--hidden", "a"], 64, "--hidden"), (train + ["--csv", "x.csv"], 64, "--head mlp"),
      (train + ["--memory-limit", "1"], 64, "--memory-limit"), (train + ["--no-winograd"], 64, "--no-winograd"),
      (train + ["--head", "mlp", "--csv", "/nowhere/x.csv"], 74, "/nowhere/x.csv"),
      (train + ["--head", "mlp", "--csv", folder["x.csv"], "--plot", folder["./x.csv"]], 64, "two results"),
      (train + ["--head", "mlp", "--learning-rate", "1e30"], 65, "Lower --learning-rate, or train with --normalise standardise."),
      (["train", folder["store"], "--output", ""], 74, "without a name"),
      (["evaluate", head, folder["store"], "--plots", head], 74, "create the folder \(head): Not a directory"),
      (["curve", folder["store"], "--output", folder["c.svg"], "--csv", folder["c.svg"]], 64, "two results"),
      (["curve", folder["store"], "--output", folder["c.svg"], "--memory-limit", "1"], 64, "--memory-limit"),
      (train + ["--repeats", "3"], 64, "--folds"), (train + ["--folds", "1"], 64, "--folds"),
      (train + ["--head", "centroid", "--folds", "500"], 65, "folds"),
      (["evaluate", head, folder["elsewhere"]], 65, "'gravel'"), (["evaluate", head, folder["all"]], 65, "has no test samples"),
      (["evaluate", head, folder["store"], "--precision-target", "2"], 64, "--precision-target"),
      (["evaluate", head, folder["store"], "--precision-target", "0.9"], 65, "no val samples"),
      (["curve", folder["all"], "--output", folder["c.svg"]], 65, "has no test samples"),
      (["curve", folder["store"], "--output", folder["c.svg"], "--shots", "none"], 64, "--shots"),
      (["curve", folder["store"], "--output", folder["c.svg"], "--shots", "1,,2"], 64, "--shots"),
      (["curve", folder["store"], "--output", folder["c.svg"], "--shots", "1000"], 65, "no class has as many as 1000"),
      (["evaluate", folder["store"] + "/index.sqlite", folder["store"]], 65, "index.sqlite"),
      (["evaluate", head, folder["store"], "--memory-limit", "1M"], 64, "--memory-limit is for fine-tuned models"),
      (["evaluate", head, folder["store"], "--no-winograd"], 64, "--no-winograd is for fine-tuned models"),
      (["evaluate", head, folder["store"], "--data", folder["photos"]], 64, "--data is for fine-tuned models"),
    ] as [([String], Int32, String)] {
      let done = try GraftProcess(arguments + (status == 64 ? [] : ["--device", "cpu"]), folder: folder).wait()
      #expect(done.status == status && done.messages.contains(words), "\(arguments): \(done.status) \(done.messages)")
    }
    #expect(!FileManager.default.fileExists(atPath: folder["x.safetensors"]))
  }

  /// What a command refuses only once it has seen its files is told as what the parser refuses: with its own usage, and before a device is
  /// opened.
  @Test func mistakesSeenLateNameTheCommand() throws {
    let folder = try TemporaryFolder()
    try store(folder)
    let head = folder["h.safetensors"]
    _ = try run(["train", folder["store"], "--output", head, "--l2", "0.1"], folder)
    for arguments in [
      ["evaluate", head, folder["store"], "--data", folder["photos"]],
      ["train", folder["store"], "--output", folder["x.safetensors"], "--loss", "huber"],
      ["curve", folder["store"], "--output", folder["c.svg"], "--loss", "huber"],
      ["finetune", head, folder["store"], "--output", folder["t.safetensors"], "--loss", "huber"],
    ] {
      let done = try GraftProcess(arguments, folder: folder).wait(), lines = done.messages.split(separator: "\n")
      #expect(done.status == 64 && done.output.isEmpty && !done.messages.contains("device:"), "\(done.messages)")
      #expect(done.messages.contains("Error: ") && done.messages.contains("\nUsage: graft \(arguments[0]) [<options>] <"), "\(done.messages)")
      #expect(lines.last == "  See 'graft \(arguments[0]) --help' for more information.", "\(done.messages)")
    }
  }

  /// Options that a command always refuses are none of its options.
  @Test func helpNamesWhatIsTaken() throws {
    let folder = try TemporaryFolder()
    for (command, isTaken) in [("train", false), ("curve", false), ("extract", true), ("predict", true), ("evaluate", true), ("finetune", true)] {
      let help = try GraftProcess(["help", command], folder: folder).wait().output
      #expect(help.contains("--device") && help.contains("--memory-limit") == isTaken && help.contains("--no-winograd") == isTaken, "\(command)")
    }
  }
}
