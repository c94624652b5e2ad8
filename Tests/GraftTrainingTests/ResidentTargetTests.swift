import Foundation
import GraftData
import GraftDevice
import GraftTraining
import Testing

/// Linear heads for labels and numbers trained with their features on a device, against those trained in plain Swift.
@Suite(.enabled(if: !ResidentDevices.openCL.isEmpty, "no OpenCL device: install pocl-opencl-icd")) struct ResidentTargetTests {
  enum Variant: CaseIterable {
    case labels, squares, huber

    var loss: Loss {
      switch self {
      case .labels: .binaryCrossEntropy
      case .squares: .squared
      case .huber: .huber(0.7)
      }
    }
  }

  /// Four labels, of which every sample has the third; or two numbers in units of their own, some far out.
  private func data(_ variant: Variant, rows: Int = 700, dimension: Int = 37) throws -> TargetTrainingData {
    let (x, y) = syntheticSamples(rows: rows, dimension: dimension, classes: 5, seed: 12)
    let targets = (0..<rows).flatMap { row -> [Double] in
      let own = x[row * dimension..<(row + 1) * dimension].map(Double.init), sum = own[0] - 2 * own[1] + own[2] * own[3]
      if variant == .labels { return [y[row] == 0, y[row] < 3, true, sum > 0].map { $0 ? 1 : 0 } }
      return [1000 + 50 * sum + Double(y[row]), 0.001 * own[4] + (row % 50 == 7 ? 0.1 : 0)]
    }
    let width = variant == .labels ? 4 : 2
    return TargetTrainingData(
      task: variant == .labels ? .multilabel : .regression, names: (0..<width).map { "output \($0)" },
      train: try TargetedFeatures(
        features: ArrayFeatures(x, rowCount: rows, dimension: dimension, chunkRowCount: 123), targets: targets, targetCount: width))
  }

  private func fitted(_ variant: Variant, _ data: TargetTrainingData, l2: Double, on backend: any LinearBackend = HostLinearBackend()) throws
    -> (result: FittedTargetHead, head: Head)
  {
    let metadata = HeadMetadata(
      task: data.task, classes: data.names, cut: nil, backboneSHA256: nil, backboneFile: nil, preprocessing: nil, featureNormalisation: .none, l2: 0,
      graftVersion: "test")
    let found = try TargetLinearFitting(loss: variant.loss, options: LinearTrainingOptions(l2: .fixed(l2)), backend: backend)
      .fit(data, metadata: metadata) { _ in }
    return (found, try #require(found.classifier as? Head))
  }

  @Test(arguments: 0..<ResidentDevices.all.count, Variant.allCases)
  func reachesTheSameMinimum(_ device: Int, _ variant: Variant) throws {
    let data = try data(variant)
    for l2 in [1e-2, 1e-4] {
      let (expected, theirs) = try fitted(variant, data, l2: l2)
      let (found, mine) = try fitted(variant, data, l2: l2, on: DeviceLinearBackend(device: ResidentDevices.all[device]))
      let (objective, wanted) = (try #require(found.objective), try #require(expected.objective))
      #expect(abs(objective - wanted) <= 1e-6 * wanted, "\(objective), \(wanted) expected")
      #expect(found.status != SolverStatus.iterationLimit.rawValue)
      for (a, b) in [(mine.weight, theirs.weight), (mine.bias, theirs.bias)] {
        let largest = b.reduce(0) { max($0, abs($1)) }
        #expect(zip(a, b).allSatisfy { abs($0 - $1) <= 5e-3 * largest }, "λ \(l2): \(a), \(b) expected")
      }
      // What every sample has is left as it began, to the bit: no step has touched it.
      if variant == .labels {
        #expect(mine.weight[2 * 37..<3 * 37].allSatisfy { $0 == 0 } && mine.bias[2] == theirs.bias[2], "\(mine.bias)")
      }
      // With other gradients, or another preconditioner, it would take many more.
      let (iterations, few) = (try #require(found.iterations), try #require(expected.iterations))
      #expect(iterations <= few * 5 / 4 + 3, "\(iterations) iterations, \(few) here")
    }
  }

  /// What the stored optima of scikit-learn are.
  @Test(arguments: 0..<ResidentDevices.all.count) func labelsReachScikitLearnsOptima(_ device: Int) throws {
    for stored in try #require(TargetFixture.stored?.optima) {
      let train = try TargetedFeatures(
        features: ArrayFeatures(stored.x.map(Float.init), rowCount: stored.rows, dimension: stored.dimension), targets: stored.targets,
        targetCount: stored.width)
      let data = TargetTrainingData(task: .multilabel, names: (0..<stored.width).map { "\($0)" }, train: train)
      let (found, _) = try fitted(.labels, data, l2: stored.l2, on: DeviceLinearBackend(device: ResidentDevices.all[device]))
      let objective = try #require(found.objective)
      #expect(abs(objective - stored.objective) <= 1e-6 * stored.objective, "\(objective) against \(stored.objective)")
    }
  }

  /// Features that the device has no room for pass through it in blocks: the same head, the same bits every time.
  @Test(arguments: Variant.allCases) func featuresThatDoNotStayGiveTheSameHead(_ variant: Variant) throws {
    let data = try data(variant, rows: 500, dimension: 600)
    let heads = try [nil, 1 << 18, 1 << 18].map { limit in
      let backend = DeviceLinearBackend(device: ResidentDevices.all[0])
      (backend.featureByteLimit, backend.blockRowLimit) = (limit, 128)
      return try fitted(variant, data, l2: 0.05, on: backend)
    }
    let (first, second) = (try #require(heads[0].result.objective), try #require(heads[1].result.objective))
    #expect(abs(first - second) <= 1e-6 * first)
    #expect(heads[1].head.weight == heads[2].head.weight && heads[1].head.bias == heads[2].head.bias)
  }

  @Test(arguments: 0..<ResidentDevices.all.count, [Variant.labels, .squares]) func aSweepChoosesTheSame(_ device: Int, _ variant: Variant) throws {
    let data = try data(variant)
    func sweep(_ backend: any LinearBackend) throws -> FittedTargetHead {
      let metadata = HeadMetadata(
        task: data.task, classes: data.names, cut: nil, backboneSHA256: nil, backboneFile: nil, preprocessing: nil, featureNormalisation: .none,
        l2: 0, graftVersion: "test")
      let options = LinearTrainingOptions(l2: .sweep([1e-4, 1e-3, 1e-2, 1e-1, 1]))
      return try TargetLinearFitting(loss: variant.loss, options: options, backend: backend).fit(data, metadata: metadata) { _ in }
    }
    let expected = try sweep(HostLinearBackend()), found = try sweep(DeviceLinearBackend(device: ResidentDevices.all[device]))
    #expect(found.strength == expected.strength && found.sweep.map(\.strength) == expected.sweep.map(\.strength))
    for (mine, theirs) in zip(found.sweep, expected.sweep) {
      #expect(abs(mine.loss - theirs.loss) <= 2e-3 * theirs.loss, "\(mine), \(theirs) expected")
    }
  }
}
