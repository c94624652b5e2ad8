import CKernels
import Foundation
import GraftDevice
import Testing

/// A parameter structure of `Kernels/common/params.h`, as Swift sees it.
struct ParameterCase: CustomTestStringConvertible, Sendable {
  let name: String
  /// Its size in Swift, and its fields in order, from bytes.
  let byteCount: Int
  let words: @Sendable ([UInt8]) -> [UInt32]

  var testDescription: String { name }

  init<Parameters: BitwiseCopyable>(_ type: Parameters.Type) {
    name = "\(type)"
    byteCount = MemoryLayout<Parameters>.size
    words = { bytes in
      let value = bytes.withUnsafeBytes { $0.loadUnaligned(as: Parameters.self) }
      return Self.words(of: value)
    }
  }

  /// The fields of a structure, nested ones and arrays too, as 32-bit words.
  private static func words(of value: Any) -> [UInt32] {
    switch value {
    case let value as Int32: return [UInt32(bitPattern: value)]
    case let value as Float: return [value.bitPattern]
    case let value as Int64: return [UInt32(truncatingIfNeeded: value), UInt32(truncatingIfNeeded: value >> 32)]
    default: return Mirror(reflecting: value).children.flatMap { words(of: $0.value) }
    }
  }

  static let all: [ParameterCase] = [
    .init(GraftEpilogue.self), .init(GraftGemmParams.self), .init(GraftConvParams.self), .init(GraftSeparableParams.self),
    .init(GraftWinogradParams.self),
    .init(GraftPackParams.self), .init(GraftPoolParams.self), .init(GraftBinaryParams.self), .init(GraftUnaryParams.self),
    .init(GraftCopyParams.self), .init(GraftFillParams.self), .init(GraftSoftmaxParams.self), .init(GraftReduceParams.self),
    .init(GraftLRNParams.self), .init(GraftTopKParams.self),
    .init(GraftLayerNormParams.self), .init(GraftNormalizeParams.self), .init(GraftCrossEntropyParams.self), .init(GraftPeakParams.self),
    .init(GraftChannelParams.self), .init(GraftSquareSumParams.self), .init(GraftLossParams.self), .init(GraftOptimizerParams.self),
    .init(GraftHeads.self), .init(GraftAttentionParams.self), .init(GraftAttentionGradientParams.self),
    .init(GraftVectorSumParams.self), .init(GraftVectorDotParams.self),
  ]
}

/// The layout is one promise between three compilers: a field that moved would be a wrong result and no error.
@Suite(.needsOpenCL) struct OpenCLParameterTests {
  @Test func everyStructureIsTested() throws {
    #expect(Set(try Self.structures().keys) == Set(ParameterCase.all.map(\.name)))
  }

  @Test(arguments: ParameterCase.all) func fieldsArriveAsSwiftWroteThem(_ parameters: ParameterCase) throws {
    let fields = try #require(try Self.structures()[parameters.name])
    let stores = try fields.flatMap { try Self.stores($0, of: "p") }
    let source = """
      #include "common/params.h"
      __kernel void echo(__global uint *out, const \(parameters.name) p) {
        int at = 0;
        out[at++] = (uint)sizeof(\(parameters.name));
        \(stores.joined(separator: "\n  "))
      }
      """
    let device = try OpenCLSupport.device(["cpu/test_echo.cl": source])
    // Distinct bytes, none of which makes a NaN that a copy of a float might quieten.
    let bytes = (0..<parameters.byteCount).map { UInt8($0 % 120 + 1) }
    let expected = [UInt32(parameters.byteCount)] + parameters.words(bytes)
    try #require(expected.count > 1)
    let out = try device.upload([UInt32](repeating: 0xDEAD_BEEF, count: expected.count + 1))
    let kernel = KernelReference(.cpu, file: "test_echo", function: "echo")
    try device.run([Launch(kernel, buffers: [BufferSlice(out)], parameters: bytes, grid: Grid(1), label: parameters.name)])
    #expect(try device.download(BufferSlice(out), as: UInt32(0)) == expected + [0xDEAD_BEEF])
  }

  private struct Field {
    let type: String
    let name: String
    /// Elements, if it is an array.
    let count: Int?
  }

  /// The fields of each `typedef struct { … } Name;` of params.h, in order.
  private static func structures() throws -> [String: [Field]] {
    let text = try #require(KernelSources.embedded.text("common/params.h"))
    let code = text.split(separator: "\n").map { line in line.components(separatedBy: "//")[0] }.joined(separator: "\n")
    var found: [String: [Field]] = [:]
    for match in code.matches(of: /typedef struct \{([^}]*)\} (\w+);/) {
      found[String(match.2)] = try match.1.split(separator: ";").flatMap { declaration -> [Field] in
        let words = declaration.trimmingCharacters(in: .whitespacesAndNewlines)
        guard let space = words.firstIndex(of: " ") else { return [] }
        return try words[space...].split(separator: ",").map { declarator in
          let name = declarator.trimmingCharacters(in: .whitespaces)
          guard let array = name.wholeMatch(of: /(\w+)\[(\w+)\]/) else { return Field(type: String(words[..<space]), name: name, count: nil) }
          let count = try #require(["GRAFT_MAX_RANK": Int(GRAFT_MAX_RANK), "GRAFT_VECTOR_TERMS": GRAFT_VECTOR_TERMS][array.2])
          return Field(type: String(words[..<space]), name: String(array.1), count: count)
        }
      }
    }
    return found
  }

  /// OpenCL statements that store a field of `owner` word by word.
  private static func stores(_ field: Field, of owner: String) throws -> [String] {
    let whole = "\(owner).\(field.name)"
    return try (field.count.map { count in (0..<count).map { "\(whole)[\($0)]" } } ?? [whole]).flatMap { element in
      switch field.type {
      case "int": return ["out[at++] = as_uint(\(element));"]
      case "float": return ["out[at++] = as_uint(\(element));"]
      case "graft_long": return ["out[at++] = as_uint2(\(element)).x;", "out[at++] = as_uint2(\(element)).y;"]
      default: return try #require(try structures()[field.type]).flatMap { try stores($0, of: element) }
      }
    }
  }
}
