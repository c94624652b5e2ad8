import Foundation
import GraftDevice
import Testing

/// The kernels behind the limits compute what their speed is counted for; how fast they are is no test.
@Suite struct PeakTests {
  struct PeakDevice: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let device: any Device
    let family: KernelFamily
  }

  static let devices: [PeakDevice] =
    InstructionSet.supported.map {
      PeakDevice(testDescription: "cpu \($0.name)", device: try! CPUDevice(threadCount: 3, instructionSet: $0), family: .cpu)
    }
    + KernelFamily.allCases.compactMap { family in
      (try? OpenCLSupport.device(family: family)).map { PeakDevice(testDescription: "opencl, \(family) kernels", device: $0, family: family) }
    }

  /// A chain that adds 1 shows how often it ran; the sum over all, that as many ran as are counted.
  @Test(arguments: devices) func everyCountedMultiplyAddIsDone(_ tested: PeakDevice) throws {
    let kernels = PeakKernels(tested.device, family: tested.family)
    let result = BufferSlice(
      try tested.device.upload([Float](repeating: -1, count: kernels.multiplyAddItems + 1)), byteCount: 4 * kernels.multiplyAddItems)
    let repeats = 7
    let launch = kernels.multiplyAdd(repeats: repeats, factor: 1, term: 1, into: result)
    try tested.device.run([launch])
    let numbers = kernels.multiplyAddNumbers, lanes = numbers / kernels.chains
    let first = lanes * kernels.chains * (kernels.chains - 1) / 2
    let expected = Float(first + repeats * numbers)
    #expect(try tested.device.download(result, as: Float(0)) == Array(repeating: expected, count: kernels.multiplyAddItems))
    #expect(launch.flops == Double(2 * repeats * numbers * kernels.multiplyAddItems))
    #expect(try tested.device.download(BufferSlice(result.buffer, byteOffset: 4 * kernels.multiplyAddItems), as: Float(0)) == [-1])
  }

  @Test(arguments: devices, [1, 3]) func everyCountedByteIsMoved(_ tested: PeakDevice, _ repeats: Int) throws {
    let kernels = PeakKernels(tested.device, family: tested.family)
    let area = kernels.area(byteCount: 100_000, shares: 5)
    #expect(area.byteCount == 4 * area.floatCount && area.floatCount % area.items == 0)
    // One float behind the area, to see that nothing is written there.
    let values = (0..<area.floatCount + 1).map { Float($0 % 5) }
    let memory = BufferSlice(try tested.device.upload(values), byteCount: area.byteCount)
    let result = BufferSlice(try tested.device.upload([Float](repeating: -1, count: area.items)))
    let read = kernels.read(area, of: memory, repeats: repeats, into: result)
    try tested.device.run([read])
    let sums = try tested.device.download(result, as: Float(0))
    #expect(sums.reduce(0.0) { $0 + Double($1) } == Double(repeats) * values.dropLast().reduce(0.0) { $0 + Double($1) })
    #expect(read.bytes == Double(4 * area.floatCount * repeats))

    let triad = kernels.triad(area, of: memory, factor: 0.5, repeats: repeats)
    try tested.device.run([triad])
    #expect(triad.bytes == Double(4 * area.floatCount * repeats))
    // Shares of the CPU family each hold an a, a b and a c; the GPU family has one of each.
    let share = tested.family == .cpu ? area.count : area.floatCount
    var expected = values
    for start in stride(from: 0, to: area.floatCount, by: share) {
      for i in 0..<share / 3 { expected[start + i] = expected[start + share / 3 + i] + 0.5 * expected[start + 2 * share / 3 + i] }
    }
    #expect(try tested.device.download(BufferSlice(memory.buffer), as: Float(0)) == expected)

    try tested.device.run([kernels.fill(memory, value: 2.5)])
    #expect(
      try tested.device.download(BufferSlice(memory.buffer), as: Float(0)) == Array(repeating: 2.5, count: area.floatCount) + [
        values[area.floatCount]
      ])
  }

  @Test(.needsOpenCL) func bothFamiliesAreTested() { #expect(Self.devices.count == InstructionSet.supported.count + 2) }

  @Test func aMeasurementHasEveryFigure() throws {
    let peak = try DevicePeak.measure(on: try CPUDevice(threadCount: 1))
    #expect(peak.gigaflopsPerSecond.isFinite && peak.gigaflopsPerSecond > 0 && peak.seconds > 0)
    #expect(peak.bandwidths.count == 3)
    #expect(peak.bandwidths.map(\.workingSetByteCount) == peak.bandwidths.map(\.workingSetByteCount).sorted())
    for bandwidth in peak.bandwidths {
      #expect(bandwidth.readGigabytesPerSecond.isFinite && bandwidth.readGigabytesPerSecond > 0)
      #expect(bandwidth.triadGigabytesPerSecond.isFinite && bandwidth.triadGigabytesPerSecond > 0)
    }
  }

  @Test func theSlowerOfArithmeticAndMemorySetsTheLimit() {
    let peak = DevicePeak(
      gigaflopsPerSecond: 100,
      bandwidths: [
        .init(workingSetByteCount: 1_000_000, readGigabytesPerSecond: 80, triadGigabytesPerSecond: 40),
        .init(workingSetByteCount: 100_000_000, readGigabytesPerSecond: 10, triadGigabytesPerSecond: 20),
      ])
    // A second of arithmetic and, in memory, half a second of traffic.
    #expect(peak.allowed(flops: 100e9, bytes: 10e9) == (1, .arithmetic))
    #expect(peak.allowed(flops: 10e9, bytes: 10e9) == (0.5, .memory))
    // As many bytes as the first array has pass at its rate, one more at the second's.
    #expect(peak.gigabytesPerSecond(workingSetByteCount: 1e6) == 80)
    #expect(peak.gigabytesPerSecond(workingSetByteCount: 1e6 + 1) == 20)
    #expect(peak.gigabytesPerSecond(workingSetByteCount: 1e12) == 20)
    #expect(abs(peak.percentOfLimit(flops: 100e9, bytes: 0, seconds: 4) - 25) < 1e-12)
    #expect(peak.percentOfLimit(flops: 1, bytes: 1, seconds: 0) == 0)
  }
}
