import Foundation
import Graft
import Testing

/// Files that can't be written to their end: an error that names the file and what to do, and nothing under the final name.
///
/// A limit on the size of files stands for a full disk, which a test can't make without rights.
@Suite(.serialized) struct NoSpaceTests {
  private let model = Fixture.path("tiny.onnx")

  private func names(_ path: String) throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: path).sorted() }

  @Test func anExtractionKeepsWhatIsCommitted() throws {
    let folder = try TemporaryFolder()
    try Photos.write(to: folder["photos"], count: 20)
    // 4 KiB a row.
    let extract = [
      "extract", "--backbone", model, "--data", folder["photos"], "--output", folder["store"], "--device", "cpu", "--cut", "r2", "--json",
    ]
    #expect(try GraftProcess(extract, folder: folder).wait().json()["extracted"] as? Int == 60)
    try Photos.write(to: folder["photos"], count: 150, seed: 1)
    // 450 rows are 1.8 MiB.
    let full = try GraftProcess(extract, folder: folder, largestFile: 2048).wait()
    #expect(!full.wasSignalled && full.status == 74, "\(full.status) \(full.messages)")
    #expect(full.messages.contains("store/shards/000001.npy") && full.messages.contains("ulimit -f"), "\(full.messages)")
    #expect(full.output.isEmpty)
    #expect(try names(folder["store/shards"]) == ["000000.npy"])
    let store = try FeatureStore.open(reading: folder["store"])
    try store.verify()
    #expect(store.samples().count == 60)
    let report = try GraftProcess(extract, folder: folder).wait().json()
    #expect(report["extracted"] as? Int == 450 && report["reused"] as? Int == 60)
    try FeatureStore.open(reading: folder["store"]).verify()
  }

  @Test func anIndexThatCannotBegin() throws {
    let folder = try TemporaryFolder()
    try Photos.write(to: folder["photos"], count: 2)
    let extract = ["extract", "--backbone", model, "--data", folder["photos"], "--output", folder["store"], "--device", "cpu"]
    let full = try GraftProcess(extract, folder: folder, largestFile: 16).wait()
    #expect(!full.wasSignalled && full.status == 74, "\(full.status) \(full.messages)")
    #expect(full.messages.contains("index.sqlite") && full.messages.contains("ulimit -f"), "\(full.messages)")
    #expect(try GraftProcess(extract + ["--json"], folder: folder).wait().json()["extracted"] as? Int == 6)
  }

  @Test func headsAndResults() throws {
    let folder = try TemporaryFolder()
    try Photos.write(to: folder["photos"], count: 8)
    let extract = ["extract", "--backbone", model, "--data", folder["photos"], "--output", folder["store"], "--device", "cpu"]
    #expect(try GraftProcess(extract, folder: folder).wait().status == 0)
    // A head of 48 kB: more than the 32 KiB that SQLite's index of its log takes.
    var generator = Generator(5)
    try Npy.write(HostTensor([60, 4000], (0..<240_000).map { _ in Float.random(in: -1...1, using: &generator) }), to: folder["wide.npy"])
    try Npy.write(HostTensor([60], integers: (0..<60).map { $0 % 3 }), to: folder["labels.npy"])
    _ = try FeatureStore.importing(features: folder["wide.npy"], labels: folder["labels.npy"], output: folder["wide"])
    let head = folder["head.safetensors"]
    let train = ["train", folder["wide"], "--output", head, "--device", "cpu", "--quiet"]
    func refuses(_ arguments: [String], _ file: String, output: String? = nil, largestFile: Int? = nil) throws {
      let full = try GraftProcess(arguments, folder: folder, output: output, largestFile: largestFile).wait()
      #expect(!full.wasSignalled && full.status == 74, "\(arguments[0]): \(full.status) \(full.messages)")
      #expect(full.messages.contains("cannot write") && full.messages.contains(file) && full.messages.contains("again"), "\(full.messages)")
      #expect(try names(folder.path).filter { $0.hasSuffix(".part") } == [])
    }
    try refuses(train, head, largestFile: 80)
    #expect(!FileManager.default.fileExists(atPath: head))
    #expect(try GraftProcess(train, folder: folder).wait().status == 0)
    // A head that is there already stays as it was.
    let before = try Data(contentsOf: URL(fileURLWithPath: head))
    try refuses(train + ["--l2", "1"], head, largestFile: 80)
    #expect(try Data(contentsOf: URL(fileURLWithPath: head)) == before)

    try Npy.write(HostTensor([100, 3, 32, 32], Array(repeating: 0.5, count: 307_200)), to: folder["x.npy"])
    let y = folder["y.npy"]
    try refuses(["run", model, "--input", folder["x.npy"], "--output", y, "--device", "cpu", "--quiet"], y, largestFile: 1)
    #expect(!FileManager.default.fileExists(atPath: y))
    try refuses(["run", model, "--input", folder["x.npy"], "--output", "/dev/full", "--device", "cpu", "--quiet"], "/dev/full")

    let seeing = folder["seeing.safetensors"]
    #expect(try GraftProcess(["train", folder["store"], "--output", seeing, "--device", "cpu"], folder: folder).wait().status == 0)
    let picture = folder["photos/grass/0-3.tiff"]
    try refuses(["evaluate", seeing, folder["store"], "--device", "cpu", "--json"], "standard output", output: "/dev/full")
    try refuses(["predict", seeing, picture, "--device", "cpu"], "standard output", output: "/dev/full")
    try refuses(["inspect", model], "standard output", output: "/dev/full")
  }

  /// Where the result can't be written is found before anything is read or computed: the inputs aren't there either.
  @Test func outputsAreLookedAtFirst() throws {
    let folder = try TemporaryFolder(), missing = folder["missing"]
    let commands = [
      ["train", missing, "--output", "OUTPUT"], ["finetune", missing, missing, "--output", "OUTPUT"], ["curve", missing, "--output", "OUTPUT"],
      ["curve", missing, "--output", folder["curve.svg"], "--csv", "OUTPUT"],
      ["pretrain", "--architecture", "resnet_tiny", "--data", missing, "--output", "OUTPUT.safetensors"],
    ]
    try FileManager.default.createDirectory(atPath: folder["a.safetensors"], withIntermediateDirectories: true)
    for command in commands {
      for output in [folder["nowhere/a"], folder["a"] + (command[0] == "pretrain" ? "" : ".safetensors")] {
        let words = command.map { $0.replacing("OUTPUT", with: output) }
        let outcome = try GraftProcess(words, folder: folder).wait()
        #expect(outcome.status == 74 && outcome.messages.contains(output), "\(words): \(outcome.status) \(outcome.messages)")
      }
    }
    let left = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".part") || $0.hasPrefix("curve") }
    #expect(left.isEmpty, "\(left)")
  }
}
