import GraftDevice
import GraftGraph
import Synchronization
import Testing

/// A plan says what memory it needs before it takes any.
@Suite struct PlanMemoryTests {
  /// The CPU, counting what is allocated.
  private final class CountingDevice: Device {
    let base: CPUDevice
    let traits: DeviceTraits
    private let counted = Mutex([Int]())
    var allocations: [Int] { counted.withLock { $0 } }

    init(memoryByteCount: Int? = nil) throws {
      base = try CPUDevice(threadCount: 1)
      var traits = base.traits
      if let memoryByteCount { traits.memoryByteCount = memoryByteCount }
      self.traits = traits
    }

    func allocate(byteCount: Int) throws(DeviceError) -> any DeviceBuffer {
      counted.withLock { $0.append(byteCount) }
      return try base.allocate(byteCount: byteCount)
    }
    func write(_ source: UnsafeRawBufferPointer, to slice: BufferSlice) throws(DeviceError) { try base.write(source, to: slice) }
    func read(_ slice: BufferSlice, into destination: UnsafeMutableRawBufferPointer) throws(DeviceError) { try base.read(slice, into: destination) }
    func prepare(_ launches: [Launch]) throws -> any PreparedLaunches { try base.prepare(launches) }
    func finish() throws(DeviceError) { try base.finish() }
  }

  /// Two products of [64, 300] by [300, 200] and [200, 100].
  private func network() throws -> Graph {
    var graph = Graph()
    var x = graph.addInput(TensorType([64, 300]), name: "x")
    for (k, n) in [(300, 200), (200, 100)] {
      x = try graph.add(MatMul(), [x, graph.addConstant(HostTensor([k, n], Array(repeating: 0.5, count: k * n)))], name: "product \(n)")
    }
    graph.outputs = [x]
    return graph
  }

  @Test func saysWhatItTakes() throws {
    let device = try CountingDevice()
    let plan = try Plan(network(), device: device)
    let memory = plan.memory
    #expect(memory.inputs == 64 * 300 * 4)
    #expect(memory.activations >= 64 * 300 * 4 && memory.activations == plan.arenaByteCount)
    #expect(memory.weights >= (300 * 200 + 200 * 100) * 4 && memory.weights + memory.inputs == plan.keptByteCount)
    #expect(memory.preparation == 300 * 200 * 4)
    // Weights go to the device one at a time to be packed: no two of them at once.
    #expect(device.allocations.reduce(0, +) == memory.byteCount + 200 * 100 * 4)
  }

  @Test func refusesBeforeItAllocates() throws {
    let needed = try Plan(network(), device: CPUDevice(threadCount: 1)).memory.byteCount
    let small = try CountingDevice(memoryByteCount: needed - 1)
    let error = #expect(throws: PlanMemoryError.self) { try Plan(network(), device: small) }
    #expect(error?.neededByteCount == needed && error?.availableByteCount == needed - 1)
    #expect(small.allocations.isEmpty)
    let limited = try CountingDevice()
    #expect(throws: PlanMemoryError.self) { try Plan(network(), device: limited, options: PlanOptions(memoryLimit: needed - 1)) }
    #expect(limited.allocations.isEmpty)
    _ = try Plan(network(), device: limited, options: PlanOptions(memoryLimit: needed))
    let named = error?.naming(file: "model.onnx").description ?? ""
    #expect(named.hasPrefix("model.onnx: ") && named.contains(ByteText.of(needed)) && named.contains("--batch-size"), "\(named)")
  }

  /// Extents whose bytes, or whose product, are beyond any memory.
  @Test(arguments: [[1 << 16, 1 << 16], [1 << 20, 1 << 20], [1 << 31, 1], [0, 1 << 20, 1 << 20]]) func refusesValuesBeyondCounting(_ shape: [Int])
    throws
  {
    var graph = Graph()
    let x = graph.addInput(TensorType(shape.map { $0 == 0 ? 0 : 1 }), name: "x")
    graph.outputs = [try graph.add(Expand(shape), [x], name: "vast")]
    graph.rename(graph.outputs[0], "vast")
    let device = try CountingDevice()
    let error = #expect(throws: PlanMemoryError.self) { try Plan(graph, device: device) }
    #expect(error?.description.contains("'vast'") == true && error?.description.contains("memory") == true)
    #expect(device.allocations.isEmpty)
  }

  /// Each node makes its input four times as large: no more of them than fits is computed when the plan is made.
  @Test func constantsThatGrowAreLeftToTheDevice() throws {
    var graph = Graph()
    var x = graph.addConstant(HostTensor([1, 1 << 16], Array(repeating: 1, count: 1 << 16)))
    for _ in 0..<12 { x = try graph.add(Concat(axis: 0), [x, x, x, x]) }
    let input = graph.addInput(TensorType([1]), name: "x")
    graph.outputs = [try graph.add(Binary(.add), [input, try graph.add(Reduce(.sum, axes: [0, 1], keepsDimensions: false), [x])])]
    let folded = try graph.foldingConstants()
    let elementCount = folded.values.indices.reduce(0) { $0 + (folded.constant(ValueID($1))?.elementCount ?? 0) }
    #expect(elementCount <= 1 << 21)
    let device = try CountingDevice()
    #expect(throws: PlanMemoryError.self) { try Plan(graph, device: device) }
    #expect(device.allocations.isEmpty)
  }
}
