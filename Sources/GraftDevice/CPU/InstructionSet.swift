import CKernels
import Foundation

/// An instruction set the native CPU family was compiled for.
public enum InstructionSet: String, Sendable, CaseIterable {
  /// What every processor of the architecture has: SSE2, or NEON on ARM.
  case baseline
  case avx2
  case avx512
  /// AVX-512 with dot products of bfloat16.
  case avx512bf16

  package var raw: graft_isa {
    switch self {
    case .baseline: GRAFT_ISA_BASELINE
    case .avx2: GRAFT_ISA_AVX2
    case .avx512: GRAFT_ISA_AVX512
    case .avx512bf16: GRAFT_ISA_AVX512BF16
    }
  }

  /// The name shown to people: "avx512bf16", "avx512", "avx2", "neon", "portable".
  public var name: String { String(cString: graft_isa_name(raw)) }

  /// The formats its kernels know, and how they are computed with.
  var numericFormats: [String] {
    ["float32", "bfloat16 (\(self == .avx512bf16 ? "native" : "converted"))", "float16 (converted)"]
  }

  /// Those this processor can run, best first.
  public static var supported: [InstructionSet] { allCases.reversed().filter { graft_isa_supported($0.raw) != 0 } }

  /// The best this processor can run, or the lower one that the environment's `GRAFT_ISA` asks for.
  ///
  /// - Throws: `DeviceError` if `GRAFT_ISA` names one that is unknown or that this processor lacks.
  public static func chosen(environment: [String: String] = ProcessInfo.processInfo.environment) throws(DeviceError) -> InstructionSet {
    let known = supported
    guard let wanted = environment["GRAFT_ISA"], !wanted.isEmpty else { return known.first ?? .baseline }
    if let match = known.first(where: { $0.rawValue == wanted || $0.name == wanted }) { return match }
    throw DeviceError(
      device: "cpu", call: "GRAFT_ISA=\(wanted)", name: "not available",
      remedy: "This processor runs: \(known.map(\.name).joined(separator: ", ")). Unset GRAFT_ISA, or name one of these.", isOfChoice: true)
  }
}
