import Foundation
import GraftDevice
import GraftGraph
import GraftTraining
import OperationSamples
import Testing

/// An OpenCL device with each family's kernels, and the processor itself.
enum ResidentDevices {
  static let openCL: [any Device] = [KernelChoice.cpu, .gpu].compactMap { try? Devices.choose("opencl", kernels: $0) }
  static let all = openCL + [try? CPUDevice()].compactMap { $0 }
}

/// Heads trained with features and the solver's vectors on a device, against those trained in plain Swift.
@Suite(.enabled(if: !ResidentDevices.openCL.isEmpty, "no OpenCL device: install pocl-opencl-icd")) struct ResidentHeadTests {
  @Test(arguments: 0..<ResidentDevices.all.count, [(1, 1), (17, 3), (16384, 2), (40000, 40)])
  func vectorsAreThoseOfDoublePrecision(_ device: Int, _ size: (length: Int, rows: Int)) throws {
    #expect(try VectorCheck.problem(on: ResidentDevices.all[device], length: size.length, rows: size.rows) == nil)
  }

  enum Variant: CaseIterable { case plain, balanced, smoothed, standardised, weak }

  @Test(arguments: 0..<ResidentDevices.all.count, Variant.allCases)
  func reachesTheSameMinimum(_ device: Int, _ variant: Variant) throws {
    let (rows, width, classes) = (700, 37, 5)
    let (x, y) = syntheticSamples(rows: rows, dimension: width, classes: classes, seed: 11)
    let data = try LinearTrainingData(train: labelled(x, y, chunkRowCount: 123), classes: (0..<classes).map { "\($0)" })
    var options = LinearTrainingOptions(
      l2: .fixed(variant == .weak ? 1e-5 : 1e-2), featureNormalisation: variant == .standardised ? .standardise : .none)
    options.balancesClasses = variant == .balanced
    options.labelSmoothing = variant == .smoothed ? 0.1 : 0
    let expected = try LinearHeadTrainer(options: options).train(data)
    let found = try LinearHeadTrainer(options: options, backend: DeviceLinearBackend(device: ResidentDevices.all[device])).train(data)
    #expect(abs(found.objective - expected.objective) <= 1e-6 * expected.objective, "\(found.objective), \(expected.objective) expected")
    if variant == .plain || variant == .weak {
      let naive = NaiveSoftmax(
        x: stride(from: 0, to: x.count, by: width).map { x[$0..<$0 + width].map(Double.init) }, y: y, classCount: classes,
        l2: options.l2 == .fixed(1e-5) ? 1e-5 : 1e-2)
      let stored = naive.loss((found.weight + found.bias).map(Double.init))
      #expect(stored <= expected.objective * (1 + 1e-6), "\(stored), \(expected.objective) expected")
    }
    #expect(found.status != .iterationLimit)
    let largest = expected.weight.reduce(0) { max($0, abs($1)) }
    // Close to the minimum the objective is flat: weights differ by the root of its error.
    let bound: Float = variant == .weak ? 0.05 : 2e-3
    #expect(zip(found.weight + found.bias, expected.weight + expected.bias).allSatisfy { abs($0 - $1) <= bound * max(1, largest) })
    // The preconditioner does on the device what it does here: without it, it takes several times as many.
    #expect(found.iterations <= expected.iterations * 5 / 4 + 3, "\(found.iterations) iterations, \(expected.iterations) here")
  }

  @Test(arguments: 0..<ResidentDevices.all.count) func aSweepChoosesTheSame(_ device: Int) throws {
    let (x, y) = syntheticSamples(rows: 300, dimension: 24, classes: 4, seed: 5)
    let data = try LinearTrainingData(train: labelled(x, y), classes: (0..<4).map { "\($0)" })
    let expected = try LinearHeadTrainer().train(data)
    let found = try LinearHeadTrainer(backend: DeviceLinearBackend(device: ResidentDevices.all[device])).train(data)
    #expect(found.l2 == expected.l2)
    #expect(found.sweep.count == expected.sweep.count)
    // A sweep's heads are fitted roughly, and weaker penalties leave them more room.
    for (mine, theirs) in zip(found.sweep, expected.sweep) where mine.converged && theirs.converged && mine.l2 >= 1e-4 {
      #expect(abs(mine.logLoss - theirs.logLoss) < 2e-3 && abs(mine.top1 - theirs.top1) < 0.02, "\(mine), \(theirs) expected")
    }
  }

  /// Features that the device has no room for pass through it in blocks: the same head.
  @Test func featuresThatDoNotStayGiveTheSameHead() throws {
    let (x, y) = syntheticSamples(rows: 500, dimension: 2048, classes: 3, seed: 8)
    let data = try LinearTrainingData(train: labelled(x, y, chunkRowCount: 77), classes: ["a", "b", "c"])
    let options = LinearTrainingOptions(l2: .fixed(0.05))
    let results = try [nil, 1 << 20].map { limit in
      let backend = DeviceLinearBackend(device: ResidentDevices.all[0])
      (backend.featureByteLimit, backend.blockRowLimit) = (limit, 128)
      return try LinearHeadTrainer(options: options, backend: backend).train(data)
    }
    #expect(abs(results[0].objective - results[1].objective) <= 1e-6 * results[0].objective)
    #expect(zip(results[0].weight, results[1].weight).allSatisfy { abs($0 - $1) <= 1e-4 })
    // And the same bits every time.
    let again = DeviceLinearBackend(device: ResidentDevices.all[0])
    (again.featureByteLimit, again.blockRowLimit) = (1 << 20, 128)
    #expect(try LinearHeadTrainer(options: options, backend: again).train(data).weight == results[1].weight)
  }
}
