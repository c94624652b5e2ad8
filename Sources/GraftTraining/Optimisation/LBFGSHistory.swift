/// The last m steps s and changes of gradient y, and the approximate inverse Hessian that follows from them.
///
/// Source: Nocedal, "Updating quasi-Newton matrices with limited storage", 1980 (the two-loop recursion).
struct LBFGSHistory {
  private struct Pair {
    let step: [Double]
    let change: [Double]
    /// sᵀy
    let curvature: Double
  }

  private let capacity: Int
  private var pairs: [Pair] = []

  init(capacity: Int) { self.capacity = capacity }

  var isEmpty: Bool { pairs.isEmpty }

  mutating func removeAll() { pairs.removeAll() }

  /// Remembers a step, unless rounding took the positive curvature from it.
  mutating func append(step: [Double], change: [Double]) {
    let curvature = VectorMath.dot(step, change)
    let scale = (VectorMath.dot(step, step) * VectorMath.dot(change, change)).squareRoot()
    guard curvature.isFinite, curvature > 1e-14 * scale else { return }
    if pairs.count == capacity { pairs.removeFirst() }
    pairs.append(Pair(step: step, change: change, curvature: curvature))
  }

  /// H·gradient, where H is the preconditioner's inverse, scaled to the newest pair and updated by all pairs.
  func inverseHessian(times gradient: [Double], preconditioner: (any Preconditioner)?) -> [Double] {
    var result = gradient
    var weights: [Double] = []
    for pair in pairs.reversed() {
      let weight = VectorMath.dot(pair.step, result) / pair.curvature
      weights.append(weight)
      VectorMath.add(-weight, pair.change, to: &result)
    }
    preconditioner?.solve(&result)
    if let newest = pairs.last {
      var solved = newest.change
      preconditioner?.solve(&solved)
      let norm = VectorMath.dot(newest.change, solved)
      if norm > 0, norm.isFinite {
        let scale = newest.curvature / norm
        for index in result.indices { result[index] *= scale }
      }
    }
    for (pair, weight) in zip(pairs, weights.reversed()) {
      VectorMath.add(weight - VectorMath.dot(pair.change, result) / pair.curvature, pair.step, to: &result)
    }
    return result
  }
}
