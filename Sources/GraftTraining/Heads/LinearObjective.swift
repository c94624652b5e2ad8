/// The data term of H linear heads on the same samples: the mean cross-entropy of softmax(W·x + b), without penalty.
///
/// A head's parameters are W `[C, D]`, row-major, followed by b `[C]`: P = C·D + C.
public protocol LinearObjective: AnyObject {
  var rowCount: Int { get }
  /// C
  var classCount: Int { get }
  /// D
  var dimension: Int { get }

  /// Writes, for each head named in `heads`, the mean loss, its gradient, and for each class the mean of p(1 − p), which
  /// is what the Hessian's block of that class is weighted by. Entries of other heads are left alone.
  ///
  /// - Parameters:
  ///   - parameters: `[H, P]`
  ///   - heads: indices of heads, ascending
  ///   - losses: `[H]`
  ///   - gradients: `[H, P]`
  ///   - curvatures: `[H, C]`
  func evaluate(
    parameters: [Double], heads: [Int], losses: inout [Double], gradients: inout [Double], curvatures: inout [Double]) throws
}

extension LinearObjective {
  /// P
  public var parameterCount: Int { classCount * dimension + classCount }
}

/// What computes linear heads: the processor in plain Swift, or a device.
public protocol LinearBackend {
  /// The data term of heads on `data`; labels are below `classCount`.
  func objective(_ data: LabelledFeatures, classCount: Int) throws -> any LinearObjective

  /// Logits x·Wᵀ + b of K outputs for a chunk of rows.
  ///
  /// - Parameters:
  ///   - weight: `[K, D]`
  ///   - bias: `[K]`
  ///   - logits: becomes `[rows, K]`
  func logits(_ chunk: FeatureChunk, weight: [Float], bias: [Float], into logits: inout [Float]) throws
}
