import Foundation
import GraftDevice
import Testing

struct OpenCLSourceTests {
  /// The folder people read.
  private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("Kernels", isDirectory: true)

  @Test func everyFileOfKernelsIsEmbedded() throws {
    let folder = Self.folder.standardizedFileURL.path
    let files = try #require(FileManager.default.enumerator(atPath: folder)).compactMap { $0 as? String }
      .filter { $0.hasSuffix(".cl") || $0.hasSuffix(".h") }
    try #require(!files.isEmpty)
    #expect(KernelSources.embedded.paths == files.sorted(), "Sources/COpenCL/kernel_sources.c has an entry for every file, sorted")
    for file in files {
      #expect(KernelSources.embedded.text(file) == (try String(contentsOfFile: "\(folder)/\(file)", encoding: .utf8)), "\(file)")
    }
  }

  @Test func includesAreReplacedRecursivelyAndAsOftenAsAsked() throws {
    let sources = KernelSources([
      "common/a.h": "int a;", "common/b.h": "#include \"common/a.h\"\nint b;",
      "cpu/k.cl": "#include \"common/b.h\"\n  #  include \"common/a.h\"\n#include <other.h>\nkernel",
    ])
    #expect(
      try sources.assemble("cpu/k.cl") == """
        #line 1 "cpu/k.cl"
        #line 1 "common/b.h"
        #line 1 "common/a.h"
        int a;
        #line 2 "common/b.h"
        int b;
        #line 2 "cpu/k.cl"
        #line 1 "common/a.h"
        int a;
        #line 3 "cpu/k.cl"
        #include <other.h>
        kernel

        """)
  }

  @Test func aCycleAndAMissingFileAreNamed() {
    let sources = KernelSources(["a.h": "#include \"b.h\"", "b.h": "#include \"a.h\"", "c.cl": "#include \"d.h\""])
    #expect { try sources.assemble("a.h") } throws: { "\($0)".contains("a.h includes itself, included from") || "\($0)".contains("a.h → b.h") }
    #expect { try sources.assemble("c.cl") } throws: { "\($0)".contains("no kernel source d.h, included from c.cl") }
    #expect { try sources.assemble("none.cl") } throws: { "\($0)".contains("no kernel source none.cl. Known are: a.h, b.h, c.cl.") }
  }

  /// Every kernel file stands alone, with its tunables' defaults, in OpenCL C 1.2.
  @Test(.needsOpenCL, arguments: KernelSources.embedded.paths.filter { $0.hasSuffix(".cl") })
  func everyKernelFileCompiles(_ path: String) throws {
    let family = try #require(KernelFamily(rawValue: String(path.prefix { $0 != "/" })))
    let file = String(path.drop { $0 != "/" }.dropFirst().dropLast(3))
    let device = try OpenCLSupport.device()
    // A grid without work-items: the program is built, no kernel of it is made.
    let reference = KernelReference(family, file: file, function: "any")
    _ = try device.prepare([Launch(reference, buffers: [], parameters: [], grid: Grid(0), label: path)])
    #expect(device.programStatistics.compiled == 1)
  }
}

struct OpenCLStatusTests {
  /// The installed headers know every code that the core may return.
  @Test func everyCodeOfTheHeaderHasItsName() throws {
    let header = try String(contentsOfFile: "/usr/include/CL/cl.h", encoding: .utf8)
    var count = 0
    for match in header.matches(of: /#define (CL_[A-Z0-9_]+)\s+(-\d+)/) {
      // Build statuses are no errors of calls.
      guard !match.1.hasPrefix("CL_BUILD_") || match.1 == "CL_BUILD_PROGRAM_FAILURE", let code = Int32(match.2) else { continue }
      #expect(OpenCLStatus.name(code) == match.1)
      count += 1
    }
    #expect(count >= 60)
    #expect(OpenCLStatus.name(-1001) == "CL_PLATFORM_NOT_FOUND_KHR")
    #expect(OpenCLStatus.name(-123_456) == "unknown status")
  }
}
