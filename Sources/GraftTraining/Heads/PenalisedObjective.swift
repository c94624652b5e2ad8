/// What is minimised for each head h: its mean cross-entropy + λ_h/2·‖W‖², the bias not penalised. With λ = 1/(C·N) that
/// is scikit-learn's LogisticRegression.
package final class PenalisedObjective: SmoothObjective {
  private let dataTerm: any HostedLinearObjective
  /// λ, `[H]`
  private let l2: [Double]
  private let curvatureModel: CurvatureModel?
  /// The least p(1 − p) the preconditioner assumes, `[C]`: where the samples are separated it vanishes, and the model
  /// would see λ only.
  private let leastCurvatures: [Double]
  /// `[H, C]` at the point evaluated last
  private var curvatures: [Double]

  package init(_ dataTerm: any HostedLinearObjective, l2: [Double], classCounts: [Int], curvatureModel: CurvatureModel?) {
    (self.dataTerm, self.l2, self.curvatureModel) = (dataTerm, l2, curvatureModel)
    leastCurvatures = Self.leastCurvatures(classCounts, rowCount: dataTerm.rowCount)
    curvatures = [Double](repeating: 0, count: l2.count * dataTerm.classCount)
  }

  static func leastCurvatures(_ classCounts: [Int], rowCount: Int) -> [Double] {
    let rows = Double(max(1, rowCount))
    return classCounts.map { Double($0) / rows * (1 - Double($0) / rows) / 100 }
  }

  package var headCount: Int { l2.count }
  package var parameterCount: Int { dataTerm.parameterCount }

  package func evaluate(parameters: [Double], active: [Bool], losses: inout [Double], gradients: inout [Double]) throws {
    let heads = active.indices.filter { active[$0] }
    try dataTerm.evaluate(parameters: parameters, heads: heads, losses: &losses, gradients: &gradients, curvatures: &curvatures)
    let weightCount = dataTerm.classCount * dataTerm.dimension
    for head in heads {
      var squares = 0.0
      for index in head * parameterCount..<head * parameterCount + weightCount {
        squares += parameters[index] * parameters[index]
        gradients[index] += l2[head] * parameters[index]
      }
      losses[head] += l2[head] / 2 * squares
    }
  }

  package func preconditioner(head: Int) throws -> (any Preconditioner)? {
    let classes = dataTerm.classCount
    let here = (0..<classes).map { max(curvatures[head * classes + $0], leastCurvatures[$0]) }
    return curvatureModel?.preconditioner(l2: l2[head], curvatures: here)
  }
}
