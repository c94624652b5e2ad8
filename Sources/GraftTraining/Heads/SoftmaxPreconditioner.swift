/// (μ·E + diag(v) + BᵀB)⁻¹ through Woodbury's identity:
///
///     A⁻¹ − A⁻¹·Bᵀ·K⁻¹·B·A⁻¹,   A = μ·E + diag(v),   K = I + B·A⁻¹·Bᵀ
package final class RegularisedFactor {
  private let order: Int
  /// Which of a model's factors it is.
  package let bucket: Int
  /// μ
  let strength: Double
  /// A⁻¹, `[D + 1]`
  let inverseDiagonal: [Double]
  /// B, `[n, D + 1]`
  private let rows: [Double]
  private let gram: Cholesky

  /// nil if K can't be factored.
  init?(bucket: Int, strength: Double, diagonal: [Double], rows: [Double], rowCount: Int) {
    let order = diagonal.count + 1
    // The bias isn't penalised; this little keeps A invertible, against the 1 that M has there.
    let inverseDiagonal = diagonal.map { 1 / (strength + $0) } + [1 / min(strength, 1e-4)]
    var gram = [Double](repeating: 0, count: rowCount * rowCount)
    var scaled = [Double](repeating: 0, count: order)
    rows.withUnsafeBufferPointer { rows in
      guard let base = rows.baseAddress else { return }
      for first in 0..<rowCount {
        for column in 0..<order { scaled[column] = base[first * order + column] * inverseDiagonal[column] }
        scaled.withUnsafeBufferPointer { scaled in
          guard let left = scaled.baseAddress else { return }
          for second in 0...first { gram[first * rowCount + second] = VectorMath.dot(left, base + second * order, count: order) }
        }
        gram[first * rowCount + first] += 1
      }
    }
    guard let cholesky = Cholesky(gram, order: rowCount) else { return nil }
    (self.bucket, self.strength) = (bucket, strength)
    (self.order, self.inverseDiagonal, self.rows, self.gram) = (order, inverseDiagonal, rows, cholesky)
  }

  /// G = L⁻¹·B·A⁻¹ with K = L·Lᵀ: the inverse is A⁻¹ − GᵀG. `[rowCount, D + 1]`
  private(set) lazy var whitenedRows: (values: [Float], rowCount: Int) = {
    var scaled = rows
    for row in 0..<gram.order { for column in 0..<order { scaled[row * order + column] *= inverseDiagonal[column] } }
    gram.solveLower(&scaled, width: order)
    return (scaled.map(Float.init), gram.order)
  }()

  /// Replaces `vector` (`[D + 1]`) by the inverse times it.
  func solve(_ vector: UnsafeMutablePointer<Double>) {
    for column in 0..<order { vector[column] *= inverseDiagonal[column] }
    rows.withUnsafeBufferPointer { rows in
      guard let base = rows.baseAddress else { return }
      withUnsafeTemporaryAllocation(of: Double.self, capacity: order + gram.order) { scratch in
        guard let update = scratch.baseAddress else { return }
        let inner = update + order
        update.initialize(repeating: 0, count: order)
        for row in 0..<gram.order {
          (inner + row).initialize(to: VectorMath.dot(base + row * order, vector, count: order))
        }
        gram.solve(inner)
        for row in 0..<gram.order { VectorMath.add(inner[row], base + row * order, to: update, count: order) }
        for column in 0..<order { vector[column] -= inverseDiagonal[column] * update[column] }
      }
    }
  }
}

/// The block-diagonal preconditioner of one head: for each class a sum of inverses.
package struct SoftmaxPreconditioner: Preconditioner {
  typealias Part = (factor: RegularisedFactor, scale: Double)

  let classes: [[Part]]
  /// D
  let dimension: Int

  init(classes: [[Part]], dimension: Int) { (self.classes, self.dimension) = (classes, dimension) }

  /// All factors, each once.
  package var factors: [RegularisedFactor] {
    let byBucket = Dictionary(classes.joined().map { ($0.factor.bucket, $0.factor) }) { first, _ in first }
    return byBucket.values.sorted { $0.bucket < $1.bucket }
  }

  package func solve(_ vector: inout [Double]) {
    precondition(vector.count == classes.count * (dimension + 1))
    let (classes, dimension) = (classes, dimension)
    vector.withUnsafeMutableBufferPointer { vector in
      guard let weights = vector.baseAddress else { return }
      let biases = weights + classes.count * dimension
      inParallel(classes.count) { index in
        withUnsafeTemporaryAllocation(of: Double.self, capacity: 2 * (dimension + 1)) { scratch in
          guard let block = scratch.baseAddress else { return }
          let sum = block + dimension + 1, row = weights + index * dimension
          sum.initialize(repeating: 0, count: dimension + 1)
          for (factor, scale) in classes[index] {
            block.initialize(from: row, count: dimension)
            (block + dimension).initialize(to: biases[index])
            factor.solve(block)
            VectorMath.add(scale, block, to: sum, count: dimension + 1)
          }
          row.update(from: sum, count: dimension)
          biases[index] = sum[dimension]
        }
      }
    }
  }
}
