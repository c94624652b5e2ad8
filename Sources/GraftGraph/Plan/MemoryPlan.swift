import GraftDevice

/// A block of memory and the launches during which it is in use.
package struct Lifetime {
  package var byteCount: Int
  package var first: Int
  package var last: Int

  package init(byteCount: Int, first: Int, last: Int) { (self.byteCount, self.first, self.last) = (byteCount, first, last) }
}

/// Places blocks in an arena so that those alive at the same time never overlap.
///
/// Some drivers give buffers of a quarter of the device's memory at most. The arena is then cut into segments, a buffer each, and no
/// block that fits a segment lies across the end of one.
///
/// Largest first, each at the lowest offset where it fits (greedy by size; Pisarchyk and Lee, "Efficient Memory Management for
/// Deep Neural Net Inference", 2020).
package struct MemoryPlan {
  /// One offset a block, in bytes, each a multiple of `alignment`.
  package let offsets: [Int]
  package let byteCount: Int
  /// Bytes of every segment but the last; a multiple of `alignment`.
  package let segmentByteCount: Int
  /// A multiple of every OpenCL device's base address alignment known.
  package static let alignment = 1024

  /// - Parameter largestBuffer: bytes of the largest buffer that the device gives.
  package init(_ blocks: [Lifetime], largestBuffer: Int = .max) {
    let segment = max(1, largestBuffer / MemoryPlan.alignment) * MemoryPlan.alignment
    func aligned(_ count: Int) -> Int { (max(count, 1) + MemoryPlan.alignment - 1) / MemoryPlan.alignment * MemoryPlan.alignment }
    var offsets = [Int](repeating: 0, count: blocks.count)
    var placed: [Int] = []
    var total = 0
    let order = blocks.indices.sorted { (blocks[$1].byteCount, $0) < (blocks[$0].byteCount, $1) }
    for index in order {
      let block = blocks[index]
      let conflicts = placed.filter { blocks[$0].first <= block.last && block.first <= blocks[$0].last }.sorted { offsets[$0] < offsets[$1] }
      /// The place itself, or the next segment, where the block would lie across its end.
      func whole(_ offset: Int) -> Int {
        let rest = segment - offset % segment
        return block.byteCount <= rest || block.byteCount > segment ? offset : offset + rest
      }
      var offset = 0
      for other in conflicts {
        if offset + block.byteCount <= offsets[other] { break }
        offset = whole(max(offset, aligned(offsets[other] + blocks[other].byteCount)))
      }
      offsets[index] = offset
      placed.append(index)
      total = max(total, aligned(offset + block.byteCount))
    }
    (self.offsets, self.byteCount, segmentByteCount) = (offsets, total, segment)
  }
}

/// The memory of a plan's arena, a buffer a segment.
struct Arena {
  private let buffers: [any DeviceBuffer]
  private let segmentByteCount: Int

  /// - Throws: `DeviceError` if a buffer cannot be had.
  init(_ plan: MemoryPlan, on device: any Device) throws(DeviceError) {
    var (buffers, rest): ([any DeviceBuffer], Int) = ([], plan.byteCount)
    repeat {
      buffers.append(try device.allocate(byteCount: min(rest, plan.segmentByteCount)))
      rest -= plan.segmentByteCount
    } while rest > 0
    (self.buffers, segmentByteCount) = (buffers, plan.segmentByteCount)
  }

  func slice(_ offset: Int, byteCount: Int) -> BufferSlice {
    BufferSlice(buffers[offset / segmentByteCount], byteOffset: offset % segmentByteCount, byteCount: byteCount)
  }
}
