import Foundation
import GraftData
import GraftGraph
import Testing

@Suite struct NpyTests {
  @Test(arguments: NpyFixtures.numbers.indices) func readsNumbersAsNumPyWroteThem(index: Int) throws {
    let fixture = NpyFixtures.numbers[index]
    let folder = try TemporaryFolder()
    let tensor = try Npy.tensor(of: folder.write("x.npy", base64: fixture.file))
    #expect(tensor.shape == fixture.shape, "\(fixture.name)")
    #expect(tensor.doubles() == fixture.values, "\(fixture.name)")
  }

  @Test(arguments: NpyFixtures.strings.indices) func readsTextAsNumPyWroteIt(index: Int) throws {
    let fixture = NpyFixtures.strings[index]
    let folder = try TemporaryFolder()
    guard case .strings(let shape, let values) = try Npy.contents(of: folder.write("x.npy", base64: fixture.file)) else {
      Issue.record("\(fixture.name) was read as numbers")
      return
    }
    #expect(shape == fixture.shape, "\(fixture.name)")
    #expect(values == fixture.values, "\(fixture.name)")
  }

  @Test func keepsTheElementTypeAndTheMapping() throws {
    let folder = try TemporaryFolder()
    let half = try #require(NpyFixtures.numbers.first { $0.name == "f2" })
    let tensor = try Npy.tensor(of: folder.write("x.npy", base64: half.file))
    #expect(tensor.elementType == .float16)
  }

  /// Byte for byte: NumPy reads what NumPy writes.
  @Test func writesWhatNumPyWrites() throws {
    let folder = try TemporaryFolder()
    // Those that numpy.save wrote row by row, little endian, in version 1.
    let names = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1", "scalar", "empty", "long row"]
    for fixture in NpyFixtures.numbers where names.contains(fixture.name) {
      let original = try folder.write("a.npy", base64: fixture.file)
      try Npy.write(try Npy.tensor(of: original), to: folder.path + "/b.npy")
      #expect(try folder.read("a.npy") == folder.read("b.npy"), "\(fixture.name)")
    }
    #expect(try folder.names() == ["a.npy", "b.npy"])
  }

  @Test(arguments: NpyFixtures.refused.indices) func refusesWhatIsNoArrayOfNumbersOrText(index: Int) throws {
    let fixture = NpyFixtures.refused[index]
    let folder = try TemporaryFolder()
    let path = try folder.write("x.npy", base64: fixture.file)
    let error = try #require(throws: NpyError.self) { try Npy.contents(of: path) }
    #expect(error.description.contains("x.npy"), "\(fixture.name)")
  }

  @Test(arguments: [
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999, ), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, ), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, ), }",
    "{'descr': '<U1000000', 'fortran_order': False, 'shape': (1000000000, ), }",
    "{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000, ), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2, ), 'shape': (1, )}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2, ",
    "{'descr': '<f4', 'fortran_order': False}",
    "{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}",
    "{'descr': '\\x3cf4', 'fortran_order': False, 'shape': (2,)}",
    "{'descr': ('<f4', (2,)), 'fortran_order': False, 'shape': (2,)}",
    "((((((((((((((((((((((((((((",
    "",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (" + String(repeating: "1,", count: 100) + ")}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} + __import__('os')",
  ])
  func refusesHeaders(_ header: String) throws {
    let folder = try TemporaryFolder()
    let bytes = [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(header.utf8.count & 255), UInt8(header.utf8.count >> 8)] + Array(header.utf8)
    let path = try folder.write("x.npy", bytes + [UInt8](repeating: 0, count: 8))
    #expect(throws: NpyError.self) { try Npy.contents(of: path) }
  }

  @Test func refusesWhatIsNotThere() throws {
    let folder = try TemporaryFolder()
    #expect(throws: FileError.self) { try Npy.contents(of: folder.path + "/none.npy") }
    #expect(throws: FileError.self) { try Npy.contents(of: folder.path) }
    #expect(throws: NpyError.self) { try Npy.contents(of: folder.write("empty.npy", [UInt8]())) }
  }

  /// Every file is an error or an array that fits in it; nothing traps.
  @Test func survivesDamage() throws {
    let folder = try TemporaryFolder()
    var random = SeededRandom(seed: 7)
    let originals = (NpyFixtures.numbers.map(\.file) + NpyFixtures.strings.map(\.file)).compactMap { Data(base64Encoded: $0) }
    var refused = 0
    for round in 0..<3000 {
      var bytes = [UInt8](originals.randomElement(using: &random)!)
      switch Int.random(in: 0..<4, using: &random) {
      case 0: bytes.removeLast(Int.random(in: 1...bytes.count, using: &random))
      case 1:
        bytes.insert(contentsOf: (0..<5).map { _ in UInt8.random(in: 0...255, using: &random) }, at: Int.random(in: 0..<bytes.count, using: &random))
      case 2:
        // Digits and quotes where the header is read are the likeliest to be believed.
        for _ in 0..<3 { bytes[Int.random(in: 6..<min(bytes.count, 80), using: &random)] = "0123456789()',<>:".utf8.randomElement(using: &random)! }
      default: for _ in 0..<4 { bytes[Int.random(in: 0..<min(bytes.count, 140), using: &random)] = .random(in: 0...255, using: &random) }
      }
      // A name of its own: writing over a file makes some file systems wait for the disk.
      let path = try folder.write("\(round).npy", bytes)
      defer { unlink(path) }
      do {
        switch try Npy.contents(of: path) {
        case .numbers(let tensor): #expect(tensor.byteCount <= bytes.count)
        case .strings(_, let values): #expect(values.count <= bytes.count)
        }
      } catch is NpyError { refused += 1 }
    }
    #expect(refused > 1000)
  }
}
