/// Double-precision vector arithmetic with a fixed order of summation, so that equal inputs give equal bits.
///
/// Eight partial sums: the compiler may not reorder floating-point additions by itself, and one running sum is eight
/// times as slow.
package enum VectorMath {
  /// `Σ a[i]·b[i]`
  @inline(__always)
  package static func dot(_ a: UnsafePointer<Double>, _ b: UnsafePointer<Double>, count: Int) -> Double {
    var sums = SIMD8<Double>.zero
    let vectorised = count & ~7
    var index = 0
    while index < vectorised {
      sums += load(a + index) * load(b + index)
      index += 8
    }
    var total = sums.sum()
    while index < count {
      total += a[index] * b[index]
      index += 1
    }
    return total
  }

  /// `y[i] += scale·x[i]`
  @inline(__always)
  package static func add(_ scale: Double, _ x: UnsafePointer<Double>, to y: UnsafeMutablePointer<Double>, count: Int) {
    for index in 0..<count { y[index] += scale * x[index] }
  }

  /// `Σ a[i]·b[i]` of two arrays; our own invariant: they are equally long.
  package static func dot(_ a: [Double], _ b: [Double]) -> Double {
    precondition(a.count == b.count)
    return a.withUnsafeBufferPointer { a in
      b.withUnsafeBufferPointer { b in
        guard let first = a.baseAddress, let second = b.baseAddress else { return 0 }
        return dot(first, second, count: a.count)
      }
    }
  }

  /// `y += scale·x` of two arrays; our own invariant: they are equally long.
  package static func add(_ scale: Double, _ x: [Double], to y: inout [Double]) {
    precondition(x.count == y.count)
    x.withUnsafeBufferPointer { x in
      y.withUnsafeMutableBufferPointer { y in
        guard let source = x.baseAddress, let target = y.baseAddress else { return }
        add(scale, source, to: target, count: x.count)
      }
    }
  }

  /// The largest magnitude; NaN if any entry is.
  package static func largestMagnitude(_ values: [Double]) -> Double {
    var largest = 0.0
    for value in values {
      if value.isNaN { return .nan }
      largest = max(largest, abs(value))
    }
    return largest
  }

  @inline(__always)
  private static func load(_ pointer: UnsafePointer<Double>) -> SIMD8<Double> {
    UnsafeRawPointer(pointer).loadUnaligned(as: SIMD8<Double>.self)
  }
}
