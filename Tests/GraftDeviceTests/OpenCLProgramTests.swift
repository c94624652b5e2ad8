import Foundation
import GraftDevice
import Testing

@Suite(.needsOpenCL) struct OpenCLProgramTests {
  /// Builds the test kernel with a cache in `directory`, runs it, and says how the program came to be.
  private func run(cache: ProgramCache, options: [KernelReference.Option] = []) throws -> ProgramStatistics {
    let device = try OpenCLSupport.device(TestKernel.sources, cache: cache)
    let y = try device.upload([Float](repeating: 2, count: 8))
    let kernel = KernelReference(.cpu, file: "test_accumulate", function: "accumulate", options: options)
    let parameters = Launch.bytes(of: TestParameters(count: 8, factor: 5))
    try device.run([Launch(kernel, buffers: [BufferSlice(y), BufferSlice(y)], parameters: parameters, grid: Grid(8), label: "cached")])
    #expect(try device.download(BufferSlice(y), as: Float(0)) == [Float](repeating: 12, count: 8))
    var statistics = device.programStatistics
    #expect(statistics.seconds > 0)
    statistics.seconds = 0
    return statistics
  }

  private func entries(_ directory: URL) throws -> [URL] {
    try FileManager.default.contentsOfDirectory(at: directory, includingPropertiesForKeys: nil)
  }

  @Test func aSecondDeviceTakesTheProgramFromDisk() throws {
    try OpenCLSupport.withTemporaryDirectory { (directory) throws in
      let inner = directory.appendingPathComponent("made/when/needed", isDirectory: true)
      #expect(try run(cache: ProgramCache(directory: inner)) == ProgramStatistics(compiled: 1))
      #expect(try run(cache: ProgramCache(directory: inner)) == ProgramStatistics(loaded: 1))
      #expect(try run(cache: ProgramCache(directory: inner), options: [.init("TILE", 3)]) == ProgramStatistics(compiled: 1))
      #expect(try entries(inner).count == 2)
      #expect(try entries(inner).allSatisfy { $0.pathExtension == "bin" }, "no temporary file stays")
    }
  }

  @Test func damagedEntriesAreRebuilt() throws {
    try OpenCLSupport.withTemporaryDirectory { directory in
      #expect(try run(cache: ProgramCache(directory: directory)) == ProgramStatistics(compiled: 1))
      let entry = try #require(try entries(directory).first)
      let whole = try Data(contentsOf: entry)
      var flipped: [Data] = []
      for position in [0, 8, 15, 20, 60, whole.count - 1] {
        var copy = whole
        copy[position] ^= 0x10
        flipped.append(copy)
      }
      let damaged = flipped + [Data(), whole.prefix(5), whole.prefix(48), whole.dropLast(), whole + [0], Data(repeating: 0xFF, count: 4000)]
      for (index, data) in damaged.enumerated() {
        try data.write(to: entry)
        #expect(try run(cache: ProgramCache(directory: directory)) == ProgramStatistics(compiled: 1), "damage \(index)")
        #expect(try run(cache: ProgramCache(directory: directory)) == ProgramStatistics(loaded: 1), "damage \(index), repaired")
      }
    }
  }

  @Test func aBinaryTheDriverRefusesIsRebuiltFromSource() throws {
    try OpenCLSupport.withTemporaryDirectory { directory in
      let cache = ProgramCache(directory: directory)
      #expect(try run(cache: cache) == ProgramStatistics(compiled: 1))
      let key = try #require(try entries(directory).first).deletingPathExtension().lastPathComponent
      // Whole and with the right checksum, but nothing a driver ever wrote.
      cache.store(Array("not a program of any driver".utf8), under: key)
      #expect(try run(cache: ProgramCache(directory: directory)) == ProgramStatistics(compiled: 1, refused: 1))
      #expect(try run(cache: ProgramCache(directory: directory)) == ProgramStatistics(loaded: 1))
    }
  }

  @Test func anUnusableDirectoryCostsTheCacheOnly() throws {
    try OpenCLSupport.withTemporaryDirectory { directory in
      // A file in the way stops even a user whom permissions do not.
      let file = directory.appendingPathComponent("file")
      try Data("in the way".utf8).write(to: file)
      let cache = ProgramCache(directory: file.appendingPathComponent("programs", isDirectory: true))
      #expect(try run(cache: cache) == ProgramStatistics(compiled: 1))
      #expect(try run(cache: cache) == ProgramStatistics(compiled: 1))
      #expect(try Data(contentsOf: file) == Data("in the way".utf8))
    }
  }

