/// An operation of which single results can be computed: what a benchmark checks a large result with, where `reference`, which
/// computes all of it, would take minutes.
package protocol ElementReference: Operation {
  /// One element of the result in double precision.
  ///
  /// - Parameters:
  ///   - index: its place, an index a dimension of the result.
  ///   - values: the elements of the first two inputs, row-major.
  ///   - types: of the inputs.
  func referenceElement(at index: [Int], _ values: [[Float]], _ types: [TensorType]) -> Double
  /// Products that an element is the sum of.
  func termCount(_ types: [TensorType]) -> Int
}

extension MatMul: ElementReference {
  package func termCount(_ types: [TensorType]) -> Int { types[0].shape[types[0].rank - (transposeA ? 2 : 1)] }

  /// The product alone: without bias, residual and activation. Inputs of equal batches.
  package func referenceElement(at index: [Int], _ values: [[Float]], _ types: [TensorType]) -> Double {
    let (a, b) = (types[0].shape, types[1].shape)
    let (row, column, count) = (index[index.count - 2], index[index.count - 1], termCount(types))
    let matrix = zip(index, a).dropLast(2).reduce(0) { $0 * $1.1 + $1.0 }
    let (rowsA, columnsA, columnsB) = (a[a.count - 2], a[a.count - 1], b[b.count - 1])
    var (atA, stepA) = transposeA ? (row, columnsA) : (row * columnsA, 1)
    var (atB, stepB) = transposeB ? (column * columnsB, 1) : (column, columnsB)
    atA += matrix * rowsA * columnsA
    atB += matrix * b[b.count - 2] * columnsB
    var sum = 0.0
    for _ in 0..<count {
      sum += Double(values[0][atA]) * Double(values[1][atB])
      (atA, atB) = (atA + stepA, atB + stepB)
    }
    return sum
  }
}

extension Conv2DWeightGradient: ElementReference {
  package func termCount(_ types: [TensorType]) -> Int { types[1].shape[..<3].reduce(1, *) }

  package func referenceElement(at index: [Int], _ values: [[Float]], _ types: [TensorType]) -> Double {
    let (x, dy) = (types[0].shape, types[1].shape), (stride, padding) = (convolution.stride, convolution.padding)
    let channel = index[0] / (dy[3] / convolution.groups) * (x[3] / convolution.groups) + index[1]
    let (top, left) = (index[2] * convolution.dilation.h - padding.top, index[3] * convolution.dilation.w - padding.left)
    var sum = 0.0
    for image in 0..<dy[0] {
      for row in 0..<dy[1] {
        let h = row * stride.h + top
        guard h >= 0, h < x[1] else { continue }
        for column in 0..<dy[2] {
          let w = column * stride.w + left
          guard w >= 0, w < x[2] else { continue }
          sum +=
            Double(values[0][((image * x[1] + h) * x[2] + w) * x[3] + channel])
            * Double(values[1][((image * dy[1] + row) * dy[2] + column) * dy[3] + index[0]])
        }
      }
    }
    return sum
  }
}

extension Conv2D: ElementReference {
  package func termCount(_ types: [TensorType]) -> Int { types[1].shape[1...].reduce(1, *) }

  /// The convolution alone: without bias, residual and activation.
  package func referenceElement(at index: [Int], _ values: [[Float]], _ types: [TensorType]) -> Double {
    let (x, w) = (types[0].shape, types[1].shape)
    let (channels, output) = (w[1], index[3])
    let first = output / (w[0] / groups) * channels
    var sum = 0.0
    for a in 0..<w[2] {
      let h = index[1] * stride.h + a * dilation.h - padding.top
      guard h >= 0, h < x[1] else { continue }
      for b in 0..<w[3] {
        let column = index[2] * stride.w + b * dilation.w - padding.left
        guard column >= 0, column < x[2] else { continue }
        let pixel = ((index[0] * x[1] + h) * x[2] + column) * x[3] + first
        for c in 0..<channels {
          sum += Double(values[0][pixel + c]) * Double(values[1][((output * channels + c) * w[2] + a) * w[3] + b])
        }
      }
    }
    return sum
  }
}
