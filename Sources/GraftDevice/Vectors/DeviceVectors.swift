import CKernels

/// Long float32 vectors of one length on a device, as rows of a matrix, and what a solver does with them: linear combinations and
/// products of pairs (Kernels/*/vectors.cl).
///
/// Products are summed in float32 over parts of a vector and in double precision over the parts, in a fixed order: equal input gives
/// equal bits.
package final class DeviceVectors {
  package let device: any Device
  /// Elements of a vector.
  package let length: Int
  /// Elements from one row to the next.
  private let stride: Int
  private let matrix: any DeviceBuffer
  private let partial: BufferSlice
  private let partCount: Int
  private let groupSize: Int

  /// Elements that one work-item (a work-group of the GPU family) multiplies.
  private static let partLength = 16384
  private static let termLimit = GRAFT_VECTOR_TERMS

  /// Bytes of device memory that so many vectors take.
  package static func byteCount(rows: Int, length: Int) -> Int {
    let (bytes, overflow) = ((length + 15) / 16 * 16).multipliedReportingOverflow(by: 4 * max(1, rows))
    return overflow ? .max : bytes
  }

  /// Uninitialised vectors.
  ///
  /// - Throws: `DeviceError` where there is no memory for them.
  package init(_ device: any Device, rows: Int, length: Int) throws(DeviceError) {
    precondition(rows > 0 && length > 0)
    (self.device, self.length) = (device, length)
    stride = (length + 15) / 16 * 16
    partCount = (length + Self.partLength - 1) / Self.partLength
    groupSize = Self.groupSize(device.traits)
    matrix = try device.allocate(byteCount: Self.byteCount(rows: rows, length: length))
    partial = BufferSlice(try device.allocate(byteCount: 4 * Self.termLimit * partCount))
  }

  /// One of the vectors times a number.
  package typealias Term = (row: Int, factor: Double)

  /// Elements `range` of a row become the sum of `terms`, and of `other` times its factor if there is one.
  ///
  /// - Parameters:
  ///   - range: `nil`: all.
  ///   - other: outside the rows: as many floats as the range has.
  package func set(_ row: Int, _ range: Range<Int>? = nil, to terms: [Term], plus other: (values: Place, factor: Double)? = nil) throws {
    let range = range ?? 0..<length
    try sum(terms, of: range, plus: other, into: Place(BufferSlice(matrix), first: row * stride + range.lowerBound))
  }

  /// Elements `range` of the sum of `terms`, written outside the rows.
  package func copy(_ terms: [Term], of range: Range<Int>, to target: Place) throws { try sum(terms, of: range, plus: nil, into: target) }

  /// Floats of other memory of the device, from one on.
  package struct Place {
    let slice: BufferSlice
    let first: Int

    package init(_ slice: BufferSlice, first: Int = 0) { (self.slice, self.first) = (slice, first) }
  }

  /// Writes elements of a row.
  package func write(_ values: [Float], to row: Int) throws {
    precondition(values.count == length)
    try values.withUnsafeBytes { try device.write($0, to: slice(of: row)) }
  }

  /// Writes all rows.
  package func write(_ rows: [[Float]]) throws {
    precondition(rows.allSatisfy { $0.count == length })
    let padding = [Float](repeating: 0, count: stride - length)
    try rows.flatMap { $0 + padding }.withUnsafeBytes { try device.write($0, to: BufferSlice(matrix, byteCount: $0.count)) }
  }

  /// Reads a row; waits for what was queued before.
  package func read(_ row: Int) throws -> [Float] {
    var values = [Float](repeating: 0, count: length)
    try values.withUnsafeMutableBytes { try device.read(slice(of: row), into: $0) }
    return values
  }

  /// What is asked of one or two rows.
  package enum Measure: Sendable {
    /// Σ a[i]·b[i]
    case dot(Int, Int)
    /// The largest |a[i]|; infinite where an element is no number.
    case maximum(Int)
    /// Σ |a[i]|
    case magnitude(Int)

    var fields: (kind: Int, first: Int, second: Int) {
      switch self {
      case .dot(let first, let second): (GRAFT_VECTOR_DOT, first, second)
      case .maximum(let row): (GRAFT_VECTOR_MAXIMUM, row, row)
      case .magnitude(let row): (GRAFT_VECTOR_MAGNITUDE, row, row)
      }
    }
  }

  /// The measures of the first `count` elements (`nil`: of all). Waits for the device, once for every 32 measures.
  package func measure(_ measures: [Measure], count: Int? = nil) throws -> [Double] {
    var results: [Double] = []
    for begin in Swift.stride(from: 0, to: measures.count, by: Self.termLimit) {
      results += try measureOnce(Array(measures[begin..<min(begin + Self.termLimit, measures.count)]), count: count ?? length)
    }
    return results
  }

  private func measureOnce(_ measures: [Measure], count: Int) throws -> [Double] {
    let parts = max(1, (count + Self.partLength - 1) / Self.partLength)
    var p = GraftVectorDotParams()
    (p.count, p.stride, p.partLength) = (Int64(count), Int64(stride), Int64(Self.partLength))
    (p.pairs, p.parts) = (Int32(measures.count), Int32(parts))
    for (place, measure) in measures.enumerated() {
      let fields = measure.fields
      Self.set(&p.kinds, place, Int32(fields.kind))
      Self.set(&p.first, place, Int32(fields.first))
      Self.set(&p.second, place, Int32(fields.second))
    }
    let bytes = 8 * Double(count * measures.count)
    switch device.traits.family {
    case .cpu: try enqueue("vector_dots", [BufferSlice(matrix), partial], p, Grid(parts, measures.count), bytes: bytes)
    case .gpu:
      try enqueue(
        "vector_dots", [BufferSlice(matrix), partial], p, Grid(parts * measures.count * groupSize, workGroup: (groupSize, 1, 1)), bytes: bytes)
    }
    var found = [Float](repeating: 0, count: measures.count * parts)
    try found.withUnsafeMutableBytes { try device.read(BufferSlice(partial.buffer, byteCount: $0.count), into: $0) }
    return measures.enumerated().map { place, measure in
      let own = found[place * parts..<(place + 1) * parts]
      if case .maximum = measure { return Double(own.max() ?? 0) }
      return own.reduce(0.0) { $0 + Double($1) }
    }
  }

  private func sum(_ terms: [Term], of range: Range<Int>, plus other: (values: Place, factor: Double)?, into target: Place) throws {
    precondition(range.lowerBound >= 0 && range.upperBound <= length)
    guard !range.isEmpty else { return }
    // What does not fit one launch is added to what the one before left.
    for begin in Swift.stride(from: 0, to: max(1, terms.count), by: Self.termLimit) {
      let part = terms[begin..<min(begin + Self.termLimit, terms.count)], isFirst = begin == 0
      var p = GraftVectorSumParams()
      (p.count, p.stride, p.terms) = (Int64(range.count), Int64(stride), Int32(part.count))
      p.factor = isFirst ? Float(other?.factor ?? 0) : 1
      let added = isFirst ? other?.values ?? target : target
      (p.from, p.fromX, p.fromY) = (Int64(range.lowerBound), Int64(added.first), Int64(target.first))
      for (place, term) in part.enumerated() {
        Self.set(&p.rows, place, Int32(term.row))
        Self.set(&p.factors, place, Float(term.factor))
      }
      let grid =
        switch device.traits.family {
        case .cpu: Grid((range.count + 16383) / 16384)
        case .gpu: Grid.covering(range.count, workGroup: (groupSize, 1, 1))
        }
      try enqueue("vector_sum", [BufferSlice(matrix), added.slice, target.slice], p, grid, bytes: 4 * Double(range.count * (part.count + 2)))
    }
  }

  private func slice(of row: Int) -> BufferSlice { BufferSlice(matrix, byteOffset: 4 * row * stride, byteCount: 4 * length) }

  private func enqueue<Parameters: BitwiseCopyable>(
    _ function: String, _ buffers: [BufferSlice?], _ parameters: Parameters, _ grid: Grid, bytes: Double
  ) throws {
    let launch = Launch(
      Self.reference(function, device.traits.family, groupSize: groupSize), buffers: buffers, parameters: Launch.bytes(of: parameters), grid: grid,
      label: "solver", flops: bytes / 4, bytes: bytes)
    try device.prepare([launch]).enqueue()
  }

  /// Work-items of a group in the GPU family: a power of two, as those that share rows need.
  package static func groupSize(_ traits: DeviceTraits) -> Int {
    var size = 256
    while size > traits.maximumWorkGroupSize, size > 1 { size /= 2 }
    return size
  }

  /// The GPU family's kernels.
  package static func gpuReferences(groupSize: Int) -> [KernelReference] {
    ["vector_sum", "vector_dots"].map { reference($0, .gpu, groupSize: groupSize) }
  }

  private static func reference(_ function: String, _ family: KernelFamily, groupSize: Int) -> KernelReference {
    KernelReference(
      family, file: "vectors", function: function, options: family == .cpu ? [] : [.init("ROW_COUNT", 1), .init("ROW_ITEMS", groupSize)])
  }

  /// Sets an element of a C array, which Swift sees as a tuple.
  private static func set<Array, Element: BitwiseCopyable>(_ array: inout Array, _ place: Int, _ value: Element) {
    withUnsafeMutableBytes(of: &array) { $0.storeBytes(of: value, toByteOffset: place * MemoryLayout<Element>.size, as: Element.self) }
  }
}
