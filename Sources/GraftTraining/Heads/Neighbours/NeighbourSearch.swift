/// The rows of a matrix that are nearest to others, exactly.
///
/// Products of all rows with a block of queries are taken in float32 on the backend; whatever rounding could have put among the k
/// nearest is compared again in double precision. Of equal distances the lower row comes first.
struct NeighbourSearch: Sendable {
  struct Neighbour: Sendable, Equatable {
    let row: Int
    let distance: Double
  }

  /// `[N, D]`, as they are stored.
  let rows: [Float]
  let rowCount: Int
  let dimension: Int
  private let distance: NeighbourDistance
  /// `[N, D]`: centred for Euclidean distances, so that little cancels; of unit length for cosine distances.
  private let prepared: [Float]
  /// ‖row‖² of `prepared`, `[N]`
  private let squares: [Double]
  /// What is subtracted, `[D]`; zeros for cosine distances.
  private let centre: [Float]

  /// Queries that are compared with all rows at a time, and rows a product.
  private static let queryBlock = 256, rowBlock = 4096

  init(_ rows: [Float], rowCount: Int, dimension: Int, distance: NeighbourDistance) {
    (self.rows, self.rowCount, self.dimension, self.distance) = (rows, rowCount, dimension, distance)
    var centre = [Float](repeating: 0, count: dimension)
    if distance == .euclidean {
      var sums = [Double](repeating: 0, count: dimension)
      for row in 0..<rowCount { for column in 0..<dimension { sums[column] += Double(rows[row * dimension + column]) } }
      centre = sums.map { Float($0 / Double(max(1, rowCount))) }
    }
    self.centre = centre
    prepared = rows.withUnsafeBufferPointer { Self.prepare($0, dimension: dimension, centre: centre, distance: distance) }
    squares = Self.squares(prepared, dimension: dimension, distance: distance)
  }

  private static func prepare(_ rows: UnsafeBufferPointer<Float>, dimension: Int, centre: [Float], distance: NeighbourDistance) -> [Float] {
    var prepared = Array(rows)
    prepared.withUnsafeMutableBufferPointer { prepared in
      switch distance {
      case .cosine: FeatureTransform.l2.apply(to: prepared, dimension: dimension)
      case .euclidean: for index in prepared.indices { prepared[index] -= centre[index % dimension] }
      }
    }
    return prepared
  }

  /// For cosine distances 1 throughout: a row of zeros has a product of 0 with all, and so a distance of 1 from all.
  private static func squares(_ rows: [Float], dimension: Int, distance: NeighbourDistance) -> [Double] {
    if distance == .cosine { return [Double](repeating: 1, count: rows.count / dimension) }
    return (0..<rows.count / dimension).map { row in
      rows[row * dimension..<(row + 1) * dimension].reduce(0) { $0 + Double($1) * Double($1) }
    }
  }

  /// The stored rows themselves, a chunk at a time.
  func forEachRow(_ body: (FeatureChunk) throws -> Void) throws {
    try rows.withUnsafeBufferPointer { rows in
      for first in stride(from: 0, to: rowCount, by: Self.rowBlock) {
        let count = min(Self.rowBlock, rowCount - first)
        let part = UnsafeBufferPointer(rebasing: rows[first * dimension..<(first + count) * dimension])
        try body(FeatureChunk(firstRow: first, rowCount: count, dimension: dimension, values: part))
      }
    }
  }

  /// Hands over, for each row of a chunk in order, its nearest rows, the nearest first.
  func forEachNeighbours(
    of chunk: FeatureChunk, count: Int, backend: any LinearBackend, _ body: (_ row: Int, _ found: [Neighbour]) throws -> Void
  ) throws {
    let wanted = min(count, rowCount)
    for first in stride(from: 0, to: chunk.rowCount, by: Self.queryBlock) {
      let queries = min(Self.queryBlock, chunk.rowCount - first)
      let raw = UnsafeBufferPointer(rebasing: chunk.values[first * dimension..<(first + queries) * dimension])
      let found = try nearest(raw, queries: queries, wanted: wanted, backend: backend)
      for (query, neighbours) in found.enumerated() { try body(chunk.firstRow + first + query, neighbours) }
    }
  }

