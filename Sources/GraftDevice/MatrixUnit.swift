import Foundation

/// Hardware of a GPU that multiplies small matrices of short numbers, and how Kernels/gpu/matrix_unit.h reaches it.
public struct MatrixUnit: Sendable, Hashable, Codable, CustomStringConvertible {
  public enum Kind: Int, Sendable, Codable, CaseIterable {
    /// `mma.sync` with `ldmatrix` and `cp.async`, by inline PTX: from sm_80 on.
    case nvidia = 1
    /// AMD's WMMA: gfx11, warps of 32.
    case wmma = 2
    /// AMD's MFMA: gfx90a and later CDNA, warps of 64.
    case mfma = 3
    /// NVIDIA's sm_75: `mma.sync` with `ldmatrix` in float16, copies by way of registers.
    case turing = 4
    /// Intel's XMX in sub-groups of 8: Xe-HPG (Arc).
    case xmx8 = 5
    /// The same in sub-groups of 16: Xe-HPC and later.
    case xmx16 = 6
    /// NVIDIA's sm_90: `wgmma.mma_async`, by groups of four warps, for products and convolutions; everything else as `nvidia`.
    case hopper = 7

    /// MATRIX_UNIT of the kernels, of those that compute by groups of warps if `byGroups`.
    package func option(byGroups: Bool = false) -> KernelReference.Option {
      .init("MATRIX_UNIT", self == .hopper && !byGroups ? Kind.nvidia.rawValue : rawValue)
    }

    /// Whether its kernels read fragments with `ldmatrix` and copy with `cp.async`.
    package var isAmpere: Bool { self == .nvidia || self == .hopper }

    /// Work-items of a warp.
    package var lanes: Int {
      switch self {
      case .nvidia, .hopper, .turing, .wmma: 32
      case .mfma: 64
      case .xmx8: 8
      case .xmx16: 16
      }
    }

    /// The formats there are kernels for.
    package var formats: Set<ComputeFormat> {
      switch self {
      case .nvidia, .hopper: [.tf32, .bfloat16, .float16]
      case .turing: [.float16]
      case .wmma, .mfma, .xmx8, .xmx16: [.bfloat16, .float16]
      }
    }

    public var name: String {
      switch self {
      case .nvidia: "mma.sync"
      case .hopper: "wgmma and mma.sync"
      case .wmma: "WMMA"
      case .mfma: "MFMA"
      case .turing: "mma.sync of sm_75"
      case .xmx8: "XMX in sub-groups of 8"
      case .xmx16: "XMX in sub-groups of 16"
      }
    }
  }

  public let kind: Kind
  /// In plain OpenCL C: for checking a kernel's arithmetic without the hardware.
  public let isEmulated: Bool
  /// The formats in which it was tried and agreed with the host.
  public let formats: Set<ComputeFormat>
  /// Those of them in which attention, too, agreed.
  public let attentionFormats: Set<ComputeFormat>
  /// Those in which the gradients of attention agreed.
  public let attentionGradientFormats: Set<ComputeFormat>
  /// Whether float16 numbers below 2⁻¹⁴ are zeros to it, as gradients often are.
  public var flushesSubnormals = false

  /// - Parameters:
  ///   - attentionFormats: `nil` for all there are kernels for, which are those of 16 bits.
  ///   - attentionGradientFormats: as `attentionFormats`.
  public init(
    _ kind: Kind, isEmulated: Bool = false, formats: Set<ComputeFormat>, attentionFormats: Set<ComputeFormat>? = nil,
    attentionGradientFormats: Set<ComputeFormat>? = nil
  ) {
    (self.kind, self.isEmulated, self.formats) = (kind, isEmulated, formats)
    let short = formats.filter { $0.storage.byteCount == 2 }
    self.attentionFormats = attentionFormats.map(short.intersection) ?? short
    self.attentionGradientFormats = attentionGradientFormats.map(short.intersection) ?? short
  }

  /// What programs that use it are compiled with, those that compute by groups of warps if `byGroups`.
  package func options(byGroups: Bool = false) -> [KernelReference.Option] {
    [kind.option(byGroups: byGroups), .init("EMULATED", isEmulated ? 1 : 0)]
  }

  public var description: String {
    let names = ComputeFormat.allCases.filter { formats.contains($0) }.map(\.rawValue).joined(separator: ", ")
    return "\(kind.name) (\(names)\(isEmulated ? "; emulated" : ""))"
  }
}

/// What to use instead of what is found: a check's choice, or `GRAFT_MATRIX_UNIT`.
public enum MatrixUnitChoice: Sendable, Hashable {
  /// What compiles, runs and agrees.
  case auto
  /// The plain kernels.
  case off
  /// Kernels for that unit in plain OpenCL C, on any device; slow.
  case emulated(MatrixUnit.Kind)
  /// That one if it is found, else none.
  case only(MatrixUnit.Kind)

  /// For tests; `nil`: what the environment says.
  @TaskLocal package static var forced: MatrixUnitChoice?

  /// - Throws: `DeviceError` that names the values there are.
  package static func current(environment: [String: String], device: String) throws(DeviceError) -> MatrixUnitChoice {
    if let forced { return forced }
    guard let text = environment["GRAFT_MATRIX_UNIT"]?.lowercased(), !text.isEmpty else { return .auto }
    let names = MatrixUnit.Kind.allCases.map { "\($0)" }
    switch text {
    case "auto": return .auto
    case "off": return .off
    case "emulated": return .emulated(.nvidia)
    default:
      for kind in MatrixUnit.Kind.allCases {
        if text == "\(kind)" { return .only(kind) }
        if text == "emulated-\(kind)" { return .emulated(kind) }
      }
      throw DeviceError(
        device: device, call: "GRAFT_MATRIX_UNIT=\(text)", name: "no such matrix unit",
        remedy: "Known are auto, off, emulated, \((names + names.map { "emulated-\($0)" }).joined(separator: ", ")).")
    }
  }
}
