import Foundation
import Graft
import Synchronization
import Testing

/// One extraction on several devices, and batches under way on one.
@Suite struct SeveralDevicesTests {
  /// A CPU that fails after some batches, or when its memory is asked for, and counts what it computed.
  private final class FrailDevice: Device {
    let traits: DeviceTraits
    private let inner: any Device
    private let batches: Mutex<Int>
    private let error: DeviceError
    private let imageByteCount: Int
    private let refusesMemory: Bool

    init(_ name: String, lastingBatches: Int = .max, code: (Int, String) = (-36, "CL_INVALID_COMMAND_QUEUE"), refusesMemory: Bool = false) throws {
      inner = try Devices.choose("cpu", threadCount: 1)
      var traits = inner.traits
      traits.identifier = name
      (self.traits, self.refusesMemory) = (traits, refusesMemory)
      batches = Mutex(lastingBatches)
      imageByteCount = try Preprocessing.read(beside: Fixture.path("tiny.onnx")).byteCount
      error = DeviceError(device: name, call: "clWaitForEvents", code: code.0, name: code.1, remedy: "The device stopped.")
    }
    func allocate(byteCount: Int) throws(DeviceError) -> any DeviceBuffer {
      if refusesMemory { throw error }
      return try inner.allocate(byteCount: byteCount)
    }
    func write(_ source: UnsafeRawBufferPointer, to slice: BufferSlice) throws(DeviceError) {
      // Only batches of bytes are as large as whole images.
      if source.count % imageByteCount == 0, slice.byteCount == 4 * imageByteCount {
        let isOver = batches.withLock { left in
          left -= 1
          return left < 0
        }
        if isOver { throw error }
      }
      try inner.write(source, to: slice)
    }
    func read(_ slice: BufferSlice, into destination: UnsafeMutableRawBufferPointer) throws(DeviceError) {
      try inner.read(slice, into: destination)
    }
    func prepare(_ launches: [Launch]) throws -> any PreparedLaunches { try inner.prepare(launches) }
    func finish() throws(DeviceError) { try inner.finish() }
  }

  private let model = Fixture.path("tiny.onnx")
  private func preprocessing() throws -> Preprocessing { try Preprocessing.read(beside: model) }

  private func group(_ devices: [any Device]) throws -> FrozenBackboneGroup {
    try FrozenBackboneGroup(Backbone(path: model), cut: nil, preprocessing: preprocessing(), batchSize: 4, devices: devices)
  }

