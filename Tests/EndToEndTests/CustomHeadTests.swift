import Foundation
import Graft
import Testing

/// The documentation's head: what is shown is what is compiled, and it trains.
@Suite struct CustomHeadTests {
  private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  private func text(_ path: String) throws -> String { try String(contentsOf: Self.root.appendingPathComponent(path), encoding: .utf8) }

  @Test func theArticleShowsTheProgram() throws {
    let article = try text("Sources/Graft/Graft.docc/CustomHead.md"), program = try text("Examples/CustomHead/CustomHead.swift")
    let shown = article.components(separatedBy: "```swift\n").dropFirst().compactMap { $0.components(separatedBy: "\n```").first }
    #expect(shown.count == 2)
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

  private func run(_ arguments: [String]) throws -> (status: Int32, output: String, messages: String) {
    let process = Process(), output = Pipe(), messages = Pipe()
    process.executableURL = GraftProcess.executable.deletingLastPathComponent().appendingPathComponent("custom-head")
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
}
