import GraftGraph

/// Rows of features for a network with dropout: after each row comes what its hidden units are multiplied by.
///
/// A mask is drawn on the host, by seed, epoch and sample alone, and is part of the sample's input: the step stays a function of its
/// inputs, so that it is the same on every device, its gradient needs no rule of its own, and a run that goes on from a checkpoint draws
/// what an uninterrupted one does. What it costs is the transfer of a number a hidden unit. Units that stay are multiplied by 1/(1 − p),
/// so that nothing has to be scaled at prediction (Srivastava et al., "Dropout", 2014).
struct DropoutInputs: TrainingSamples {
  /// `[N, D]`
  let values: [Float]
  let dimension: Int
  let labels: [Int]
  /// `[N, T]`, where there are no classes.
  let targets: [Float]?
  /// Hidden units of all layers; 0 without dropout.
  let unitCount: Int
  /// p
  let rate: Double
  let seed: UInt64

  var count: Int { values.count / dimension }
  var sampleByteCount: Int { (dimension + unitCount) * MemoryLayout<Float>.size }

  func write(_ samples: [Int], epoch: Int?, into target: UnsafeMutableRawBufferPointer) throws {
    let target = target.bindMemory(to: Float.self), width = dimension + unitCount
    for (place, sample) in samples.enumerated() {
      for column in 0..<dimension { target[place * width + column] = values[sample * dimension + column] }
      guard let epoch, rate > 0 else {
        for unit in 0..<unitCount { target[place * width + dimension + unit] = 1 }
        continue
      }
      var generator = SplitMix(seed &* 0x9E37_79B9_7F4A_7C15 &+ UInt64(epoch) &* 0xBF58_476D_1CE4_E5B9 &+ UInt64(sample))
      let kept = Float(1 / (1 - rate))
      for unit in 0..<unitCount {
        target[place * width + dimension + unit] = Double.random(in: 0..<1, using: &generator) < rate ? 0 : kept
      }
    }
  }
}
