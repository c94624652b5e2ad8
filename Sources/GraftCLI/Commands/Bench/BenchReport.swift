import ArgumentParser
import Foundation
import Graft

/// Median, minimum and maximum.
struct Spread: Encodable {
  let median, minimum, maximum: Double

  /// Our own invariant: there is a value.
  init(_ values: [Double]) {
    let sorted = values.sorted()
    median = sorted[sorted.count / 2]
    (minimum, maximum) = (sorted[0], sorted[sorted.count - 1])
  }
}

/// A device's limits as JSON.
struct PeakReport: Encodable {
  struct Bandwidth: Encodable {
    let workingSetByteCount: Int
    let readGigabytesPerSecond, triadGigabytesPerSecond: Double

    enum CodingKeys: String, CodingKey {
      case workingSetByteCount = "working_set_bytes"
      case readGigabytesPerSecond = "read_gigabytes_per_second"
      case triadGigabytesPerSecond = "triad_gigabytes_per_second"
    }
  }

  let gigaflopsPerSecond: Double
  let bandwidths: [Bandwidth]
  let seconds: Double

  enum CodingKeys: String, CodingKey {
    case gigaflopsPerSecond = "gigaflops_per_second"
    case bandwidths, seconds
  }

  init(_ peak: DevicePeak) {
    (gigaflopsPerSecond, seconds) = (peak.gigaflopsPerSecond, peak.seconds)
    bandwidths = peak.bandwidths.map {
      Bandwidth(
        workingSetByteCount: $0.workingSetByteCount, readGigabytesPerSecond: $0.readGigabytesPerSecond,
        triadGigabytesPerSecond: $0.triadGigabytesPerSecond)
    }
  }
}

extension DevicePeak {
  /// "peak: 230.1 GFLOP/s; read and triad 120.0 and 95.0 GB/s over 512 KB, …".
  var summary: String {
    let rates = bandwidths.map {
      String(format: "%.1f and %.1f GB/s over ", $0.readGigabytesPerSecond, $0.triadGigabytesPerSecond) + byteText($0.workingSetByteCount)
    }
    return String(format: "peak: %.1f GFLOP/s; read and triad ", gigaflopsPerSecond) + rates.joined(separator: ", ")
  }
}

/// A time in milliseconds, with the digits it deserves.
func millisecondText(_ seconds: Double) -> String {
  String(format: seconds < 1e-3 ? "%.4f" : seconds < 0.1 ? "%.3f" : "%.1f", seconds * 1e3)
}

/// A rate with the digits it deserves.
func rateText(_ rate: Double) -> String { String(format: rate < 10 ? "%.2f" : "%.1f", rate) }

/// How long to measure: the same for every benchmark.
struct MeasuringOptions: ParsableArguments {
  @Option(help: ArgumentHelp("How long to measure, in seconds.", valueName: "seconds")) var seconds = 2.0

  func validate() throws {
    guard seconds > 0, seconds <= 3600 else { throw ValidationError("--seconds takes a number up to 3600, not \(seconds).") }
  }

  /// The clock of a processor that was idle takes a moment to rise.
  var warmUp: Double { min(0.5, seconds / 4) }
}
