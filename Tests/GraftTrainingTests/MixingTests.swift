import Foundation
import GraftData
import GraftDevice
import GraftGraph
import GraftTraining
import Testing

/// mixup and cutmix: what is drawn, what becomes of bytes, and what a network is trained on.
@Suite struct MixingTests {
  private func draws(_ mixing: Mixing, _ count: Int = 4000, width: Int = 20, height: Int = 12) -> [Mixing.Draw] {
    var random = SplitMix(7)
    return (0..<count).compactMap { _ in mixing.draw(width: width, height: height, using: &random) }
  }

  /// Mean ½ and variance 1 / (4 (2 A + 1)) are those of Beta(A, A).
  @Test(arguments: [0.1, 0.2, 1, 5])
  func sharesFollowBeta(alpha: Double) {
    let shares = draws(Mixing(mixup: alpha), 20_000).map(\.share)
    #expect(shares.count == 20_000 && shares.allSatisfy { $0 >= 0 && $0 <= 1 })
    let mean = shares.reduce(0, +) / 20_000, variance = shares.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 20_000
    let expected = 1 / (4 * (2 * alpha + 1))
    #expect(abs(mean - 0.5) < 5 * (expected / 20_000).squareRoot(), "\(mean)")
    #expect(abs(variance - expected) < 0.04 * expected, "\(variance) for \(expected)")
  }

