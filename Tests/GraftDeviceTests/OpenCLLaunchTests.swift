import GraftDevice
import Testing

@Suite(.needsOpenCL) struct OpenCLLaunchTests {
  @Test func resultsAreThoseOfTheFormula() throws {
    let device = try OpenCLSupport.device(TestKernel.sources)
    for count in [1, 7, 64, 1009] {
      let (x, y) = ((0..<count).map { Float($0) * 0.5 }, (0..<count).map { Float($0 % 13) - 6 })
      let (bufferX, bufferY) = (try device.upload(x), try device.upload(y))
      try device.run([TestKernel.accumulate(BufferSlice(bufferX), BufferSlice(bufferY), count: count, factor: 3)])
      #expect(try device.download(BufferSlice(bufferY), as: Float(0)) == zip(x, y).map { $1 * 3 + $0 })
    }
  }

  /// Each launch needs the one before it; exact in float32, so any other order or a lost launch shows.
  @Test func launchesRunInOrderEveryTime() throws {
    let device = try OpenCLSupport.device(TestKernel.sources)
    let (one, two) = (try device.upload([Float](repeating: 1, count: 16)), try device.upload([Float](repeating: 2, count: 16)))
    let y = try device.upload([Float](repeating: 0, count: 16))
    let launches = (0..<40).map { step in
      TestKernel.accumulate(BufferSlice(step % 2 == 0 ? one : two), BufferSlice(y), count: 16, factor: step % 3 == 0 ? -1 : 1)
    }
    let prepared = try device.prepare(launches)
    var expected: Float = 0
    for _ in 0..<25 {
      try prepared.enqueue()
      for step in 0..<40 { expected = expected * (step % 3 == 0 ? -1 : 1) + (step % 2 == 0 ? 1 : 2) }
    }
    #expect(try device.download(BufferSlice(y), as: Float(0)) == [Float](repeating: expected, count: 16))
  }

  /// Slices share one buffer, as the tensors of an arena do; what lies between them stays as it was.
  @Test func slicesStayWithinTheirBounds() throws {
    let device = try OpenCLSupport.device(TestKernel.sources)
    let step = max(1024, device.info.sliceAlignment) / 4
    let arena = try device.upload([Float](repeating: -77, count: 4 * step))
    let x = BufferSlice(arena, byteOffset: 4 * step, byteCount: 40)
    let y = BufferSlice(arena, byteOffset: 12 * step, byteCount: 40)
    try device.write((0..<10).map { Float($0) }, to: x)
    try device.write([Float](repeating: 100, count: 10), to: y)
    try device.run([TestKernel.accumulate(x, y, count: 10, factor: 2), TestKernel.accumulate(x, y, count: 10, factor: 1)])
    var expected = [Float](repeating: -77, count: 4 * step)
    for index in 0..<10 { (expected[step + index], expected[3 * step + index]) = (Float(index), 200 + 2 * Float(index)) }
    #expect(try device.download(BufferSlice(arena), as: Float(0)) == expected)
  }

  @Test func overlappingSlicesSeeEachOthersWrites() throws {
    let device = try OpenCLSupport.device(TestKernel.sources)
    let step = max(1024, device.info.sliceAlignment) / 4
    let arena = try device.upload([Float](repeating: 1, count: 2 * step))
    let upper = BufferSlice(arena, byteOffset: 4 * step)
    try device.run([
      TestKernel.accumulate(upper, BufferSlice(arena), count: step, factor: 1),
      TestKernel.accumulate(BufferSlice(arena, byteCount: 4 * step), upper, count: step, factor: 1),
    ])
    let expected = [Float](repeating: 2, count: step) + [Float](repeating: 3, count: step)
    #expect(try device.download(BufferSlice(arena), as: Float(0)) == expected)
  }

