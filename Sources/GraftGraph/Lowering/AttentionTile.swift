import CKernels
import GraftDevice

/// How a work-group of the GPU family's attention (Kernels/gpu/attention_tile.h) is laid out: its options, and how many there are.
struct AttentionTile: Sendable, Hashable {
  /// Work-items side by side and above each other; each has four columns and four rows of scores.
  let lanes, rowLanes: Int
  /// Neighbouring elements of a row's sums that an item has, and how many such groups.
  let values, groups: Int
  let vector: Int

  /// Elements of a head that a work-group sums; longer heads are cut into parts.
  var width: Int { lanes * values * groups }
  var itemCount: Int { lanes * rowLanes }
  private var rows: Int { 4 * rowLanes }

  /// - Parameters:
  ///   - rows: of the side that work-groups share out.
  ///   - size: of a head.
  ///   - mostSums: of each row in an item's registers.
  ///   - vector: elements a load takes.
  init(rows: Int, size: Int, mostSums: Int, vector: Int, groupSize: Int, localByteCount: Int) {
    lanes = min(16, groupSize)
    let lanes = lanes, share = divideUp(size, divideUp(size, mostSums * lanes))
    func groups(_ values: Int) -> Int { divideUp(share, lanes * values) }
    // The narrowest that holds the share; of equals the one with the longest vectors.
    values = [4, 2, 1].filter { $0 * groups($0) <= mostSums }.min { $0 * groups($0) < $1 * groups($1) } ?? 1
    self.groups = groups(values)
    // 64 rows read the other side half as often as 32, unless too many of them lie beyond the last or they take too much local memory.
    let most = max(1, min(16, groupSize / lanes)), smaller = max(1, most / 2), width = lanes * values * self.groups
    func computed(_ rowLanes: Int) -> Int { divideUp(rows, 4 * rowLanes) * 4 * rowLanes }
    // Both sides or the values, the weights, the maxima: POOL, WEIGHT_PITCH and MAXIMA.
    let columns = 4 * lanes, tall = 4 * most, pool = max((tall + columns) * 36, min(columns * width, 4096))
    let fits = 4 * (pool + tall * (columns + 4) + tall * (lanes + 1)) <= localByteCount
    rowLanes = fits && Double(computed(most)) <= 1.1 * Double(computed(smaller)) ? most : smaller
    self.vector = vector
  }

  func groupCount(rows: Int, _ p: GraftAttentionParams) -> Int {
    divideUp(rows, self.rows) * divideUp(Int(p.size), width) * Int(p.heads) * Int(p.batch)
  }

  var options: [KernelReference.Option] {
    [.init("LANES", lanes), .init("ROW_LANES", rowLanes), .init("VALUES", values), .init("GROUPS", groups), .init("VECTOR", vector)]
  }
}

extension LoweringContext {
  /// Appends one of the GPU family's attention kernels, whose work-groups share out `rows` of each head.
  mutating func launchAttention<Parameters: BitwiseCopyable>(
    _ function: String, _ operands: [Operand?], _ parameters: Parameters, forward p: GraftAttentionParams, rows: Int, mostSums: Int = 8,
    flops: Double? = nil
  ) {
    let extents = [p.q, p.k, p.v, p.y].flatMap { [$0.image, $0.head, $0.token, $0.offset] }.map { Int($0) }
    let tile = AttentionTile(
      rows: rows, size: Int(p.size), mostSums: mostSums, vector: vector(extents + [Int(p.size)], operands), groupSize: groupSize,
      localByteCount: traits.localMemoryByteCount)
    launchGroups(
      function, function, operands, parameters, count: tile.groupCount(rows: rows, p), size: tile.itemCount, options: tile.options, flops: flops)
  }
}
