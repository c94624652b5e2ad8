import Foundation
import Graft
import Testing

/// The documentation's programs: what is shown is what is compiled, and it runs.
@Suite struct CustomHeadTests {
  private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  private func text(_ path: String) throws -> String { try String(contentsOf: Self.root.appendingPathComponent(path), encoding: .utf8) }

  @Test(arguments: [("CustomHead", 2), ("PredictAndTune", 3)]) func theArticleShowsTheProgram(name: String, parts: Int) throws {
    let article = try text("Sources/Graft/Graft.docc/\(name).md"), program = try text("Examples/\(name)/\(name).swift")
    let shown = article.components(separatedBy: "```swift\n").dropFirst().compactMap { $0.components(separatedBy: "\n```").first }
    #expect(shown.count == parts)
    for part in shown { #expect(program.contains("\n" + part + "\n"), "the program does not hold:\n\(part)") }
    // What is left of the program are its imports and the reading of its arguments.
    let rest = shown.reduce(program) { $0.replacingOccurrences(of: $1, with: "") }
    #expect(rest.hasPrefix("import Foundation\nimport Graft\n\n\n") && !rest.contains("Graph("))
  }

  /// Every article is reached from the landing page.
  @Test func theLandingPageNamesTheArticles() throws {
    let folder = "Sources/Graft/Graft.docc", landing = try text(folder + "/Graft.md")
    let articles = try FileManager.default.contentsOfDirectory(atPath: Self.root.appendingPathComponent(folder).path).filter { $0.hasSuffix(".md") }
    #expect(articles.count >= 3)
    for article in articles where article != "Graft.md" { #expect(landing.contains("<doc:\(article.dropLast(3))>"), "\(article)") }
  }

  private func run(_ arguments: [String], program: String = "custom-head") throws -> (status: Int32, output: String, messages: String) {
    let process = Process(), output = Pipe(), messages = Pipe()
    process.executableURL = GraftProcess.executable.deletingLastPathComponent().appendingPathComponent(program)
    (process.arguments, process.standardOutput, process.standardError) = (arguments, output, messages)
    try process.run()
    let written = output.fileHandleForReading.readDataToEndOfFile(), said = messages.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return (process.terminationStatus, String(decoding: written, as: UTF8.self), String(decoding: said, as: UTF8.self))
  }

  /// Numbers of label sets are no classes: the program is for classes, and says so.
  @Test func aStoreWithoutClassesIsRefused() throws {
    let folder = try TemporaryFolder()
    try Photos.write(to: folder["photos"], count: 4)
    let lines = Photos.classes.flatMap { name in (0..<4).map { "\"\(name)/0-\($0).tiff\",\($0 % 2 == 0 ? "even|\(name)" : name)" } }
    try Data((["path,labels"] + lines).joined(separator: "\n").utf8).write(to: URL(fileURLWithPath: folder["labels.csv"]))
    let extracted = try GraftProcess.run(
      "extract", "--backbone", Fixture.path("tiny.onnx"), "--data", folder["photos"], "--labels", folder["labels.csv"], "--task", "multilabel",
      "--output", folder["store"], "--device", "cpu", in: folder)
    #expect(extracted.status == 0, "\(extracted.messages)")
    let refused = try run([folder["store"], folder["own.safetensors"], "cpu"])
    #expect(refused.status == 65 && refused.messages.contains("is a store for multilabel"), "\(refused)")

    let store = try FeatureStore.open(reading: folder["store"]), samples = store.samples()
    #expect(throws: TrainingDataError.self) { try StoredInputs(store, samples: samples) }
    let preprocessing = try Preprocessing.read(beside: Fixture.path("tiny.onnx"))
    #expect(throws: TrainingDataError.self) { try ImageInputs(store, samples: samples, preprocessing: preprocessing) }
    // With targets, or without anything to be said of them, they are inputs.
    let targets = store.targets(of: samples).map(Float.init)
    #expect(try StoredInputs(store, samples: samples, targets: targets).targets == targets)
    #expect(try StoredInputs(store, samples: samples, labels: []).labels.isEmpty)
    #expect(try ImageInputs(store, samples: samples, targets: targets, preprocessing: preprocessing).targets == targets)
  }

  @Test func theProgramTrains() throws {
    let folder = try TemporaryFolder()
    try Photos.write(to: folder["photos"], count: 30)
    let extracted = try GraftProcess.run(
      "extract", "--backbone", Fixture.path("tiny.onnx"), "--data", folder["photos"], "--output", folder["store"], "--device", "cpu", in: folder)
    #expect(extracted.status == 0, "\(extracted.messages)")
    let trained = try run([folder["store"], folder["own.safetensors"], "cpu"])
    #expect(trained.status == 0, "\(trained.messages)")
    let lines = trained.output.split(separator: "\n")
    #expect(lines.count == 101, "\(trained.output)")
    let top1 = try #require(lines.last?.split(separator: " ").dropFirst(2).first.flatMap { Double($0) }, "\(trained.output)")
    #expect(top1 > 0.9)

    let file = try SafetensorsFile(path: folder["own.safetensors"]), store = try FeatureStore.open(reading: folder["store"])
    #expect(file.names.sorted() == ["down.weight", "head.bias", "head.weight", "up.weight"])
    #expect(file["down.weight"]?.shape == [4, 16] && file.metadata["backbone_sha256"] == store.key.backboneSHA256)
    // The bottleneck took part: it began with zeros.
    #expect(try #require(file["up.weight"]).floats().contains { $0 != 0 })

    let refused = try run([folder["photos"], folder["other.safetensors"], "cpu"])
    #expect(refused.status == 65 && refused.messages.hasPrefix("error: "), "\(refused)")
    #expect(!FileManager.default.fileExists(atPath: folder["other.safetensors"]))
  }

  /// Its heads and models are the command's: the same features, the same numbers, and files that the command takes.
  @Test func theProgramPredictsAndTunes() throws {
    let folder = try TemporaryFolder(), model = folder["tiny.onnx"]
    try Photos.write(to: folder["photos"], count: 30)
    for name in ["tiny.onnx", "tiny.json"] where FileManager.default.fileExists(atPath: Fixture.path(name)) {
      try FileManager.default.copyItem(atPath: Fixture.path(name), toPath: folder[name])
    }
    let extracted = try GraftProcess.run(
      "extract", "--backbone", model, "--data", folder["photos"], "--output", folder["store"], "--device", "cpu", in: folder)
    #expect(extracted.status == 0, "\(extracted.messages)")
    let (head, tuned) = (folder["head.safetensors"], folder["tuned.safetensors"])
    let pictures = Photos.classes.map { folder["photos/\($0)/0-1.tiff"] }
    let done = try run([folder["store"], head, tuned] + pictures, program: "predict-and-tune")
    #expect(done.status == 0, "\(done.messages)")
    let lines = done.output.split(separator: "\n").map(String.init)
    #expect(lines.count == 6)
    for (file, said) in [(head, lines.prefix(3)), (tuned, lines.suffix(3))] {
      let predicted = try GraftProcess(["predict", file, "--top-k", "1", "--json"] + pictures, folder: folder).wait()
      let found = try #require(JSONSerialization.jsonObject(with: Data(predicted.output.utf8)) as? [[String: Any]], "\(predicted.messages)")
      for (place, line) in said.enumerated() {
        let first = try #require((found[place]["predictions"] as? [[String: Any]])?.first), share = try #require(first["probability"] as? Double)
        let begin = "\(file): \(pictures[place]): \(Photos.classes[place]) "
        #expect(first["label"] as? String == Photos.classes[place] && line.hasPrefix(begin), "\(line)")
        #expect(abs(try #require(Double(line.dropFirst(begin.count))) - share) < 1e-5, "\(line), \(share)")
      }
      #expect(try GraftProcess.run("evaluate", file, folder["store"], in: folder).status == 0)
    }

    let read = try HeadFile.read(head), store = try FeatureStore.open(reading: folder["store"])
    #expect(read.preprocessing?.canonicalJSON == store.key.preprocessing && read.metadata.precision == .float32)
    // Beside the head, wherever it was before; and another network is refused.
    #expect(try read.findBackbone(beside: head) == model)
    try read.check(Backbone(path: model), file: head)
    let other = #expect(throws: HeadError.self) { try read.check(Backbone(path: Fixture.path("tiny-channels-last.onnx")), file: head) }
    #expect(other?.problem.contains("another backbone") == true)
    try FileManager.default.removeItem(atPath: model)
    let missing = #expect(throws: HeadError.self) { try read.findBackbone(beside: head) }
    #expect(missing?.problem.contains("is not found") == true)
    #expect(try read.places(ofOutputsIn: store) == [0, 1, 2])
    #expect(throws: TrainingDataError.self) { try read.targets(of: store.samples(), in: store) }
    let tunedModel = try FineTunedModel(SafetensorsFile(path: tuned), path: tuned)
    let cutStore = try FeatureStore.open(reading: FineTunedModel.cutStorePath(of: store.path, cut: tunedModel.cutName))
    #expect(throws: HeadError.self) { try read.check(against: cutStore, file: head) }
    try tunedModel.check(against: cutStore, file: tuned)
    #expect(throws: HeadError.self) { try tunedModel.check(against: store, file: tuned) }
  }
}
