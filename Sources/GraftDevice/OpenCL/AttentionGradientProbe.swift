import CKernels

/// The gradients of attention on a matrix unit, compared with the host's: all three kernels, the last two with what the first leaves.
package struct AttentionGradientProbe: UnitProbe {
  private let kind: MatrixUnit.Kind
  private let numbers: ProbeNumbers
  private let options: [KernelReference.Option]
  private let warps = 2, warpRows, width: Int
  /// Relative to the sum of a result's terms: each of them and the result are rounded to 8 bits or more.
  package static let bound = 0x1p-7
  var bound: Double { Self.bound }

  package init(_ kind: MatrixUnit.Kind, _ format: ComputeFormat, isEmulated: Bool = false) {
    self.kind = kind
    // As the kernels are that a network has: MatrixAttentionGradientTile.
    let isLarge = kind.isAmpere || kind == .turing || kind == .mfma, isCut = kind == .wmma || kind == .xmx8
    (warpRows, width) = (kind == .xmx8 || kind == .xmx16 ? 8 : 16, isCut ? 16 : 32)
    numbers = ProbeNumbers(precision: format.storage)
    options =
      MatrixUnit(kind, isEmulated: isEmulated, formats: [format]).options() + [
        .init("HEAD", 32), .init("WIDTH", width), .init("KEYS", 32), .init("WARPS", warps), .init("WARP_ROWS", warpRows),
        .init("STAGES", kind.isAmpere ? 2 : 1), .init("AT_ONCE", isLarge ? 2 : 1), .init("KEEPS_ROWS", isLarge ? 1 : 0), .init("HAS_MASK", 0),
        .init("VECTOR", 8), .init("VECTOR_Y", 8),
      ]
  }

  private func kernel(_ name: String) -> KernelReference {
    let function = "matrix_attention_gradient_\(name)"
    return KernelReference(.gpu, file: function, function: function, options: options, precision: numbers.precision)
  }

  var kernels: [KernelReference] { ["queries", "keys", "values"].map(kernel) }

  private func launch(_ name: String, _ buffers: [BufferSlice?], _ attention: AttentionCase, rows: Int) -> Launch {
    let itemCount = warps * kind.lanes, parts = (attention.size + width - 1) / width
    var parameters = GraftAttentionGradientParams()
    let (ofQueries, ofKeys) = (attention.heads * attention.queries * attention.size, attention.heads * attention.keys * attention.size)
    parameters.forward = attention.parameters
    parameters.dq = attention.lies(attention.queries)
    parameters.dk = attention.lies(attention.keys, offset: ofQueries)
    parameters.dv = attention.lies(attention.keys, offset: ofQueries + ofKeys)
    let groups = attention.heads * parts * ((rows + warps * warpRows - 1) / (warps * warpRows))
    return Launch(
      kernel(name), buffers: buffers, parameters: Launch.bytes(of: parameters), grid: Grid(groups * itemCount, workGroup: (itemCount, 1, 1)),
      label: "matrix unit")
  }

  /// - Throws: what compiling and running throw.
  package func largestError(on device: OpenCLDevice) throws -> Double {
    let attention = AttentionCase(), (heads, queries, keys, size) = (attention.heads, attention.queries, attention.keys, attention.size)
    let forward = (0..<heads * queries * size).map { ProbeNumbers.number($0 + 150_001) }
    let upstream = (0..<heads * queries * size).map { ProbeNumbers.number($0 + 200_003) }
    let inputs = try [attention.q, attention.k, attention.v, forward, upstream].map { try numbers.upload($0, to: device) }
    let (q, k, v, y, dy) = (inputs[0], inputs[1], inputs[2], inputs[3], inputs[4])
    let count = heads * (queries + 2 * keys) * size, result = BufferSlice(try device.allocate(byteCount: numbers.precision.byteCount * count))
    let statistics = BufferSlice(try device.allocate(byteCount: 2 * heads * queries * MemoryLayout<Float>.size))
    try device.prepare([
      launch("queries", [q, k, v, nil, y, dy, statistics, result], attention, rows: queries),
      launch("keys", [q, k, v, nil, dy, statistics, result], attention, rows: keys),
      launch("values", [q, k, nil, dy, statistics, result], attention, rows: keys),
    ]).enqueue()
    let found = try numbers.download(result, count: count, from: device)

    var sums = [Double](repeating: 0, count: count), magnitudes = sums
    func add(_ term: Double, at index: Int) {
      sums[index] += term
      magnitudes[index] += abs(term)
    }
    let firstOfKeys = heads * queries * size, firstOfValues = firstOfKeys + heads * keys * size
    for row in 0..<heads * queries {
      let chosen = attention.chosen(row), weight = 1 / Double(chosen.count), scale = Double(attention.parameters.scale)
      func dot(_ values: [Float], _ other: Int) -> Double {
        (0..<size).reduce(0.0) { $0 + Double(upstream[row * size + $1] * values[other * size + $1]) }
      }
      let delta = dot(forward, row)
      for key in chosen {
        let slope = weight * (dot(attention.v, key) - delta)
        for d in 0..<size {
          add(scale * slope * Double(attention.k[key * size + d]), at: row * size + d)
          add(scale * slope * Double(attention.q[row * size + d]), at: firstOfKeys + key * size + d)
          add(weight * Double(upstream[row * size + d]), at: firstOfValues + key * size + d)
        }
      }
    }
    return zip(found, zip(sums, magnitudes)).reduce(0.0) { worst, result in
      let (found, (sum, magnitude)) = result, error = abs(Double(found) - sum)
      // What has no terms is 0.
      return max(worst, error == 0 ? 0 : error.isNaN || magnitude == 0 ? .infinity : error / magnitude)
    }
  }
}
