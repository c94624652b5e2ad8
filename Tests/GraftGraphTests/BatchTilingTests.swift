import GraftDevice
import GraftGraph
import Testing

/// A batch that runs a few images at a time gives what it gives at once.
@Suite struct BatchTilingTests {
  /// Batches of five leave a remainder whatever the tile; a cache of 16 KiB cuts nearly every one of these networks.
  @Test(arguments: 0..<24, TestDevices.allFormats)
  func tilesChangeNoBit(_ seed: Int, _ device: TestDevice) throws {
    let graph = try RandomNetwork(seed: 300 + UInt64(seed), layerCount: 2 + seed % 6, batch: 5).graph
    var generator = Generator(UInt64(seed))
    let image = HostTensor(graph.type(of: graph.inputs[0]).shape, &generator).floats()
    let results = try [0, 16 << 10].map { cache in
      let plan = try Plan(graph, device: device.make(), options: .planning(forCache: cache, in: device.precision))
      try plan.write(image, to: plan.graph.inputs[0])
      // Twice: what one run leaves behind must not show in the next.
      try plan.run()
      try plan.run()
      return try plan.read(plan.graph.outputs[0])
    }
    let isTheSame = results[0] == results[1]
    #expect(isTheSame)
  }

  /// Early layers with large activations run few images at a time, late ones with large weights the whole batch.
  @Test func earlyLayersAreCutAndLateOnesAreNot() throws {
    var graph = Graph()
    var x = graph.addInput(TensorType([16, 64, 64, 16]), name: "image")
    for (inputs, outputs, stride) in [(16, 64, 1), (64, 64, 2), (64, 128, 2), (128, 256, 2), (256, 512, 2), (512, 512, 2)] {
      let w = graph.addConstant(HostTensor([outputs, inputs, 3, 3], Array(repeating: 0.01, count: outputs * inputs * 9)))
      x = try graph.add(Conv2D(stride: Pair(stride), padding: Padding2D(1)), [x, w])
    }
    graph.outputs = [x]
    var traits = try CPUDevice(threadCount: 1).traits
    traits.lastCacheByteCount = 8 << 20
    let segments = BatchTiling(graph, layouts: graph.rowLayouts(alignmentByteCount: 4, elementByteCount: 4), traits: traits, options: PlanOptions())
      .segments
    #expect(segments.first.map { $0.images <= 4 } == true && segments.last?.images == 16, "\(segments)")
    #expect(segments.flatMap(\.nodes) == Array(0..<graph.nodes.count))
    traits.lastCacheByteCount = 0
    let whole = BatchTiling(graph, layouts: graph.rowLayouts(alignmentByteCount: 4, elementByteCount: 4), traits: traits, options: PlanOptions())
      .segments
    #expect(whole.map(\.nodes) == [0..<6] && whole.map(\.images) == [16])
  }

  /// Values inside a segment take a tile's memory.
  @Test func memoryIsThatOfATile() throws {
    var graph = Graph()
    var x = graph.addInput(TensorType([64, 32, 32, 32]), name: "image")
    for _ in 0..<4 { x = try graph.add(Pool2D(.maximum, size: Pair(3), stride: Pair(1), padding: Padding2D(1)), [x]) }
    graph.outputs = [try graph.add(Reduce(.mean, axes: [1, 2], keepsDimensions: false), [x])]
    let device = try CPUDevice(threadCount: 1)
    let image = 32 * 32 * 32 * 4
    let plan = try Plan(graph, device: device, options: .planning(forCache: 16 * image))
    #expect(plan.arenaByteCount < 16 * image, "\(plan.arenaByteCount / image) images")
    #expect(try Plan(graph, device: device, options: .planning(forCache: 0)).arenaByteCount >= 128 * image)
  }

  /// Products with matrices that differ from image to image, made in ways that are not computed by the image: a constant, and part of
  /// a product's columns.
  @Test(arguments: TestDevices.all)
  func productsWithOtherMatricesForEachImage(_ device: TestDevice) throws {
    var generator = Generator(4), graph = Graph()
    let shape = [6, 96, 64]
    var x = graph.addInput(TensorType(shape), name: "x")
    x = try graph.add(Unary(.relu), [x])
    x = try graph.add(MatMul(), [x, graph.addConstant(HostTensor([6, 64, 64], &generator))])
    let pairs = try graph.add(MatMul(transposeB: true), [x, graph.addConstant(HostTensor([128, 64], &generator))])
    let parts = try [0, 64].map { start in
      try graph.add(Slice(starts: [0, 0, start], sizes: [6, 96, 64], steps: [1, 1, 1]), [pairs])
    }
    x = try graph.add(MatMul(transposeB: true), [x, parts[0]])
    graph.outputs = [try graph.add(MatMul(), [x, parts[1]])]
    let input = ReferenceTensor(shape, &generator)
    let expected = graph.reference([input])[0].values
    for cache in [0, 64 << 10] {
      let plan = try Plan(graph, device: device.make(), options: .planning(forCache: cache))
      try plan.write(input.tensor.floats(), to: plan.graph.inputs[0])
      try plan.run()
      #expect(largestError(try plan.read(plan.graph.outputs[0]), expected) < 1e-5 * expected.reduce(1) { max($0, abs($1)) }, "\(cache)")
    }
  }

  /// A slice of a concatenation whose images are not as long as the device's alignment wants, though its own would be.
  @Test(arguments: TestDevices.all)
  func slicesOfUnalignedConcatenations(_ device: TestDevice) throws {
    var generator = Generator(3), graph = Graph()
    let shape = [6, 95, 95, 32]
    let image = graph.addInput(TensorType(shape), name: "image")
    var x = image
    for _ in 0..<8 { x = try graph.add(Pool2D(.maximum, size: Pair(3), stride: Pair(1), padding: Padding2D(1)), [x]) }
    let parts = try [32, 1].map { outputs in
      try graph.add(Conv2D(), [x, graph.addConstant(HostTensor([outputs, 32, 1, 1], &generator))])
    }
    let joined = try graph.add(Concat(axis: 3), parts)
    graph.outputs = [try graph.add(Conv2D(stride: Pair(8)), [joined, graph.addConstant(HostTensor([32, 33, 3, 3], &generator))])]
    let options = PlanOptions.planning(forCache: 8 << 20)
    var traits = device.device.traits
    traits.lastCacheByteCount = 8 << 20
    let layouts = graph.rowLayouts(alignmentByteCount: traits.sliceAlignmentByteCount, elementByteCount: 4)
    #expect(BatchTiling(graph, layouts: layouts, traits: traits, options: options).segments.contains { $0.images < 6 }, "nothing is tiled")
    let values = HostTensor(shape, &generator).floats()
    let results = try [0, 8 << 20].map { cache in
      let plan = try Plan(graph, device: device.make(), options: .planning(forCache: cache))
      try plan.write(values, to: plan.graph.inputs[0])
      try plan.run()
      return try plan.read(plan.graph.outputs[0])
    }
    let isTheSame = results[0] == results[1]
    #expect(isTheSame)
  }
}
