/// A symmetric matrix as A = Q·T·Qᵀ, Q orthogonal and T tridiagonal.
///
/// It does what an eigendecomposition would be computed for here: once it is there, (A + α·E)⁻¹ = Q·(T + α·E)⁻¹·Qᵀ costs
/// a tridiagonal solve for every α. The eigenvalues themselves, whose vectors take most of an eigendecomposition's time, are
/// not needed.
///
/// Source: Householder's reduction; Golub and Van Loan, "Matrix Computations", 8.3.1.
package struct TridiagonalForm {
  package let order: Int
  /// `[n]`
  package private(set) var diagonal: [Double]
  /// `[n − 1]`
  package private(set) var offDiagonal: [Double]
  /// `[n, n]`, row-major.
  package private(set) var q: [Double]

  /// - Parameter matrix: `[order, order]`, symmetric. Our own invariant: as many numbers.
  package init(_ matrix: [Double], order: Int) {
    precondition(matrix.count == order * order)
    self.order = order
    diagonal = [Double](repeating: 0, count: order)
    offDiagonal = [Double](repeating: 0, count: max(0, order - 1))
    var work = matrix
    // Row k holds the k-th reflection's vector in its last n − k − 1 places.
    var vectors = [Double](repeating: 0, count: order * order), scales = [Double](repeating: 0, count: order)
    q = [Double](repeating: 0, count: order * order)
    let n = order
    work.withUnsafeMutableBufferPointer { work in
      vectors.withUnsafeMutableBufferPointer { vectors in
        guard let a = work.baseAddress, let v = vectors.baseAddress else { return }
        for k in 0..<n {
          diagonal[k] = a[k * n + k]
          guard k + 1 < n else { break }
          scales[k] = Self.reflect(a, n, k, v + k * n, edge: &offDiagonal[k])
        }
      }
    }
    vectors.withUnsafeBufferPointer { vectors in
      q.withUnsafeMutableBufferPointer { q in
        guard let v = vectors.baseAddress, let q = q.baseAddress else { return }
        Self.accumulate(v, scales, n, into: q)
      }
    }
  }

  /// Brings row and column k to tridiagonal form: H·A·H with H = 1 − β·v·vᵀ.
  ///
  /// - Returns: β; 0 where there is nothing to do.
  private static func reflect(
    _ a: UnsafeMutablePointer<Double>, _ n: Int, _ k: Int, _ v: UnsafeMutablePointer<Double>, edge: inout Double
  ) -> Double {
    let first = k + 1, count = n - first, x = a + k * n + first
    edge = x[0]
    let rest = VectorMath.dot(x + 1, x + 1, count: count - 1)
    guard rest > 0 else { return 0 }
    let length = (x[0] * x[0] + rest).squareRoot()
    edge = x[0] > 0 ? -length : length
    let u = v + first
    u.update(from: x, count: count)
    u[0] -= edge
    let beta = 2 / (u[0] * u[0] + rest)
    withUnsafeTemporaryAllocation(of: Double.self, capacity: count) { scratch in
      guard let w = scratch.baseAddress else { return }
      rows(count) { row in (w + row).initialize(to: beta * VectorMath.dot(a + (first + row) * n + first, u, count: count)) }
      VectorMath.add(-beta / 2 * VectorMath.dot(w, u, count: count), u, to: w, count: count)
      rows(count) { row in
        let target = a + (first + row) * n + first, (s, t) = (u[row], w[row])
        for column in 0..<count { target[column] -= s * w[column] + t * u[column] }
      }
    }
    return beta
  }

  /// Rows one by one, or in blocks on all cores where there are many.
  private static func rows(_ count: Int, _ body: (Int) -> Void) {
    let block = 64
    guard count > 2 * block else { return (0..<count).forEach(body) }
    inParallel((count + block - 1) / block) { part in (part * block..<min((part + 1) * block, count)).forEach(body) }
  }

  /// Q = H₀·H₁·…, a row after the other.
  private static func accumulate(_ v: UnsafePointer<Double>, _ scales: [Double], _ n: Int, into q: UnsafeMutablePointer<Double>) {
    let block = 8
    inParallel((n + block - 1) / block) { part in
      let rows = part * block..<min((part + 1) * block, n)
      for row in rows { q[row * n + row] = 1 }
      for k in scales.indices where scales[k] != 0 {
        let u = v + k * n + k + 1, count = n - k - 1
        for row in rows {
          let target = q + row * n + k + 1
          VectorMath.add(-scales[k] * VectorMath.dot(target, u, count: count), u, to: target, count: count)
        }
      }
    }
  }

  /// T + α·E, factored; `nil` if it isn't positive definite within rounding.
  package func shifted(by alpha: Double) -> ShiftedTridiagonal? { ShiftedTridiagonal(diagonal, offDiagonal, alpha) }
}

/// T + α·E = L·D·Lᵀ, with ones on L's diagonal.
package struct ShiftedTridiagonal: Sendable {
  /// `[n]`, what is below L's diagonal; the last is 0.
  private var below: [Double]
  /// `[n]`, 1/D
  private var inversePivots: [Double]

  init?(_ diagonal: [Double], _ offDiagonal: [Double], _ alpha: Double) {
    let n = diagonal.count
    (below, inversePivots) = ([Double](repeating: 0, count: n), [Double](repeating: 0, count: n))
    let rounding = 8 * Double.ulpOfOne * diagonal.reduce(0) { max($0, abs($1)) }
    var carried = 0.0
    for index in 0..<n {
      let pivot = diagonal[index] + alpha - carried
      guard pivot > rounding, pivot.isFinite else { return nil }
      inversePivots[index] = 1 / pivot
      if index + 1 < n {
        below[index] = offDiagonal[index] / pivot
        carried = below[index] * offDiagonal[index]
      }
    }
  }

  /// Replaces each column of `[n, columns]` by (T + α·E)⁻¹ times it.
  package func solve(_ x: UnsafeMutablePointer<Double>, columns: Int) {
    for row in 1..<max(1, below.count) { VectorMath.add(-below[row - 1], x + (row - 1) * columns, to: x + row * columns, count: columns) }
    for row in stride(from: below.count - 1, through: 0, by: -1) {
      for column in 0..<columns { x[row * columns + column] *= inversePivots[row] }
      if row + 1 < below.count { VectorMath.add(-below[row], x + (row + 1) * columns, to: x + row * columns, count: columns) }
    }
  }

  /// uᵀ·(T + α·E)⁻¹·u
  package func quadraticForm(_ u: UnsafePointer<Double>) -> Double {
    below.withUnsafeBufferPointer { below in
      inversePivots.withUnsafeBufferPointer { inversePivots in
        var (carried, sum) = (0.0, 0.0)
        for index in 0..<below.count {
          let value = u[index] - carried
          sum += value * value * inversePivots[index]
          carried = below[index] * value
        }
        return sum
      }
    }
  }
}