  @Test func tinyStrengthsAreNumbers() {
    for draw in draws(Mixing(mixup: 1e-4), 1000) { #expect(draw.share >= 0 && draw.share <= 1) }
    // The limit is a coin's fall; smaller strengths than a logarithm can be divided by are no less.
    for alpha in [1e-80, 1e-150, 0x1p-1030, .leastNonzeroMagnitude] {
      for mixing in [Mixing(mixup: alpha), Mixing(cutmix: alpha)] {
        let shares = draws(mixing, 1000).map(\.share)
        #expect(shares.allSatisfy { $0 >= 0 && $0 <= 1 } && (300...700).contains(shares.count { $0 == 1 }), "\(alpha)")
      }
    }
    for draw in draws(Mixing(mixup: 1000), 1000) { #expect(abs(draw.share - 0.5) < 0.1) }
  }

  @Test func rectanglesLieWithinAndTheShareIsWhatTheyLeave() throws {
    let all = draws(Mixing(cutmix: 1))
    var covered = [Bool](repeating: false, count: 240)
    for draw in all {
      let box = try #require(draw.box)
      #expect(box.x >= 0 && box.y >= 0 && box.x + box.width <= 20 && box.y + box.height <= 12)
      #expect(abs(draw.share - (1 - Double(box.width * box.height) / 240)) < 1e-12)
      for y in box.y..<box.y + box.height { for x in box.x..<box.x + box.width { covered[y * 20 + x] = true } }
    }
    #expect(covered.allSatisfy { $0 })
    let both = draws(Mixing(mixup: 0.2, cutmix: 1))
    #expect((1840...2160).contains(both.count { $0.box == nil }))
    #expect(draws(Mixing()).isEmpty)
  }

  @Test(arguments: [1, 2, 5, 8])
  func mixesBytes(count: Int) {
    let (width, height) = (5, 4), size = width * height * 3
    var random = SplitMix(3)
    let original = (0..<count * size).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    for draw in [Mixing.Draw(share: 0.3), Mixing.Draw(share: 1), Mixing.Draw(share: 0.7, box: RandomCrop.Box(x: 1, y: 2, width: 3, height: 2))] {
      var mixed = original
      mixed.withUnsafeMutableBytes { draw.apply(to: $0, count: count, width: width) }
      for sample in 0..<count {
        for y in 0..<height {
          for x in 0..<width {
            for channel in 0..<3 {
              let place = (y * width + x) * 3 + channel
              let own = original[sample * size + place], other = original[(count - 1 - sample) * size + place]
              let inside = draw.box.map { $0.x <= x && x < $0.x + $0.width && $0.y <= y && y < $0.y + $0.height }
              let expected = inside.map { $0 ? Double(other) : Double(own) } ?? draw.share * Double(own) + (1 - draw.share) * Double(other)
              #expect(abs(Double(mixed[sample * size + place]) - expected) <= 0.5001)
            }
          }
        }
      }
    }
  }

  /// The loss of an epoch without learning is that of mixed pictures and mixed targets, written down anew.
  @Test(arguments: [Mixing(mixup: 0.8), Mixing(cutmix: 1), Mixing(mixup: 0.4, cutmix: 0.6)], [7, 8])
  func targetsAreMixedAsPicturesAre(_ mixing: Mixing, count: Int) throws {
    var random = SplitMix(9)
    let bytes = (0..<count * 108).map { _ in UInt8(truncatingIfNeeded: random.next()) }, labels = (0..<count).map { $0 % 3 }
    var options = TrainingOptions(
      method: .sgd, learningRate: 1e-12, weightDecay: 0, epochs: 1, batchSize: count, schedule: .constant, warmupEpochs: 0, labelSmoothing: 0.1)
    options.mixing = mixing
    let samples = ArrayInputs(bytes: bytes, labels: labels, imageSize: (6, 6))
    let trainer = try Trainer(
      TrainingProgram(TrainingProgramTests.byteNetwork(), options: options, device: CPUDevice()), training: samples, validation: nil)
    _ = try trainer.run()
    let draw = try #require(trainer.mixing(1, epoch: 1)?.first)

    // The order of the epoch decides who is mixed with whom: each pair must be tried as the trainer shuffles.
    var generator = SplitMix(options.seed &* 0x9E37_79B9_7F4A_7C15 &+ 1)
    let order = Array(0..<count).shuffled(using: &generator)
    var mixed = order.flatMap { bytes[$0 * 108..<($0 + 1) * 108] }
    mixed.withUnsafeMutableBytes { draw.apply(to: $0, count: count, width: 6) }
    var (loss, hits) = (0.0, 0)
    for row in 0..<count {
      let means = (0..<3).map { c in (0..<36).reduce(0.0) { $0 + Double(mixed[row * 108 + $1 * 3 + c]) } / 36 / 255 }
      let outputs = (0..<3).map { k in (0..<3).reduce(0.0) { $0 + Double(TrainingProgramTests.byteWeights[k * 3 + $1]) * means[$1] } }
      let total = log(outputs.reduce(0) { $0 + exp($1) })
      let (own, other) = (labels[order[row]], labels[order[count - 1 - row]])
      for k in 0..<3 {
        let target = 0.1 / 3 + 0.9 * (draw.share * (k == own ? 1 : 0) + (1 - draw.share) * (k == other ? 1 : 0))
        loss -= target * (outputs[k] - total)
      }
      if outputs.indices.max(by: { outputs[$0] < outputs[$1] }) == (draw.share >= 0.5 ? own : other) { hits += 1 }
    }
    #expect(abs(trainer.history[0].trainLoss - loss / Double(count)) < 1e-5)
    #expect(abs(try #require(trainer.history[0].trainTop1) - Double(hits) / Double(count)) < 1e-9)
  }

  @Test func storedFeaturesAreNotMixed() throws {
    var options = TrainingOptions(epochs: 1, batchSize: 4)
    options.mixing = Mixing(mixup: 0.2)
    let program = try TrainingProgram(TrainingProgramTests.network(), options: options, device: CPUDevice())
    let error = #expect(throws: TrainingDataError.self) { try Trainer(program, training: TrainingProgramTests.samples(8), validation: nil) }
    #expect(error?.description.contains("--mixup") == true)
    options.mixing = Mixing(cutmix: -1)
    #expect(throws: TrainingOptionError.self) { try TrainingProgram(TrainingProgramTests.network(), options: options, device: CPUDevice()) }
  }
}
