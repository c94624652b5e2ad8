import Foundation
import GraftBackbones
import GraftGraph
import Testing

/// Mutated files: an error or a valid result, never a trap, and no memory beyond what a small file can need.
@Suite struct DamagedFileTests {
  static let mutationCount = 1000

  @Test(
    .timeLimit(.minutes(5)), arguments: ["encodings.onnx", "external.onnx", "zip-4.pth", "legacy-2.pth", "legacy-4.pth", "reference.safetensors"])
  func mutationsNeverTrap(name: String) async {
    await #expect(processExitsWith: .success) { [name = name as String] in
      try DamagedFileTests().mutate(name)
      let peak = try peakByteCount()
      #expect(peak < 1 << 30)
    }
  }

  private func mutate(_ name: String) throws {
    let folder = TemporaryFolder()
    for file in ["external.bin", "external.second"] { _ = try folder.file(file, Fixture.bytes(file)) }
    let original = try Fixture.bytes(name)
    var (valid, refused) = (0, 0)
    for seed in 0..<Self.mutationCount {
      let path = try folder.file(name, Mutation.apply(to: original, seed: UInt64(seed)))
      do {
        // What was read is used: every byte of every tensor.
        if name.hasSuffix(".onnx") {
          let file = try ONNXFile(path: path)
          for tensor in file.initializers.values { #expect(tensor.doubles().count == tensor.elementCount) }
        } else {
          let state = try StateDictionary(path: path)
          for name in state.names { #expect(state[name].map { $0.doubles().count == $0.elementCount } == true, "seed \(seed), \(name)") }
        }
        valid += 1
      } catch let error {
        // Typed, and with the name of the file.
        #expect(error is ImportError || error is FileError, "seed \(seed): \(error)")
        #expect("\(error)".contains(name), "seed \(seed): \(error)")
        refused += 1
      }
    }
    #expect(valid + refused == Self.mutationCount)
    // Mutations that change nothing, or everything, would test nothing.
    #expect(refused > Self.mutationCount / 10, "\(refused) refused")
    #expect(valid > Self.mutationCount / 100, "\(valid) valid")
  }
}
