import Foundation
import GraftDevice

/// Memory that a process can take without others being swapped out or killed.
public enum AvailableMemory {
  /// What the kernel estimates (MemAvailable of /proc/meminfo), or less where a control group allows less; `nil` where neither says.
  public static func byteCount() -> Int? {
    [estimate(), ControlGroup.memoryLimitByteCount()].compactMap(\.self).min()
  }

  private static func estimate() -> Int? {
    guard let text = try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8) else { return nil }
    let line = text.split(separator: "\n").first { $0.hasPrefix("MemAvailable:") }
    guard let words = line?.split(separator: " "), words.count >= 2, let kibibytes = Int(words[1]) else { return nil }
    return kibibytes.multipliedReportingOverflow(by: 1024).overflow ? nil : kibibytes * 1024
  }
}
