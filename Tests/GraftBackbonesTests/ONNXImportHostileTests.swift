import Foundation
import GraftBackbones
import GraftDevice
import GraftGraph
import Testing

/// Models that ask for what cannot be: an error with the file and the node, never a trap, and no memory for it.
@Suite struct ONNXImportHostileTests {
  /// Numbers at the limits of what arithmetic on extents can take.
  static let numbers: [Int64] = [0, 1, -1, 2, 4096, 4097, 1 << 20, 1 << 31, (1 << 31) - 1, 1 << 40, 1 << 62, .max, .min, .max - 1, .min + 1]

  /// Replaces each integer of a model in turn (of attributes, of constants, of their extents) by every number of `numbers`.
  private func check(_ name: String) throws -> (valid: Int, refused: Int) {
    let original = WireMessage(.model, try Fixture.bytes("operators/\(name).onnx"))
    let shape = try #require(try Backbone(path: Fixture.path("operators/\(name).onnx")).inputs.first).shape.compactMap { $0 }
    let folder = TemporaryFolder(), device = try CPUDevice(threadCount: 1)
    var (valid, refused) = (0, 0)
    for number in Self.numbers {
      for (index, model) in original.variants(number).enumerated() {
        let path = try folder.file("model.onnx", model.bytes)
        do {
          let plan = try Plan(Backbone(path: path).graph(inputShape: shape), device: device)
          try plan.write([Float](repeating: 0.5, count: shape.reduce(1, *)), to: plan.graph.inputs[0])
          // What is valid, if vast, is only planned.
          if plan.arenaByteCount < 1 << 24 { try plan.run() }
          valid += 1
        } catch let error {
          let isTyped = error is ImportError || error is PlanMemoryError || error is LoweringError || error is ShapeError
          #expect(isTyped, "\(name), integer \(index) = \(number): \(error)")
          refused += 1
        }
      }
    }
    return (valid, refused)
  }

  @Test(.timeLimit(.minutes(5)), arguments: ONNXImportTests.models)
  func integersAtTheLimits(_ name: String) async {
    await #expect(processExitsWith: .success) { [name = name as String] in
      _ = try ONNXImportHostileTests().check(name)
      let peak = try peakByteCount()
      #expect(peak < 1 << 30)
    }
  }

  @Test func theCheckSeesBothOutcomes() throws {
    let counts = try check("conv-groups")
    #expect(counts.valid > 10 && counts.refused > 100, "\(counts)")
  }

  /// Bytes of whole models, through reading, planning and running.
  @Test(
    .timeLimit(.minutes(5)), arguments: ["shuffle", "dense", "squeeze-excite", "shape-cast-13", "avgpool-ceil", "channels-last", "layernorm-axis"])
  func mutationsNeverTrap(_ name: String) async {
    await #expect(processExitsWith: .success) { [name = name as String] in
      try ONNXImportHostileTests().mutate(name)
      let peak = try peakByteCount()
      #expect(peak < 1 << 30)
    }
  }

  private func mutate(_ name: String) throws {
    let original = try Fixture.bytes("operators/\(name).onnx")
    let shape = try #require(try Backbone(path: Fixture.path("operators/\(name).onnx")).inputs.first).shape.compactMap { $0 }
    let folder = TemporaryFolder(), device = try CPUDevice(threadCount: 1)
    var (valid, refused) = (0, 0)
    for seed in 0..<300 {
      let path = try folder.file("model.onnx", Mutation.apply(to: original, seed: UInt64(seed)))
      do {
        let backbone = try Backbone(path: path)
        let declared = backbone.inputs.first?.shape.map { $0 ?? 2 } ?? []
        let wanted = declared.allSatisfy { (1...64).contains($0) } ? declared : shape
        let plan = try Plan(backbone.graph(inputShape: wanted), device: device)
        try plan.write([Float](repeating: 0.5, count: wanted.reduce(1, *)), to: plan.graph.inputs[0])
        if plan.arenaByteCount < 1 << 26 { try plan.run() }
        _ = plan.graph.cuts()
        valid += 1
      } catch let error {
        #expect(
          error is ImportError || error is FileError || error is PlanMemoryError || error is LoweringError || error is ShapeError,
          "seed \(seed): \(error)")
        refused += 1
      }
    }
    #expect(valid > 10 && refused > 100, "\(valid) valid, \(refused) refused")
  }
}
