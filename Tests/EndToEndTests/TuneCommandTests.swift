import Foundation
import Graft
import Testing

/// `graft tune` as a user runs it. Nothing here looks at how fast anything was.
@Suite(.serialized) struct TuneCommandTests {
  private let model = Fixture.path("tiny.onnx")
  static let hasOpenCL = ((try? OpenCLPlatform.devices()) ?? []).contains { $0.obstacle == nil }

  @Test(.enabled(if: hasOpenCL, "no OpenCL device: install pocl-opencl-icd")) func aModelIsTuned() throws {
    let folder = try TemporaryFolder()
    let environment = ["GRAFT_CACHE": folder["cache"]], device = ["--device", "opencl", "--kernels", "gpu"]
    let tune = ["tune", model, "--seconds", "3", "--batch-size", "2"] + device
    let report = try GraftProcess(tune + ["--json"], folder: folder, environment: environment).wait().json()
    let shapes = try #require(report["shapes"] as? [[String: Any]])
    #expect(report["kernels"] as? String == "gpu" && report["batch_size"] as? Int == 2 && report["precision"] as? String == "float32")
    #expect(!shapes.isEmpty && shapes.count <= report["shape_count"] as? Int ?? 0)
    for shape in shapes {
      #expect((shape["speed_up"] as? Double ?? 0) >= 1 && (shape["excluded"] as? [String])?.isEmpty == true, "\(shape)")
      #expect(shape["failure"] == nil && shape["default_microseconds"] as? Double ?? 0 > 0 && shape["kernel"] is String)
    }
    let text = try GraftProcess(tune, folder: folder, environment: environment).wait()
    #expect(text.status == 0 && text.output.contains("speed-up") && text.output.contains("shapes in"))
    // A damaged file is named, and nothing else comes of it.
    let file = try #require(report["file"] as? String)
    try FileManager.default.createDirectory(atPath: folder["cache/tuning"], withIntermediateDirectories: true)
    try "not JSON".write(toFile: file, atomically: false, encoding: .utf8)
    let bench = try GraftProcess(["bench", model, "--batch-size", "2", "--seconds", "0.01"] + device, folder: folder, environment: environment).wait()
    #expect(bench.status == 0 && bench.messages.components(separatedBy: file).count == 2, "\(bench.messages)")
  }

  /// Someone who does not wait for the candidate that is being measured says nothing against it.
  @Test(.enabled(if: hasOpenCL, "no OpenCL device: install pocl-opencl-icd")) func whoStopsTwiceShunsNoCandidate() throws {
    let folder = try TemporaryFolder()
    let trials = folder["cache/trials"], names = { (try? FileManager.default.contentsOfDirectory(atPath: trials)) ?? [] }
    let tune = ["tune", model, "--seconds", "600", "--batch-size", "2", "--device", "opencl", "--kernels", "gpu"]
    let process = try GraftProcess(tune, folder: folder, environment: ["GRAFT_CACHE": folder["cache"]])
    let deadline = ContinuousClock.now + .seconds(120)
    while names().isEmpty, process.process.isRunning, ContinuousClock.now < deadline { Thread.sleep(forTimeInterval: 0.001) }
    while process.process.isRunning {
      kill(process.process.processIdentifier, SIGINT)
      Thread.sleep(forTimeInterval: 0.002)
    }
    let outcome = try process.wait()
    #expect(!outcome.wasSignalled && outcome.status == 130, "\(outcome.status) \(outcome.messages)")
    #expect(names().isEmpty)
  }

  /// The shapes of a step are those of forward, and of the way back.
  @Test(.enabled(if: hasOpenCL, "no OpenCL device: install pocl-opencl-icd")) func aTrainingStepIsTuned() throws {
    let folder = try TemporaryFolder()
    let environment = ["GRAFT_CACHE": folder["cache"]], device = ["--device", "opencl", "--kernels", "gpu", "--batch-size", "2"]
    let tune = ["tune", "resnet_tiny", "--train", "--classes", "3", "--seconds", "3", "--json"]
    let report = try GraftProcess(tune + device, folder: folder, environment: environment).wait().json()
    let shapes = try #require(report["shapes"] as? [[String: Any]]), names = shapes.compactMap { $0["shape"] as? String }
    #expect(names.contains { $0.hasPrefix("convolution ") } && report["shape_count"] as? Int ?? 0 >= names.count)
    for shape in shapes { #expect(shape["failure"] == nil && (shape["excluded"] as? [String])?.isEmpty == true, "\(shape)") }
    for wrong in [["resnet_tiny"], ["resnet_tiny", "--classes", "3"], ["resnet_tiny", "--train", "--classes", "1"]] {
      #expect(try GraftProcess(["tune"] + wrong + device, folder: folder, environment: environment).wait().status != 0)
    }
  }

  @Test func aCPUHasNothingToTune() throws {
    let folder = try TemporaryFolder()
    let outcome = try GraftProcess.run("tune", model, "--device", "cpu", in: folder)
    #expect(outcome.status == 0 && outcome.output.contains("nothing to tune"))
    let report = try GraftProcess.run("tune", model, "--device", "cpu", "--json", in: folder).json()
    #expect((report["shapes"] as? [Any])?.isEmpty == true)
    for wrong in [["--seconds", "0"], ["--batch-size", "0"], ["--seconds", "nan"]] {
      #expect(try GraftProcess(["tune", model] + wrong, folder: folder).wait().status == 64)
    }
  }
}
