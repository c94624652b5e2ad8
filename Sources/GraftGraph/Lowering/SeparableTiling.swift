import GraftDevice

/// How a separable convolution goes down its images (Kernels/cpu/separable.cl).
struct SeparableTiling {
  /// Rows of the result that are computed at a time.
  let rowsPerStep: Int
  /// Rows of expanded pixels that are kept, and the pixels of each with its padding.
  let ringRows, ringWidth: Int
  /// Elements from one of these pixels to the next: an odd number of vectors, so that pixels below each other don't all want the
  /// same places in the cache nearest to the core.
  let ringStride: Int
  let itemCount: Int
  private let stepCount: Int
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
    let conv = flow.depthwise, stride = conv.stride.h, extent = flow.kernel.h
    guard traits.family == .cpu, [3, 5, 7].contains(extent), flow.kernel.w == extent, conv.dilation == Pair(1), (1...2).contains(stride),
      conv.stride.w == stride
    else { return nil }
    let (expanded, filtered) = (flow.expanded, flow.filtered)
    let vectors = divideUp(expanded.shape[3], traits.vectorWidth)
    ringStride = (vectors % 2 == 0 ? vectors + 1 : vectors) * traits.vectorWidth
    let channels = ringStride, (n, oh, ow) = (filtered.shape[0], filtered.shape[1], filtered.shape[2])
    guard n > 0, oh > 0, ow > 0 else { return nil }
    // The last pixels that are computed together may lie beyond the row.
    let width = max((divideUp(ow, 4) * 4 - 1) * stride + extent, conv.padding.left + expanded.shape[2])
    func elements(_ rows: Int) -> Int { (((rows - 1) * stride + extent + 1) * width + rows * ow) * channels }
    // Two rows together share inputs.
    var rows = min(oh, divideUp(divideUp(SeparableTiling.pixelsPerStep, ow), 2) * 2)
    while rows > 1, elements(rows) * precision.byteCount > SeparableTiling.scratchByteLimit { rows -= 1 }
    // A multiple of the device's cache lines.
    scratchElementCount = divideUp(elements(rows), 64) * 64
    guard elements(rows) * precision.byteCount <= SeparableTiling.scratchByteLimit else { return nil }
    (rowsPerStep, ringRows, ringWidth) = (rows, (rows - 1) * stride + extent, width)

    let steps = n * divideUp(oh, rows), workers = traits.threadCount > 0 ? traits.threadCount : max(1, traits.computeUnits)
    stepCount = steps
    func repeated(_ items: Int) -> Double {
      n % items == 0 ? 0 : Double(items * max(0, extent - stride)) / Double(n * oh * stride)
    }
    func idle(_ items: Int) -> Double { Double(divideUp(steps, items) * divideUp(items, workers) * workers) / Double(steps) - 1 }
    // Many small items even out threads of unlike speed.
    let choices = [4, 3, 2, 1].map { min(steps, $0 * workers) }
    let best = choices.min { repeated($0) + idle($0) + 0.05 < repeated($1) + idle($1) } ?? 1
    (itemCount, repeatedShare, idleShare) = (best, repeated(best), idle(best))
  }

  /// Whether one pass is faster than one convolution after another, which write and read what flows between them, and meet between.
  /// It reads all the weights for every few rows, though, which takes time unless they stay in the cache beside its scratch.
  func isFaster(_ flow: SeparableConv2D.Flow, expansionFlops: Double, allFlops: Double, weightByteCount: Int, workers: Int) -> Bool {
    let flopsPerSecond = 150e9 * Double(workers), bytesPerSecond = 120e9 * Double(workers), meeting = 1.5e-6
    let weightBytesPerSecond = 200e9 * Double(workers), stays = weightByteCount + 4 * scratchElementCount < 1 << 20
    // Without an expansion, its result is there already and copied.
    let expands = expansionFlops > 0, inner = (expands ? flow.expanded.byteCount : 0) + flow.filtered.byteCount
    let saved = 2 * Double(inner) / bytesPerSecond + (expands ? 2 : 1) * meeting
    var spent = (repeatedShare * expansionFlops + idleShare * allFlops) / flopsPerSecond
    if !expands { spent += Double(flow.expanded.byteCount) / bytesPerSecond }
    return spent + (stays ? 0 : Double(stepCount * weightByteCount) / weightBytesPerSecond) < saved
  }
}
