/// The lower Cholesky factor of a symmetric positive definite matrix, A = L·Lᵀ, and solves with it.
struct Cholesky {
  let order: Int
  /// L, row-major; what lies above the diagonal is unused.
  private var factor: [Double]

  /// Factors `matrix` (`[order, order]`, row-major, its lower triangle is read); nil if it isn't positive definite
  /// within rounding.
  ///
  /// Row by row, so that every sum is a dot product of two contiguous rows.
  init?(_ matrix: [Double], order: Int) {
    precondition(matrix.count == order * order)
    self.order = order
    factor = matrix
    let succeeded = factor.withUnsafeMutableBufferPointer { buffer -> Bool in
      guard let base = buffer.baseAddress else { return true }
      for row in 0..<order {
        let current = base + row * order
        for column in 0..<row {
          let other = base + column * order
          current[column] = (current[column] - VectorMath.dot(current, other, count: column)) / other[column]
        }
        let pivot = current[row] - VectorMath.dot(current, current, count: row)
        guard pivot > 0, pivot.isFinite else { return false }
        current[row] = pivot.squareRoot()
      }
      return true
    }
    if !succeeded { return nil }
  }

  /// Replaces `rows` (`[order, width]`) by L⁻¹·rows.
  func solveLower(_ rows: inout [Double], width: Int) {
    precondition(rows.count == order * width)
    factor.withUnsafeBufferPointer { factor in
      rows.withUnsafeMutableBufferPointer { rows in
        guard let lower = factor.baseAddress, let base = rows.baseAddress else { return }
        for row in 0..<order {
          let current = base + row * width
          for other in 0..<row { VectorMath.add(-lower[row * order + other], base + other * width, to: current, count: width) }
          for column in 0..<width { current[column] /= lower[row * order + row] }
        }
      }
    }
  }

  /// Replaces `vector` by A⁻¹·vector.
  func solve(_ vector: UnsafeMutablePointer<Double>) {
    factor.withUnsafeBufferPointer { buffer in
      guard let base = buffer.baseAddress else { return }
      for row in 0..<order {
        let current = base + row * order
        vector[row] = (vector[row] - VectorMath.dot(current, vector, count: row)) / current[row]
      }
      for row in stride(from: order - 1, through: 0, by: -1) {
        let current = base + row * order
        vector[row] /= current[row]
        VectorMath.add(-vector[row], current, to: vector, count: row)
      }
    }
  }
}
