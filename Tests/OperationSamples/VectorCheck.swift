import Foundation
import GraftDevice
import GraftGraph

/// A solver's vectors on a device (`DeviceVectors`) against double precision.
package enum VectorCheck {
  /// - Parameters:
  ///   - length: elements of a vector.
  ///   - rows: vectors; more than 32 take several launches.
  /// - Returns: what is wrong, or `nil`.
  package static func problem(on device: any Device, length: Int, rows: Int) throws -> String? {
    var random = SplitMix(UInt64(length))
    let vectors = try DeviceVectors(device, rows: rows + 1, length: length)
    let values = (0...rows).map { _ in (0..<length).map { _ in Float.random(in: -1...1, using: &random) } }
    // At once: a simulator takes what was written last for all that a buffer holds.
    try vectors.write(values)
    var host = values.map { $0.map(Double.init) }
    func compare(_ what: String, _ found: [Float], _ expected: [Double]) -> String? {
      zip(found, expected).contains { !(abs(Double($0) - $1) <= 2e-6 * Double(rows)) } ? "\(what): wrong sums" : nil
    }

    // A sum into a row of its own and into one of its terms, of a part of the row, and out to other memory from an element on.
    let terms = (0..<rows).map { (row: $0, factor: Double.random(in: -1...1, using: &random)) }
    func sum(_ index: Int) -> Double { terms.reduce(0) { $0 + $1.factor * host[$1.row][index] } }
    try vectors.set(rows, to: terms)
    host[rows] = (0..<length).map(sum)
    if let problem = compare("all", try vectors.read(rows), host[rows]) { return problem }
    let part = length / 3..<length - length / 4, gap = 5
    let outside = try device.allocate(byteCount: 4 * (part.count + gap))
    try [Float](repeating: 7, count: part.count + gap).withUnsafeBytes { try device.write($0, to: BufferSlice(outside)) }
    try vectors.copy([(rows, 2)], of: part, to: .init(BufferSlice(outside), first: gap))
    var copied = [Float](repeating: 0, count: part.count + gap)
    try copied.withUnsafeMutableBytes { try device.read(BufferSlice(outside), into: $0) }
    if let problem = compare("a part", copied, [Double](repeating: 7, count: gap) + part.map { 2 * host[rows][$0] }) { return problem }
    try vectors.set(0, part, to: [(0, 3), (1, 1)], plus: (.init(BufferSlice(outside), first: gap), -0.5))
    for index in part { host[0][index] = 3 * host[0][index] + host[1][index] - host[rows][index] }
    if let problem = compare("in place", try vectors.read(0), host[0]) { return problem }

    let measures = (0..<rows).map { DeviceVectors.Measure.dot($0, rows) } + [.maximum(0), .magnitude(0)]
    for count in Set([length, length / 2 + 1]) {
      let found = try vectors.measure(measures, count: count)
      var expected = (0..<rows).map { row in zip(host[row], host[rows]).prefix(count).reduce(0) { $0 + $1.0 * $1.1 } }
      expected += [host[0].prefix(count).map(abs).max() ?? 0, host[0].prefix(count).reduce(0) { $0 + abs($1) }]
      let bound = 1e-5 * (Double(count).squareRoot() * Double(rows).squareRoot() + Double(rows)) * Double(count).squareRoot()
      for (mine, theirs) in zip(found, expected) where !(abs(mine - theirs) <= bound) { return "of \(count): \(mine), \(theirs) expected" }
    }
    // What is no number shows.
    try vectors.set(1, length - 1..<length, to: [(1, .nan)])
    let found = try vectors.measure([.maximum(1), .dot(1, 1), .maximum(0)])
    return found[0] == .infinity && found[1].isNaN && found[2].isFinite ? nil : "a NaN gives \(found)"
  }
}
