import CKernels

/// The numbers of a probe, and how they lie in a device's memory.
struct ProbeNumbers {
  let precision: Precision

  /// −1, 0 or 1, without a pattern that a mistaken layout would share.
  static func number(_ index: Int) -> Float { Float(((index &* 40503 &+ index &* index) >> 5) % 3 - 1) }

  /// As it lies in memory; of float16 −1, 0, 1 and what is smaller than 2⁻¹⁴.
  private func stored(_ value: Float) -> [UInt8] {
    let size: UInt32 = value == 0 ? 0 : abs(value) == 1 ? 0x3C00 : UInt32(abs(value) * 0x1p24)
    let bits = precision == .float16 ? size | (value < 0 ? 0x8000 : 0) : value.bitPattern >> (precision == .bfloat16 ? 16 : 0)
    return withUnsafeBytes(of: bits.littleEndian) { Array($0.prefix(precision.byteCount)) }
  }

  private func value(_ stored: ArraySlice<UInt8>) -> Float {
    let bits = stored.reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
    guard precision == .float16 else { return Float(bitPattern: precision == .bfloat16 ? bits << 16 : bits) }
    let (exponent, fraction) = (Int(bits >> 10 & 0x1F), Float(bits & 0x3FF))
    let size = exponent == 0 ? fraction * 0x1p-24 : Float(sign: .plus, exponent: exponent - 15, significand: 1 + fraction * 0x1p-10)
    return exponent == 31 ? .nan : bits & 0x8000 == 0 ? size : -size
  }

  func upload(_ values: [Float], to device: OpenCLDevice) throws -> BufferSlice {
    let slice = BufferSlice(try device.allocate(byteCount: precision.byteCount * values.count))
    try values.flatMap(stored).withUnsafeBytes { try device.write($0, to: slice) }
    return slice
  }

  func download(_ slice: BufferSlice, count: Int, from device: OpenCLDevice) throws -> [Float] {
    let width = precision.byteCount
    var bytes = [UInt8](repeating: 0, count: width * count)
    try bytes.withUnsafeMutableBytes { try device.read(slice, into: $0) }
    return (0..<count).map { value(bytes[width * $0..<width * ($0 + 1)]) }
  }
}

/// Attention of two heads, small enough for the host: blocks of keys and rows, and a part of one of each.
struct AttentionCase {
  let heads = 2, queries = 37, keys = 70, size = 24
  let q, k, v: [Float]

  /// Terms of scores are 0 or −128: of each row some keys' scores are the greatest, and the others' weights nothing beside them.
  init() {
    let bits = { (first: Int, count: Int) in (0..<count).map { ProbeNumbers.number($0 + first) > 0 ? Float(1) : 0 } }
    (q, k) = (bits(0, heads * queries * size), bits(50_021, heads * keys * size))
    v = (0..<heads * keys * size).map { ProbeNumbers.number($0 + 100_003) }
  }

  /// Heads of so many rows one after the other.
  func lies(_ tokens: Int, offset: Int = 0) -> GraftHeads {
    GraftHeads(image: 0, head: Int32(tokens * size), token: Int32(size), offset: Int32(offset))
  }

  var parameters: GraftAttentionParams {
    GraftAttentionParams(
      q: lies(queries), k: lies(keys), v: lies(keys), y: lies(queries), batch: 1, heads: Int32(heads), queries: Int32(queries), keys: Int32(keys),
      size: Int32(size), hasMask: 0, maskImages: 1, maskImage: 0, maskHead: 0, maskQuery: 0, maskKey: 0, rowsPerItem: 0, scale: -128)
  }

  /// The rows of k whose weights are not 0 in row `row` of q, all of one size.
  func chosen(_ row: Int) -> [Int] {
    let first = row / queries * keys
    let counts = (first..<first + keys).map { key in (0..<size).reduce(Float(0)) { $0 + q[row * size + $1] * k[key * size + $1] } }
    let least = counts.min() ?? 0
    return counts.indices.filter { counts[$0] == least }.map { first + $0 }
  }
}

/// Attention on a matrix unit, compared with the host's.
package struct AttentionProbe: UnitProbe {
  private let kernel: KernelReference
  var kernels: [KernelReference] { [kernel] }
  private let numbers: ProbeNumbers
  private let itemCount, rows: Int
  /// Weights are 1 or 0: a mean of small whole numbers, of which the largest differ least from 1, is all that is rounded.
  package static let bound = 0x1p-8
  var bound: Double { Self.bound }

  package init(_ kind: MatrixUnit.Kind, _ format: ComputeFormat, isEmulated: Bool = false) {
    let unit = MatrixUnit(kind, isEmulated: isEmulated, formats: [format]), isIntel = kind == .xmx8 || kind == .xmx16
    let warps = 2, warpRows = isIntel ? 8 : 16
    (rows, itemCount) = (warps * warpRows, warps * kind.lanes)
    numbers = ProbeNumbers(precision: format.storage)
    kernel = KernelReference(
      .gpu, file: "matrix_attention", function: "matrix_attention",
      options: unit.options() + [
        .init("HEAD", 32), .init("WIDTH", 16), .init("KEYS", 32), .init("WARPS", warps), .init("WARP_ROWS", warpRows), .init("KEEPS_QUERIES", 0),
        .init("HAS_MASK", 0), .init("VECTOR", 8), .init("VECTOR_Y", 8),
      ], precision: format.storage)
  }

  /// - Throws: what compiling and running throw.
  package func largestError(on device: OpenCLDevice) throws -> Double {
    let attention = AttentionCase(), (heads, queries, size) = (attention.heads, attention.queries, attention.size)
    let inputs = try [attention.q, attention.k, attention.v].map { try numbers.upload($0, to: device) }
    let count = heads * queries * size, result = BufferSlice(try device.allocate(byteCount: numbers.precision.byteCount * count))
    let groups = heads * 2 * ((queries + rows - 1) / rows)
    let launch = Launch(
      kernel, buffers: inputs + [nil, result], parameters: Launch.bytes(of: attention.parameters),
      grid: Grid(groups * itemCount, workGroup: (itemCount, 1, 1)), label: "matrix unit")
    try device.prepare([launch]).enqueue()
    let found = try numbers.download(result, count: count, from: device)
    var worst = 0.0
    for row in 0..<heads * queries {
      let chosen = attention.chosen(row)
      for d in 0..<size {
        let mean = chosen.reduce(0.0) { $0 + Double(attention.v[$1 * size + d]) } / Double(chosen.count)
        let error = abs(Double(found[row * size + d]) - mean)
        worst = error.isNaN ? .infinity : max(worst, error)
      }
    }
    return worst
  }
}
