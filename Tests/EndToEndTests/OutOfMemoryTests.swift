import Foundation
import Graft
import Testing

/// A device that runs out of memory: the batch is halved, and the rows are the same.
@Suite struct OutOfMemoryTests {
  /// A device that has no memory for large buffers, or none while a large batch runs.
  private final class SmallDevice: Device {
    let traits: DeviceTraits
    private let inner: any Device
    /// Bytes of the largest buffer it can make, and of the largest with which it can run.
    private let allocationLimit, runLimit: Int
    let status: (code: Int, name: String)

    init(
      allocationLimit: Int = .max, runLimit: Int = .max, status: (Int, String) = (-4, "CL_MEM_OBJECT_ALLOCATION_FAILURE"), saysSo: Bool = false
    ) throws {
      inner = try Devices.choose("cpu")
      var traits = inner.traits
      if saysSo { traits.maximumBufferByteCount = allocationLimit }
      self.traits = traits
      (self.allocationLimit, self.runLimit, self.status) = (allocationLimit, runLimit, status)
    }

    private func failure(_ call: String) -> DeviceError {
      DeviceError(device: "small", call: call, code: status.code, name: status.name, remedy: "Use a smaller --batch-size.")
    }

    func allocate(byteCount: Int) throws(DeviceError) -> any DeviceBuffer {
      guard byteCount <= allocationLimit else { throw failure("clCreateBuffer") }
      return try inner.allocate(byteCount: byteCount)
    }
    func write(_ source: UnsafeRawBufferPointer, to slice: BufferSlice) throws(DeviceError) {
      // The last write before a run is the batch.
      if source.count > runLimit { throw failure("clEnqueueNDRangeKernel(conv)") }
      try inner.write(source, to: slice)
    }
    func read(_ slice: BufferSlice, into destination: UnsafeMutableRawBufferPointer) throws(DeviceError) {
      try inner.read(slice, into: destination)
    }
    func prepare(_ launches: [Launch]) throws -> any PreparedLaunches { try inner.prepare(launches) }
    func finish() throws(DeviceError) { try inner.finish() }
  }

  private let model = Fixture.path("tiny.onnx")

  private func backbone(on device: any Device, batchSize: Int, memoryLimit: Int? = nil) throws -> FrozenBackbone {
    try FrozenBackbone(
      Backbone(path: model), cut: nil, preprocessing: Preprocessing.read(beside: model), batchSize: batchSize, device: device,
      options: PlanOptions(memoryLimit: memoryLimit))
  }

  private func rows(_ frozen: FrozenBackbone, count: Int) throws -> [UInt32] {
    let imageByteCount = try Preprocessing.read(beside: model).byteCount
    var generator = Generator(4)
    let bytes = (0..<count * imageByteCount).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
    var rows = [Float](repeating: -1, count: count * frozen.featureShape.reduce(1, *))
    try bytes.withUnsafeBytes { bytes in try rows.withUnsafeMutableBufferPointer { try frozen.features(ofBatch: bytes, count: count, into: $0) } }
    return rows.map(\.bitPattern)
  }

  /// Memory that only comes in small buffers is memory all the same.
  @Test func activationsMayLieInSeveralBuffers() throws {
    let whole = try rows(backbone(on: Devices.choose("cpu"), batchSize: 16), count: 16)
    let imageByteCount = try Preprocessing.read(beside: model).byteCount
    var (isSplit, isRefused) = (false, false)
    for limit in [24, 12, 6, 3].map({ $0 * 16 * imageByteCount / 4 }) {
      do {
        let frozen = try backbone(on: SmallDevice(allocationLimit: limit, saysSo: true), batchSize: 16)
        #expect(try rows(frozen, count: 16) == whole)
        isSplit = isSplit || frozen.batchSize == 16
        isRefused = isRefused || frozen.batchSize < 16
      } catch is PlanMemoryError {
        isRefused = true
      }
    }
    #expect(isSplit && isRefused)
  }

  @Test(arguments: [(-4, "CL_MEM_OBJECT_ALLOCATION_FAILURE"), (-5, "CL_OUT_OF_RESOURCES"), (-6, "CL_OUT_OF_HOST_MEMORY")])
  func theBatchIsHalved(_ status: (Int, String)) throws {
    let whole = try rows(backbone(on: Devices.choose("cpu"), batchSize: 16), count: 16)
    let imageByteCount = try Preprocessing.read(beside: model).byteCount
    // While buffers are made: known before the first batch.
    let plain = try backbone(on: Devices.choose("cpu"), batchSize: 16)
    #expect(plain.batchSize == 16 && plain.deviceBatchSize == 16)
    // The least of these limits that a batch fits at all.
    let limits = (0..<12).lazy.map { imageByteCount << $0 }
    let early = try #require(limits.compactMap { try? backbone(on: SmallDevice(allocationLimit: $0, status: status), batchSize: 16) }.first)
    #expect(early.batchSize < 16 && early.batchSize >= 1 && early.deviceBatchSize == early.batchSize)
    #expect(try rows(early, count: early.batchSize) == Array(whole.prefix(early.batchSize * early.featureShape.reduce(1, *))))
    // While a batch runs: callers go on giving whole batches.
    let late = try backbone(on: SmallDevice(runLimit: 5 * imageByteCount, status: status), batchSize: 16)
    #expect(late.batchSize == 16 && late.deviceBatchSize == 16)
    #expect(try rows(late, count: 16) == whole)
    #expect(late.batchSize == 16 && late.deviceBatchSize == 4)
    #expect(try rows(late, count: 7) == Array(whole.prefix(7 * late.featureShape.reduce(1, *))))
  }

