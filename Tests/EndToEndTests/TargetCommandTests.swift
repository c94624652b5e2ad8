import Foundation
import Graft
import Testing

/// Many labels and numbers through the command, from a table of labels or imported features to predictions.
@Suite(.serialized) struct TargetCommandTests {
  private let model = Fixture.path("tiny.onnx")
  /// The CPU, and each family of kernels of an OpenCL device where there is one.
  static let devices: [[String]] =
    [["--device", "cpu"]]
    + [KernelChoice.cpu, .gpu].filter { (try? Devices.choose("opencl", kernels: $0)) != nil }.map {
      ["--device", "opencl", "--kernels", $0.rawValue]
    }

  private func run(_ arguments: [String], _ folder: TemporaryFolder, device: [String] = ["--device", "cpu"]) throws -> [String: Any] {
    let done = try GraftProcess(arguments + device + ["--json"], folder: folder).wait()
    #expect(done.status == 0, "\(arguments): \(done.messages)")
    return try done.json()
  }

  /// Pictures of three colours, and a table of what they are.
  private func table(_ folder: TemporaryFolder, count: Int = 20, header: String, _ line: (_ color: Int) -> String) throws -> String {
    try Photos.write(to: folder["photos"], count: count)
    let lines = Photos.classes.enumerated().flatMap { color, name in (0..<count).map { "\"\(name)/0-\($0).tiff\",\(line(color))" } }
    try Data(([header] + lines).joined(separator: "\r\n").utf8).write(to: URL(fileURLWithPath: folder["labels.csv"]))
    return folder["labels.csv"]
  }

  private func extract(_ folder: TemporaryFolder, _ arguments: [String], to store: String = "store") throws -> [String: Any] {
    try run(["extract", "--backbone", model, "--data", folder["photos"], "--output", folder[store]] + arguments, folder)
  }

