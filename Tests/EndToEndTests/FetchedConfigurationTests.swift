import Foundation
import Graft
import Testing

/// The weights that Tools/fetch has put into the cache.
enum FetchedWeights {
  static let path: String? = {
    let environment = ProcessInfo.processInfo.environment
    let caches = environment["XDG_CACHE_HOME"] ?? "\(environment["HOME"] ?? "")/.cache"
    let path = "\(environment["GRAFT_CACHE"] ?? "\(caches)/graft")/efficientnet-lite0/efficientnet-lite0.pth"
    return FileManager.default.fileExists(atPath: path) ? path : nil
  }()
}

@Suite(.enabled(if: FetchedWeights.path != nil, "Tools/fetch efficientnet-lite0 has not been run")) struct FetchedConfigurationTests {
  /// The JSON file that is written beside the weights says what the architecture itself says.
  @Test func configurationAgreesWithTheArchitecture() throws {
    let path = try #require(FetchedWeights.path)
    let configuration = try ModelConfiguration.read(beside: path)
    let told = try #require(configuration.preprocessing)
    let backbone = try Backbone(path: path, architecture: configuration.architecture)
    let trained = try #require(backbone.trainedPreprocessing)
    #expect(told.inputSize == [trained.channels, trained.height, trained.width])
    #expect(told.interpolation.rawValue == trained.interpolation.rawValue)
    #expect(told.cropPct == trained.cropFraction)
    #expect(told.mean == trained.mean)
    #expect(told.std == trained.standardDeviation)
    #expect(backbone.summary == configuration.architecture)
  }
}
