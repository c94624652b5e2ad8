import GraftDevice
import GraftGraph
import OperationSamples
import Testing

/// The memory plan, and what a run may touch.
@Suite struct PlanTests {
  @Test(arguments: 0..<200)
  func blocksInUseNeverOverlap(_ seed: Int) {
    var generator = Generator(UInt64(seed))
    let blocks = (0..<Int.random(in: 1...60, using: &generator)).map { _ in
      let first = Int.random(in: 0..<40, using: &generator)
      // Many of one size, as in networks; some tiny, some none at all.
      let byteCount = [0, 4, 1024, 4096, 4096, Int.random(in: 1...100_000, using: &generator)].randomElement(using: &generator)!
      return Lifetime(byteCount: byteCount, first: first, last: first + Int.random(in: 0...8, using: &generator))
    }
    let plan = MemoryPlan(blocks)
    for (i, a) in blocks.enumerated() {
      #expect(plan.offsets[i] % MemoryPlan.alignment == 0 && plan.offsets[i] + a.byteCount <= plan.byteCount)
      for (j, b) in blocks.enumerated() where i < j && a.first <= b.last && b.first <= a.last {
        let apart = plan.offsets[i] + a.byteCount <= plan.offsets[j] || plan.offsets[j] + b.byteCount <= plan.offsets[i]
        #expect(apart, "blocks \(i) \(a) and \(j) \(b) lie at \(plan.offsets[i]) and \(plan.offsets[j])")
      }
    }
  }

  /// Where buffers are small, what fits one lies in one.
  @Test(arguments: 0..<100)
  func noBlockLiesAcrossTheEndOfABuffer(_ seed: Int) {
    var generator = Generator(UInt64(seed))
    let blocks = (0..<Int.random(in: 1...60, using: &generator)).map { _ in
      let first = Int.random(in: 0..<40, using: &generator)
      let byteCount = [0, 4, 4096, Int.random(in: 1...100_000, using: &generator), 200_000].randomElement(using: &generator)!
      return Lifetime(byteCount: byteCount, first: first, last: first + Int.random(in: 0...8, using: &generator))
    }
    let plan = MemoryPlan(blocks, largestBuffer: 150_000), segment = plan.segmentByteCount
    #expect(segment <= 150_000 && segment % MemoryPlan.alignment == 0)
    for (i, a) in blocks.enumerated() {
      #expect(a.byteCount > segment || plan.offsets[i] % segment + a.byteCount <= segment)
      for (j, b) in blocks.enumerated() where i < j && a.first <= b.last && b.first <= a.last {
        #expect(plan.offsets[i] + a.byteCount <= plan.offsets[j] || plan.offsets[j] + b.byteCount <= plan.offsets[i])
      }
    }
    #expect(MemoryPlan(blocks, largestBuffer: 1 << 40).offsets == MemoryPlan(blocks).offsets)
  }

  /// A chain needs the memory of two values, however long it is.
  @Test func aChainTakesTwoBlocks() {
    let blocks = (0..<50).map { Lifetime(byteCount: 1 << 20, first: $0, last: $0 + 1) }
    #expect(MemoryPlan(blocks).byteCount == 2 << 20)
  }

  /// Results lie side by side in the arena: an operation that writes past its own end, or into its input, changes a guard.
  @Test(arguments: OperationSamples.all.filter { !($0.operation is BatchNorm) }, TestDevices.allFormats)
  func neighboursStayUnchanged(_ sample: OperationSample, _ device: TestDevice) throws {
    let tensors = sample.draw(seed: 5, precision: device.precision)
    var graph = Graph()
    let inputs = zip(sample.inputs, tensors).enumerated().map { index, pair in
      // Weights as constants, so that packed ones are run as well.
      if sample.operation.mutatedInputs.contains(index) { return graph.addVariable(pair.0, name: "variable \(index)") }
      return index == 0 || index.isMultiple(of: 2)
        ? graph.addInput(pair.0, name: "input \(index)") : graph.addConstant(pair.1, name: "constant \(index)")
    }
    let type = try sample.operation.outputType(sample.inputs)
    let guardInput = graph.addInput(TensorType(type.shape), name: "guard")
    let before = try graph.add(Unary(.negate), [guardInput])
    let result = try graph.add(any: sample.operation, inputs, name: "node")
    let after = try graph.add(Unary(.absolute), [guardInput])
    graph.outputs = [before, result, after]
    let plan = try Plan(graph, device: device.make(), options: .asWritten(in: device.precision))
    var generator = Generator(8)
    let guards = HostTensor(type.shape, &generator).floats().map(device.precision.rounded)
    var written: [(ValueID, [UInt8])] = []
    for (index, id) in inputs.enumerated() where plan.graph.inputs.contains(id) {
      try tensors[index].withUnsafeBytes { bytes in
        try plan.write(bytes, to: id)
        if !sample.operation.mutatedInputs.contains(index) { written.append((id, Array(bytes))) }
      }
    }
    try plan.write(guards, to: guardInput)
    try plan.run()
    #expect(try plan.read(before) == guards.map { -$0 })
    #expect(try plan.read(after) == guards.map(abs))
    #expect(try plan.read(guardInput) == guards)
    for (id, bytes) in written {
      var found = [UInt8](repeating: 0, count: bytes.count)
      try found.withUnsafeMutableBytes { try plan.read(id, into: $0) }
      #expect(found == bytes, "\(plan.graph[id].name) changed")
    }
  }

  @Test func wrongByteCountsAreRefused() throws {
    var graph = Graph()
    let x = graph.addInput(TensorType([2, 3]), name: "x")
    graph.outputs = [try graph.add(Unary(.relu), [x])]
    let plan = try Plan(graph, device: TestDevices.native[0].make())
    #expect(throws: ShapeError.self) { try plan.write([1, 2, 3], to: plan.graph.inputs[0]) }
    #expect(throws: ShapeError.self) {
      var bytes = [UInt8](repeating: 0, count: 4)
      try bytes.withUnsafeMutableBytes { try plan.read(plan.graph.outputs[0], into: $0) }
    }
  }

  @Test func moreThanADeviceHoldsIsAnError() throws {
    var graph = Graph()
    let x = graph.addInput(TensorType([1, 1]), name: "x")
    graph.outputs = [try graph.add(Expand([1 << 20, 1 << 15]), [x])]
    let error = #expect(throws: PlanMemoryError.self) { try Plan(graph, device: TestDevices.native[0].make()) }
    #expect(error?.description.contains("--batch-size") == true)
  }
}
