import Foundation
import GraftBackbones
import GraftDevice
import GraftGraph
import GraftTraining
import Testing

/// Steps that do not fit in memory whole.
@Suite struct RecomputationTests {
  private static func program(_ network: TrainableNetwork, limit: Int?, device: any Device) throws -> TrainingProgram {
    var options = TrainingOptions()
    (options.batchSize, options.method, options.normalization) = (8, .sgd, .batch(momentum: 0.1))
    options.planOptions.memoryLimit = limit
    return try TrainingProgram(network, options: options, device: device)
  }

  private static func network(blocks: Int) -> TrainableNetwork {
    TrainableNetwork(makeGraph: { batch in
      var random = SplitMix(3)
      func tensor(_ shape: [Int], _ range: ClosedRange<Float>) -> HostTensor {
        HostTensor(shape, (0..<shape.reduce(1, *)).map { _ in Float.random(in: range, using: &random) })
      }
      var graph = Graph()
      var x = graph.addInput(TensorType([batch, 16, 16, 8]), name: "x")
      for block in 0..<blocks {
        var y = x
        for layer in 0..<3 {
          let name = "block\(block).\(layer)"
          let w = graph.addConstant(tensor([8, 8, 3, 3], -0.2...0.2), name: "\(name).weight")
          y = try graph.add(Conv2D(padding: Padding2D(1)), [y, w], name: name)
          let vectors = [("scale", Float(0.5)...1.5), ("shift", -0.5...0.5), ("mean", -0.1...0.1), ("variance", 0.5...1.5)].map {
            graph.addConstant(tensor([8], $0.1), name: "\(name).\($0.0)")
          }
          y = try graph.add(BatchNorm(epsilon: 1e-5), [y] + vectors, name: "\(name).norm")
          y = try graph.add(Unary(.silu), [y], name: "\(name).silu")
        }
        x = try graph.add(Binary(.add), [x, y], name: "block\(block)")
      }
      let mean = try graph.add(Reduce(.mean, axes: [1, 2], keepsDimensions: false), [x], name: "mean")
      let w = graph.addConstant(tensor([3, 8], -0.5...0.5), name: "head.weight"), b = graph.addConstant(tensor([3], -0.1...0.1), name: "head.bias")
      graph.outputs = [try graph.add(MatMul(transposeB: true, hasBias: true), [mean, w, b], name: "head")]
      return graph
    })
  }

  @Test func aStepThatDoesNotFitComputesPartsAgainAndGivesTheSame() throws {
    let device = try CPUDevice(), network = Self.network(blocks: 6)
    let whole = try Self.program(network, limit: nil, device: device)
    #expect(!whole.recomputes)
    let needed = whole.memory.byteCount, limit = needed * 6 / 10
    let small = try Self.program(network, limit: limit, device: device)
    #expect(small.recomputes && small.memory.byteCount <= limit)

    var random = SplitMix(9)
    let samples = (0..<8 * 16 * 16 * 8).map { _ in Float.random(in: -1...1, using: &random) }
    let targets = (0..<8).flatMap { row in (0..<3).map { $0 == row % 3 ? Float(1) : 0 } }
    for step in 1...3 {
      let results = try [whole, small].map { program in
        try samples.withUnsafeBytes {
          try program.train(
            $0, targets: targets, sampleWeights: [Float](repeating: 1 / 8, count: 8),
            rates: OptimizerRates(learningRate: 0.05, beta1: 0.9, step: step))
        }
      }
      #expect(abs(results[0].gradientNorm - results[1].gradientNorm) <= 1e-5 * results[0].gradientNorm)
      #expect(zip(results[0].losses, results[1].losses).allSatisfy { abs($0 - $1) <= 1e-5 })
    }
    let (one, other) = (try whole.networkTensors(), try small.networkTensors())
    #expect(one.keys == other.keys)
    for (name, tensor) in one {
      let theirs = try #require(other[name]).floats()
      #expect(zip(tensor.floats(), theirs).allSatisfy { abs($0 - $1) <= 1e-5 }, "\(name)")
    }
  }

  @Test func whatCannotFitSaysSo() throws {
    let device = try CPUDevice()
    #expect(throws: PlanMemoryError.self) { _ = try Self.program(Self.network(blocks: 2), limit: 100_000, device: device) }
  }
}
