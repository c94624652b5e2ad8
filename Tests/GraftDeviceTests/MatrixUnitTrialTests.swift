import Foundation
import GraftDevice
import Testing

/// Looking for a matrix unit, on a device that has none: by emulation.
@Suite struct MatrixUnitTrialTests {
  /// A candidate in which graft ended twice is passed over and named; the next one is tried, and forgotten as a trial.
  @Test(.needsOpenCL)
  func whatEndedGraftTwiceIsNotTriedAgain() throws {
    let info = try #require(try OpenCLPlatform.devices().first { $0.obstacle == nil })
    let folder = NSTemporaryDirectory() + "units-\(UUID().uuidString)", journal = TrialJournal(environment: ["GRAFT_CACHE": folder])
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let paths = [MatrixUnit.Kind.hopper, .nvidia].map { journal.path(MatrixUnits.trial($0, on: info)) }, dead = Process()
    dead.executableURL = URL(fileURLWithPath: "/bin/true")
    try dead.run()
    dead.waitUntilExit()
    let line = TrialJournal.line(of: dead.processIdentifier)
    let trials = FilePath.folder(of: paths[0])
    try FileManager.default.createDirectory(atPath: trials, withIntermediateDirectories: true)
    for path in paths { try "\(line)\n\(line)\n".write(toFile: path, atomically: true, encoding: .utf8) }

    let found = try MatrixUnits.look(for: [.hopper, .nvidia, .turing], on: info, journal: journal, isEmulated: true), unit = try #require(found.unit)
    #expect(unit.kind == .turing && unit.formats == [.float16] && unit.attentionFormats == [.float16])
    #expect(unit.attentionGradientFormats == [.float16] && !unit.flushesSubnormals && !found.mayPass)
    #expect(found.groupFailures.count == 1 && found.groupFailures[0].contains(paths[0]))
    #expect(found.failures.count == 1 && found.failures[0].contains(paths[1]))
    #expect(try FileManager.default.contentsOfDirectory(atPath: trials).count == 2)
    #expect(try JSONDecoder().decode(MatrixUnits.Finding.self, from: JSONEncoder().encode(found)) == found)
  }
}
