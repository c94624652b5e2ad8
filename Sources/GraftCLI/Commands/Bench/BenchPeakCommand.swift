import ArgumentParser
import Foundation
import Graft

struct BenchPeakCommand: ReportingCommand {
  static let configuration = CommandConfiguration(
    commandName: "peak", abstract: "Measure what the device can do at most.",
    discussion: """
      Arithmetic: float32 multiply-adds on registers alone, two operations each. Memory: an array that is read, and a = b + s c with \
      12 bytes an element (what a write reads first is not counted), over arrays of several sizes. The best of several short runs.
      """)

  @OptionGroup var computing: DeviceOptions
  @OptionGroup var output: OutputOptions

  private struct Report: Encodable {
    let device, name, kernels, instructionSet: String
    let threadCount: Int
    let peak: PeakReport

    enum CodingKeys: String, CodingKey {
      case device, name, kernels, peak
      case instructionSet = "instruction_set"
      case threadCount = "threads"
    }
  }

  func execute() throws {
    let console = output.console
    let device = try computing.make(console)
    // Kernels that were asked for are measured; otherwise those that suit the device.
    let peak = try DevicePeak.measure(on: device, family: computing.kernels == .auto ? nil : device.traits.family)
    console.result(String(format: "arithmetic  %10.1f GFLOP/s", peak.gigaflopsPerSecond))
    for bandwidth in peak.bandwidths {
      console.result(
        String(format: "memory      %10.1f GB/s read %10.1f GB/s triad, over ", bandwidth.readGigabytesPerSecond, bandwidth.triadGigabytesPerSecond)
          + byteText(bandwidth.workingSetByteCount))
    }
    let traits = device.traits
    try console.object(
      Report(
        device: traits.identifier, name: traits.name, kernels: traits.family.rawValue, instructionSet: traits.instructionSet,
        threadCount: traits.threadCount, peak: PeakReport(peak)))
  }
}
