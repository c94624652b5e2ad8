/// The two products of a linear layer, in plain Swift on all cores. Each output element is summed by one thread in an
/// order that depends on nothing but the shapes, so that results don't depend on the number of cores.
enum HostGEMM {
  private typealias Vector = SIMD8<Float>

  /// y = x·wᵀ + b.
  ///
  /// - Parameters:
  ///   - x: `[rows, depth]`
  ///   - weight: `[outputs, depth]`
  ///   - bias: `[outputs]`
  ///   - y: `[rows, outputs]`
  static func linear(
    x: UnsafePointer<Float>, rows: Int, depth: Int, weight: UnsafePointer<Float>, bias: UnsafePointer<Float>, outputs: Int,
    y: UnsafeMutablePointer<Float>
  ) {
    let blockRows = 64
    inParallel((rows + blockRows - 1) / blockRows) { block in
      let last = min(rows, (block + 1) * blockRows)
      for output in stride(from: 0, to: outputs, by: 2) {
        let secondOutput = min(output + 1, outputs - 1)
        for row in stride(from: block * blockRows, to: last, by: 2) {
          let secondRow = min(row + 1, last - 1)
          let sums = dots(
            x + row * depth, x + secondRow * depth, weight + output * depth, weight + secondOutput * depth, count: depth)
          y[row * outputs + output] = sums[0] + bias[output]
          y[row * outputs + secondOutput] = sums[1] + bias[secondOutput]
          y[secondRow * outputs + output] = sums[2] + bias[output]
          y[secondRow * outputs + secondOutput] = sums[3] + bias[secondOutput]
        }
      }
    }
  }

  /// g += rᵀ·x, with float32 sums over these rows only, which are then added in double precision.
  ///
  /// - Parameters:
  ///   - residual: `[rows, outputs]`
  ///   - x: `[rows, depth]`
  ///   - gradient: `[outputs, depth]`
  static func accumulate(
    residual: UnsafePointer<Float>, x: UnsafePointer<Float>, rows: Int, depth: Int, outputs: Int, gradient: UnsafeMutablePointer<Double>
  ) {
    // A strip of features that stays in the first-level cache with the sums of one block of outputs.
    let (stripWidth, blockOutputs) = (256, 4)
    let blocks = (outputs + blockOutputs - 1) / blockOutputs
    inParallel(blocks) { block in
      let first = block * blockOutputs
      let count = min(blockOutputs, outputs - first)
      withUnsafeTemporaryAllocation(of: Float.self, capacity: blockOutputs * stripWidth) { sums in
        guard let base = sums.baseAddress else { return }
        for strip in stride(from: 0, to: depth, by: stripWidth) {
          let width = min(stripWidth, depth - strip)
          base.update(repeating: 0, count: blockOutputs * stripWidth)
          for row in 0..<rows {
            for output in 0..<count {
              add(residual[row * outputs + first + output], x + row * depth + strip, to: base + output * stripWidth, count: width)
            }
          }
          for output in 0..<count {
            let target = gradient + (first + output) * depth + strip
            for index in 0..<width { target[index] += Double(base[output * stripWidth + index]) }
          }
        }
      }
    }
  }

  /// The same for a chunk of rows; `gradient`: `[outputs, D]`, `residuals`: `[rows, outputs]`.
  static func accumulate(residuals: [Float], _ chunk: FeatureChunk, into gradient: inout [Double]) {
    let outputs = gradient.count / chunk.dimension
    residuals.withUnsafeBufferPointer { residuals in
      gradient.withUnsafeMutableBufferPointer { gradient in
        guard let r = residuals.baseAddress, let x = chunk.values.baseAddress, let g = gradient.baseAddress else { return }
        accumulate(residual: r, x: x, rows: chunk.rowCount, depth: chunk.dimension, outputs: outputs, gradient: g)
      }
    }
  }

  @inline(__always)
  private static func dots(
    _ x0: UnsafePointer<Float>, _ x1: UnsafePointer<Float>, _ w0: UnsafePointer<Float>, _ w1: UnsafePointer<Float>, count: Int
  ) -> SIMD4<Float> {
    var (a, b, c, d) = (Vector.zero, Vector.zero, Vector.zero, Vector.zero)
    let vectorised = count & ~7
    var index = 0
    while index < vectorised {
      let (u0, u1, v0, v1) = (load(x0 + index), load(x1 + index), load(w0 + index), load(w1 + index))
      a += u0 * v0
      b += u0 * v1
      c += u1 * v0
      d += u1 * v1
      index += 8
    }
    var sums = SIMD4(a.sum(), b.sum(), c.sum(), d.sum())
    while index < count {
      sums += SIMD4(x0[index], x0[index], x1[index], x1[index]) * SIMD4(w0[index], w1[index], w0[index], w1[index])
      index += 1
    }
    return sums
  }

  @inline(__always)
  private static func add(_ scale: Float, _ x: UnsafePointer<Float>, to y: UnsafeMutablePointer<Float>, count: Int) {
    for index in 0..<count { y[index] += scale * x[index] }
  }

  @inline(__always)
  private static func load(_ pointer: UnsafePointer<Float>) -> Vector { UnsafeRawPointer(pointer).loadUnaligned(as: Vector.self) }
}