  private static let openCL = (try? OpenCLPlatform.devices().first { $0.obstacle == nil }) ?? nil

  /// OpenCL's calls fail while batches are under way: what had been begun is begun again.
  @Test(
    .enabled(if: openCL != nil, "no OpenCL device: install pocl-opencl-icd"),
    arguments: ["clEnqueueNDRangeKernel", "clEnqueueWriteBuffer", "clEnqueueReadBuffer", "clWaitForEvents"], [0, 1, 3])
  func whatWasUnderWayIsBegunAgain(_ call: String, after passing: Int) throws {
    let failures = CallFailures(), info = try #require(Self.openCL)
    func device() throws -> OpenCLDevice {
      try OpenCLDevice(info, sources: .embedded, cache: ProgramCache(directory: nil), failures: failures)
    }
    func batches(_ frozen: FrozenBackbone) throws -> [UInt32] { try (0..<4).flatMap { _ in try rows(frozen, count: 16) } }
    let expected = try batches(backbone(on: device(), batchSize: 16))
    let frozen = try backbone(on: device(), batchSize: 16)
    _ = try rows(frozen, count: 16)
    failures.fail(call, status: -4, after: passing, times: 2)
    #expect(try batches(frozen) == expected)
    #expect(frozen.deviceBatchSize < 16, "nothing failed")
    failures.fail(call, status: -36)
    let error = #expect(throws: DeviceError.self) { try batches(frozen) }
    #expect(error?.isLost == true && error?.name == "CL_INVALID_COMMAND_QUEUE")
  }

  @Test func oneImageThatDoesNotFitIsTheError() throws {
    let error = #expect(throws: DeviceError.self) { try rows(backbone(on: SmallDevice(runLimit: 100), batchSize: 8), count: 8) }
    #expect(error?.isOutOfMemory == true)
    #expect(throws: DeviceError.self) { try backbone(on: SmallDevice(allocationLimit: 0), batchSize: 8) }
    #expect(throws: PlanMemoryError.self) { try backbone(on: Devices.choose("cpu"), batchSize: 8, memoryLimit: 1000) }
    // What is not about memory is no reason to try again.
    let imageByteCount = try Preprocessing.read(beside: model).byteCount
    let lost = try backbone(on: SmallDevice(runLimit: 5 * imageByteCount, status: (-2, "CL_DEVICE_NOT_AVAILABLE")), batchSize: 8)
    let other = #expect(throws: DeviceError.self) { try rows(lost, count: 8) }
    #expect(other?.isLost == true && lost.deviceBatchSize == 8)
  }

  /// The command: a limit between one image's memory and a batch's.
  @Test(arguments: ["extract", "predict"]) func theCommandSaysSo(_ command: String) throws {
    let folder = try TemporaryFolder()
    try Photos.write(to: folder["photos"], count: 6)
    let extract = ["extract", "--backbone", model, "--data", folder["photos"], "--device", "cpu"]
    let whole = try GraftProcess(extract + ["--output", folder["whole"]], folder: folder).wait()
    #expect(whole.status == 0 && !whole.messages.contains("halved"))
    let limit = ["--memory-limit", "100K"]
    if command == "extract" {
      let small = try GraftProcess(extract + limit + ["--output", folder["small"]], folder: folder).wait()
      #expect(small.status == 0, "\(small.messages)")
      #expect(small.messages.contains("a batch of 16 does not fit, so it is halved to 8"), "\(small.messages)")
      func shard(_ store: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: folder["\(store)/shards/000000.npy"])) }
      #expect(try shard("small") == shard("whole"))
      let none = try GraftProcess(extract + ["--memory-limit", "1K", "--output", folder["none"]], folder: folder).wait()
      #expect(none.status == 65 && none.messages.contains("halved to 1 ") && none.messages.contains("can be had"), "\(none.messages)")
      let wrong = try GraftProcess(extract + ["--memory-limit", "9999999999G", "--output", folder["none"]], folder: folder).wait()
      #expect(wrong.status == 64 && wrong.messages.contains("--memory-limit"))
    } else {
      let head = folder["head.safetensors"]
      #expect(try GraftProcess(["train", folder["whole"], "--output", head, "--device", "cpu"], folder: folder).wait().status == 0)
      let names = try FileManager.default.contentsOfDirectory(atPath: folder["photos/grass"]).sorted().map { folder["photos/grass/\($0)"] }
      let predict = ["predict", head] + names + ["--device", "cpu", "--json", "--backbone", model]
      let plain = try GraftProcess(predict, folder: folder).wait(),
        small = try GraftProcess(predict + ["--memory-limit", "50K"], folder: folder).wait()
      #expect(plain.status == 0 && small.status == 0 && plain.output == small.output, "\(small.messages)")
      #expect(small.messages.contains("halved"), "\(small.messages)")
    }
  }
}
