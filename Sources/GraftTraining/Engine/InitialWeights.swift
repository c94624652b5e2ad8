import GraftGraph

extension HostTensor {
  /// Weights to begin training with: uniform with a variance of 2 / fan-in, which keeps the size of activations through layers of ReLU
  /// (He et al., "Delving Deep into Rectifiers", 2015).
  ///
  /// - Parameters:
  ///   - fanIn: numbers that each output is a sum of, as D for a weight of [C, D].
  ///   - seed: decides the numbers; the same on every machine.
  public static func initialWeights(_ shape: [Int], fanIn: Int, seed: UInt64) -> HostTensor {
    var generator = SplitMix(seed &+ 0x5EED)
    let bound = Float((6 / Double(max(1, fanIn))).squareRoot())
    return HostTensor(shape, (0..<shape.reduce(1, *)).map { _ in Float.random(in: -bound...bound, using: &generator) })
  }

  /// Zeros, as biases begin with, and the last layer of a branch that is added to something.
  public static func zeros(_ shape: [Int]) -> HostTensor { HostTensor(shape, Array(repeating: 0, count: shape.reduce(1, *))) }
}
