/// Products of matrices in double precision, on all cores.
///
/// Both operands are packed in panels of four rows or columns, so that the innermost loop reads two streams and keeps a tile of
/// 4 × 4 sums in registers. Each element is summed by one thread in an order that depends on the shapes alone.
enum BlockedProduct {
  private typealias Row = SIMD4<Double>
  private static let width = 4
  /// Terms of a sum that are packed together: two panels of them stay in the nearest cache.
  private static let depthLimit = 256

  /// c += a·b.
  ///
  /// - Parameters:
  ///   - a: `[rows, depth]`
  ///   - b: `[depth, columns]`
  ///   - c: `[rows, columns]`
  static func add(
    _ a: UnsafePointer<Double>, rows: Int, depth: Int, _ b: UnsafePointer<Double>, columns: Int, to c: UnsafeMutablePointer<Double>
  ) {
    let (rowPanels, columnPanels) = (panels(rows), panels(columns))
    for first in stride(from: 0, to: depth, by: depthLimit) {
      let terms = min(depthLimit, depth - first)
      var left = [Row](repeating: .zero, count: rowPanels * terms), right = [Row](repeating: .zero, count: columnPanels * terms)
      for row in 0..<rows {
        let source = a + row * depth + first, panel = (row / width) * terms
        for term in 0..<terms { left[panel + term][row % width] = source[term] }
      }
      pack(b + first * columns, terms: terms, columns: columns, into: &right)
      left.withUnsafeBufferPointer { left in
        right.withUnsafeBufferPointer { right in
          guard let l = left.baseAddress, let r = right.baseAddress else { return }
          inParallel(rowPanels) { panel in
            for other in 0..<columnPanels {
              store(
                tile(l + panel * terms, r + other * terms, terms), rowFirst: panel * width, rows: rows, columnFirst: other * width, columns: columns,
                c)
            }
          }
        }
      }
    }
  }

  /// g += xᵀ·x, on and above the diagonal by panels; `mirror` fills the rest.
  ///
  /// - Parameters:
  ///   - x: `[rows, columns]`
  ///   - g: `[columns, columns]`
  static func addGram(_ x: UnsafePointer<Double>, rows: Int, columns: Int, to g: UnsafeMutablePointer<Double>) {
    let count = panels(columns)
    for first in stride(from: 0, to: rows, by: depthLimit) {
      let terms = min(depthLimit, rows - first)
      var packed = [Row](repeating: .zero, count: count * terms)
      pack(x + first * columns, terms: terms, columns: columns, into: &packed)
      packed.withUnsafeBufferPointer { packed in
        guard let p = packed.baseAddress else { return }
        inParallel(count) { panel in
          for other in panel..<count {
            store(
              tile(p + panel * terms, p + other * terms, terms), rowFirst: panel * width, rows: columns, columnFirst: other * width, columns: columns,
              g)
          }
        }
      }
    }
  }

  /// Copies what lies above the diagonal of a matrix `[order, order]` below it.
  static func mirror(_ matrix: UnsafeMutablePointer<Double>, order: Int) {
    for row in 0..<order { for column in 0..<row { matrix[row * order + column] = matrix[column * order + row] } }
  }

  // The same of arrays, which may go on behind what is taken of them.

  static func add(_ a: [Double], rows: Int, depth: Int, _ b: [Double], columns: Int, to c: inout [Double]) {
    a.withUnsafeBufferPointer { a in
      b.withUnsafeBufferPointer { b in
        c.withUnsafeMutableBufferPointer { c in
          guard let a = a.baseAddress, let b = b.baseAddress, let c = c.baseAddress else { return }
          add(a, rows: rows, depth: depth, b, columns: columns, to: c)
        }
      }
    }
  }

  static func addGram(_ x: [Double], rows: Int, columns: Int, to gram: inout [Double]) {
    x.withUnsafeBufferPointer { x in
      gram.withUnsafeMutableBufferPointer { gram in
        guard let x = x.baseAddress, let g = gram.baseAddress else { return }
        addGram(x, rows: rows, columns: columns, to: g)
      }
    }
  }

  private static func panels(_ count: Int) -> Int { (count + width - 1) / width }

  private static func pack(_ b: UnsafePointer<Double>, terms: Int, columns: Int, into packed: inout [Row]) {
    packed.withUnsafeMutableBufferPointer { packed in
      guard let target = packed.baseAddress else { return }
      inParallel(panels(columns)) { panel in
        let first = panel * width, count = min(width, columns - first)
        for term in 0..<terms {
          var row = Row.zero
          for lane in 0..<count { row[lane] = b[term * columns + first + lane] }
          target[panel * terms + term] = row
        }
      }
    }
  }

  @inline(__always)
  private static func tile(_ a: UnsafePointer<Row>, _ b: UnsafePointer<Row>, _ terms: Int) -> (Row, Row, Row, Row) {
    var (s0, s1, s2, s3) = (Row.zero, Row.zero, Row.zero, Row.zero)
    for term in 0..<terms {
      let (u, v) = (a[term], b[term])
      s0 += u[0] * v
      s1 += u[1] * v
      s2 += u[2] * v
      s3 += u[3] * v
    }
    return (s0, s1, s2, s3)
  }

  @inline(__always)
  private static func store(
    _ sums: (Row, Row, Row, Row), rowFirst: Int, rows: Int, columnFirst: Int, columns: Int, _ c: UnsafeMutablePointer<Double>
  ) {
    let count = min(width, columns - columnFirst)
    func add(_ sum: Row, _ offset: Int) {
      guard rowFirst + offset < rows else { return }
      let target = c + (rowFirst + offset) * columns + columnFirst
      for lane in 0..<count { target[lane] += sum[lane] }
    }
    add(sums.0, 0)
    add(sums.1, 1)
    add(sums.2, 2)
    add(sums.3, 3)
  }
}
