import CKernels

/// The shape two shapes broadcast to, as NumPy's, or nil.
public func broadcastShape(_ a: [Int], _ b: [Int]) -> [Int]? {
  var result: [Int] = []
  for d in 0..<max(a.count, b.count) {
    let x = d < a.count ? a[a.count - 1 - d] : 1
    let y = d < b.count ? b[b.count - 1 - d] : 1
    guard x == y || x == 1 || y == 1 else { return nil }
    result.append(x == 1 ? y : x)
  }
  return result.reversed()
}

/// Strides with which a dense (or row-strided) tensor of `shape` is read as `target`: 0 where it repeats.
package func broadcastStrides(_ shape: [Int], to target: [Int], rowStride: Int? = nil) -> [Int] {
  var dense = rowMajorStrides(shape)
  if let rowStride, shape.count > 1 {
    let last = shape[shape.count - 1]
    for d in 0..<shape.count - 1 { dense[d] = dense[d] / max(1, last) * rowStride }
  }
  let lead = target.count - shape.count
  return target.indices.map { d in d < lead || shape[d - lead] == 1 ? 0 : dense[d - lead] }
}

/// Merges neighbouring dimensions that every operand walks without a gap, and drops those of extent 1.
///
/// - Returns: at least one dimension.
func collapse(_ dims: [Int], _ strides: [[Int]]) -> (dims: [Int], strides: [[Int]]) {
  var outDims: [Int] = []
  var out = [[Int]](repeating: [], count: strides.count)
  for d in dims.indices where dims[d] != 1 {
    if let last = outDims.indices.last, strides.indices.allSatisfy({ out[$0][last] == strides[$0][d] * dims[d] }) {
      outDims[last] *= dims[d]
      for s in strides.indices { out[s][last] = strides[s][d] }
    } else {
      outDims.append(dims[d])
      for s in strides.indices { out[s].append(strides[s][d]) }
    }
  }
  if outDims.isEmpty { return ([1], strides.map { _ in [1] }) }
  return (outDims, out)
}

/// A C array of `GRAFT_MAX_RANK` extents.
typealias RankTuple = (Int32, Int32, Int32, Int32, Int32, Int32)

func rankTuple(_ values: [Int], filling fill: Int32) -> RankTuple {
  func at(_ i: Int) -> Int32 { i < values.count ? Int32(values[i]) : fill }
  return (at(0), at(1), at(2), at(3), at(4), at(5))
}

/// Our own invariant: at most `GRAFT_MAX_RANK` dimensions.
func copyParameters(dims: [Int], from: [Int], to: [Int], offsetX: Int = 0, offsetY: Int = 0) -> GraftCopyParams {
  precondition(dims.count <= Int(GRAFT_MAX_RANK))
  return GraftCopyParams(
    offsetX: Int64(offsetX), offsetY: Int64(offsetY), rank: Int32(dims.count), dims: rankTuple(dims, filling: 1),
    stridesX: rankTuple(from, filling: 0),
    stridesY: rankTuple(to, filling: 0))
}
