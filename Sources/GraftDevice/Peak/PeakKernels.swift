import CKernels

/// The launches a device's limits are measured with (Kernels/cpu/peak.cl, Kernels/gpu/peak.cl): what each computes and moves.
package struct PeakKernels {
  package let device: any Device
  package let family: KernelFamily
  /// Work-items that run at the same time: threads of a CPU, or work-groups that fill a GPU.
  package let workers: Int

  /// Work-items of a group, and chains of multiply-adds a work-item, in the GPU family.
  private let groupSize: Int
  private static let gpuChains = 16
  /// Vectors a step of the CPU family's loops over memory moves (`PEAK_STEP`).
  private static let stepVectors = 8

  package init(_ device: any Device, family: KernelFamily) {
    (self.device, self.family) = (device, family)
    let traits = device.traits
    groupSize = min(256, max(1, traits.maximumWorkGroupSize))
    let units = traits.threadCount > 0 ? traits.threadCount : max(1, traits.computeUnits)
    // Four groups of 256 on a compute unit: enough requests in flight to hide the memory's latency.
    workers = family == .cpu ? units : 4 * units
  }

  /// Sums that a multiply-add launch writes, and the numbers each is the sum of: `PEAK_CHAINS` vectors in the CPU family.
  package var multiplyAddItems: Int { family == .cpu ? 8 * workers : workers * groupSize }
  package var multiplyAddNumbers: Int { family == .cpu ? chains * device.traits.vectorWidth : chains }
  /// Independent chains of a work-item; each begins at its own number.
  package var chains: Int { family == .cpu ? 6 * device.traits.panelVectors : Self.gpuChains }

  /// `repeats` steps x = x · factor + term in every chain; `result` has `multiplyAddItems` floats.
  package func multiplyAdd(repeats: Int, factor: Float = 0.5, term: Float = 1, into result: BufferSlice) -> Launch {
    launch(
      "peak_fma", [result], GraftPeakParams(count: 0, repeats: Int32(repeats), factor: factor, term: term), items: multiplyAddItems,
      flops: 2 * Double(multiplyAddItems) * Double(multiplyAddNumbers) * Double(repeats))
  }

  /// An array cut into shares, each of which a work-item walks over.
  package struct Area: Sendable {
    package let items: Int
    /// Floats of a share in the CPU family, where it is a work-item's own; of all in the GPU family. A multiple of 3.
    package let count: Int
    package let floatCount: Int
    package var byteCount: Int { 4 * floatCount }
  }

  /// About `byteCount` bytes in at least `shares` shares (the GPU family has as many as fill the device).
  package func area(byteCount: Int, shares: Int) -> Area {
    switch family {
    case .cpu:
      let step = 3 * Self.stepVectors * device.traits.vectorWidth
      let count = max(1, byteCount / 4 / shares / step) * step
      return Area(items: shares, count: count, floatCount: count * shares)
    case .gpu:
      let items = workers * groupSize
      let count = max(1, byteCount / 4 / (3 * 4 * items)) * 3 * 4 * items
      return Area(items: items, count: count, floatCount: count)
    }
  }

  /// Every work-item sums its share, `repeats` times; `result` has a float an item.
  package func read(_ area: Area, of memory: BufferSlice, repeats: Int, into result: BufferSlice) -> Launch {
    launch(
      "peak_read", [memory, result], GraftPeakParams(count: Int64(area.count), repeats: Int32(repeats), factor: 0, term: 0), items: area.items,
      bytes: Double(area.byteCount) * Double(repeats))
  }

  /// a = b + factor · c over thirds of each share, `repeats` times.
  package func triad(_ area: Area, of memory: BufferSlice, factor: Float = 0.5, repeats: Int) -> Launch {
    launch(
      "peak_triad", [memory], GraftPeakParams(count: Int64(area.count / 3), repeats: Int32(repeats), factor: factor, term: 0), items: area.items,
      bytes: Double(area.byteCount) * Double(repeats))
  }

  /// Sets every float of the memory to `value`.
  package func fill(_ memory: BufferSlice, value: Float) -> Launch {
    let count = memory.byteCount / 4
    let parameters = Launch.bytes(of: GraftFillParams(count: Int64(count), value: value))
    // A work-item of the CPU family fills 16384 floats (Kernels/cpu/copy.cl).
    let grid = family == .cpu ? Grid((count + 16383) / 16384) : Grid.covering(count, workGroup: (groupSize, 1, 1))
    return Launch(
      KernelReference(family, file: "copy", function: "fill_value"), buffers: [memory], parameters: parameters, grid: grid, label: "peak",
      bytes: Double(memory.byteCount))
  }

  /// The GPU family's kernels of `multiplyAdd`, `read` and `triad`.
  package static func gpuReferences(groupSize: Int) -> [KernelReference] {
    ["peak_fma", "peak_read", "peak_triad"].map { gpuReference($0, groupSize: groupSize) }
  }

  private static func gpuReference(_ function: String, groupSize: Int) -> KernelReference {
    KernelReference(.gpu, file: "peak", function: function, options: [.init("GROUP", groupSize), .init("CHAINS", gpuChains)])
  }

  private func launch(
    _ function: String, _ buffers: [BufferSlice?], _ parameters: GraftPeakParams, items: Int, flops: Double = 0, bytes: Double = 0
  ) -> Launch {
    let kernel = family == .cpu ? KernelReference(family, file: "peak", function: function) : Self.gpuReference(function, groupSize: groupSize)
    let grid = family == .cpu ? Grid(items) : Grid(items, workGroup: (groupSize, 1, 1))
    return Launch(
      kernel, buffers: buffers, parameters: Launch.bytes(of: parameters), grid: grid, label: "peak", flops: flops, bytes: bytes)
  }
}
