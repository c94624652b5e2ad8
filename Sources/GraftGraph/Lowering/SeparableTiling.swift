import GraftDevice

/// How a separable convolution goes down its images (Kernels/cpu/separable.cl).
struct SeparableTiling {
  /// Rows of the result that are computed at a time.
  let rowsPerStep: Int
  /// Rows of expanded pixels that are kept, and the pixels of each with its padding.
  let ringRows, ringWidth: Int
  let itemCount: Int
  /// Of one work-item.
  let scratchElementCount: Int
  /// Multiply-adds that work-items do because a neighbour has the rows they need, and that threads wait for each other, as a
  /// share of those of the expansion and of all.
  private let repeatedShare, idleShare: Double

  /// What a work-item's scratch may take of its core's own cache (taken as 1 MiB, of which weights and images need a part).
  private static let scratchByteLimit = 640 << 10
  /// Rows of the projection's product that are enough to use its weights well.
  private static let pixelsPerStep = 48

  /// - Returns: `nil` for kernels of other shapes, rows too long for a core's cache, and other families of kernels.
  init?(_ flow: SeparableConv2D.Flow, traits: DeviceTraits, precision: Precision) {
    let conv = flow.depthwise, (kh, kw) = (flow.kernel.h, flow.kernel.w)
    guard traits.family == .cpu, [3, 5, 7].contains(kw), (1...7).contains(kh), conv.dilation == Pair(1), (1...2).contains(conv.stride.w) else {
      return nil
    }
    let (expanded, filtered) = (flow.expanded, flow.filtered)
    let channels = CPUTiling.packedChannels(expanded.shape[3], traits), (n, oh, ow) = (filtered.shape[0], filtered.shape[1], filtered.shape[2])
    guard n > 0, oh > 0, ow > 0 else { return nil }
    // The last pixels that are computed together may lie beyond the row.
    let width = max((divideUp(ow, 4) * 4 - 1) * conv.stride.w + kw, conv.padding.left + expanded.shape[2])
    func elements(_ rows: Int) -> Int { (((rows - 1) * conv.stride.h + kh + 1) * width + rows * ow) * channels }
    var rows = min(oh, divideUp(SeparableTiling.pixelsPerStep, ow))
    while rows > 1, elements(rows) * precision.byteCount > SeparableTiling.scratchByteLimit { rows -= 1 }
    // A multiple of the device's cache lines.
    scratchElementCount = divideUp(elements(rows), 64) * 64
    guard elements(rows) * precision.byteCount <= SeparableTiling.scratchByteLimit else { return nil }
    (rowsPerStep, ringRows, ringWidth) = (rows, (rows - 1) * conv.stride.h + kh, width)

    let steps = n * divideUp(oh, rows), workers = traits.threadCount > 0 ? traits.threadCount : max(1, traits.computeUnits)
    func repeated(_ items: Int) -> Double {
      n % items == 0 ? 0 : Double(items * max(0, kh - conv.stride.h)) / Double(n * oh * conv.stride.h)
    }
    func idle(_ items: Int) -> Double { Double(divideUp(steps, items) * divideUp(items, workers) * workers) / Double(steps) - 1 }
    // Many small items even out threads of unlike speed.
    let choices = [4, 3, 2, 1].map { min(steps, $0 * workers) }
    let best = choices.min { repeated($0) + idle($0) + 0.05 < repeated($1) + idle($1) } ?? 1
    (itemCount, repeatedShare, idleShare) = (best, repeated(best), idle(best))
  }

  /// Whether one pass is faster than one convolution after another, which write and read what flows between them, and meet between.
  func isFaster(_ flow: SeparableConv2D.Flow, expansionFlops: Double, allFlops: Double, workers: Int) -> Bool {
    let flopsPerSecond = 150e9 * Double(workers), bytesPerSecond = 60e9 * Double(workers), meeting = 3e-6
    let saved = 2 * Double(flow.expanded.byteCount + flow.filtered.byteCount) / bytesPerSecond + 2 * meeting
    return (repeatedShare * expansionFlops + idleShare * allFlops) / flopsPerSecond < saved
  }
}
