import Foundation
import Testing

/// `graft bench`: options, the fields of its JSON, and errors. Nothing here looks at how fast anything was.
@Suite(.serialized) struct BenchCommandTests {
  private let model = Fixture.path("tiny.onnx")

  private func run(_ arguments: [String]) throws -> GraftProcess.Outcome {
    let folder = try TemporaryFolder()
    return try withExtendedLifetime(folder) { try GraftProcess(["bench"] + arguments + ["--device", "cpu"], folder: folder).wait() }
  }

  private func isSpread(_ value: Any?) -> Bool {
    guard let spread = value as? [String: Double], let median = spread["median"], let low = spread["minimum"], let high = spread["maximum"] else {
      return false
    }
    return low > 0 && low <= median && median <= high
  }

  private func isPeak(_ value: Any?) -> Bool {
    guard let peak = value as? [String: Any], let bandwidths = peak["bandwidths"] as? [[String: Double]] else { return false }
    let names = ["working_set_bytes", "read_gigabytes_per_second", "triad_gigabytes_per_second"]
    return (peak["gigaflops_per_second"] as? Double ?? 0) > 0 && bandwidths.count == 3
      && bandwidths.allSatisfy { bandwidth in names.allSatisfy { bandwidth[$0] ?? 0 > 0 } }
  }

  /// The form that other programs read; options may come before the model.
  @Test(arguments: [["MODEL", "--batch-size", "2"], ["--batch-size", "2", "MODEL"], ["model", "--batch-size", "2", "MODEL"]])
  func aModel(_ arguments: [String]) throws {
    let outcome = try run(arguments.map { $0 == "MODEL" ? model : $0 } + ["--seconds", "0.05", "--json"])
    let report = try outcome.json()
    #expect(isSpread(report["images_per_second"]) && report["device"] as? String == "cpu" && report["precision"] as? String == "float32")
    #expect(report["batch_size"] as? Int == 2 && report["runs"] as? Int ?? 0 >= 3 && report["model"] as? String == model)
    #expect(report["profile"] == nil && report["peak"] == nil)
  }

  /// A file that leaves the size of its images open is measured with the one that is asked for, and asks for one.
  @Test func imagesOfAnySize() throws {
    let open = Fixture.path("tiny-channels-last.onnx")
    let refused = try run([open, "--seconds", "0.05"])
    #expect(refused.status == 65 && refused.messages.contains("--input-size"))
    let work = try ["32", "64"].map { side in
      let report = try run([open, "--input-size", side, "--batch-size", "2", "--seconds", "0.05", "--json"]).json()
      return report["gigaflops_per_image"] as? Double ?? 0
    }
    #expect(work[0] > 0 && abs(work[1] / work[0] - 4) < 0.05, "\(work)")
    for model in [open, "resnet_tiny"] {
      let steps = try run(["train", model, "--input-size", "48", "--batch-size", "2", "--seconds", "0.05", "--json"])
      #expect(isSpread(try steps.json()["images_per_second"]), "\(steps.messages)")
    }
    #expect(try run([open, "--input-size", "0"]).status == 64)
    let fixed = try run([model, "--input-size", "48", "--seconds", "0.05"])
    #expect(fixed.status == 65 && fixed.messages.contains("32 × 32") && fixed.messages.contains("--input-size"), "\(fixed.messages)")
  }

  /// An architecture from scratch, and a file's network with what it has learned.
  @Test(arguments: ["resnet_tiny", Fixture.path("tiny.onnx")]) func aTrainingStep(_ model: String) throws {
    let outcome = try run(["train", model, "--batch-size", "3", "--classes", "7", "--seconds", "0.05", "--profile", "--json"])
    let report = try outcome.json()
    #expect(isSpread(report["images_per_second"]) && report["batch_size"] as? Int == 3 && report["steps"] as? Int ?? 0 >= 3)
    #expect(report["parameters"] as? Int ?? 0 > 100 && report["recomputes"] as? Bool == false)
    let kernels = try #require(report["profile"] as? [[String: Any]])
    #expect(kernels.contains { ($0["label"] as? String)?.contains("conv2DWeightGradient") == true }, "\(kernels.map { $0["label"] })")
  }

  @Test func aModelWithoutScoresIsNotTrained() throws {
    let outcome = try run(["train", Fixture.path("missing.onnx")])
    #expect(outcome.status == 74 && outcome.messages.contains("missing.onnx"))
  }

  @Test func aProfile() throws {
    let report = try run([model, "--batch-size", "2", "--seconds", "0.05", "--profile", "--json"]).json()
    #expect(isPeak(report["peak"]))
    let kernels = try #require(report["profile"] as? [[String: Any]])
    let convolution = try #require(kernels.first { $0["operation"] as? String == "conv2D" })
    for name in ["milliseconds", "gigaflops", "megabytes", "gigaflops_per_second", "gigabytes_per_second", "percent_of_limit"] {
      #expect(convolution[name] as? Double ?? 0 > 0, "\(name)")
    }
    #expect(["arithmetic", "memory"].contains(convolution["limit"] as? String))
    #expect((convolution["input_shapes"] as? [[Int]])?[0].count == 4 && (convolution["output_shape"] as? [Int])?[0] == 2)
    let text = try run([model, "--batch-size", "2", "--seconds", "0.05", "--profile"])
    #expect(text.output.contains("of limit") && text.output.contains("peak: "))
  }

