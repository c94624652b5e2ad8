import Foundation
import Graft
import Testing

/// The command: what it prints, how it ends, and what it leaves behind.
@Suite(.serialized) struct CommandTests {
  private let model = Fixture.path("tiny.onnx")

  @Test func theWholeJob() throws {
    let folder = try TemporaryFolder()
    try Photos.write(to: folder["photos"], count: 12)
    try Data("no picture".utf8).write(to: URL(fileURLWithPath: folder["photos/grass/broken.jpg"]))
    let extract = ["extract", "--backbone", model, "--data", folder["photos"], "--output", folder["store"], "--device", "cpu", "--json"]
    let extracted = try GraftProcess(extract, folder: folder).wait()
    #expect(extracted.status == 0, "\(extracted.messages)")
    let report = try extracted.json()
    #expect(report["extracted"] as? Int == 36 && report["skipped"] as? Int == 1 && report["cut"] as? String == "features")
    #expect(extracted.messages.contains("broken.jpg"))
    #expect(try GraftProcess(extract, folder: folder).wait().json()["reused"] as? Int == 36)

    let trained = try GraftProcess.run("train", folder["store"], "--output", folder["head.safetensors"], "--device", "cpu", "--json", in: folder)
    #expect(trained.status == 0, "\(trained.messages)")
    let strict = ["train", folder["store"], "--output", folder["strict.safetensors"], "--device", "cpu", "--l2", "0.01", "--json"]
    let gradients = try ["1e-2", "1e-5"].map { try GraftProcess(strict + ["--tolerance", $0], folder: folder).wait().json() }
    #expect(try #require(gradients[0]["iterations"] as? Int) < #require(gradients[1]["iterations"] as? Int), "\(gradients)")
    let scored = try GraftProcess.run("evaluate", folder["head.safetensors"], folder["store"], "--device", "cpu", "--json", in: folder)
    #expect(try scored.json()["top1"] as? Double == 1, "\(scored.output)\(scored.messages)")
    let picture = folder["photos/red brick/0-3.tiff"]
    let predicted = try GraftProcess.run("predict", folder["head.safetensors"], picture, "--device", "cpu", "--json", in: folder)
    let predictions = try #require(JSONSerialization.jsonObject(with: Data(predicted.output.utf8)) as? [[String: Any]], "\(predicted.messages)")
    let labels = try #require(predictions.first?["predictions"] as? [[String: Any]])
    #expect(labels.first?["label"] as? String == "red brick")
  }

  /// A wrong --data shows before the next head does.
  @Test func whatLeavesTheStoreIsSaid() throws {
    let folder = try TemporaryFolder()
    try Photos.write(to: folder["photos"], count: 4)
    let extract = ["extract", "--backbone", model, "--data", folder["photos"], "--output", folder["store"], "--device", "cpu"]
    #expect(try !GraftProcess(extract, folder: folder).wait().messages.contains("left the store"))
    let picture = folder["photos/red brick/0-0.tiff"]
    try FileManager.default.copyItem(atPath: picture, toPath: folder["photos/stray.tiff"])
    try FileManager.default.removeItem(atPath: picture)
    try FileManager.default.createSymbolicLink(atPath: folder["photos/sand"], withDestinationPath: "/nowhere/at/all")
    let outcome = try GraftProcess(extract + ["--quiet"], folder: folder).wait()
    #expect(outcome.status == 0 && outcome.messages.contains("1 sample left the store: its file is gone"), "\(outcome.messages)")
    #expect(outcome.messages.contains("1 image lies outside the class folders and was left out: stray.tiff"))
    #expect(outcome.messages.contains("the link 'sand' leads nowhere"))
  }

