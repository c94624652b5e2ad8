import Foundation
import GraftDevice
import Testing

@Suite struct ControlGroupTests {
  /// Files of /proc and /sys as they may lie there, and the least limit.
  @Test(
    arguments: [
      ([:], nil),
      (["/proc/self/cgroup": "0::/", "/sys/fs/cgroup/memory.max": "5000\n"], 5000),
      // A batch job: the root of the second version has no such file, and one group says that it has no limit.
      (
        [
          "/proc/self/cgroup": "0::/slurm/job 7/step\n", "/sys/fs/cgroup/slurm/memory.max": "9000", "/sys/fs/cgroup/slurm/job 7/memory.max": "3000",
          "/sys/fs/cgroup/slurm/job 7/step/memory.max": "max\n",
        ], 3000
      ),
      // The first version, whose controllers have paths of their own.
      (
        [
          "/proc/self/cgroup": "5:cpu:/a\n4:memory,hugetlb:/b/c:d\n", "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
          "/sys/fs/cgroup/memory/b/c:d/memory.limit_in_bytes": "7000", "/sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1",
        ], 7000
      ),
      // A namespace of its own: the path is not below what is mounted.
      (["/proc/self/cgroup": "4:memory:/docker/1", "/sys/fs/cgroup/memory/memory.limit_in_bytes": "6000"], 6000),
      (["/proc/self/cgroup": "nonsense\n::\n0::/x", "/sys/fs/cgroup/x/memory.max": "-1"], nil),
    ] as [([String: String], Int?)]) func theLeastLimitHolds(_ files: [String: String], _ expected: Int?) throws
  {
    let root = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    defer { try? FileManager.default.removeItem(at: root) }
    for (path, text) in files {
      let file = root.appendingPathComponent(path)
      try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
      try text.write(to: file, atomically: true, encoding: .utf8)
    }
    #expect(ControlGroup.memoryLimitByteCount(root: root.path) == expected)
  }
}
