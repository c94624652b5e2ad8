extension HostTensor {
  /// The elements that lie `offsets[0][i] + offsets[1][j] + …` from the first, a list of offsets for each dimension of the result.
  ///
  /// Slices, transpositions, repetitions and lookups are all of this kind. Our own invariant: every sum lies inside, and the result is not
  /// empty.
  package func picking(_ offsets: [[Int]]) -> HostTensor {
    let shape = offsets.map(\.count), size = elementType.byteCount
    let rows = Array(offsets.dropLast()), last = offsets.last ?? [0]
    let isRun = last.indices.allSatisfy { last[$0] == last[0] + $0 }
    let bytes = HostBytes(count: shape.reduce(size, *)) { target in
      guard target.count > 0 else { return }
      withUnsafeBytes { source in
        var index = [Int](repeating: 0, count: rows.count), written = 0
        func copy(_ element: Int, _ count: Int) {
          let part = UnsafeRawBufferPointer(rebasing: source[element * size..<(element + count) * size])
          UnsafeMutableRawBufferPointer(rebasing: target[written..<written + count * size]).copyMemory(from: part)
          written += count * size
        }
        while written < target.count {
          let start = zip(rows, index).reduce(0) { $0 + $1.0[$1.1] }
          if isRun { copy(start + last[0], last.count) } else { for offset in last { copy(start + offset, 1) } }
          for d in rows.indices.reversed() {
            index[d] += 1
            if index[d] < rows[d].count { break }
            index[d] = 0
          }
        }
      }
    }
    return HostTensor(unchecked: shape, elementType, bytes, 0)
  }

  /// A tensor without elements. Our own invariant: an extent is 0; the others may be vast.
  package static func empty(_ shape: [Int], _ elementType: ElementType) -> HostTensor {
    precondition(shape.contains(0))
    return HostTensor(unchecked: shape, elementType, HostBytes(copying: []), 0)
  }

  /// The tensor repeated to another shape. Our own invariant: it broadcasts to that.
  package func expanded(to shape: [Int]) -> HostTensor {
    if shape == self.shape { return self }
    if shape.contains(0) { return .empty(shape, elementType) }
    return picking(zip(shape, broadcastStrides(self.shape, to: shape)).map { extent, stride in (0..<extent).map { $0 * stride } })
  }
}
