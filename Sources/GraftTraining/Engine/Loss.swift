import GraftGraph

/// What a network's outputs are compared by: one number a sample.
public enum Loss: Sendable, Equatable {
  /// −Σ t log softmax(z): one class a sample, or shares of several that add up to 1.
  case crossEntropy
  /// Σ (log(1 + eᶻ) − t z): any number of labels a sample.
  case binaryCrossEntropy
  /// Σ (z − t)² / 2
  case squared
  /// Σ of (z − t)² / 2 up to a distance of δ, and δ (|z − t| − δ/2) beyond (Huber, 1964).
  case huber(Float)

  /// Adds the loss of each sample: outputs and targets [N, C], result [N].
  public func add(to graph: inout Graph, outputs: ValueID, targets: ValueID) throws -> ValueID {
    let function: SampleLoss.Function =
      switch self {
      case .crossEntropy: .crossEntropy
      case .binaryCrossEntropy: .sigmoid
      case .squared: .squared
      case .huber(let delta): .huber(delta)
      }
    return try graph.add(SampleLoss(function), [outputs, targets], name: "loss")
  }
}
