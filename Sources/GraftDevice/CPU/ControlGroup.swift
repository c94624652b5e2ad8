import Foundation

/// What the system allows this process and those it runs with: a container's limit, a batch job's, a service's.
package enum ControlGroup {
  /// The least limit of memory of the group that the process is in, and of those around it; `nil` where there is none.
  ///
  /// - Parameter root: what takes the place of `/`.
  package static func memoryLimitByteCount(root: String = "") -> Int? {
    // "0::/path" in the second version, "4:memory:/path" among the controllers of the first.
    var limits: [Int] = []
    for line in lines(root + "/proc/self/cgroup") + ["0::/", "0:memory:/"] {
      let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard fields.count == 3, fields[1].isEmpty || fields[1].split(separator: ",").contains("memory") else { continue }
      let names = fields[2].split(separator: "/")
      for (folder, file) in fields[1].isEmpty
        ? [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/unified", "memory.max")] : [("/sys/fs/cgroup/memory", "memory.limit_in_bytes")]
      {
        // A process in a namespace of its own may see another path than is mounted: what is not there limits nothing.
        for depth in 0...names.count {
          let path = ([root + folder] + names[..<depth].map(String.init) + [file]).joined(separator: "/")
          if let limit = lines(path).first.flatMap({ Int($0) }), limit > 0 { limits.append(limit) }
        }
      }
    }
    return limits.min()
  }

  private static func lines(_ path: String) -> [String] {
    ((try? String(contentsOfFile: path, encoding: .utf8)) ?? "").split(separator: "\n").map(String.init)
  }
}
