import Foundation
import GraftData
import GraftGraph
import Testing

/// Peak memory does not depend on how many images there are.
@Suite struct ExtractionMemoryTests {
  @Test func peakMemoryIsTheSameForTwentyThousandImages() async throws {
    // Twenty thousand files: in memory where that can be had, which is much faster than most disks.
    let folder = try (try? TemporaryFolder(in: "/dev/shm")) ?? TemporaryFolder()
    for count in [200, 20_000] {
      let photos = folder.path + "/\(count)"
      for name in ["ant", "bee"] { try FileManager.default.createDirectory(atPath: "\(photos)/\(name)", withIntermediateDirectories: true) }
      for index in 0..<count {
        try Data(TestPhotos.bytes(seed: index)).write(
          to: URL(fileURLWithPath: "\(photos)/\(index % 2 == 0 ? "ant" : "bee")/a picture with a long name \(index).png"))
      }
    }
    let path = folder.path
    // A process each: the peak is that of a process, and other tests run in this one.
    await #expect(processExitsWith: .success) { [path = path as String] in try Self.extract(200, in: path) }
    await #expect(processExitsWith: .success) { [path = path as String] in try Self.extract(20_000, in: path) }
    let peaks = try [200, 20_000].map { count in
      try #require(Int(String(decoding: folder.read("\(count).peak"), as: UTF8.self)))
    }
    #expect(Double(peaks[1]) <= Double(peaks[0]) * 1.1, "peaks of \(peaks) KiB")
  }

  private static func extract(_ count: Int, in path: String) throws {
    var options = testOptions(shardRows: nil)
    options.decodingThreads = 4
    let backbone = TestBackbone(batchSize: 32, featureShape: [1280])
    let extraction = FeatureExtraction(
      data: try ImageFolder(path: "\(path)/\(count)"), store: "\(path)/\(count)-store", key: testKey(shape: [1280]),
      imageByteCount: TestBackbone.imageByteCount,
      options: options, prepare: TestBackbone.prepare)
    let summary = try extraction.run { backbone }
    #expect(summary.extracted == count)
    let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
    let peak = try #require(status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") })
    try peak.filter(\.isNumber).write(toFile: "\(path)/\(count).peak", atomically: false, encoding: .utf8)
  }
}
