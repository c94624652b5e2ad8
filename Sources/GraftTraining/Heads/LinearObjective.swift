/// The data term of H linear heads on the same samples: the mean cross-entropy of softmax(W·x + b), without penalty.
///
/// A head's parameters are W `[C, D]`, row-major, followed by b `[C]`: P = C·D + C.
public protocol LinearObjective: AnyObject {
  var rowCount: Int { get }
  /// C
  var classCount: Int { get }
  /// D
  var dimension: Int { get }
}

/// One that is evaluated for a solver whose vectors lie in this process's memory.
public protocol HostedLinearObjective: LinearObjective {
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

extension HostedLinearObjective {
  /// The weights `[H, C, D]` and biases `[H, C]` of some heads in float32, as products take them.
  func floats(_ parameters: [Double], of heads: [Int]) -> (weight: [Float], bias: [Float]) {
    let weightCount = classCount * dimension
    var floats: (weight: [Float], bias: [Float]) = ([], [])
    floats.weight.reserveCapacity(heads.count * weightCount)
    for head in heads {
      let begin = head * parameterCount
      floats.weight.append(contentsOf: parameters[begin..<begin + weightCount].lazy.map(Float.init))
      floats.bias.append(contentsOf: parameters[begin + weightCount..<begin + parameterCount].lazy.map(Float.init))
    }
    return floats
  }

  /// Means over the rows from sums over them; `weightGradient`: `[heads.count, C, D]`.
  func write(
    _ sums: SoftmaxSums, weightGradient: [Double], of heads: [Int], losses: inout [Double], gradients: inout [Double], curvatures: inout [Double]
  ) {
    let scale = 1 / Double(rowCount), weightCount = classCount * dimension
    for (slot, head) in heads.enumerated() {
      losses[head] = sums.losses[slot] * scale
      let begin = head * parameterCount
      for index in 0..<weightCount { gradients[begin + index] = weightGradient[slot * weightCount + index] * scale }
      for output in 0..<classCount {
        gradients[begin + weightCount + output] = sums.residuals[slot * classCount + output] * scale
        curvatures[head * classCount + output] = sums.curvatures[slot * classCount + output] * scale
      }
    }
  }
}

/// One that is minimised where it is computed, with all the solver's vectors beside it.
protocol ResidentLinearObjective: LinearObjective {
  /// The penalised problem.
  ///
  /// - Parameters:
  ///   - l2: λ, `[H]`
  ///   - starts: `[P]` for each head.
  func residentProblem(l2: [Double], starts: [[Double]], curvatureModel: CurvatureModel, leastCurvatures: [Double]) throws -> any SolverProblem
}

/// What computes linear heads: the processor in plain Swift, or a device.
public protocol LinearBackend {
  /// Outputs that a product must have to be an efficient one: heads of few classes are better evaluated together.
  var efficientOutputCount: Int { get }

  /// The data term of heads on `data`; labels are below `classCount`. A backend from elsewhere gives a `HostedLinearObjective`.
  func objective(_ data: LabelledFeatures, classCount: Int, targets: SoftmaxTargets) throws -> any LinearObjective

  /// Logits x·Wᵀ + b of K outputs for a chunk of rows.
  ///
  /// - Parameters:
  ///   - weight: `[K, D]`
  ///   - bias: `[K]`
  ///   - logits: becomes `[rows, K]`
  func logits(_ chunk: FeatureChunk, weight: [Float], bias: [Float], into logits: inout [Float]) throws
}

extension LinearBackend {
  public var efficientOutputCount: Int { 64 }
}