  @Test func anEntryThatCannotBeWrittenCostsTheCacheOnly() throws {
    try OpenCLSupport.withTemporaryDirectory { directory in
      let cache = ProgramCache(directory: directory)
      cache.store([1], under: "first")
      try FileManager.default.removeItem(at: directory)
      cache.store([2], under: "second")
      cache.store([3], under: "third")
      #expect(cache.load("first") == nil && cache.load("second") == nil)
    }
  }

  @Test func whatAKilledProcessLeftGoes() throws {
    try OpenCLSupport.withTemporaryDirectory { directory in
      let (old, new) = (directory.appendingPathComponent("a.bin.1.tmp"), directory.appendingPathComponent("b.bin.2.tmp"))
      for file in [old, new] { try Data([1]).write(to: file) }
      try FileManager.default.setAttributes([.modificationDate: Date(timeIntervalSinceNow: -7200)], ofItemAtPath: old.path)
      ProgramCache(directory: directory).store([1], under: "x")
      #expect(Set(try entries(directory).map(\.lastPathComponent)) == ["b.bin.2.tmp", "x.bin"])
    }
  }

  @Test func theOldestEntriesGo() throws {
    try OpenCLSupport.withTemporaryDirectory { directory in
      let cache = ProgramCache(directory: directory, maximumEntryCount: 3)
      for index in 0..<3 {
        cache.store([UInt8(index)], under: "\(index)")
        let age = Date(timeIntervalSinceNow: Double(index - 10) * 60)
        try FileManager.default.setAttributes([.modificationDate: age], ofItemAtPath: directory.appendingPathComponent("\(index).bin").path)
      }
      // Reading makes the oldest the youngest.
      #expect(cache.load("0") == [0])
      cache.store([3], under: "3")
      #expect((0...3).map { cache.load("\($0)") } == [[0], nil, [2], [3]])
    }
  }

  @Test func theEnvironmentSaysWhere() {
    func path(_ environment: [String: String]) -> String? { ProgramCache(environment: environment).directory?.path }
    #expect(path(["GRAFT_CACHE": "/a/b", "XDG_CACHE_HOME": "/x"]) == "/a/b/programs")
    #expect(path(["XDG_CACHE_HOME": "/x"]) == "/x/graft/programs")
    #expect(path(["XDG_CACHE_HOME": "relative"])?.hasSuffix("/.cache/graft/programs") == true)
    #expect(path([:])?.hasSuffix("/.cache/graft/programs") == true)
    #expect(path(["GRAFT_PROGRAM_CACHE": "off", "GRAFT_CACHE": "/a/b"]) == nil)
  }

  @Test func aProgramIsBuiltOnce() throws {
    let device = try OpenCLSupport.device(TestKernel.sources.merging(["cpu/test_other.cl": TestKernel.accumulate]) { first, _ in first })
    let x = BufferSlice(try device.upload([Float](repeating: 0, count: 4)))
    let launch = TestKernel.accumulate(x, x, count: 4, factor: 1)
    let other = Launch(
      KernelReference(.cpu, file: "test_other", function: "accumulate"), buffers: launch.buffers, parameters: launch.parameters, grid: launch.grid,
      label: "other")
    _ = try device.prepare([launch, other, launch])
    _ = try device.prepare([other, launch])
    #expect(device.programStatistics.compiled == 2)
  }

  @Test func aBuildErrorHasTheWholeStory() throws {
    let source = "#include \"common/broken.h\"\n__kernel void broken(__global float *x) { x[0] = scale; }\n"
    let device = try OpenCLSupport.device(["cpu/test_broken.cl": source, "common/broken.h": "\n\nint undeclared(void) { return nowhere; }\n"])
    let kernel = KernelReference(.cpu, file: "test_broken", function: "broken", options: [.init("TILE", 7)])
    let launch = Launch(kernel, buffers: [nil], parameters: [], grid: Grid(1), label: "broken")
    for _ in 0..<2 {
      #expect { try device.prepare([launch]) } throws: {
        guard let error = $0 as? BuildError else { return false }
        // The log names the file and the line where people look for them.
        return error.kernel == "cpu/test_broken.cl" && error.options.contains("-DTILE=7") && error.options.contains("-cl-std=CL1.2")
          && !error.options.contains("fast") && error.log.contains("common/broken.h:3") && error.log.contains("nowhere")
          && error.log.contains("cpu/test_broken.cl:2") && error.description.contains(error.log)
          && error.description.contains("clBuildProgram") && error.description.contains(error.options) && error.description.contains(error.kernel)
      }
    }
  }
}
