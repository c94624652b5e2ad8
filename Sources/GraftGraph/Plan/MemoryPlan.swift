/// A block of memory and the launches during which it is in use.
package struct Lifetime {
  package var byteCount: Int
  package var first: Int
  package var last: Int

  package init(byteCount: Int, first: Int, last: Int) { (self.byteCount, self.first, self.last) = (byteCount, first, last) }
}

/// Places blocks in one arena so that those alive at the same time never overlap.
///
/// Largest first, each at the lowest offset where it fits (greedy by size; Pisarchyk and Lee, "Efficient Memory Management for
/// Deep Neural Net Inference", 2020).
package struct MemoryPlan {
  /// One offset a block, in bytes, each a multiple of `alignment`.
  package let offsets: [Int]
  package let byteCount: Int
  /// A multiple of every OpenCL device's base address alignment known.
  package static let alignment = 1024

  package init(_ blocks: [Lifetime]) {
    func aligned(_ count: Int) -> Int { (max(count, 1) + MemoryPlan.alignment - 1) / MemoryPlan.alignment * MemoryPlan.alignment }
    var offsets = [Int](repeating: 0, count: blocks.count)
    var placed: [Int] = []
    var total = 0
    let order = blocks.indices.sorted { (blocks[$1].byteCount, $0) < (blocks[$0].byteCount, $1) }
    for index in order {
      let block = blocks[index]
      let conflicts = placed.filter { blocks[$0].first <= block.last && block.first <= blocks[$0].last }.sorted { offsets[$0] < offsets[$1] }
      var offset = 0
      for other in conflicts {
        if offset + block.byteCount <= offsets[other] { break }
        offset = max(offset, aligned(offsets[other] + blocks[other].byteCount))
      }
      offsets[index] = offset
      placed.append(index)
      total = max(total, aligned(offset + block.byteCount))
    }
    (self.offsets, self.byteCount) = (offsets, total)
  }
}
