import GraftDevice

/// How a batch is cut so that what flows between nodes stays in the processor's last-level cache.
///
/// Early layers of a CNN have large activations and small weights: sixteen images at once push every activation through
/// memory, a few at a time keep them in the cache. Late layers have it the other way round. So nodes are gathered into
/// segments that each run with their own number of images, again and again until the batch is done; only what crosses from
/// one segment to the next exists for the whole batch. The cuts are those of least estimated memory time (dynamic programming
/// over nodes and powers of two).
package struct BatchTiling {
  /// Consecutive nodes that run on `images` images at a time.
  package struct Segment: Equatable {
    package var nodes: Range<Int>
    package var images: Int
  }

  /// Images in the whole batch.
  let batch: Int
  /// Values whose first dimension counts images.
  let withImages: Set<ValueID>
  package let segments: [Segment]

  /// Rough times of a machine; only their ratios matter here.
  private struct Costs {
    // Bytes here are those of float32; a shorter format moves fewer.
    let secondsPerByteOfMemory, secondsPerByteOfCache: Double
    let secondsPerLaunch: Double
    /// Bytes that may stay in the cache: half of it, since weights and neighbours pass through too.
    let budget: Double
  }

  package init(_ graph: Graph, layouts: [ValueID: RowLayout], traits: DeviceTraits, options: PlanOptions) {
    let batch = graph.inputs.first.map { graph.type(of: $0).shape.first ?? 1 } ?? 1
    self.batch = batch
    guard batch > 1, traits.lastCacheByteCount > 0 else {
      (withImages, segments) = ([], [Segment(nodes: 0..<graph.nodes.count, images: batch)])
      return
    }
    // Slices of buffers must begin where the device lets them: a value's images do, and those of the value it is a slice of.
    func countsImages(_ id: ValueID) -> Bool {
      [id, layouts[id]?.root ?? id].map { graph.type(of: $0) }.allSatisfy { type in
        type.rank >= 2 && type.shape[0] == batch && (type.byteCount / batch * options.precision.byteCount / 4) % traits.sliceAlignmentByteCount == 0
      }
    }
    var withImages = Set(graph.inputs.filter { !graph.variables.contains($0) && countsImages($0) })
    let isByImage = graph.nodes.map { node in
      let types = node.inputs.map { graph.type(of: $0) }, hasImages = node.inputs.map(withImages.contains)
      guard hasImages.contains(true), countsImages(node.output), node.operation.isComputedByImage(types, hasImages: hasImages) else {
        return false
      }
      withImages.insert(node.output)
      return true
    }
    self.withImages = withImages
    let live = BatchTiling.liveByteCounts(graph, layouts: layouts)
    let share = Double(options.precision.byteCount) / 4
    let costs = Costs(
      secondsPerByteOfMemory: share / 40e9, secondsPerByteOfCache: share / 160e9, secondsPerLaunch: traits.kind == .cpu ? 3e-6 : 20e-6,
      budget: Double(traits.lastCacheByteCount) / 2 / share)
    segments = BatchTiling.cheapestSegments(
      graph, batch: batch, isByImage: isByImage, withImages: withImages, live: live, costs: costs,
      extraWeightByteCount: { $0.operation.extraWeightByteCount($0.inputs.map { graph.type(of: $0) }, graph.type(of: $0.output), traits, options) })
  }

  /// Bytes of activations that are alive while each node runs.
  private static func liveByteCounts(_ graph: Graph, layouts: [ValueID: RowLayout]) -> [Double] {
    // A graph may hand its inputs on and do nothing else.
    guard !graph.nodes.isEmpty else { return [] }
    var first: [ValueID: Int] = [:], last: [ValueID: Int] = [:]
    func touch(_ id: ValueID, _ time: Int) {
      guard graph.constant(id) == nil else { return }
      let root = layouts[id]?.root ?? id
      first[root] = min(first[root] ?? time, time)
      last[root] = max(last[root] ?? time, time)
    }
    for (time, node) in graph.nodes.enumerated() { for id in node.inputs + [node.output] { touch(id, time) } }
    for output in graph.outputs { touch(output, graph.nodes.count - 1) }
    // Bytes that begin and end to be alive, summed up.
    var change = [Double](repeating: 0, count: graph.nodes.count + 1)
    for (root, start) in first {
      change[start] += Double(graph.type(of: root).byteCount)
      change[(last[root] ?? start) + 1] -= Double(graph.type(of: root).byteCount)
    }
    var sum = 0.0
    return change.dropLast().map { step in
      sum += step
      return sum
    }
  }

  private static func cheapestSegments(
    _ graph: Graph, batch: Int, isByImage: [Bool], withImages: Set<ValueID>, live: [Double], costs: Costs,
    extraWeightByteCount: (Graph.Node) -> Int
  ) -> [Segment] {
    let powers = (0..<Int.bitWidth).lazy.map { 1 << $0 }.prefix { $0 < batch }
    let sizes = powers + [batch]
    var weightsOf = graph.nodes.map { node in
      Double(
        node.inputs.reduce(0) { $0 + (graph.constant($1)?.byteCount ?? 0) }
          + extraWeightByteCount(node))
    }
    // Weights that all fit stay in the cache from tile to tile.
    if weightsOf.reduce(0, +) < costs.budget / 4 { weightsOf = weightsOf.map { $0 * costs.secondsPerByteOfCache / costs.secondsPerByteOfMemory } }

    var best = [[Double]](repeating: [], count: graph.nodes.count)
    var from = [[Int]](repeating: [], count: graph.nodes.count)
    for (index, node) in graph.nodes.enumerated() {
      let moved = Double(Set(node.inputs + [node.output]).reduce(0) { $0 + (withImages.contains($1) ? graph.type(of: $1).byteCount : 0) })
      for (choice, images) in sizes.enumerated() {
        let tiles = Double((batch + images - 1) / images)
        let fits = live[index] * Double(images) / Double(batch) <= costs.budget
        var cost = moved * (fits ? costs.secondsPerByteOfCache : costs.secondsPerByteOfMemory)
        cost += tiles * (costs.secondsPerLaunch + weightsOf[index] * costs.secondsPerByteOfMemory)
        if images < batch, !isByImage[index] { cost = .infinity }
        guard index > 0 else {
          best[index].append(cost)
          from[index].append(choice)
          continue
        }
        // What is alive across a cut is written and read for the whole batch.
        let crossing =
          live[index] <= costs.budget ? 0 : 2 * min(live[index], live[index - 1]) * (costs.secondsPerByteOfMemory - costs.secondsPerByteOfCache)
        var (least, previous) = (Double.infinity, choice)
        for other in sizes.indices {
          let total = best[index - 1][other] + (other == choice ? 0 : crossing)
          if total < least { (least, previous) = (total, other) }
        }
        best[index].append(least + cost)
        from[index].append(previous)
      }
    }
    guard var choice = best.last?.indices.min(by: { best[best.count - 1][$0] < best[best.count - 1][$1] }) else { return [] }
    var segments: [Segment] = []
    for index in graph.nodes.indices.reversed() {
      if let last = segments.last, last.images == sizes[choice] {
        segments[segments.count - 1].nodes = index..<last.nodes.upperBound
      } else {
        segments.append(Segment(nodes: index..<index + 1, images: sizes[choice]))
      }
      choice = from[index][choice]
    }
    return segments.reversed()
  }
}