  private func nearest(
    _ raw: UnsafeBufferPointer<Float>, queries: Int, wanted: Int, backend: any LinearBackend
  ) throws -> [[Neighbour]] {
    let prepared = Self.prepare(raw, dimension: dimension, centre: centre, distance: distance)
    let own = Self.squares(prepared, dimension: dimension, distance: distance)
    let zeros = [Float](repeating: 0, count: queries)
    var shortlists = (0..<queries).map { _ in Shortlist(wanted: wanted) }
    var products: [Float] = []
    // What a float32 sum of D products can be off by, and what rounding has done to both rows before: relative to ‖x‖² + ‖y‖², which
    // is at least twice the product of the lengths.
    let unit = Double(dimension + 2) * Double(Float.ulpOfOne)
    try self.prepared.withUnsafeBufferPointer { rows in
      for first in stride(from: 0, to: rowCount, by: Self.rowBlock) {
        let count = min(Self.rowBlock, rowCount - first)
        let block = FeatureChunk(
          firstRow: first, rowCount: count, dimension: dimension,
          values: UnsafeBufferPointer(rebasing: rows[first * dimension..<(first + count) * dimension]))
        try backend.logits(block, weight: prepared, bias: zeros, into: &products)
        products.withUnsafeBufferPointer { products in
          shortlists.withUnsafeMutableBufferPointer { shortlists in
            // Not checked by the compiler: each query's list is touched by the call that has its number.
            nonisolated(unsafe) let lists = shortlists
            inParallel(queries) { query in
              for row in 0..<count {
                let square = squares[first + row], error = unit * (own[query] + square)
                lists[query].add(first + row, own[query] + square - 2 * Double(products[row * queries + query]), error: error)
              }
            }
          }
        }
      }
    }
    return shortlists.enumerated().map { query, list in
      let source = raw[query * dimension..<(query + 1) * dimension]
      let exact = list.rows.map { Neighbour(row: $0, distance: exactDistance(source, to: $0)) }
      return Array(exact.sorted { ($0.distance, $0.row) < ($1.distance, $1.row) }.prefix(wanted))
    }
  }

  private func exactDistance(_ query: Slice<UnsafeBufferPointer<Float>>, to row: Int) -> Double {
    let other = rows[row * dimension..<(row + 1) * dimension]
    switch distance {
    case .euclidean: return zip(query, other).reduce(0) { $0 + (Double($1.0) - Double($1.1)) * (Double($1.0) - Double($1.1)) }.squareRoot()
    case .cosine:
      var (product, a, b) = (0.0, 0.0, 0.0)
      for (x, y) in zip(query, other) {
        product += Double(x) * Double(y)
        a += Double(x) * Double(x)
        b += Double(y) * Double(y)
      }
      return a > 0 && b > 0 ? 1 - product / (a * b).squareRoot() : 1
    }
  }
}

/// The rows that may be among a query's nearest, as far as float32 can tell.
private struct Shortlist {
  private let wanted: Int
  private var entries: [(row: Int, least: Double, most: Double)] = []
  /// At least `wanted` rows are no farther than this.
  private var bound = Double.infinity

  init(wanted: Int) { self.wanted = wanted }

  var rows: [Int] { entries.filter { $0.least <= bound }.map(\.row) }

  mutating func add(_ row: Int, _ value: Double, error: Double) {
    guard value - error <= bound else { return }
    entries.append((row, value - error, value + error))
    if entries.count >= 4 * wanted + 64 { narrow() } else if entries.count == wanted { narrow() }
  }

  private mutating func narrow() {
    let most = entries.map(\.most).sorted()
    guard wanted > 0, most.count >= wanted else { return }
    bound = min(bound, most[wanted - 1])
    entries.removeAll { $0.least > bound }
  }
}