  @Test func aSliceOffTheAlignmentIsAnError() throws {
    let device = try OpenCLSupport.device(TestKernel.sources)
    try #require(device.info.sliceAlignment > 4)
    let buffer = try device.allocate(byteCount: 4096)
    let launch = TestKernel.accumulate(BufferSlice(buffer), BufferSlice(buffer, byteOffset: 4), count: 1, factor: 1)
    #expect { try device.prepare([launch]) } throws: {
      ($0 as? DeviceError)?.name == "CL_MISALIGNED_SUB_BUFFER_OFFSET"
    }
  }

  @Test func anAbsentBufferIsNull() throws {
    let source = """
      __kernel void which(__global const float *x, __global const float *y, __global int *out) {
        out[0] = x == 0;
        out[1] = y == 0;
      }
      """
    let device = try OpenCLSupport.device(["cpu/test_null.cl": source])
    let (x, out) = (try device.allocate(byteCount: 4), try device.allocate(byteCount: 8))
    let kernel = KernelReference(.cpu, file: "test_null", function: "which")
    try device.run([Launch(kernel, buffers: [BufferSlice(x), nil, BufferSlice(out)], parameters: [], grid: Grid(1), label: "null")])
    #expect(try device.download(BufferSlice(out), as: Int32(9)) == [0, 1])
  }

  @Test func emptyListsAndEmptyGridsDoNothing() throws {
    let device = try OpenCLSupport.device(TestKernel.sources)
    try device.run([])
    #expect(try device.prepare([]).profile() == [])
    let x = try device.upload([Float](repeating: 5, count: 4))
    let launches = [Grid(0), Grid(4, 0), Grid(4, 1, 0)].map { TestKernel.accumulate(BufferSlice(x), BufferSlice(x), count: 4, factor: 1, grid: $0) }
    let prepared = try device.prepare(launches)
    try prepared.enqueue()
    #expect(try prepared.profile() == [0, 0, 0])
    #expect(try device.download(BufferSlice(x), as: Float(0)) == [5, 5, 5, 5])
  }

  @Test func workGroupsShareLocalMemoryAcrossBarriers() throws {
    // Sums a group's values in a tree; only right if the barrier holds.
    let source = """
      __kernel __attribute__((reqd_work_group_size(64, 1, 1)))
      void group_sum(__global const float *x, __global float *y) {
        __local float sums[64];
        int i = get_local_id(0);
        sums[i] = x[get_global_id(0)];
        for (int part = 32; part > 0; part /= 2) {
          barrier(CLK_LOCAL_MEM_FENCE);
          if (i < part) sums[i] += sums[i + part];
        }
        if (i == 0) y[get_group_id(0)] = sums[0];
      }
      """
    let device = try OpenCLSupport.device(["gpu/test_sum.cl": source], family: .gpu)
    #expect(device.traits.family == .gpu)
    let values = (0..<640).map { Float($0 * $0 % 101) }
    let (x, y) = (try device.upload(values), try device.allocate(byteCount: 40))
    let kernel = KernelReference(.gpu, file: "test_sum", function: "group_sum")
    let grid = Grid.covering(640, workGroup: (64, 1, 1))
    try device.run([Launch(kernel, buffers: [BufferSlice(x), BufferSlice(y)], parameters: [], grid: grid, label: "sum")])
    let expected = (0..<10).map { group in values[group * 64..<group * 64 + 64].reduce(0, +) }
    #expect(try device.download(BufferSlice(y), as: Float(0)) == expected)
  }

  @Test func aGridThatDoesNotFitNamesTheLimit() throws {
    let device = try OpenCLSupport.device(TestKernel.sources)
    let x = try device.upload([Float](repeating: 0, count: 4))
    let huge = Int.max / 2 + 1
    let grids = [
      Grid(6, workGroup: (4, 1, 1)), Grid(1 << 20, workGroup: (1 << 20, 1, 1)), Grid(4, workGroup: (0, 1, 1)), Grid(-4),
      Grid(4096, 4096, 1, workGroup: (4096, 4096, 1)), Grid(huge, 2, 1, workGroup: (huge, 2, 1)),
    ]
    for grid in grids {
      let launch = TestKernel.accumulate(BufferSlice(x), BufferSlice(x), count: 4, factor: 1, grid: grid)
      #expect { try device.prepare([launch]) } throws: {
        guard let error = $0 as? DeviceError else { return false }
        return error.name.hasPrefix("CL_INVALID_WORK_") && error.description.contains("accumulate") && error.description.contains("test accumulate")
      }
    }
  }

  @Test func argumentsThatDoNotMatchAreErrors() throws {
    let device = try OpenCLSupport.device(TestKernel.sources)
    let x = try device.upload([Float](repeating: 0, count: 4))
    let kernel = KernelReference(.cpu, file: "test_accumulate", function: "accumulate")
    let parameters = Launch.bytes(of: TestParameters(count: 4, factor: 1))
    let tooFew = Launch(kernel, buffers: [BufferSlice(x)], parameters: parameters, grid: Grid(4), label: "few")
    #expect { try device.prepare([tooFew]) } throws: { "\($0)".contains("declares 3 arguments and few gives 2") }
    let unknown = KernelReference(.cpu, file: "test_accumulate", function: "nothing")
    let missing = Launch(unknown, buffers: [], parameters: [], grid: Grid(1), label: "none")
    #expect { try device.prepare([missing]) } throws: { ($0 as? DeviceError)?.name == "CL_INVALID_KERNEL_NAME" }
    let other = try OpenCLSupport.device()
    let foreign = TestKernel.accumulate(BufferSlice(try other.allocate(byteCount: 16)), BufferSlice(x), count: 4, factor: 1)
    #expect { try device.prepare([foreign]) } throws: { ($0 as? DeviceError)?.name == "a buffer of another device" }
  }

  @Test func profileGivesATimeForEveryLaunch() throws {
    let device = try OpenCLSupport.device(TestKernel.sources)
    let count = 1 << 16
    let (x, y) = (try device.upload([Float](repeating: 1, count: count)), try device.upload([Float](repeating: 0, count: count)))
    let launch = TestKernel.accumulate(BufferSlice(x), BufferSlice(y), count: count, factor: 1)
    let prepared = try device.prepare([launch, launch, launch])
    try prepared.enqueue()
    let seconds = try prepared.profile()
    try prepared.enqueue()
    #expect(seconds.count == 3)
    #expect(seconds.allSatisfy { $0 > 0 && $0 < 60 })
    #expect(try device.download(BufferSlice(y), as: Float(0)).allSatisfy { $0 == 9 })
  }
}
