import Foundation
import GraftTraining
import Testing

/// Sweeps of many strengths, most of which are not solved for.
@Suite struct SweepTests {
  /// 40 classes, so that heads train one by one, and labels of which a fifth is wrong.
  private static func data() throws -> LinearTrainingData {
    let (width, classes) = (32, 40)
    let (x, y) = syntheticSamples(rows: 2400, dimension: width, classes: classes, seed: 21)
    let labels = y.enumerated().map { $0.offset % 5 == 0 && $0.offset >= classes ? ($0.element + 3) % classes : $0.element }
    let rows = { (range: Range<Int>) in try labelled(Array(x[range.lowerBound * width..<range.upperBound * width]), Array(labels[range])) }
    return try LinearTrainingData(train: rows(0..<1600), validation: rows(1600..<2400), classes: (0..<classes).map { "\($0)" })
  }
  private static let strengths = (0..<25).map { pow(10, -3 + Double($0) / 6) }

  private func train(_ data: LinearTrainingData, _ l2: L2Strength, device: Int?) throws -> LinearTrainingResult {
    let options = LinearTrainingOptions(l2: l2)
    guard let device else { return try LinearHeadTrainer(options: options).train(data) }
    return try LinearHeadTrainer(options: options, backend: DeviceLinearBackend(device: ResidentDevices.all[device])).train(data)
  }

  /// On their own, to their end, they score the same.
  @Test(arguments: [nil] + (0..<ResidentDevices.all.count).map { $0 })
  func strengthsBetweenOthersScoreAsIfTheyWereSolvedFor(_ device: Int?) throws {
    let data = try Self.data(), swept = try train(data, .sweep(Self.strengths), device: device)
    #expect(swept.sweep.map(\.l2) == Self.strengths)
    #expect(swept.sweep.filter(\.interpolated).count >= 5, "\(swept.sweep)")
    var best = 0.0
    for point in swept.sweep {
      let alone = try #require(try train(data, .fixed(point.l2), device: nil).validation)
      best = max(best, alone.top1)
      guard point.converged else { continue }
      #expect(abs(point.logLoss - alone.logLoss) < 0.01 * alone.logLoss && abs(point.top1 - alone.top1) <= 0.01, "\(point), \(alone) expected")
    }
    // What is chosen was solved for, and hardly any of them does better by a sample.
    let chosen = try #require(swept.sweep.first { $0.l2 == swept.l2 }), score = try #require(swept.validation)
    #expect(!chosen.interpolated && score.top1 >= best - 0.005)
    let alone = try train(data, .fixed(swept.l2), device: nil)
    #expect(abs(alone.objective - swept.objective) < 1e-6 * alone.objective)
  }

  /// Between strengths a decade apart nothing is known.
  @Test func strengthsFarApartAreAllSolvedFor() throws {
    let found = try train(Self.data(), .sweep(Self.strengths.enumerated().filter { $0.offset % 6 == 0 }.map(\.element)), device: nil)
    #expect(found.sweep.count == 5 && found.sweep.allSatisfy { !$0.interpolated })
  }

  /// 0 has no logarithm.
  @Test func noPenaltyIsAStrengthToo() throws {
    let found = try train(Self.data(), .sweep([0] + Self.strengths), device: nil)
    #expect(found.sweep.count == 26)
    #expect(found.sweep[0].l2 == 0 && !found.sweep[0].interpolated && found.sweep[0].logLoss.isFinite)
    #expect(found.sweep.contains { $0.interpolated })
  }
}