  /// A head for eight pictures a class, and beside them a file that is no picture.
  private func trained(in folder: TemporaryFolder) throws -> String {
    try Photos.write(to: folder["photos"], count: 8)
    let extract = ["extract", "--backbone", model, "--data", folder["photos"], "--output", folder["store"], "--device", "cpu"]
    #expect(try GraftProcess(extract, folder: folder).wait().status == 0)
    let head = folder["head.safetensors"]
    #expect(try GraftProcess.run("train", folder["store"], "--output", head, "--device", "cpu", "--l2", "0.01", in: folder).status == 0)
    try Data("no picture".utf8).write(to: URL(fileURLWithPath: folder["broken.jpg"]))
    return head
  }

  /// Pictures that can't be read are named and passed over, those after them are told, and the status says that some are missing.
  @Test func predictsTheOthers() throws {
    let folder = try TemporaryFolder(), head = try trained(in: folder)
    let good = (0..<5).map { folder["photos/red brick/0-\($0).tiff"] }
    let all = [folder["none.jpg"]] + good[..<3] + [folder["broken.jpg"]] + good[3...]
    func predict(_ images: [String], _ options: String...) throws -> GraftProcess.Outcome {
      try GraftProcess(["predict", head] + images + ["--device", "cpu", "--batch-size", "2", "--top-k", "1"] + options, folder: folder).wait()
    }
    func paths(_ outcome: GraftProcess.Outcome) throws -> [String?] {
      let found = try #require(JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [[String: Any]], "\(outcome.messages)")
      return found.map { $0["path"] as? String }
    }
    let mixed = try predict(all), alone = try predict(good)
    #expect(mixed.status == 65 && alone.status == 0 && mixed.output == alone.output, "\(mixed.messages)")
    #expect(mixed.messages.contains("skipped \(folder["none.jpg"]): ") && mixed.messages.contains("skipped \(folder["broken.jpg"]): "))
    #expect(mixed.messages.contains("2 of 7 pictures could not be read"))
    let json = try predict(all, "--json")
    #expect(try json.status == 65 && paths(json) == good)
    let none = try predict([folder["none.jpg"], folder["broken.jpg"]], "--json")
    #expect(try none.status == 65 && paths(none).isEmpty)
    let strict = try predict(Array(all[1...]), "--strict")
    #expect(strict.status == 65 && strict.messages.contains("error: \(folder["broken.jpg"])") && !strict.messages.contains("skipped"))
    #expect(try predict([folder["none.jpg"]]).status == 74)
  }

  /// The last batch is what is left, however that compares with the others.
  @Test func predictsAnyNumberOfPictures() throws {
    let folder = try TemporaryFolder(), head = try trained(in: folder)
    let pictures = Photos.classes.flatMap { name in (0..<8).map { folder["photos/\(name)/0-\($0).tiff"] } }
    func predict(_ images: [String], batchSize: Int, _ options: String...) throws -> GraftProcess.Outcome {
      try GraftProcess(["predict", head] + images + ["--batch-size", "\(batchSize)"] + options, folder: folder).wait()
    }
    for device in ["cpu", "opencl:0"] {
      let expected = try predict(pictures, batchSize: 1, "--device", device)
      #expect(expected.status == 0 && !expected.output.isEmpty, "\(expected.messages)")
      for batchSize in [5, 7, 9, 11, 13, 19, 24] {
        let found = try predict(pictures, batchSize: batchSize, "--device", device)
        #expect(found.status == 0 && found.output == expected.output, "\(batchSize) on \(device): \(found.messages)")
      }
    }
    // A picture that is passed over makes a batch shorter, too.
    let six = pictures[..<5] + [folder["broken.jpg"]], found = try predict(Array(six), batchSize: 16, "--device", "cpu")
    #expect(try found.status == 65 && found.output == predict(Array(pictures[..<5]), batchSize: 5, "--device", "cpu").output, "\(found.messages)")
  }