  @Test(arguments: devices) func manyLabels(device: [String]) throws {
    let folder = try TemporaryFolder()
    let labels = try table(folder, header: "path,labels") { ["outdoor|blue", "outdoor", "red"][$0] }
    let extracted = try extract(folder, ["--labels", labels, "--task", "multilabel"])
    #expect(extracted["extracted"] as? Int == 60 && extracted["task"] as? String == "multilabel" && extracted["unlabelled"] as? Int == 0)
    for (kind, options) in [
      ("linear", []), ("knn", ["--k", "3,5", "--distance", "euclidean"]),
      ("mlp", ["--hidden", "16", "--epochs", "40", "--learning-rate", "0.01", "--normalise", "standardise", "--batch-size", "8"]),
    ] {
      let head = folder["\(kind).safetensors"]
      let report = try run(["train", folder["store"], "--output", head, "--head", kind] + options, folder, device: device)
      #expect(report["task"] as? String == "multilabel" && report["labels"] as? Int == 3 && report["targets"] == nil)
      let validation = try #require(report["validation"] as? [String: Any])
      #expect(validation["mean_average_precision"] is Double && validation["log_loss"] is Double && validation["top1"] == nil)
      let scored = try run(["evaluate", head, folder["store"]], folder, device: device)
      #expect(try #require(scored["mean_average_precision"] as? Double) > 0.95, "\(kind)")
      #expect(try #require(scored["micro_f1"] as? Double) > 0.9 && #require(scored["subset_accuracy"] as? Double) > 0.8, "\(kind)")
      for key in ["macro_f1", "hamming_loss", "log_loss"] { #expect(scored[key] is Double, "\(key)") }
      let rows = try #require(scored["labels"] as? [[String: Any]])
      #expect(rows.map { $0["label"] as? String } == ["blue", "outdoor", "red"])
      #expect(rows.allSatisfy { $0["support"] is Int && $0["average_precision"] is Double && $0["f1"] is Double })

      let picture = folder["photos/blue sky/0-3.tiff"]
      let text = try GraftProcess(["predict", head, picture] + device, folder: folder).wait()
      let lines = text.output.split(separator: "\n").dropFirst()
      #expect(lines.count == 3 && lines.allSatisfy { $0.hasPrefix("*") == !$0.hasSuffix("red") }, "\(kind): \(text.output)\(text.messages)")
      let json = try GraftProcess(["predict", head, picture, "--top-k", "2", "--json"] + device, folder: folder).wait()
      let predicted = try #require(JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [[String: Any]])
      let predictions = try #require(predicted.first?["predictions"] as? [[String: Any]])
      #expect(Set(predictions.compactMap { $0["label"] as? String }) == ["blue", "outdoor"])
      let shares = predictions.compactMap { $0["probability"] as? Double }
      #expect(shares.count == 2 && shares[0] >= shares[1] && shares[1] >= 0.5)
    }
    let folded = try run(["train", folder["store"], "--output", folder["f.safetensors"], "--folds", "3", "--repeats", "2"], folder, device: device)
    let compared = try #require(folded["folds"] as? [String: Any]), results = try #require(compared["results"] as? [[String: Any]])
    #expect(compared["folds"] as? Int == 3 && compared["repeats"] as? Int == 2 && results.count > 1)
    let losses = results.compactMap { ($0["loss"] as? [String: Any])?["value"] as? Double }
    #expect(losses.count == results.count && results.allSatisfy { $0["mean_average_precision"] != nil && $0["log_loss"] != nil && $0["r2"] == nil })
    let best = try #require(zip(results, losses).min { $0.1 < $1.1 })
    #expect(best.0["strength"] as? Double == folded["strength"] as? Double)
    // A label more: nothing is computed again.
    let changed = try table(folder, header: "path,outdoor,dark") { ["1,0", "1,0", "0,1"][$0] }
    let again = try extract(folder, ["--labels", changed, "--task", "multilabel"])
    #expect(again["extracted"] as? Int == 0 && again["reused"] as? Int == 60)
  }

  @Test(arguments: devices) func numbers(device: [String]) throws {
    let folder = try TemporaryFolder()
    let labels = try table(folder, header: "path,warmth,cost") { ["-3.5,1000", "0.5,5000", "8,3000"][$0] }
    _ = try extract(folder, ["--labels", labels, "--task", "regression"])
    for (kind, options) in [
      ("linear", []), ("linear", ["--loss", "huber"]), ("ridge", []), ("knn", ["--k", "1,3"]),
      ("mlp", ["--hidden", "16", "--epochs", "60", "--learning-rate", "0.01", "--normalise", "standardise", "--batch-size", "8", "--dropout", "0"]),
    ] as [(String, [String])] {
      let head = folder["\(kind).safetensors"]
      let report = try run(["train", folder["store"], "--output", head, "--head", kind] + options, folder, device: device)
      #expect(report["task"] as? String == "regression" && report["targets"] as? Int == 2 && report["labels"] == nil)
      let folds = ["train", folder["store"], "--output", folder["f.safetensors"], "--head", kind, "--folds", "3"] + options + device
      let folded = try GraftProcess(folds, folder: folder).wait()
      #expect(folded.status == 0 && folded.output.contains("R², 3 folds") && folded.output.contains("±"), "\(folded.output)\(folded.messages)")
      let validation = try #require(report["validation"] as? [String: Any])
      #expect(validation["rmse"] is Double && validation["r2"] is Double && validation["log_loss"] == nil)
      let scored = try run(["evaluate", head, folder["store"]], folder, device: device)
      #expect(try #require(scored["r2"] as? Double) > 0.7, "\(kind) \(options): \(scored)")
      let rows = try #require(scored["targets"] as? [[String: Any]])
      #expect(rows.map { $0["target"] as? String } == ["warmth", "cost"])
      #expect(rows.allSatisfy { $0["mae"] is Double && $0["rmse"] is Double && $0["r2"] is Double })
      let json = try GraftProcess(["predict", head, folder["photos/red brick/0-3.tiff"], "--json"] + device, folder: folder).wait()
      let predicted = try #require(JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [[String: Any]], "\(json.messages)")
      let predictions = try #require(predicted.first?["predictions"] as? [[String: Any]])
      #expect(predictions.map { $0["target"] as? String } == ["warmth", "cost"])
      // In the units of the table.
      let values = predictions.compactMap { $0["value"] as? Double }
      #expect(values.count == 2 && abs(values[0] - 8) < 5 && abs(values[1] - 3000) < 1500, "\(kind) \(options): \(values)")
      let text = try GraftProcess(["predict", head, folder["photos/red brick/0-3.tiff"]] + device, folder: folder).wait()
      #expect(text.output.contains("  warmth: ") && text.output.contains("  cost: "))
    }
  }

  /// A number that is the same for all: the head tells it, and that is said.
  @Test func constantNumbers() throws {
    let folder = try TemporaryFolder()
    let labels = try table(folder, header: "path,same,other") { "3.7,\($0)" }
    _ = try extract(folder, ["--labels", labels, "--task", "regression"])
    let train = ["train", folder["store"], "--output", folder["head.safetensors"], "--device", "cpu", "--json"]
    let done = try GraftProcess(train, folder: folder).wait()
    #expect(done.status == 0 && done.messages.contains("the same for every training sample: same. What"), "\(done.messages)")
    #expect(try done.json()["constant_targets"] as? [String] == ["same"] && done.json()["constant_labels"] == nil)
    // The limit holds for all solvers that follow each other.
    let limited = try GraftProcess(train + ["--max-iterations", "1"], folder: folder).wait(), report = try limited.json()
    #expect(report["status"] as? String == "iteration_limit" && report["iterations"] as? Int == 1)
    #expect(limited.messages.contains("at its limit of 1 iteration before") && limited.messages.contains("--max-iterations"))
  }

  /// What is for classes, and heads and stores that don't belong together.
  @Test func mistakes() throws {
    let folder = try TemporaryFolder()
    let labels = try table(folder, header: "path,labels,label,age") { ["a|b,x,1.5", "b,y,2.5", ",z,3.5"][$0] }
    _ = try extract(folder, ["--labels", labels, "--task", "multilabel"], to: "many")
    _ = try extract(folder, ["--labels", labels], to: "classes")
    try Data("path,age\nblue sky/0-0.tiff,1\ngrass/0-0.tiff,3\ngrass/0-1.tiff,3\n".utf8).write(to: URL(fileURLWithPath: folder["ages.csv"]))
    _ = try extract(folder, ["--labels", folder["ages.csv"], "--task", "regression", "--test-fraction", "0"], to: "ages")
    for (store, options) in [("many", []), ("classes", []), ("ages", ["--l2", "0.1"])] {
      _ = try run(["train", folder[store], "--output", folder["\(store).safetensors"]] + options, folder)
    }
    let many = folder["many"], ages = folder["ages"], classes = folder["classes"], x = ["--output", folder["x.safetensors"]]
    let source = ["extract", "--backbone", model, "--data", folder["photos"], "--output", folder["new"]]
    for (arguments, status, words) in [
      (["evaluate", folder["many.safetensors"], ages], 65, "head for multilabel"),
      (["evaluate", folder["many.safetensors"], classes], 65, "head for multilabel"),
      (["evaluate", folder["classes.safetensors"], many], 65, "head for classification"),
      (["evaluate", folder["ages.safetensors"], ages], 65, "has no test samples"),
      (["evaluate", folder["many.safetensors"], many, "--precision-target", "0.9"], 64, "--precision-target"),
      (["evaluate", folder["many.safetensors"], many, "--plots", folder["plots"]], 64, "--plots"),
      (["finetune", folder["ages.safetensors"], many] + x, 65, "head for regression"),
      (["finetune", folder["many.safetensors"], many, "--loss", "huber"] + x, 64, "takes sigmoid"),
      (["finetune", folder["ages.safetensors"], ages, "--class-weight", "balanced"] + x, 64, "--class-weight"),
      (["finetune", folder["ages.safetensors"], ages, "--label-smoothing", "0.1"] + x, 64, "label smoothing"),
      (["finetune", folder["classes.safetensors"], classes, "--loss", "squared"] + x, 64, "takes cross-entropy"),
      (["finetune", folder["many.safetensors"], classes] + x, 65, "head for multilabel"),
      (["curve", ages, "--output", folder["c.svg"]], 65, "a learning curve needs samples of one class each"),
      (["train", many, "--folds", "100"] + x, 65, "--folds"), (["train", many, "--loss", "huber"] + x, 64, "takes sigmoid"),
      (["train", ages, "--loss", "sigmoid"] + x, 64, "takes squared or huber"), (["train", classes, "--loss", "huber"] + x, 64, "--loss"),
      (["train", many, "--head", "centroid"] + x, 64, "--head centroid"), (["train", many, "--head", "ridge"] + x, 64, "--head ridge"),
      (["train", ages, "--class-weight", "balanced"] + x, 64, "--class-weight"),
      (["train", many, "--label-smoothing", "0.1"] + x, 64, "--label-smoothing"),
      (["train", ages, "--head", "knn", "--k", "50"] + x, 65, "50 neighbours"),
      (["predict", folder["ages.safetensors"], folder["photos/grass/0-3.tiff"], "--top-k", "2"], 64, "--top-k"),
      (source + ["--task", "regression"], 64, "needs --labels"), (source + ["--labels", labels, "--classes", "x"], 64, "--classes"),
      (source + ["--labels", labels, "--task", "regression"], 65, "'a|b'"), (source + ["--labels", folder["none.csv"]], 74, "none.csv"),
      (source + ["--labels", folder["ages.csv"]], 65, "no column 'label'"),
      (source + ["--labels", folder["ages.csv"], "--task", "regression", "--strict"], 65, "images without a row"),
      (["import", "--features", labels, "--labels", labels, "--output", folder["new"]], 65, "labels.csv"),
    ] as [([String], Int32, String)] {
      let done = try GraftProcess(arguments + (arguments[0] == "import" ? [] : ["--device", "cpu"]), folder: folder).wait()
      #expect(done.status == status && done.messages.contains(words), "\(arguments): \(done.status) \(done.messages)")
    }
    #expect(!FileManager.default.fileExists(atPath: folder["x.safetensors"]))
    // Seen once the head has been read: under the command's own usage, and before a device is opened.
    let late = try GraftProcess(["predict", folder["ages.safetensors"], folder["photos/grass/0-3.tiff"], "--top-k", "2"], folder: folder).wait()
    #expect(late.status == 64 && !late.messages.contains("device:"), "\(late.messages)")
    #expect(late.messages.contains("\nUsage: graft predict [<options>] <"), "\(late.messages)")
    // A store of classes from a table is fine-tuned like another: its rows at the new cut get the table's labels.
    let tuned = try run(
      ["finetune", folder["classes.safetensors"], classes, "--unfreeze", "1", "--epochs", "1", "--output", folder["t.safetensors"]], folder)
    #expect(tuned["classes"] as? Int == 3)
  }

  /// From a head that is kept too simple, at a moved cut and from pictures; what comes out is in the table's units.
  @Test(arguments: ["multilabel", "regression"], ["1", "all"]) func fineTuning(task: String, part: String) throws {
    let folder = try TemporaryFolder(), count = 20
    try Photos.write(to: folder["photos"], count: count)
    let isMultilabel = task == "multilabel"
    let values = isMultilabel ? ["1,1,0", "0,1,0", "0,0,1"] : ["-3.5,1000", "0.5,5000", "8,3000"]
    let lines = Photos.classes.enumerated().flatMap { color, name in
      (0..<count).map { "\"\(name)/0-\($0).tiff\",\(values[color]),\(["train", "train", "train", "val", "test"][$0 % 5])" }
    }
    let header = "path," + (isMultilabel ? "blue,outdoor,red" : "warmth,cost") + ",split"
    try Data(([header] + lines).joined(separator: "\n").utf8).write(to: URL(fileURLWithPath: folder["labels.csv"]))
    _ = try extract(folder, ["--labels", folder["labels.csv"], "--task", task])
    let head = folder["head.safetensors"], tuned = folder["tuned.safetensors"], store = folder["store"]
    _ = try run(["train", store, "--output", head, "--l2", "10"], folder)
    let tune =
      ["finetune", head, store, "--unfreeze", part, "--output", tuned, "--epochs", "30", "--learning-rate", "0.02", "--batch-size", "8"]
      + (part == "all" ? ["--augment", "none"] : [])
    let report = try run(tune, folder)
    #expect(report["task"] as? String == task && report["classes"] == nil && report["temperature"] == nil)
    #expect(report[isMultilabel ? "labels" : "targets"] as? Int == (isMultilabel ? 3 : 2))
    let epochs = try #require(report["epochs"] as? [[String: Any]]), losses = epochs.compactMap { $0["validation_loss"] as? Double }
    #expect(losses.count == 30 && losses[29] < 0.5 * losses[0] && epochs.allSatisfy { $0["validation_top1"] == nil })
    let (name, least) = isMultilabel ? ("mean_average_precision", 0.95) : ("r2", 0.9)
    let before = try #require((report["validation_before"] as? [String: Any])?[name] as? Double)
    let after = try #require((report["validation"] as? [String: Any])?[name] as? Double)
    #expect(after >= before && after > least, "\(before) to \(after)")
    if !isMultilabel { #expect(before < 0.5) }
    let shown = try GraftProcess(tune + ["--device", "cpu"], folder: folder).wait()
    #expect(shown.status == 0 && shown.output.contains(isMultilabel ? "3 labels" : "2 targets") && shown.output.contains("before)"), "\(shown)")

    let scored = try run(["evaluate", tuned, store], folder), plain = try run(["evaluate", head, store], folder)
    if isMultilabel {
      #expect(try #require(scored["log_loss"] as? Double) < 0.5 * #require(plain["log_loss"] as? Double))
    } else {
      let errors = try [scored, plain].map { try #require(($0["targets"] as? [[String: Any]])?.compactMap { $0["rmse"] as? Double }) }
      #expect(errors[0].count == 2 && zip(errors[0], errors[1]).allSatisfy { $0 < 0.5 * $1 }, "\(errors)")
    }
    let text = try GraftProcess(["predict", tuned, folder["photos/blue sky/0-4.tiff"], "--device", "cpu", "--json"], folder: folder).wait()
    let predicted = try #require(JSONSerialization.jsonObject(with: Data(text.output.utf8)) as? [[String: Any]], "\(text.messages)")
    let predictions = try #require(predicted.first?["predictions"] as? [[String: Any]])
    if isMultilabel {
      let likely = predictions.filter { ($0["probability"] as? Double ?? 0) >= 0.5 }.compactMap { $0["label"] as? String }
      #expect(Set(likely) == ["blue", "outdoor"])
    } else {
      let values = predictions.compactMap { $0["value"] as? Double }
      #expect(values.count == 2 && abs(values[0] + 3.5) < 2 && abs(values[1] - 1000) < 600, "\(values)")
    }
    // The trained part is for the store's task alone.
    _ = try extract(folder, [], to: "classes")
    let other = try GraftProcess(["evaluate", tuned, folder["classes"], "--device", "cpu"], folder: folder).wait()
    #expect(other.status == 65 && other.messages.contains("head for \(task)"), "\(other.messages)")
  }

  @Test func importedLabels() throws {
    let folder = try TemporaryFolder()
    var random = Generator(4)
    let rows = 80, x = (0..<rows * 4).map { _ in random.float() }
    try Npy.write(HostTensor([rows, 4], x), to: folder["x.npy"])
    try Npy.write(HostTensor([rows, 2], integers: (0..<rows).flatMap { [x[$0 * 4] > 0 ? 1 : 0, x[$0 * 4 + 1] > 0.3 ? 1 : 0] }), to: folder["y.npy"])
    try Npy.write(HostTensor([rows], (0..<rows).map { 7 + 2 * x[$0 * 4] - x[$0 * 4 + 3] }), to: folder["t.npy"])
    try Data("warm\ndark\n".utf8).write(to: URL(fileURLWithPath: folder["names.txt"]))
    func imported(_ arguments: [String]) throws -> [String: Any] {
      let done = try GraftProcess(["import", "--features", folder["x.npy"], "--json"] + arguments, folder: folder).wait()
      #expect(done.status == 0, "\(done.messages)")
      return try done.json()
    }
    let many = try imported(["--labels", folder["y.npy"], "--label-names", folder["names.txt"], "--output", folder["many"]])
    #expect(many["task"] as? String == "multilabel" && many["classes"] as? Int == 2)
    _ = try run(["train", folder["many"], "--output", folder["many.safetensors"]], folder)
    let scored = try run(["evaluate", folder["many.safetensors"], folder["many"]], folder)
    #expect((scored["labels"] as? [[String: Any]])?.map { $0["label"] as? String } == ["warm", "dark"])
    #expect(try #require(scored["mean_average_precision"] as? Double) > 0.9)
    #expect(try imported(["--labels", folder["t.npy"], "--output", folder["one"]])["task"] as? String == "regression")
    _ = try run(["train", folder["one"], "--output", folder["one.safetensors"], "--head", "ridge"], folder)
    #expect(try #require(run(["evaluate", folder["one.safetensors"], folder["one"]], folder)["r2"] as? Double) > 0.999)
  }
}