  /// Rows of batches that are under way as deep as can be, as bits.
  private func rows(_ compute: any FeatureComputing, counts: [Int], seed: UInt64 = 3) throws -> [UInt32] {
    let imageByteCount = try preprocessing().byteCount, width = compute.featureShape.reduce(1, *)
    var generator = Generator(seed)
    let batches = counts.map { count in
      let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: count * imageByteCount, alignment: 1)
      bytes.indices.forEach { bytes[$0] = UInt8(truncatingIfNeeded: generator.next()) }
      let rows = UnsafeMutableBufferPointer<Float>.allocate(capacity: count * width)
      rows.initialize(repeating: .nan)
      return (count: count, bytes: bytes, rows: rows)
    }
    defer {
      compute.abandon()
      for batch in batches {
        batch.bytes.deallocate()
        batch.rows.deallocate()
      }
    }
    var finished = 0
    for (index, batch) in batches.enumerated() {
      if index - finished == compute.depth {
        try compute.finishFirst()
        finished += 1
      }
      try compute.begin(UnsafeRawBufferPointer(batch.bytes), count: batch.count, into: batch.rows)
    }
    while finished < batches.count {
      try compute.finishFirst()
      finished += 1
      // What has ended first is complete, whoever computed it.
      #expect(batches[finished - 1].rows.allSatisfy { $0.isFinite })
    }
    return batches.flatMap { $0.rows.map(\.bitPattern) }
  }

  private let counts = [4, 4, 1, 4, 3, 4, 4, 4, 2, 4, 4, 4]

  private func reference() throws -> [UInt32] {
    let frozen = try FrozenBackbone(
      Backbone(path: model), cut: nil, preprocessing: preprocessing(), batchSize: 4, device: Devices.choose("cpu", threadCount: 1))
    return try rows(frozen, counts: counts)
  }

  @Test(arguments: [1, 2, 3]) func rowsDoNotShowHowManyDevicesThereAre(deviceCount: Int) throws {
    let frozen = try group((0..<deviceCount).map { try FrailDevice("device \($0)") })
    #expect(try rows(frozen, counts: counts) == reference())
    #expect(frozen.usage.map(\.images).reduce(0, +) == counts.reduce(0, +) && frozen.usage.allSatisfy { $0.failure == nil })
  }

  @Test(arguments: [0, 1, 4]) func aDevicesWorkGoesToTheOthers(lasting: Int) throws {
    let frozen = try group([FrailDevice("frail", lastingBatches: lasting), FrailDevice("sound")])
    let expected = try reference()
    // Again and again, until the frail one has had more than it stands.
    for _ in 0..<50 where frozen.usage[0].failure == nil { #expect(try rows(frozen, counts: counts) == expected) }
    #expect(frozen.usage[0].failure?.contains("clWaitForEvents failed with CL_INVALID_COMMAND_QUEUE") == true)
    #expect(frozen.usage[0].batches == lasting && frozen.usage[1].failure == nil)
    #expect(try rows(frozen, counts: counts) == expected)
  }

  @Test func onlyTheLastFailureIsTheError() throws {
    let frozen = try group([FrailDevice("one", lastingBatches: 2), FrailDevice("two", lastingBatches: 3)])
    let error = #expect(throws: DeviceError.self) { for _ in 0..<10 { _ = try rows(frozen, counts: counts) } }
    #expect(error?.isLost == true && frozen.usage.allSatisfy { $0.failure != nil })
    #expect(throws: DeviceError.self) { try rows(frozen, counts: [1]) }
  }

  @Test func aDeviceWithoutMemoryIsLeftOut() throws {
    let none = try FrailDevice("none", code: (-4, "CL_MEM_OBJECT_ALLOCATION_FAILURE"), refusesMemory: true)
    let frozen = try group([none, FrailDevice("sound")])
    #expect(try rows(frozen, counts: counts) == reference())
    #expect(throws: DeviceError.self) { try group([none, none]) }
  }

  /// What is wrong with the model is no device's failure.
  @Test func aModelThatCannotBeUsedIsTheErrorAtOnce() throws {
    let devices = try [FrailDevice("one"), FrailDevice("two")]
    #expect(throws: ImportError.self) {
      try FrozenBackboneGroup(Backbone(path: model), cut: "nowhere", preprocessing: preprocessing(), batchSize: 4, devices: devices)
    }
  }

  /// Leaving with batches under way frees nothing that a device still writes to.
  @Test func anAbandonedGroupEnds() throws {
    for round in 0..<5 {
      let frozen = try group([FrailDevice("one"), FrailDevice("two")])
      let bytes = [UInt8](repeating: 1, count: 4 * (try preprocessing().byteCount))
      let rows = UnsafeMutableBufferPointer<Float>.allocate(capacity: 4 * frozen.featureShape.reduce(1, *))
      try bytes.withUnsafeBytes { bytes in
        for _ in 0..<frozen.depth { try frozen.begin(bytes, count: 4, into: rows) }
        if round > 0 { frozen.abandon() }
      }
      frozen.abandon()
      rows.deallocate()
    }
  }

  // MARK: OpenCL

  private static let openCL = (try? OpenCLPlatform.devices().filter { $0.obstacle == nil }) ?? []

  /// Streamed batches beside the plain way: write, run, read.
  @Test(.enabled(if: !openCL.isEmpty, "no OpenCL device: install pocl-opencl-icd"), arguments: KernelFamily.allCases)
  func streamedRowsAreThoseOfAPlainRun(_ family: KernelFamily) throws {
    let device = try OpenCLDevice(Self.openCL[0], family: family)
    let backbone = try Backbone(path: model), preprocessing = try preprocessing()
    let whole = try backbone.graph(inputShape: [4, 3, preprocessing.height, preprocessing.width])
    let cut = try #require(whole.defaultCut())
    let plan = try Plan(whole.frozen(at: cut).takingImageBytes(scale: preprocessing.scale, shift: preprocessing.shift), device: device)
    var expected: [UInt32] = []
    var generator = Generator(3)
    for count in counts {
      var bytes = (0..<count * preprocessing.byteCount).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
      bytes += [UInt8](repeating: 0, count: (4 - count) * preprocessing.byteCount)
      try bytes.withUnsafeBytes { try plan.write($0, to: plan.graph.inputs[0]) }
      try plan.run()
      let features = try plan.read(plan.graph.outputs[0])
      expected += features[..<(features.count / 4 * count)].map(\.bitPattern)
    }
    let frozen = try FrozenBackbone(backbone, cut: nil, preprocessing: preprocessing, batchSize: 4, device: device)
    #expect(frozen.depth == 2)
    #expect(try rows(frozen, counts: counts) == expected)
    #expect(frozen.usage.batches == counts.count && frozen.usage.hostWaits <= counts.count, "\(frozen.usage)")
    // Two contexts on one device are two devices.
    let both = try group([device, OpenCLDevice(Self.openCL[0], family: family)])
    #expect(try rows(both, counts: counts) == expected)
    #expect(both.usage.map(\.hostWaits).reduce(0, +) <= counts.count, "\(both.usage)")
  }

  /// Two devices of PoCL's, as a user has them, and a kill in between.
  @Test(.enabled(if: openCL.contains { $0.platformName == "Portable Computing Language" }, "no PoCL: install pocl-opencl-icd"))
  func theCommandsStoreDoesNotShowHowManyDevicesThereWere() throws {
    let folder = try TemporaryFolder()
    try Photos.write(to: folder["photos"], count: 40)
    let environment = ["POCL_DEVICES": "pthread pthread"]
    func arguments(_ store: String, _ devices: String) -> [String] {
      [
        "extract", "--backbone", model, "--data", folder["photos"], "--output", folder[store], "--batch-size", "4", "--shard-rows", "16", "--json",
        "--device", devices,
      ]
    }
    func extract(_ store: String, _ devices: String) throws -> [String: Any] {
      let outcome = try GraftProcess(arguments(store, devices), folder: folder, environment: environment).wait()
      #expect(outcome.status == 0, "\(outcome.messages)")
      return try outcome.json()
    }
    func shards(_ store: String) throws -> [String: Data] {
      var found: [String: Data] = [:]
      for name in try FileManager.default.contentsOfDirectory(atPath: folder["\(store)/shards"]) {
        found[name] = try Data(contentsOf: URL(fileURLWithPath: folder["\(store)/shards/\(name)"]))
      }
      return found
    }
    let one = try extract("one", "opencl:0")
    let both = try extract("both", "opencl:0,opencl:1")
    #expect(one["extracted"] as? Int == 120 && both["extracted"] as? Int == 120)
    let devices = try #require(both["devices"] as? [[String: Any]])
    #expect(devices.compactMap { $0["device"] as? String } == ["opencl:0", "opencl:1"])
    #expect(devices.compactMap { $0["images"] as? Int }.reduce(0, +) == 120)
    let batches = 120 / 4
    #expect(devices.compactMap { $0["host_waits"] as? Int }.reduce(0, +) <= batches)
    let expected = try shards("one")
    #expect(expected.count == 8)
    #expect(try shards("both") == expected)

    // Killed with two, ended with one, and the other way round.
    for (first, second) in [("opencl:0,opencl:1", "opencl:1"), ("opencl:1", "opencl:1,opencl:0")] {
      let store = "killed \(second)"
      let run = try GraftProcess(arguments(store, first), folder: folder, environment: environment)
      while run.process.isRunning, !FileManager.default.fileExists(atPath: folder["\(store)/shards/000001.npy"]) { usleep(200) }
      kill(run.process.processIdentifier, SIGKILL)
      run.process.waitUntilExit()
      let rest = try extract(store, second)
      #expect((rest["extracted"] as? Int ?? -1) + (rest["reused"] as? Int ?? -1) == 120)
      let found = try shards(store)
      #expect(found.values.map(\.count).sorted() == expected.values.map(\.count).sorted() && found == expected)
    }
    for (devices, reason) in [
      ("opencl:0,opencl:0", "the same device twice"), ("opencl:0,opencl:7", "no OpenCL device of that index"), ("opencl:0,", "a name is missing"),
      ("all-gpus", "there is no GPU"),
    ] {
      let outcome = try GraftProcess(arguments("none", devices), folder: folder, environment: environment).wait()
      #expect(outcome.status == 64 && outcome.messages.contains(reason), "\(outcome.messages)")
    }
    let other = try GraftProcess.run("bench", model, "--device", "opencl:0,opencl:1", in: folder, environment: environment)
    #expect(other.status == 64 && other.messages.contains("'graft extract' takes several"), "\(other.messages)")
  }
}