  @Test(arguments: [[], ["--transpose-a"], ["--transpose-b", "--packed"], ["--batch", "2"]]) func aProduct(_ flags: [String]) throws {
    let outcome = try run(["gemm", "--m", "33", "--n", "20", "--k", "50", "--seconds", "0.05", "--json"] + flags)
    let report = try outcome.json()
    let sizes = try #require(report["sizes"] as? [String: Any])
    #expect(report["operation"] as? String == "gemm" && sizes["m"] as? Int == 33 && sizes["n"] as? Int == 20 && sizes["k"] as? Int == 50)
    #expect(sizes["transpose_a"] as? Bool == flags.contains("--transpose-a") && sizes["transpose_b"] as? Bool == flags.contains("--transpose-b"))
    #expect(sizes["packed"] as? Bool == flags.contains("--packed") && sizes["batch"] as? Int == (flags.contains("--batch") ? 2 : 1))
    try checkOperation(report)
  }

  @Test func aConvolution() throws {
    let outcome = try run([
      "conv", "--batch-size", "2", "--height", "9", "--width", "7", "--channels", "6", "--outputs", "4", "--kernel", "3x5", "--stride", "2",
      "--dilation", "1", "--groups", "2", "--seconds", "0.05", "--json",
    ])
    let report = try outcome.json()
    let sizes = try #require(report["sizes"] as? [String: Any])
    #expect(sizes["kernel"] as? [Int] == [3, 5] && sizes["stride"] as? [Int] == [2, 2] && sizes["padding"] as? [Int] == [1, 2])
    #expect(report["output_shape"] as? [Int] == [2, 5, 4, 4])
    try checkOperation(report)
  }

  @Test(arguments: ["float32", "bfloat16", "float16"]) func operationsInAFormat(_ precision: String) throws {
    let units: [String: Double] = ["float32": 0, "bfloat16": 0x1p-8, "float16": 0x1p-11]
    let unit = try #require(units[precision])
    for operation in [["gemm", "--m", "33", "--n", "20", "--k", "50"], ["conv", "--height", "9", "--channels", "6"]] {
      let arguments = operation + ["--precision", precision, "--seconds", "0.05"]
      let report = try run(arguments + ["--json"]).json()
      #expect(report["precision"] as? String == precision)
      try checkOperation(report, error: unit / 16...unit + 1e-5)
      let text = try run(arguments)
      #expect(text.status == 0 && text.output.contains(", \(precision)\n") == (precision != "float32"), "\(text.output)")
    }
  }

  private func checkOperation(_ report: [String: Any], error bound: ClosedRange<Double> = 0...1e-5) throws {
    #expect(isSpread(report["milliseconds"]) && isPeak(report["peak"]))
    for name in ["gigaflops", "gigaflops_per_second", "gigabytes_per_second", "percent_of_limit", "checked_results"] {
      #expect(report[name] as? Double ?? 0 > 0, "\(name)")
    }
    let error = try #require(report["largest_relative_error"] as? Double)
    #expect(bound.contains(error), "\(error)")
  }

  @Test func thePeak() throws {
    let report = try run(["peak", "--threads", "1", "--json"]).json()
    #expect(isPeak(report["peak"]) && report["threads"] as? Int == 1 && report["kernels"] as? String == "cpu")
    let text = try run(["peak"])
    #expect(text.status == 0 && text.output.contains("GFLOP/s") && text.output.contains("triad"))
  }

  @Test(
    arguments: [
      (["gemm", "--m", "0", "--n", "1", "--k", "1"], "--m"), (["gemm", "--m", "1", "--n", "1"], "--k"),
      (["gemm", "--m", "9223372036854775807", "--n", "9223372036854775807", "--k", "9223372036854775807"], "9223372036854775807"),
      (["gemm", "--m", "1000000", "--n", "1000000", "--k", "1"], "[1000000, 1000000]"),
      (["gemm", "--m", "1", "--n", "1", "--k", "1", "--seconds", "0"], "--seconds"),
      (["gemm", "--m", "1", "--n", "1", "--k", "1", "--precision", "float8"], "float8"),
      (["conv", "--height", "8", "--channels", "4", "--precision", "float8"], "float8"),
      (["conv", "--height", "2", "--channels", "3", "--kernel", "5", "--padding", "0"], "larger than the padded image"),
      (["conv", "--height", "9223372036854775807", "--channels", "3"], "2²⁴"),
      (["conv", "--height", "8", "--channels", "4", "--groups", "3"], "groups"),
      (["conv", "--height", "8", "--channels", "4", "--kernel", "9223372036854775807", "--dilation", "9223372036854775807"], "2²⁴"),
      (["conv", "--height", "8", "--channels", "4", "--kernel", "3x"], "3x"),
      (["conv", "--height", "8", "--channels", "4", "--stride", "-1"], "--stride"),
      (["train", "resnet_tiny", "--input-size", "4294967296"], "1 to 16384"), (["resnet_tiny", "--input-size", "16385"], "1 to 16384"),
      (["peak", "--threads", "0"], "--threads"), (["--batch-size", "0", "x.onnx"], "--batch-size"),
    ] as [([String], String)])
  func mistakes(_ arguments: [String], _ words: String) throws {
    let outcome = try run(arguments)
    #expect(!outcome.wasSignalled && outcome.status == 64, "\(outcome.status): \(outcome.messages)")
    #expect(outcome.messages.contains(words) && outcome.output.isEmpty, "\(outcome.messages)")
  }
}