  /// An argument that is no text names no other file than it says: nothing is read or written.
  @Test func argumentsAreText() throws {
    let folder = try TemporaryFolder(), process = Process(), messages = Pipe()
    // Only a shell can make such an argument here.
    (process.executableURL, process.currentDirectoryURL) = (URL(fileURLWithPath: "/bin/sh"), URL(fileURLWithPath: folder.path))
    process.arguments = ["-c", "exec \"$0\" train store --output \"$(printf 'h\\377.st')\"", GraftProcess.executable.path]
    process.standardError = messages
    try process.run()
    let text = String(decoding: messages.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationStatus == 64 && text.contains(#"'h\xFF.st' is not UTF-8"#), "\(text)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
  }

  /// Files and folders may have names of one letter, as one types them: a place that Foundation traps at.
  @Test func namesOfOneLetter() throws {
    let folder = try TemporaryFolder(), process = Process(), messages = Pipe()
    try Npy.write(HostTensor([40, 4], (0..<160).map { Float($0 % 7) - Float($0 % 3) }), to: folder["x"])
    try Npy.write(HostTensor([40], integers: (0..<40).map { Int64($0 % 2) }), to: folder["y"])
    (process.executableURL, process.currentDirectoryURL) = (URL(fileURLWithPath: "/bin/sh"), URL(fileURLWithPath: folder.path))
    process.arguments = [
      "-c", "\"$0\" import --features x --labels y --output f && \"$0\" train f --output h && \"$0\" evaluate h f", GraftProcess.executable.path,
    ]
    (process.standardError, process.standardOutput) = (messages, FileHandle.nullDevice)
    try process.run()
    let text = String(decoding: messages.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationStatus == 0, "\(text)")
  }

  /// Names in JSON are in one style, in lists too.
  @Test func namesInJSONAreInOneStyle() throws {
    let folder = try TemporaryFolder()
    try Npy.write(HostTensor([2, 3, 32, 32], Array(repeating: 0.5, count: 6144)), to: folder["x.npy"])
    let run = try GraftProcess.run(
      "run", model, "--input", folder["x.npy"], "--output", folder["y.npy"], "--device", "cpu", "--compare", "float32", "--json", in: folder)
    let agreement = try #require(try run.json()["agreement"] as? [String: Any])
    #expect(agreement.keys.sorted() == ["cosine", "norm_error", "relative_error"])
    let devices = try GraftProcess.run("devices", "--json", in: folder)
    let rows = try #require(JSONSerialization.jsonObject(with: Data(devices.output.utf8)) as? [[String: Any]])
    #expect(rows.last?["compute_units"] is Int && rows.last?["is_gpu"] is Bool)
    #expect(rows.flatMap(\.keys).allSatisfy { $0 == $0.lowercased() })
  }

  /// A file that takes images channels last is shown as 'graft run' takes it.
  @Test func inspectsAndRunsInTheFilesOrder() throws {
    let folder = try TemporaryFolder(), open = Fixture.path("tiny-channels-last.onnx")
    let report = try GraftProcess(["inspect", open, "--input-size", "40", "--json"], folder: folder).wait().json()
    #expect(report["input_shape"] as? [Int] == [1, 40, 40, 3])
    try Npy.write(HostTensor([2, 24, 40, 3], (0..<2 * 24 * 40 * 3).map { Float($0 % 17) / 8 - 1 }), to: folder["x.npy"])
    let outcome = try GraftProcess(["run", open, "--input", folder["x.npy"], "--output", folder["y.npy"]], folder: folder).wait()
    #expect(outcome.status == 0, "\(outcome.messages)")
    #expect(try Npy.tensor(of: folder["y.npy"]).shape == [2, 4])
  }

  /// A prediction needs no such GPU, says what it is, and adds up.
  @Test func predictsWithoutMeasuring() throws {
    let folder = try TemporaryFolder()
    let arguments = ["inspect", model, "--predict", "rtx3060", "--batch-size", "8"]
    let report = try GraftProcess(arguments + ["--json"], folder: folder).wait().json()
    let prediction = try #require(report["prediction"] as? [String: Any])
    let launches = try #require(prediction["launches"] as? [[String: Any]])
    let total = try #require(prediction["predicted_milliseconds"] as? Double)
    let sum = launches.reduce(0) { $0 + ($1["predicted_milliseconds"] as? Double ?? .nan) }
    #expect(total > 0 && abs(sum - total) <= 1e-9 * total && prediction["batch_size"] as? Int == 8)
    let text = try GraftProcess(arguments, folder: folder).wait()
    #expect(text.output.contains("predicted, not measured, for NVIDIA GeForce RTX 3060"))
  }

  /// A name with a newline in it does not break the line that names it.
  @Test func aWarningIsOneLine() throws {
    let folder = try TemporaryFolder()
    try Photos.write(to: folder["photos"], count: 2)
    try Data("no picture".utf8).write(to: URL(fileURLWithPath: folder["photos/grass/x\ny.png"]))
    let extract = ["extract", "--backbone", model, "--data", folder["photos"], "--output", folder["store"], "--device", "cpu", "--quiet"]
    let outcome = try GraftProcess(extract, folder: folder).wait()
    #expect(outcome.status == 0 && outcome.messages.contains(#"skipped grass/x\x0Ay.png: "#), "\(outcome.messages)")
  }

  /// An instruction set that is not there is a mistake of who asked for it.
  @Test func unknownInstructionSet() throws {
    let folder = try TemporaryFolder()
    let outcome = try GraftProcess.run("devices", in: folder, environment: ["GRAFT_ISA": "abacus"])
    #expect(outcome.status == 64 && outcome.messages.contains("GRAFT_ISA=abacus"), "\(outcome.messages)")
  }

  /// Every mistake of a user: the status, and a message that names what was given.
  @Test(
    arguments: [
      (["extract", "--backbone", "MISSING.onnx", "--data", "PHOTOS", "--output", "STORE"], 74, "MISSING.onnx"),
      (["extract", "--backbone", "MODEL", "--data", "NOWHERE", "--output", "STORE"], 74, "NOWHERE"),
      (["extract", "--backbone", "MODEL", "--data", "PHOTOS", "--output", "STORE", "--device", "gpu7"], 64, "gpu7"),
      (["extract", "--backbone", "MODEL", "--data", "PHOTOS", "--output", "STORE", "--batch-size", "0"], 64, "--batch-size"),
      (["extract", "--backbone", "MODEL", "--data", "PHOTOS", "--output", "STORE", "--cut", "nothing"], 65, "'nothing'"),
      (["inspect", "PHOTOS/grass/0-0.tiff"], 65, "0-0.tiff"),
      (["extract", "--backbone", "MODEL", "--data", "PHOTOS", "--output", "STORE", "--input-size", "0"], 64, "--input-size"),
      (["extract", "--backbone", "MODEL", "--data", "PHOTOS", "--output", "STORE", "--crop-pct", "nan"], 64, "--crop-pct"),
      (["extract", "--backbone", "MODEL", "--data", "PHOTOS", "--output", "STORE", "--std", "0,0,0"], 64, "--std"),
      (["inspect", "MODEL", "--predict", "abacus"], 64, "rtx4090"), (["inspect", "MODEL", "--batch-size", "8"], 64, "--predict"),
      (["inspect", "MODEL", "--precision", "bfloat16"], 64, "--predict"), (["inspect", "MODEL", "--input-size", "3000000000"], 64, "1 to 16384"),
      (["run", "MODEL", "--input", "NOWHERE", "--output", "/nowhere/y.npy"], 74, "/nowhere/y.npy"),
      (["import", "--features", "/dev/null", "--labels", "/dev/null", "--output", "STORE"], 74, "no regular file. Save"),
      (["train", "PHOTOS", "--output", "h.safetensors"], 65, "photos"),
      (["predict", "MODEL", "PHOTOS/grass/0-0.tiff"], 65, "tiny.onnx"),
      (["run", "MODEL", "--input", "MODEL", "--output", "y.npy"], 65, "tiny.onnx"),
      (["nonsense"], 64, "nonsense"),
    ] as [([String], Int32, String)])
  func mistakes(_ arguments: [String], _ status: Int32, _ words: String) throws {
    let folder = try TemporaryFolder()
    try Photos.write(to: folder["photos"], count: 1)
    let places = ["MODEL": model, "PHOTOS": folder["photos"], "STORE": folder["store"], "NOWHERE": folder["NOWHERE"]]
    let resolved = arguments.map { argument in
      places.first { argument == $0.key || argument.hasPrefix($0.key + "/") }.map { $0.value + argument.dropFirst($0.key.count) } ?? argument
    }
    let outcome = try GraftProcess(resolved, folder: folder).wait()
    #expect(!outcome.wasSignalled && outcome.status == status, "\(outcome.status): \(outcome.messages)")
    #expect(outcome.messages.contains(words), "\(outcome.messages)")
    #expect(outcome.output.isEmpty)
  }

  /// Without any OpenCL driver `auto` computes on the CPU and says so; asking for OpenCL is an error, not a fallback.
  @Test func withoutOpenCL() throws {
    let folder = try TemporaryFolder()
    try Photos.write(to: folder["photos"], count: 3)
    let none = ["OCL_ICD_VENDORS": folder["no vendors"]]
    let extract = ["extract", "--backbone", model, "--data", folder["photos"], "--output", folder["store"]]
    let outcome = try GraftProcess(extract, folder: folder, environment: none).wait()
    #expect(outcome.status == 0 && outcome.messages.contains("device: cpu"), "\(outcome.messages)")
    let refused = try GraftProcess(extract + ["--device", "opencl"], folder: folder, environment: none).wait()
    #expect(refused.status == 64 && refused.messages.contains("there is no OpenCL device"), "\(refused.messages)")
  }

  /// Ctrl-C commits what is done and says how to go on; kill -9 loses no committed row. Both go on where they stopped.
  @Test(arguments: [SIGINT, SIGTERM, SIGKILL])
  func interruptedExtractionsGoOn(_ number: Int32) throws {
    let folder = try TemporaryFolder()
    try Photos.write(to: folder["photos"], count: 150, side: 200)
    let extract = [
      "extract", "--backbone", model, "--data", folder["photos"], "--output", folder["store"], "--device", "cpu", "--shard-rows", "16",
      "--batch-size", "4", "--decoding-threads", "1", "--json",
    ]
    let process = try GraftProcess(extract, folder: folder)
    // Once the first shard is there.
    let deadline = ContinuousClock.now + .seconds(60)
    while !FileManager.default.fileExists(atPath: folder["store/shards/000000.npy"]), ContinuousClock.now < deadline {
      Thread.sleep(forTimeInterval: 0.001)
    }
    kill(process.process.processIdentifier, number)
    let stopped = try process.wait()
    if number == SIGKILL {
      #expect(stopped.wasSignalled)
    } else {
      #expect(!stopped.wasSignalled && stopped.status == 128 + number, "\(stopped.status) \(stopped.messages)")
      #expect(stopped.messages.contains("of 450 images are in \(folder["store"]). Run the same command again"), "\(stopped.messages)")
      #expect(stopped.output.isEmpty)
    }
    let report = try GraftProcess(extract, folder: folder).wait().json()
    let (extracted, reused) = (report["extracted"] as? Int ?? 0, report["reused"] as? Int ?? 0)
    #expect(extracted + reused == 450 && extracted > 0)
    // A kill may come before the transaction that names the first shard.
    #expect(number == SIGKILL || reused >= 16, "\(reused) reused")
    try FeatureStore.open(reading: folder["store"]).verify()
  }
}
