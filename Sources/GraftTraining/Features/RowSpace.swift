/// The space that the rows of a matrix of features span, where samples are fewer than features: an orthonormal basis of it, and each
/// sample's coordinates.
///
/// The weights of a penalised linear head lie in it, since what lies outside changes no logit and only costs (the representer theorem:
/// Kimeldorf and Wahba, "Some results on Tchebycheffian spline functions", 1971). Lengths and logits are the same in coordinates, so
/// that a head for N samples is found with N numbers a sample, however many features there are.
///
/// The basis is that of a Cholesky decomposition of X·Xᵀ with pivoting, in double precision; directions in which the features are less
/// than some 3·10⁻⁷ of the longest row, the rounding of float32, are left out.
struct RowSpace {
  /// Fewer features for each sample are not worth it.
  private static let leastRatio = 4
  /// N²·D of what takes some seconds, and N·D of what takes 800 MB while it is made and half of it afterwards.
  private static let workLimit = 10_000_000_000, cellLimit = 50_000_000
  /// Of squared lengths.
  private static let precision = 1e-13

  /// `[N, r]`
  let coordinates: [Float]
  /// r
  let rank: Int
  /// D
  private let dimension: Int
  /// `[r, D]`
  private let basis: [Double]

  /// `nil` where features are not that many, or samples so many that it would take long.
  ///
  /// - Throws: what reading the features throws.
  init?(_ features: any FeatureSource) throws {
    let (n, width) = (features.rowCount, features.dimension)
    let (cells, overflow) = n.multipliedReportingOverflow(by: width)
    guard n > 0, !overflow, width / Self.leastRatio >= n, cells <= min(Self.cellLimit, Self.workLimit / n) else { return nil }
    var rows: [Double] = []
    rows.reserveCapacity(cells)
    try features.forEachChunk { rows.append(contentsOf: $0.values.lazy.map(Double.init)) }
    dimension = width
    guard let (factor, pivots) = Self.factor(Self.gram(rows, count: n, width: width), order: n) else { return nil }
    rank = pivots.count
    let rank = rank
    coordinates = (0..<n).flatMap { row in (0..<rank).map { Float(factor[row * n + $0]) } }
    basis = Self.basis(rows, factor, pivots, order: n, width: width)
  }

  /// X·Xᵀ, `[N, N]`
  private static func gram(_ rows: [Double], count n: Int, width: Int) -> [Double] {
    var gram = [Double](repeating: 0, count: n * n)
    for first in stride(from: 0, to: width, by: 1024) {
      let count = min(1024, width - first)
      var columns = [Double](repeating: 0, count: count * n)
      for row in 0..<n { for column in 0..<count { columns[column * n + row] = rows[row * width + first + column] } }
      BlockedProduct.addGram(columns, rows: count, columns: n, to: &gram)
    }
    gram.withUnsafeMutableBufferPointer { if let g = $0.baseAddress { BlockedProduct.mirror(g, order: n) } }
    return gram
  }

  /// L with L·Lᵀ = K, a column for each pivot, the largest that is left first; rows are in the order they had.
  ///
  /// `nil` if K is zero or not finite.
  private static func factor(_ gram: [Double], order n: Int) -> (factor: [Double], pivots: [Int])? {
    var (factor, pivots) = ([Double](repeating: 0, count: n * n), [Int]())
    var left = (0..<n).map { gram[$0 * n + $0] }
    guard let longest = left.max(), longest > 0, longest.isFinite else { return nil }
    while pivots.count < n {
      guard let pivot = left.indices.max(by: { left[$0] < left[$1] }), left[pivot] > precision * longest else { break }
      let step = pivots.count, root = left[pivot].squareRoot()
      factor.withUnsafeMutableBufferPointer { factor in
        guard let l = factor.baseAddress else { return }
        for row in 0..<n where left[row] > 0 {
          let value = row == pivot ? root : (gram[row * n + pivot] - VectorMath.dot(l + row * n, l + pivot * n, count: step)) / root
          l[row * n + step] = value
          left[row] -= value * value
        }
      }
      left[pivot] = 0
      pivots.append(pivot)
    }
    return (factor, pivots)
  }

  /// B with L·B = X on the pivots' rows, `[r, D]`.
  private static func basis(_ rows: [Double], _ factor: [Double], _ pivots: [Int], order n: Int, width: Int) -> [Double] {
    let part = 128
    var basis = [Double](repeating: 0, count: pivots.count * width)
    basis.withUnsafeMutableBufferPointer { basis in
      rows.withUnsafeBufferPointer { rows in
        guard let target = basis.baseAddress, let source = rows.baseAddress else { return }
        // Each call writes columns of its own.
        nonisolated(unsafe) let (b, x) = (target, source)
        inParallel((width + part - 1) / part) { index in
          let first = index * part, count = min(part, width - first)
          for (step, pivot) in pivots.enumerated() {
            let own = b + step * width + first
            for column in 0..<count { own[column] = x[pivot * width + first + column] }
            for earlier in 0..<step { VectorMath.add(-factor[pivot * n + earlier], b + earlier * width + first, to: own, count: count) }
            let scale = 1 / factor[pivot * n + step]
            for column in 0..<count { own[column] *= scale }
          }
        }
      }
    }
    return basis
  }

  /// Of parameters `[C·D + C]` for features, those `[C·r + C]` for coordinates that give the same logits of the samples.
  func projecting(_ parameters: [Double], classCount: Int) -> [Double] {
    var columns = [Double](repeating: 0, count: dimension * classCount), product = [Double](repeating: 0, count: rank * classCount)
    for output in 0..<classCount { for column in 0..<dimension { columns[column * classCount + output] = parameters[output * dimension + column] } }
    BlockedProduct.add(basis, rows: rank, depth: dimension, columns, columns: classCount, to: &product)
    return (0..<classCount).flatMap { output in (0..<rank).map { product[$0 * classCount + output] } } + parameters[(classCount * dimension)...]
  }

  /// Of parameters for coordinates, those for features: the shortest weights with the same logits.
  func expanding(_ parameters: [Double], classCount: Int) -> [Double] {
    var weight = [Double](repeating: 0, count: classCount * dimension)
    BlockedProduct.add(parameters, rows: classCount, depth: rank, basis, columns: dimension, to: &weight)
    return weight + parameters[(classCount * rank)...]
  }
}
